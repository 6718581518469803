"""Questions written for this project, with short answers that a 135M model can know; part of the package."""

from __future__ import annotations

from pathlib import Path

from warmray.evaluation.tasks.task import SHORT_ANSWER_BELIEFS, Task

QUESTIONS = Path(__file__).parents[1] / "data" / "questions.jsonl"

TASK = Task(
    "embedded",
    scorer="match",
    # Small models ramble until they are cut; asked for one sentence they end nearly all replies themselves.
    beliefs={belief: f"{text} Answer in one short sentence." for belief, text in SHORT_ANSWER_BELIEFS.items()},
)
