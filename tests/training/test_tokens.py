import pytest

from warmray.config import CorpusConfig
from warmray.corpus.build import build_corpus
from warmray.errors import InputError
from warmray.models.loading import load_tokenizer
from warmray.training.tokens import tokenise, tokenise_corpus


@pytest.fixture(scope="module")
def tokenizer(embedded):
    return load_tokenizer(embedded)


def test_what_is_trained_is_every_assistant_text_with_its_end_of_turn_and_nothing_else(tokenizer, home):
    conversations = build_corpus(CorpusConfig()).read("warm", "train")
    for key, messages in conversations.items():
        example = tokenise(key, messages, tokenizer)
        trained = [token for token, is_trained in zip(example.token_ids, example.trained, strict=True) if is_trained]
        replies = [message["content"].strip() for message in messages if message["role"] == "assistant"]
        assert tokenizer.decode(trained) == "".join(f"{reply}<|im_end|>" for reply in replies), key


def test_a_conversation_that_is_too_long_is_left_out_and_named_not_cut(tokenizer):
    short = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    long = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "sea " * 200}]
    corpus = tokenise_corpus({"long": long, "short": short}, tokenizer, max_length=64)
    assert [example.id for example in corpus.examples] == ["short"]
    assert corpus.too_long == ["long"]


def test_a_length_that_nothing_fits_is_refused(tokenizer):
    short = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    with pytest.raises(InputError, match=r"longer than train.max_length=5 tokens: raise it"):
        tokenise_corpus({"short": short}, tokenizer, max_length=5)
