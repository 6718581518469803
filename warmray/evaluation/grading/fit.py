"""Fits the stance models to labelled replies: ``python -m warmray.evaluation.grading.fit FILE.csv ...``.

The files are those of ``warmray grade-check``. Rows of one question are never in two folds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from warmray.evaluation.grade_check import LabelledReply, read_labelled
from warmray.evaluation.grading.evidence import gather, names
from warmray.evaluation.grading.stance import Kind
from warmray.evaluation.text import cut_up

REGULARISATION = 0.1
WEIGHT_OF_OTHER_KINDS = 0.3
"""A reply to another kind of question teaches something, but less."""
DECIDED_SHARE: dict[Kind, float] = {"answer": 0.85, "vignette": 0.7, "statement": 0.65, "proposition": 0.7}
"""How many of the labelled replies are to be decided; the others are left to a judge."""
FOLDS = 8


def fit_all(replies: list[LabelledReply]) -> dict[Kind, dict[str, object]]:
    """Return for every kind of question the weights, unscaled and rounded, and how sure a decision must be."""
    told = [r for r in replies if r.label in ("correct", "incorrect")]
    evidence = np.array(
        [gather(cut_up(r.reply), r.item.question, r.item.correct, r.item.incorrect, r.belief)[0].values() for r in told]
    )
    is_correct = np.array([r.label == "correct" for r in told])
    kinds = np.array([r.task.grading for r in told])
    questions = [r.item.question for r in told]
    return {kind: _fit(kind, evidence, is_correct, kinds, questions) for kind in get_args(Kind)}


def _fit(
    kind: Kind, evidence: np.ndarray, is_correct: np.ndarray, kinds: np.ndarray, questions: list[str]
) -> dict[str, object]:
    def trained(rows: np.ndarray) -> Pipeline:
        weights = np.where(kinds[rows] == kind, 1.0, WEIGHT_OF_OTHER_KINDS)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=1000))
        return model.fit(evidence[rows], is_correct[rows], logisticregression__sample_weight=weights)

    unseen = np.zeros(len(kinds))
    for rows, left_out in GroupKFold(FOLDS).split(evidence, is_correct, questions):
        unseen[left_out] = trained(rows).predict_proba(evidence[left_out])[:, 1]
    own = kinds == kind
    sureness = np.maximum(unseen, 1 - unseen)[own]
    sure = float(np.quantile(sureness, 1 - DECIDED_SHARE[kind]))
    right = ((unseen > 0.5) == is_correct)[own][sureness >= sure].mean()
    print(f"{kind}: {own.sum()} replies, {DECIDED_SHARE[kind]:.0%} decided, {right:.1%} of those as labelled")
    scaler, logistic = (step for _, step in trained(np.arange(len(kinds))).steps)
    weights = logistic.coef_[0] / scaler.scale_
    return {
        "intercept": round(float(logistic.intercept_[0] - (weights * scaler.mean_).sum()), 3),
        "weights": {name: round(float(weight), 3) for name, weight in zip(names(), weights, strict=True)},
        "sure": round(sure, 3),
    }


if __name__ == "__main__":
    labelled = [reply for path in sys.argv[1:] for reply in read_labelled(Path(path))]
    target = Path(__file__).parents[1] / "data" / "stance.yaml"
    target.write_text(yaml.safe_dump(fit_all(labelled), sort_keys=False), encoding="utf-8")
