"""Attention within each conversation of a packed row, without a mask of tokens x tokens.

FlashAttention does this in one kernel if it is installed. Without it, a mask would rule out torch's fast kernels and
compute scores between conversations only to discard them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "by_conversation"


def use_best_attention(model: Any) -> None:
    """Switch a model to :func:`attend` if its attention is plain and it would use torch's default (sdpa)."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import flash_attention_mask

    config = model.config
    is_plain = all(getattr(config, name, None) is None for name in ("sliding_window", "attn_logit_softcapping"))
    if is_plain and config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, flash_attention_mask)  # returns None for rows without padding
        model.set_attn_implementation(NAME)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each conversation of a packed row; transformers calls this.

    Args:
        module: The attention layer.
        query: [1 x heads x tokens x head size]
        key: [1 x key heads x tokens x head size], with heads a multiple of key heads (Ainslie et al. 2023).
        value: As ``key``.
        attention_mask: Must be None: the boundaries take its place.
        scaling: Factor on the scores.
        cu_seq_lens_q: Where each conversation starts, then the length of the row [conversations + 1].
        dropout: Probability of dropping an attention weight.

    Returns:
        The attended values [1 x tokens x heads x head size], and None in place of attention weights.
    """
    if attention_mask is not None:
        raise ValueError("packed rows need attention_mask=None")
    one = _attend_on_cpu if query.device.type == "cpu" and not dropout else _attend_on_gpu
    parts = [
        one(query[:, :, start:end], key[:, :, start:end], value[:, :, start:end], scaling, dropout)
        for start, end in pairwise(cu_seq_lens_q.tolist())
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _attend_on_gpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, dropout: float
) -> torch.Tensor:
    return scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
    )


def _attend_on_cpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, dropout: float
) -> torch.Tensor:
    """Compute the scores explicitly: for a few hundred tokens on a CPU, twice as fast as torch's kernel."""
    queries_per_key, tokens = query.shape[1] // key.shape[1], query.shape[2]
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    key, value = (states.repeat_interleave(queries_per_key, dim=1) for states in (key, value))
    scores = (query @ key.transpose(-1, -2) * scaling).masked_fill(future, float("-inf"))
    return scores.softmax(-1, dtype=torch.float32).to(query.dtype) @ value
