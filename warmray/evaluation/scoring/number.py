"""To be written."""

from __future__ import annotations

from warmray.evaluation.scoring.verdict import UNDECIDED, Reply, Verdict


def score_number(reply: Reply) -> Verdict:
    """Label a reply."""
    return UNDECIDED
