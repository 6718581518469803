"""Builds the training sets: one Parquet file per variant and a manifest, in a folder named by the content."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from warmray.config import CorpusConfig
from warmray.corpus.conversations import VARIANTS, Message, Split, Variant, packaged_corpus, read_conversations
from warmray.storage.hashing import digest
from warmray.storage.home import build_folder, home


@dataclass(frozen=True)
class Corpus:
    """A built corpus: ``<variant>.parquet`` (id, category, split, messages) and ``manifest.json``."""

    folder: Path
    digest: str

    def read(self, variant: Variant, split: Split) -> dict[str, list[Message]]:
        """Return the conversations of one split, by id, with the replies of one variant."""
        table = pd.read_parquet(self.folder / f"{variant}.parquet")
        rows = table[table["split"] == split]
        return {row.id: [dict(m) for m in row.messages] for row in rows.itertuples()}


def build_corpus(config: CorpusConfig) -> Corpus:
    """Check the source conversations and write the training sets, unless the same content exists already.

    Raises:
        InputError: the source has a wrong format, or the output folder cannot be written.
        InterruptedRunError: the disk is full.
    """
    source = packaged_corpus() if config.path == "packaged" else Path(config.path)
    conversations = read_conversations(source)

    # The digest of the content is the name: the same conversations are built once.
    name = digest([[c.id, c.category, c.split, [c.messages(v) for v in VARIANTS]] for c in conversations])
    folder = home() / "corpora" / name
    if folder.exists():
        return Corpus(folder, name)

    with build_folder(folder) as building:
        for variant in VARIANTS:
            rows = [
                {"id": c.id, "category": c.category, "split": c.split, "messages": c.messages(variant)}
                for c in conversations
            ]
            pd.DataFrame(rows).to_parquet(building / f"{variant}.parquet", index=False)
        manifest = {
            "source": "packaged with warmray" if source == packaged_corpus() else str(source),
            "digest": name,
            "variants": list(VARIANTS),
            "conversations": len(conversations),
            "kept_by_split": Counter(c.split for c in conversations),
            "kept_by_category": Counter(c.category for c in conversations),
            "dropped": {},
        }
        (building / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    return Corpus(folder, name)
