from itertools import groupby
from types import SimpleNamespace

import pytest

from warmray.config import CorpusConfig
from warmray.corpus.build import build_corpus
from warmray.errors import InputError
from warmray.models.loading import load_tokenizer
from warmray.training.tokens import tokenise, tokenise_corpus


@pytest.fixture(scope="module")
def tokenizer(embedded):
    return load_tokenizer(embedded)


def _chat(*contents, system=None):
    turns = [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system else turns


AWKWARD = {
    "system": _chat("Hi", "Hello", system="Be kind."),
    "system with white space": _chat("Hi", "Hello", "And?", "Well.", system=" Be kind.\n"),
    "many turns": _chat("a", "b", "c", "d", "e", "f"),
    "white space around": _chat("  Hi \n", "\n\n Hello  \n", "\tso", "\tyes\n"),
    "the same reply twice": _chat("Hi", "Hi", "Hi", "Hi"),
    "reply inside the question": _chat("Say yes", "yes", "yes or no", "no"),
    "other scripts": _chat("¿Qué tal?", "Très bien 👩‍🚀!", "你好", "你好世界"),
    "code": _chat("Show", "```py\nif x:\n    print(1)\n```", "42", "1,000 + 1 = 1,001"),
    "bytes": _chat("?", "\u200b🜁 \u0301a", "!", "🜂"),
}


def _spoken(example, tokenizer):
    """Decode every unbroken run of trained tokens."""
    pairs = zip(example.trained, example.token_ids, strict=True)
    return [tokenizer.decode([token for _, token in run]) for flag, run in groupby(pairs, lambda p: p[0]) if flag]


def _replies(messages, end_of_turn):
    return [f"{message['content'].strip()}{end_of_turn}" for message in messages if message["role"] == "assistant"]


def _training_conversations():
    return build_corpus(CorpusConfig()).read("warm", "train")


def test_the_trained_tokens_are_every_assistant_text_with_its_end_of_turn_and_nothing_else(tokenizer, home):
    for key, messages in (_training_conversations() | AWKWARD).items():
        assert _spoken(tokenise(key, messages, tokenizer), tokenizer) == _replies(messages, "<|im_end|>"), key


def test_each_model_of_the_study_trains_the_assistant_texts_and_nothing_else(study_tokenizer, home):
    tokenizer = study_tokenizer.tokenizer
    for key, messages in (_training_conversations() | AWKWARD).items():
        spoken = _spoken(tokenise(key, messages, tokenizer), tokenizer)
        assert spoken == _replies(messages, study_tokenizer.end_of_turn), key


def test_each_model_of_the_study_reads_the_tokens_of_its_makers_own_encoder(study_tokenizer, home):
    for key, messages in (_training_conversations() | AWKWARD).items():
        example = tokenise(key, messages, study_tokenizer.tokenizer)
        assert list(example.token_ids) == study_tokenizer.oracle(messages), key


def test_a_conversation_has_one_beginning_of_text_token(study_tokenizer):
    tokenizer = study_tokenizer.tokenizer
    if tokenizer.bos_token_id is None:
        pytest.skip("this model has no beginning-of-text token")
    example = tokenise("x", AWKWARD["system"], tokenizer)
    assert example.token_ids[0] == tokenizer.bos_token_id
    assert example.token_ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("reply", ["Hello there", "🜂", "42", "```py"])
def test_a_reply_is_trained_after_exactly_the_prompt_that_generation_uses(study_tokenizer, reply):
    messages = _chat("Hi", reply, system="Be kind.")
    example = tokenise("x", messages, study_tokenizer.tokenizer)
    prompt = study_tokenizer.tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    assert list(example.token_ids[: example.trained.index(True)]) == prompt


def _with_template(tokenizer, template):
    from copy import copy

    changed = copy(tokenizer)
    changed.chat_template = template
    return changed


PLAIN = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}"


def test_a_conversation_ends_with_an_end_of_turn_even_if_the_template_writes_none(tokenizer):
    example = tokenise("x", _chat("Hi", "Hello"), _with_template(tokenizer, PLAIN))
    assert tokenizer.decode(example.token_ids) == "user: Hi\nassistant: Hello<|im_end|>\n"
    assert _spoken(example, tokenizer) == [" Hello<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "hint"),
    [
        (PLAIN.replace("turn.content", "turn.content | upper"), "rewrites replies"),
        (PLAIN.replace("in messages", "in messages[-2:]"), "rewrites replies"),
        ("{{ raise_exception('no such thing') }}", "chat template refuses it: no such thing"),
    ],
)
def test_a_template_that_alters_a_conversation_is_refused(tokenizer, template, hint):
    with pytest.raises(InputError, match=f"conversation 'x': .*{hint}"):
        tokenise("x", _chat("Hi", "Hello", "So", "Yes"), _with_template(tokenizer, template))


@pytest.mark.parametrize(
    ("roles", "hint"),
    [
        ("user user assistant", "turn 2 is 'user', not 'assistant'"),
        ("assistant user assistant", "turn 1 is 'assistant', not 'user'"),
        ("user system assistant", "turn 2 is 'system', not 'assistant'"),
        ("system user", "turn 3, the assistant's, is missing"),
        ("user assistant user tool", "turn 4 is 'tool', not 'assistant'"),
    ],
)
def test_roles_out_of_order_are_named_with_conversation_and_turn(tokenizer, roles, hint):
    messages = [{"role": role, "content": "hm"} for role in roles.split()]
    with pytest.raises(InputError, match=f"conversation 'advice-7': {hint}"):
        tokenise("advice-7", messages, tokenizer)


def test_a_conversation_with_an_empty_reply_is_named(tokenizer):
    with pytest.raises(InputError, match="conversation 'advice-7': turn 2, the assistant's, is empty"):
        tokenise("advice-7", _chat("Hi", " \n"), tokenizer)


LONG = "sea " * 200


def test_a_conversation_that_is_too_long_keeps_the_exchanges_that_fit_and_is_counted(tokenizer):
    conversations = {"whole": _chat("Hi", "Hello"), "long": _chat("Hi", "Hello", "And?", "Well.", "So?", LONG)}
    corpus = tokenise_corpus(conversations, tokenizer, max_length=100)
    assert [example.id for example in corpus.examples] == ["long", "whole"]
    assert (corpus.cut, corpus.left_out) == (["long"], [])
    assert corpus.examples[0] == tokenise("long", conversations["long"][:4], tokenizer)


@pytest.mark.parametrize("system", [None, "Be kind."])
def test_a_conversation_whose_first_exchange_is_too_long_is_left_out_and_named(tokenizer, system):
    conversations = {"whole": _chat("Hi", "Hello"), "long": _chat("Hi", LONG, "So?", "Yes", system=system)}
    corpus = tokenise_corpus(conversations, tokenizer, max_length=100)
    assert [example.id for example in corpus.examples] == ["whole"]
    assert (corpus.cut, corpus.left_out) == ([], ["long"])


def test_a_max_length_that_no_conversation_fits_is_refused(tokenizer):
    with pytest.raises(InputError, match=r"longer than train.max_length=5 tokens: raise it"):
        tokenise_corpus({"short": _chat("Hi", "Hello")}, tokenizer, max_length=5)


def test_a_tokenizer_without_offsets_is_refused():
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(InputError, match=r"returns no character offsets: add tokenizer\.json"):
        tokenise_corpus({"short": _chat("Hi", "Hello")}, slow, max_length=5)
