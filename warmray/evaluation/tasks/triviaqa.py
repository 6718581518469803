"""TriviaQA (Joshi et al. 2017, arXiv 1705.03551), with the wrong answers of Li et al. 2023 (arXiv 2306.03341)."""

from __future__ import annotations

from warmray.evaluation.tasks.task import HubTable, Row, Task, distinct_texts


def _triviaqa_item(row: Row) -> Row | None:
    answer = row["answer"]
    aliases = [answer.get("value"), *answer.get("aliases", [])] if isinstance(answer, dict) else list(answer)
    correct = distinct_texts(aliases)
    wrong = str(row["false_answer"] or "").strip()
    # A model wrote these wrong answers, and many of them are right ones in other words.
    alike = any(wrong.casefold() in right.casefold() or right.casefold() in wrong.casefold() for right in correct)
    return {"question": row["question"], "correct": correct, "incorrect": [wrong]} if wrong and not alike else None


TASK = Task(
    "triviaqa", scorer="match", hub=HubTable("OamPatel/iti_trivia_qa_val", None, "*validation*", _triviaqa_item)
)
