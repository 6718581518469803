"""Cross-entropy without the full [tokens x vocabulary] logits, which for large vocabularies outweigh the model."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from warmray.models.memory import LOSS_CHUNK_TOKENS


def loss_sum(hidden: torch.Tensor, targets: torch.Tensor, head: nn.Module) -> torch.Tensor:
    """Return the summed cross-entropy in nats, a float32 scalar.

    Only one chunk of logits exists at any time: the backward pass recomputes a chunk instead of keeping it, unless
    there is only one. The head is called as a module, so it may be frozen or trained, tied, adapted, or partitioned
    by ZeRO-3.

    Args:
        hidden: Last hidden states of the positions that predict a trained token [T x H]; T may be 0.
        targets: The tokens to predict [T].
        head: Maps hidden states [* x H] to logits [* x vocabulary].
    """
    if len(targets) <= LOSS_CHUNK_TOKENS:
        return _chunk_loss(hidden, targets, head)
    chunks = zip(hidden.split(LOSS_CHUNK_TOKENS), targets.split(LOSS_CHUNK_TOKENS), strict=True)
    losses = (checkpoint(_chunk_loss, states, wanted, head, use_reentrant=False) for states, wanted in chunks)
    return sum(losses, start=torch.zeros((), device=hidden.device))


def _chunk_loss(states: torch.Tensor, wanted: torch.Tensor, head: nn.Module) -> torch.Tensor:
    return cross_entropy(head(states).float(), wanted, reduction="sum")
