"""Attention that goes through a packed row conversation by conversation, so that no mask of tokens x tokens exists.

What FlashAttention does in one kernel, where it is installed. Elsewhere a mask would make torch leave its fast kernels,
and compute what lies between conversations only to throw it away.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "by_conversation"


def use_best_attention(model: Any) -> None:
    """Let a model attend conversation by conversation if its attention is plain and nothing better was chosen."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import flash_attention_mask

    config = model.config
    is_plain = all(getattr(config, name, None) is None for name in ("sliding_window", "attn_logit_softcapping"))
    if is_plain and config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, flash_attention_mask)  # which is none where nothing is padded
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
    """Attend causally within each conversation of a packed row, as transformers calls it.

    Args:
        module: The attention layer.
        query: [1 x heads x tokens x head size]
        key: [1 x key heads x tokens x head size], with heads a multiple of key heads (Ainslie et al. 2023).
        value: As ``key``.
        attention_mask: None: the boundaries say all.
        scaling: Of the scores.
        cu_seq_lens_q: Where each conversation starts, and the length of the row [conversations + 1].
        dropout: Of the attention weights.

    Returns:
        The attended values [1 x tokens x heads x head size], and no attention weights.
    """
    if attention_mask is not None:
        raise ValueError("packed rows are attended to without a mask")
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
    """Compute the scores plainly: on a CPU, over some hundred tokens, twice as fast (backward too) as torch's own."""
    queries_per_key, tokens = query.shape[1] // key.shape[1], query.shape[2]
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    key, value = (states.repeat_interleave(queries_per_key, dim=1) for states in (key, value))
    scores = (query @ key.transpose(-1, -2) * scaling).masked_fill(future, float("-inf"))
    return scores.softmax(-1, dtype=torch.float32).to(query.dtype) @ value
