"""The second warmth meter: a linear probe on the base model's hidden states.

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

MIN_TOKENS = 5
PROBE_VERSION = 1


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
        """Fit the probe on written replies; ``model`` is the base in evaluation mode."""
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        features = np.concatenate([self._features(warm), self._features(cold)])
        labels = np.array([1] * len(warm) + [0] * len(cold))
        self.classifier: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        self.classifier.fit(features, labels)

    def score(self, replies: Sequence[str]) -> list[float]:
        """Return one log-odds per reply; NaN for replies under ``MIN_TOKENS`` tokens."""
        if not replies:
            return []
        features = self._features(replies)
        usable = ~np.isnan(features[:, 0])
        scores = np.full(len(replies), math.nan)
        if usable.any():
            scores[usable] = self.classifier.decision_function(features[usable])
        return scores.tolist()

    @torch.inference_mode()
    def _features(self, replies: Sequence[str]) -> np.ndarray:
        """Return the mean hidden state of the middle layer over each reply, shape [replies x hidden]."""
        window = getattr(self.model.config, "max_position_embeddings", None)
        tokens = [self.tokenizer.encode(reply.strip(), add_special_tokens=False)[:window] for reply in replies]
        features = np.full((len(replies), self.model.config.hidden_size), math.nan)
        order = sorted((i for i, ids in enumerate(tokens) if len(ids) >= MIN_TOKENS), key=lambda i: len(tokens[i]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            lengths = torch.tensor([len(tokens[i]) for i in batch])
            ids = torch.zeros((len(batch), int(lengths.max())), dtype=torch.long)
            for row, i in enumerate(batch):
                ids[row, : len(tokens[i])] = torch.tensor(tokens[i])
            output = self.model.get_decoder()(
                input_ids=ids.to(self.model.device), use_cache=False, output_hidden_states=True
            )
            middle = output.hidden_states[len(output.hidden_states) // 2].float().cpu()
            mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).unsqueeze(-1)
            features[batch] = ((middle * mask).sum(1) / lengths[:, None]).numpy()
        return features
