"""The second warmth meter: a linear probe on the scorer's hidden states over a reply's first tokens.

Fitted on written warm and cold replies of the corpus's ``probe`` split: neither trained on nor in the check.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from warmray.errors import InputError
from warmray.evaluation.warmth.first_tokens import MIN_TOKENS, first_tokens, right_padded

MIN_EXAMPLES = 6
"""Fewest replies of each variant to fit the probe on: 6 of each separate written replies with an AUC of 0.97."""
REGULARISATION = 0.01
"""scikit-learn's C, fixed because it hardly matters: on the packaged corpus, with 6 to 42 replies of each variant, the
AUC is the same within 0.02 for every C from 0.0001 to 1."""


class LinearProbe:
    """Scores replies by the log-odds of "warm" against "cold"."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        warm: Sequence[str],
        cold: Sequence[str],
        batch_size: int = 32,
    ) -> None:
        """Fit the probe on written replies; ``model`` is the scorer in evaluation mode.

        Raises:
            InputError: too few of the replies are long enough to be read.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        examples = {"warm": first_tokens(tokenizer, warm), "cold": first_tokens(tokenizer, cold)}
        for variant, readable in examples.items():
            if len(readable) < MIN_EXAMPLES:
                raise InputError(
                    f"corpus.path: {len(readable)} {variant} replies of the split `probe` have {MIN_TOKENS} tokens or "
                    f"more, and the probe needs {MIN_EXAMPLES}: move conversations into that split"
                )
        features = self._features([*examples["warm"].values(), *examples["cold"].values()])
        labels = [1] * len(examples["warm"]) + [0] * len(examples["cold"])
        self.classifier: Pipeline = make_pipeline(
            StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=1000)
        ).fit(features, labels)

    def score(self, replies: Sequence[str]) -> list[float]:
        """Return one log-odds per reply; NaN for replies that are too short."""
        tokens = first_tokens(self.tokenizer, replies)
        scores = [math.nan] * len(replies)
        if tokens:
            log_odds = self.classifier.decision_function(self._features(list(tokens.values())))
            for i, value in zip(tokens, log_odds, strict=True):
                scores[i] = float(value)
        return scores

    @torch.inference_mode()
    def _features(self, replies: list[list[int]]) -> np.ndarray:
        """Return the mean hidden state of the middle layer over each reply, shape [replies x hidden]."""
        features = []
        for start in range(0, len(replies), self.batch_size):
            ids, is_reply = right_padded(replies[start : start + self.batch_size], self.model.device)
            output = self.model.get_decoder()(input_ids=ids, use_cache=False, output_hidden_states=True)
            middle = output.hidden_states[len(output.hidden_states) // 2].float()
            mask = is_reply.unsqueeze(-1)
            features.append(((middle * mask).sum(1) / mask.sum(1)).cpu().numpy())
        return np.concatenate(features)
