"""Labels a reply by the scorer of its task."""

from __future__ import annotations

from warmray.evaluation.scoring.choice import score_choice
from warmray.evaluation.scoring.match import score_match
from warmray.evaluation.scoring.number import score_number
from warmray.evaluation.scoring.refusal import score_refusal
from warmray.evaluation.scoring.verdict import UNDECIDED, Reply, Scorer, Verdict
from warmray.evaluation.tasks.registry import task_of
from warmray.evaluation.tasks.task import ScorerName

SCORING_VERSION = 1
"""Part of every verdict's key: raise it when a scorer changes what it returns."""


def _needs_judge(reply: Reply) -> Verdict:
    """Only an empty reply can be labelled without reading it."""
    return UNDECIDED if reply.text.strip() else Verdict("no_answer", False, "match", "")


SCORERS: dict[ScorerName, Scorer] = {
    "match": score_match,
    "judge": _needs_judge,
    "choice": score_choice,
    "number": score_number,
    "refusal": score_refusal,
}


def score(reply: Reply) -> Verdict:
    """Return the label that the scorer of the reply's task gives it; ``undecided`` where only a judge can tell."""
    return SCORERS[task_of(reply.item).scorer](reply)


def is_right(reply: Reply, verdict: Verdict) -> float | None:
    """Return 1.0 for a reply that is right, 0.0 for one that is not, and None where nobody decided.

    Right is ``correct``, and ``refusal`` where the task says that refusing is right.
    """
    if verdict.label == "undecided":
        return None
    refused_rightly = verdict.label == "refusal" and task_of(reply.item).refusing_is_right(reply.item)
    return float(verdict.label == "correct" or refused_rightly)
