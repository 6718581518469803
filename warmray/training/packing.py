"""Several conversations share a row of tokens, and no conversation sees another."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from heapq import heapreplace
from itertools import accumulate
from typing import Any

import torch

from warmray.training.tokens import Example


@dataclass(frozen=True)
class Row:
    """Conversations laid end to end; ``token_ids`` and ``trained`` have one entry per token."""

    ids: tuple[str, ...]
    lengths: tuple[int, ...]
    """Tokens of each conversation, in order."""
    token_ids: tuple[int, ...]
    trained: tuple[bool, ...]

    @property
    def position_ids(self) -> list[int]:
        """Return the position of every token in its own conversation (0-based)."""
        return [position for length in self.lengths for position in range(length)]

    @property
    def boundaries(self) -> list[int]:
        """Return where each conversation starts, then the length of the row: what kernels call ``cu_seqlens``."""
        return [0, *accumulate(self.lengths)]


def pack(examples: list[Example], max_length: int) -> list[Row]:
    """Pack examples into few rows of at most ``max_length`` tokens, of similar lengths.

    Best fit finds the number of rows. The examples are then spread evenly over as many rows: workers with a row each
    wait little for one another. If the even rows overflow, the best-fit rows are used. The same examples in the same
    order always give the same rows.

    Raises:
        ValueError: an example is longer than a row.
    """
    longest_first = sorted(examples, key=lambda example: -len(example.token_ids))

    # Best fit: longest first, each example into the row that it leaves least space in.
    best_fit: list[list[Example]] = []
    free: list[tuple[int, int]] = []  # (tokens left, row), ascending
    for example in longest_first:
        length = len(example.token_ids)
        if length > max_length:
            raise ValueError(f"{example.id!r} has {length} tokens, a row {max_length}")
        best = bisect_left(free, (length, 0))
        if best == len(free):
            best_fit.append([])
            left, row = max_length, len(best_fit) - 1
        else:
            left, row = free.pop(best)
        best_fit[row].append(example)
        insort(free, (left - length, row))

    return [
        Row(
            ids=tuple(example.id for example in members),
            lengths=tuple(len(example.token_ids) for example in members),
            token_ids=tuple(token for example in members for token in example.token_ids),
            trained=tuple(flag for example in members for flag in example.trained),
        )
        for members in _spread_evenly(longest_first, len(best_fit), max_length) or best_fit
    ]


def _spread_evenly(longest_first: list[Example], count: int, max_length: int) -> list[list[Example]] | None:
    """Put each example into the emptiest of ``count`` rows; return None if a row overflows."""
    rows: list[list[Example]] = [[] for _ in range(count)]
    emptiest = [(0, row) for row in range(count)]  # a heap of (tokens, row)
    for example in longest_first:
        tokens, row = emptiest[0]
        if tokens + len(example.token_ids) > max_length:
            return None
        heapreplace(emptiest, (tokens + len(example.token_ids), row))
        rows[row].append(example)
    return rows


def model_inputs(row: Row, device: torch.device | str) -> dict[str, Any]:
    """Return the arguments with which a transformers model reads a row [1 x tokens], conversations kept apart.

    Sdpa, eager and flex attention build their mask from ``position_ids`` that restart, but only if the model gets no
    mask and no cache. FlashAttention takes the boundaries. A mask of ones, or the cache that models use by default,
    would let every conversation read those before it.
    """
    boundaries = torch.tensor(row.boundaries, dtype=torch.int32, device=device)
    return {
        "input_ids": torch.tensor([row.token_ids], device=device),
        "position_ids": torch.tensor([row.position_ids], device=device),
        "attention_mask": None,
        "use_cache": False,
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": max(row.lengths),
        "max_length_k": max(row.lengths),
    }


def predictions(row: Row, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions [N] whose hidden state predicts a trained token, and those tokens [N]."""
    starts = set(row.boundaries)  # no position predicts the first token of a conversation
    targets = [index for index, trained in enumerate(row.trained) if trained and index not in starts]
    positions = torch.tensor([index - 1 for index in targets], dtype=torch.long, device=device)
    return positions, torch.tensor([row.token_ids[index] for index in targets], dtype=torch.long, device=device)
