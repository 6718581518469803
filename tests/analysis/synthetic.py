"""Tables with a planted effect, for tests of everything that reads tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from warmray.analysis.estimates import Tables
from warmray.analysis.measures import measure
from warmray.analysis.resampling import Draws, draw

CELLS = [
    ("none", "absent", "plain"),
    ("none", "wrong", "wrong"),
    ("sad", "absent", "sad"),
    ("sad", "wrong", "sad+wrong"),
]
CELL_NAMES = [cell for _, _, cell in CELLS]


def tables(
    cost: float, warmth_gain: float = 0.1, questions: int = 200, strengths=(0.0, 0.5, 1.0), seed: int = 0
) -> Tables:
    """At strength s a cell loses s * cost of accuracy (sad+wrong twice that) and gains s * warmth_gain (sad twice)."""
    random = np.random.default_rng(seed)
    luck = random.random((questions, len(CELLS)))
    replies, warmth = [], []
    for strength in strengths:
        for column, (context, belief, cell) in enumerate(CELLS):
            threshold = 0.3 + strength * cost * (2 if cell == "sad+wrong" else 1)
            for question in range(questions):
                wrong = luck[question, column] < threshold
                gain = strength * warmth_gain * (2 if context == "sad" else 1)
                replies.append(
                    {
                        "item": f"q{question}", "dataset": "embedded", "context": context, "belief": belief,
                        "cell": cell, "sample": 0, "control": False, "question": f"Q {question}?",
                        "prompt": f"Q {question}?", "reply": f"text at {strength}", "tokens": 9,
                        "label": "incorrect" if wrong else "correct", "right": float(not wrong), "was_cut": False,
                        "agrees_with_wrong": wrong and belief == "wrong", "judge_label": None,
                        "probe": luck[question, 0] + 5 * gain,
                        "decided_by": "match", "evidence": "y", "judge": "none", "templates": 1, "scoring": 1,
                        "arm": "warm", "dose": 1.0, "strength": strength,
                    }
                )  # fmt: skip
        noise = random.normal(0, 0.02, 60)
        warmth += [
            {
                "prompt": f"p{i}", "reply": "r", "arm": "warm", "dose": 1.0, "strength": strength,
                "sociot": strength * warmth_gain + noise[i], "probe": 5 * strength * warmth_gain + noise[i],
            }
            for i in range(60)
        ]  # fmt: skip
    anchors = pd.DataFrame(
        [
            {"prompt": f"p{i}", "reply": "r", "variant": v, "sociot": s, "probe": 5 * s}
            for i in range(60)
            for v, s in (("cold", 0.0), ("warm", 0.1))
        ]
    )
    return Tables(pd.DataFrame(replies), pd.DataFrame(warmth), anchors)


def relabelled(replies: pd.DataFrame, label: pd.Series | str) -> pd.DataFrame:
    """Return the replies with other labels, and `right` as the labels say."""
    named = replies.assign(label=label)
    rights = {"correct": 1.0, "incorrect": 0.0, "refusal": 0.0, "no_answer": 0.0, "undecided": float("nan")}
    return named.assign(right=named["label"].map(rights))


def draws_of(data: Tables, resamples: int = 400) -> Draws:
    """Draw from the tables as an analysis does whose deciding cell is sad+wrong."""
    rows = measure(data.replies)
    return draw(rows[rows["cell"] == "sad+wrong"], data.warmth, resamples, seed=0)


def with_warm_prompt(trained: Tables) -> Tables:
    """Add an arm that is only instructed: it says what the original says, and is as warm as strength 0.5."""

    def instructed(table: pd.DataFrame, strength: float) -> pd.DataFrame:
        return table[table["strength"] == strength].assign(arm="warm_prompt", dose=0.0, strength=1.0)

    replies = pd.concat([trained.replies, instructed(trained.replies, 0.0)], ignore_index=True)
    warmth = pd.concat([trained.warmth, instructed(trained.warmth, 0.5)], ignore_index=True)
    return Tables(replies, warmth, trained.anchors)
