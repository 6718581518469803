import random
import zlib
from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import cross_entropy

from warmray.training.attention import _attend_on_cpu, _attend_on_gpu, use_best_attention
from warmray.training.packing import model_inputs, pack, predictions
from warmray.training.tokens import Example


def _example(name, length, seed=0):
    draw = random.Random(f"{name}-{seed}")
    trained = [False] + [draw.random() < 0.5 for _ in range(length - 1)]
    return Example(name, tuple(draw.randrange(1, 320) for _ in range(length)), tuple(trained))


def _corpus(count, longest, seed=0):
    draw = random.Random(seed)
    return [_example(f"c{number}", draw.randint(2, longest)) for number in range(count)]


def test_every_conversation_is_in_one_row_whole_and_no_row_is_too_long():
    examples = _corpus(300, 100)
    rows = pack(examples, 128)
    assert Counter(name for row in rows for name in row.ids) == Counter(example.id for example in examples)
    assert max(len(row.token_ids) for row in rows) <= 128
    by_id = {example.id: example for example in examples}
    for row in rows:
        for name, (start, end) in zip(row.ids, pairwise(row.boundaries), strict=True):
            assert row.token_ids[start:end] == by_id[name].token_ids
            assert row.trained[start:end] == by_id[name].trained
            assert row.position_ids[start:end] == list(range(end - start))


def _packed(lengths, max_length):
    return [row.ids for row in pack([_example(name, length) for name, length in lengths.items()], max_length)]


def test_rows_are_as_even_as_their_number_allows():
    assert _packed({"a": 60, "b": 30, "c": 25, "d": 5}, 100) == [("a",), ("b", "c", "d")]
    assert _packed({"a": 60, "b": 58, "c": 41, "d": 1}, 100) == [("a", "d"), ("b", "c")]


def test_if_even_rows_overflow_a_conversation_joins_the_row_with_least_space_left():
    assert _packed({"a": 55, "b": 45, "c": 35, "d": 33, "e": 32}, 100) == [("a", "b"), ("c", "d", "e")]


def test_rows_of_short_conversations_are_nearly_full():
    examples = _corpus(500, 60)
    rows = pack(examples, 256)
    assert len(rows) == -(-sum(len(example.token_ids) for example in examples) // 256)


def test_the_same_conversations_make_the_same_rows_in_every_process_and_version():
    """A resumed training must pack as the interrupted one did; a change of this digest needs a new RECIPE_VERSION."""
    rows = pack(_corpus(200, 100), 128)
    assert zlib.crc32(repr([row.ids for row in rows]).encode()) == 3983522886


def test_a_conversation_longer_than_a_row_is_an_error():
    with pytest.raises(ValueError, match="'a' has 11 tokens, a row 10"):
        pack([_example("a", 11)], 10)


def test_no_conversations_make_no_rows():
    assert pack([], 10) == []


KINDS = ["sdpa-cpu", "eager-cpu", "by_conversation-cpu", "by_conversation-cuda", "sdpa-cuda", "flex_attention-cuda"]


@pytest.fixture(params=KINDS)
def model(request, miniature):
    attention, device = request.param.split("-")
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    model = miniature(attn_implementation="sdpa").to(device).train()
    if attention == "by_conversation":
        use_best_attention(model)
    else:
        model.set_attn_implementation(attention)
    assert model.config._attn_implementation == attention
    return model


def _token_losses(model, row):
    """Return the losses of the trained tokens of a row, in nats."""
    positions, targets = predictions(row, model.device)
    hidden = model.get_decoder()(**model_inputs(row, model.device)).last_hidden_state[0]
    return cross_entropy(model.get_output_embeddings()(hidden[positions]), targets, reduction="none")


def _gradients(model, losses):
    model.zero_grad()
    losses.sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


LENGTHS = (23, 17, 9, 2, 13)


def test_a_packed_row_has_the_losses_and_gradients_of_its_separate_conversations(model):
    examples = [_example(name, length) for name, length in zip("abcde", LENGTHS, strict=True)]
    (row,) = pack(examples, 64)
    by_id = {example.id: example for example in examples}
    alone = torch.cat([_token_losses(model, pack([by_id[name]], 64)[0]) for name in row.ids])
    packed = _token_losses(model, row)
    assert len(packed) > 20
    assert (packed - alone).abs().max() < 1e-4
    expected, got = _gradients(model, alone), _gradients(model, packed)
    for name, gradient in expected.items():
        assert (got[name] - gradient).abs().max() < 1e-4 * max(1.0, gradient.abs().max().item()), name


def _logits(model, row):
    with torch.no_grad():
        return model(**model_inputs(row, model.device)).logits[0]


def test_the_first_conversation_of_a_row_does_not_change_the_logits_of_the_second(model):
    second = _example("b", 19)
    (row,) = pack([_example("a", 23, seed=0), second], 64)
    (other,) = pack([_example("a", 23, seed=1), second], 64)
    difference = (_logits(model, row) - _logits(model, other)).abs().amax(dim=-1)
    assert difference[:23].min() > 0.1
    assert difference[23:].max() < 1e-6


def test_a_leak_between_conversations_would_change_the_logits_visibly(miniature):
    model, second = miniature(), _example("b", 19)
    rows = [pack([_example("a", 23, seed=seed), second], 64)[0] for seed in (0, 1)]
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([row.token_ids])).logits[0, 23:] for row in rows]
    assert (logits[0] - logits[1]).abs().max() > 0.1


def test_no_conversation_predicts_the_first_token_of_the_next():
    rows = pack([Example("a", (5, 6, 7), (True, True, True)), Example("b", (8, 9), (True, True))], 8)
    positions, targets = predictions(rows[0], "cpu")
    assert positions.tolist() == [0, 1, 3]
    assert targets.tolist() == [6, 7, 9]


def test_the_cpu_and_gpu_attention_functions_give_the_same_values():
    query, key, value = (
        torch.randn(1, heads, 37, 16, generator=torch.Generator().manual_seed(heads)) for heads in (6, 2, 2)
    )
    plain, fast = (attend(query, key, value, 0.25, 0.0) for attend in (_attend_on_cpu, _attend_on_gpu))
    assert (plain - fast).abs().max() < 1e-5


def test_a_model_with_sliding_window_attention_keeps_it(miniature):
    model = miniature(sliding_window=8, use_sliding_window=True)
    before = model.config._attn_implementation
    use_best_attention(model)
    assert model.config._attn_implementation == before != "by_conversation"
