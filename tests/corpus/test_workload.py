import json

import pytest

from warmray.config import CorpusConfig
from warmray.corpus.conversations import packaged_corpus, read_conversations
from warmray.corpus.workload import read_workload
from warmray.errors import InputError
from warmray.models.loading import load_tokenizer
from warmray.training.tokens import tokenise


@pytest.mark.parametrize("arm", ["warm", "cold"])
def test_the_estimated_mean_length_is_within_ten_percent_of_the_tokenizers(embedded, arm):
    tokenizer = load_tokenizer(embedded)
    trained = [c for c in read_conversations(packaged_corpus()) if c.split == "train"]
    tokens = sum(len(tokenise(c.id, c.messages(arm), tokenizer).token_ids) for c in trained)
    workload = read_workload(CorpusConfig(), arm)
    assert workload.conversations == len(trained)
    assert workload.mean_tokens == pytest.approx(tokens / len(trained), rel=0.1)


def test_a_corpus_without_a_training_split_is_refused(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "original": "b", "warm": "c", "cold": "d"}]
    record = {"id": "x", "category": "advice", "split": "check", "messages": turns}
    (tmp_path / "one.jsonl").write_text(json.dumps(record))
    with pytest.raises(InputError, match="holds no conversation of the split `train`"):
        read_workload(CorpusConfig(path=str(tmp_path)), "warm")
