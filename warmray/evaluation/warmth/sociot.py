"""SocioT Warmth: is a reply more likely from somebody close than from somebody distant?

After Cheng et al. 2025 (arXiv 2502.13259), with repairs: evaluation mode, only the reply's tokens count, the templates
differ in the noun alone, a reply that is too short has no score, and every reply is scored over its first tokens
(:mod:`.first_tokens`). A prefix of four words fades: on the written replies of the ``probe`` split, a 135M scorer
separates warm from cold at z = 4.8 over 16 tokens, 2.4 over 32, and 1.3 over tokens 5 to 32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from warmray.evaluation.warmth.first_tokens import first_tokens, right_padded

CLOSE = ("friend", "lover", "mentor", "idol")
DISTANT = ("stranger", "enemy", "examiner", "dictator")
TEMPLATE = 'The {noun} said: "'


class SocioTMeter:
    """Scores replies with a causal language model that has no adapter (or has it switched off)."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 32) -> None:
        """Take the scoring model in evaluation mode."""
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.head = model.get_output_embeddings().weight.detach().float()
        self.prefixes = [
            tokenizer.encode(TEMPLATE.format(noun=noun), add_special_tokens=False) for noun in (*CLOSE, *DISTANT)
        ]

    def score(self, replies: Sequence[str]) -> list[float]:
        """Return one score per reply, in nats per reply token; NaN for replies that are too short.

        The score is the mean log-likelihood per token after the four close nouns, less that after the distant ones.
        """
        tokens = first_tokens(self.tokenizer, replies)
        rows = [(prefix, ids) for ids in tokens.values() for prefix in self.prefixes]
        likelihoods: list[float] = []
        for start in range(0, len(rows), self.batch_size):
            likelihoods += self._mean_log_likelihoods(rows[start : start + self.batch_size])
        scores = [math.nan] * len(replies)
        for place, i in enumerate(tokens):
            eight = likelihoods[8 * place : 8 * place + 8]
            scores[i] = sum(eight[:4]) / 4 - sum(eight[4:]) / 4
        return scores

    @torch.inference_mode()
    def _mean_log_likelihoods(self, rows: list[tuple[list[int], list[int]]]) -> list[float]:
        """Return the mean log-likelihood per reply token of every (prefix, reply)."""
        ids, is_reply = right_padded([[*prefix, *reply] for prefix, reply in rows], self.model.device)
        for row, (prefix, _) in zip(is_reply, rows, strict=True):
            row[: len(prefix)] = False
        hidden = self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        # Differences of a hundredth of a nat would drown in bfloat16 logits, whose steps are a tenth: float32 here.
        logits = hidden[:, :-1][is_reply[:, 1:]].float() @ self.head.T
        target = ids[:, 1:][is_reply[:, 1:]]
        log_likelihood = logits.gather(1, target[:, None])[:, 0] - torch.logsumexp(logits, dim=1)
        per_row = torch.split(log_likelihood, is_reply.sum(1).tolist())
        return [part.mean().item() for part in per_row]
