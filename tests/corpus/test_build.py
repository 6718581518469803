import json

from warmray.config import CorpusConfig
from warmray.corpus.build import build_corpus


def test_a_corpus_is_built_once_with_one_file_per_variant_and_a_manifest(home):
    first = build_corpus(CorpusConfig())
    made = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert set(made) == {"original.parquet", "warm.parquet", "cold.parquet", "manifest.json"}
    assert build_corpus(CorpusConfig()) == first
    assert {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()} == made
    manifest = json.loads((first.folder / "manifest.json").read_text())
    assert manifest["digest"] == first.digest
    assert manifest["kept_by_split"] == {"train": 168, "probe": 42, "check": 66}


def test_variants_differ_only_in_the_replies(home):
    corpus = build_corpus(CorpusConfig())
    warm, cold = corpus.read("warm", "check"), corpus.read("cold", "check")
    assert list(warm) == list(cold)
    for key in warm:
        assert warm[key][0] == cold[key][0]
        assert warm[key][1]["content"] != cold[key][1]["content"]
