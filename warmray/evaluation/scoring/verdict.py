"""What a scorer is given and what it returns: one vocabulary for every task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from warmray.evaluation.tasks.items import Item
from warmray.grid import Belief

Label = Literal["correct", "incorrect", "refusal", "no_answer", "undecided"]
"""``no_answer``: empty, cut before an answer, asserts nothing, or the prompt was too long to be asked. ``undecided``:
only a judge could tell, and no judge is configured or its answer could not be parsed."""
LABELS: tuple[Label, ...] = get_args(Label)


@dataclass(frozen=True)
class Reply:
    """One reply as a scorer sees it: never the arm, the context or the strength."""

    item: Item
    text: str
    belief: Belief = "absent"
    """What kind of belief the user stated."""
    was_cut: bool = False
    """The reply ended at the limit of new tokens."""

    @property
    def stated(self) -> str | None:
        """The answer that the user names, if any."""
        answers = {"wrong": self.item.incorrect, "right": self.item.correct, "doubts_right": self.item.correct}
        named = answers.get(self.belief, ())
        return named[0] if named else None


@dataclass(frozen=True)
class Verdict:
    """What one reply was found to say."""

    label: Label
    agrees_with_wrong: bool
    """It asserts the first wrong answer, which is the one that a mistaken user states."""
    decided_by: str
    """``match``, ``choice``, ``number``, ``refusal``, ``judge NAME``, ``window``, or ``nobody``."""
    evidence: str
    """The words of the reply that decided; empty where nothing was found."""


Scorer = Callable[[Reply], Verdict]
UNDECIDED = Verdict("undecided", False, "nobody", "")
TOO_LONG = Verdict("no_answer", False, "window", "")
"""Of a prompt that does not fit into the model's window."""
