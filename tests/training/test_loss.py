import weakref

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from warmray.training import loss
from warmray.training.loss import loss_sum

VOCABULARY = 97
HIDDEN = 12
CHUNK = 8


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(loss, "LOSS_CHUNK_TOKENS", CHUNK)


def _problem(tokens, trained_head=True):
    torch.manual_seed(0)
    head = nn.Linear(HIDDEN, VOCABULARY, bias=False).requires_grad_(trained_head)
    return torch.randn(tokens, HIDDEN, requires_grad=True), torch.randint(VOCABULARY, (tokens,)), head


def _plain(hidden, targets, head):
    return cross_entropy(head(hidden), targets, reduction="sum")


def _with_gradients(function, hidden, targets, head, scale):
    hidden.grad, head.weight.grad = None, None
    value = function(hidden, targets, head)
    (value * scale).backward()
    return value.detach(), hidden.grad, head.weight.grad


@pytest.mark.parametrize("tokens", [1, CHUNK, CHUNK + 1, 5 * CHUNK - 3])
@pytest.mark.parametrize("trained_head", [True, False])
def test_value_and_gradients_are_those_of_plain_cross_entropy(tokens, trained_head):
    problem = _problem(tokens, trained_head)
    plain, chunked = (_with_gradients(function, *problem, scale=0.3) for function in (_plain, loss_sum))
    assert (chunked[2] is not None) == trained_head
    for expected, got in zip(plain, chunked, strict=True):
        if expected is not None:
            assert (got - expected).abs().max() < 1e-5


def test_a_tied_head_receives_the_gradients_of_both_uses():
    _, targets, head = _problem(20)
    ids = torch.arange(20)
    gradients = []
    for function in (_plain, loss_sum):
        head.weight.grad = None
        function(nn.functional.embedding(ids, head.weight), targets, head).backward()
        gradients.append(head.weight.grad)
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5


def test_bfloat16_states_are_summed_in_float32():
    hidden, targets, head = _problem(40)
    value = loss_sum(hidden.bfloat16(), targets, head.bfloat16())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(_plain(hidden, targets, head.float()).item(), rel=0.01)


def test_no_targets_give_a_loss_of_zero_with_zero_gradients():
    hidden, targets, head = _problem(0)
    value, hidden_gradient, head_gradient = _with_gradients(loss_sum, hidden, targets, head, 1.0)
    assert value == 0
    assert hidden_gradient.shape == (0, HIDDEN)
    assert not head_gradient.any()


class _LogitsAlive(TorchDispatchMode):
    """Counts the elements of all vocabulary-wide tensors that exist at the same time, except weights."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.shape[1:] == (VOCABULARY,) and tensor.shape[0] != HIDDEN:
                storage = tensor.untyped_storage()
                if storage._cdata not in self.alive:
                    self.alive[storage._cdata] = tensor.numel()
                    weakref.finalize(storage, self.alive.pop, storage._cdata, None)
        self.most = max(self.most, sum(self.alive.values()))
        return result


def _most_logits(function, tokens):
    problem = _problem(tokens)
    with _LogitsAlive() as counted:
        function(*problem).backward()
    return counted.most


def test_logits_exist_for_one_chunk_at_a_time_for_any_number_of_tokens():
    most = {tokens: _most_logits(loss_sum, tokens) for tokens in (2 * CHUNK, 20 * CHUNK)}
    assert most[2 * CHUNK] == most[20 * CHUNK] <= 3 * CHUNK * VOCABULARY  # logits, their softmax, their gradient
    assert _most_logits(_plain, 20 * CHUNK) >= 2 * 20 * CHUNK * VOCABULARY  # proves that the counter counts
