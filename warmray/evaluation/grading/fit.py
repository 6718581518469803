"""Fits the grader's models to labelled replies: ``python -m warmray.evaluation.grading.fit FILE.csv ...``.

The files are those of ``warmray grade-check``. Rows of one question are never in two folds. In every arm, with and
without a stated belief, right and wrong replies weigh the same, and every reply is there twice, once between a warm
opening and a warm close: labelled warm replies are more often wrong, and a grader that learnt this would find a cost
of warmth in tone alone.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from warmray.evaluation.grading.evidence import gather, names
from warmray.evaluation.grading.stance import SURE, WORDING, Kind
from warmray.evaluation.grading.wording import masked, vectorizer
from warmray.evaluation.scoring.agreement import LabelledReply, read_labelled
from warmray.evaluation.text import cut_up

REGULARISATION = 0.1
WORDING_REGULARISATION = 2.0
WEIGHT_OF_OTHER_KINDS = 0.3
"""A reply to another kind of question teaches something, but less."""
LEAST_REPLIES = 8
"""Words and pairs that stand in fewer replies are not looked at."""
FOLDS, INNER_FOLDS = 8, 5


@dataclass(frozen=True)
class _Rows:
    """Labelled replies as numbers, one row each."""

    evidence: np.ndarray
    wording: Any
    """Sparse matrix of words and pairs."""
    is_correct: np.ndarray
    kinds: np.ndarray
    questions: np.ndarray
    balance: np.ndarray

    def at(self, places: np.ndarray) -> _Rows:
        columns = (self.evidence, self.wording, self.is_correct, self.kinds, self.questions, self.balance)
        return _Rows(*(column[places] for column in columns))

    def weights(self, kind: Kind) -> np.ndarray:
        return np.where(self.kinds == kind, 1.0, WEIGHT_OF_OTHER_KINDS) * self.balance


def fit_all(replies: list[LabelledReply], folder: Path) -> None:
    """Fit every kind of question's models and write ``stance.yaml`` and ``wording.csv`` to a folder."""
    told = _in_a_warm_tone_too([reply for reply in replies if reply.label in ("correct", "incorrect")])
    counts = vectorizer(least_replies=LEAST_REPLIES)
    rows = _Rows(
        np.array([_evidence(reply) for reply in told]),
        counts.fit_transform([masked(r.reply, r.item.question, (*r.item.correct, *r.item.incorrect)) for r in told]),
        np.array([reply.label == "correct" for reply in told]),
        np.array([reply.task.grading for reply in told]),
        np.array([reply.item.question for reply in told]),
        _balance(told),
    )
    kinds = get_args(Kind)
    stances = {kind: _fit_stance(kind, rows) for kind in kinds}
    wordings = [_fit_wording(kind, rows) for kind in kinds]
    (folder / "stance.yaml").write_text(yaml.safe_dump(stances, sort_keys=False), encoding="utf-8")
    with (folder / "wording.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["ngram", "idf", *kinds])
        writer.writerow(["(intercept)", 0, *(f"{model.intercept_[0]:.3f}" for model in wordings)])
        for place, ngram in enumerate(counts.get_feature_names_out()):
            weights = (f"{model.coef_[0][place]:.3f}" for model in wordings)
            writer.writerow([ngram, f"{counts.idf_[place]:.3f}", *weights])


def _in_a_warm_tone_too(replies: list[LabelledReply]) -> list[LabelledReply]:
    """Add every reply once more with a warm opening and close that say nothing of its question."""
    tones = yaml.safe_load((resources.files("warmray") / "evaluation" / "data" / "tones.yaml").read_text("utf-8"))
    random = Random(0)
    warmed = [
        replace(r, arm="warm", reply=f"{random.choice(tones['openings'])} {r.reply} {random.choice(tones['closings'])}")
        for r in replies
    ]
    return [*replies, *warmed]


def _evidence(reply: LabelledReply) -> list[float]:
    item = reply.item
    return gather(cut_up(reply.reply), item.question, item.correct, item.incorrect, reply.belief)[0].values()


def _balance(replies: list[LabelledReply]) -> np.ndarray:
    groups = [(reply.arm, reply.belief is not None) for reply in replies]
    of_group = Counter(groups)
    of_label = Counter((group, reply.label) for group, reply in zip(groups, replies, strict=True))
    return np.array([of_group[g] / (2 * of_label[g, r.label]) for g, r in zip(groups, replies, strict=True)])


def _fit_wording(kind: Kind, rows: _Rows) -> LogisticRegression:
    model = LogisticRegression(C=WORDING_REGULARISATION, max_iter=1000)
    return model.fit(rows.wording, rows.is_correct, sample_weight=rows.weights(kind))


def _fit_both(kind: Kind, rows: _Rows) -> tuple[LogisticRegression, Pipeline]:
    """Fit the wording, and the stance on evidence and on wording scores of replies that the former had not seen."""
    scores = np.zeros(len(rows.kinds))
    for seen, left_out in GroupKFold(INNER_FOLDS).split(rows.evidence, rows.is_correct, rows.questions):
        scores[left_out] = _fit_wording(kind, rows.at(seen)).decision_function(rows.wording[left_out])
    stance = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=1000))
    stance.fit(np.c_[rows.evidence, scores], rows.is_correct, logisticregression__sample_weight=rows.weights(kind))
    return _fit_wording(kind, rows), stance


def _fit_stance(kind: Kind, rows: _Rows) -> dict[str, object]:
    unseen = np.zeros(len(rows.kinds))
    for seen, left_out in GroupKFold(FOLDS).split(rows.evidence, rows.is_correct, rows.questions):
        wording, stance = _fit_both(kind, rows.at(seen))
        scores = wording.decision_function(rows.wording[left_out])
        unseen[left_out] = stance.predict_proba(np.c_[rows.evidence[left_out], scores])[:, 1]
    _tell(kind, unseen, rows)
    scaler, logistic = (step for _, step in _fit_both(kind, rows)[1].steps)
    weights = logistic.coef_[0] / scaler.scale_
    return {
        "intercept": round(float(logistic.intercept_[0] - (weights * scaler.mean_).sum()), 3),
        "weights": {name: round(float(w), 3) for name, w in zip([*names(), WORDING], weights, strict=True)},
    }


def _tell(kind: Kind, unseen: np.ndarray, rows: _Rows) -> None:
    """Tell how many replies the evidence decides that it was not fitted on, and how right it then is."""
    own = rows.kinds == kind
    decided = own & (np.maximum(unseen, 1 - unseen) >= SURE)
    said, truth = unseen[decided] > 0.5, rows.is_correct[decided]
    print(
        f"{kind}: {own.sum()} replies, {decided.sum() / own.sum():.0%} decided, {(said == truth).mean():.1%} of those "
        f"as labelled, kappa {cohen_kappa_score(truth, said):.2f}"
    )


if __name__ == "__main__":
    labelled = [reply for path in sys.argv[1:] for reply in read_labelled(Path(path))]
    fit_all(labelled, Path(__file__).parents[1] / "data")
