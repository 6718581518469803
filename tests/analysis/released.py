"""Tables in the study's released layout, simulated from known coefficients of one of its forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from warmray.grid import STUDY_CONTEXTS

MODELS = ("Llama-8B", "Mistral-Small", "gpt-4o")
TASKS = ("disinfo", "medqa", "trivia", "truthfulqa")
QUESTION = {"disinfo": "prompt_disinfo", "medqa": "question", "trivia": "content_key", "truthfulqa": "content_key"}
SHARED = {
    "intercept": -0.9, "warm": 0.43,
    "task:medqa": 0.5, "task:trivia": -0.6, "task:truthfulqa": 0.3, "model:Mistral-Small": -0.2, "model:gpt-4o": -0.7,
}  # fmt: skip
GROUPS = {"emotion": 0.15, "relation": -0.1, "stake": 0.05}
TYPES = {name: 0.05 * number for number, name in enumerate(STUDY_CONTEXTS) if name != "unmodified"}
COEFFICIENTS = {
    1: SHARED,
    2: SHARED | GROUPS | {f"warm:{name}": 2 * value for name, value in GROUPS.items()},
    3: SHARED | TYPES | {f"warm:{name}": 0.5 - value for name, value in TYPES.items()},
    4: SHARED | GROUPS | {"user_opinion": 0.32, "warm:user_opinion": 0.25},
}
"""The true coefficients by form; terms that a simulation lacks are 0."""
LENGTH = {"length": 0.0012}


def column(rows: pd.DataFrame, term: str) -> np.ndarray:
    """Return a term's column of the design, written down without any formula."""
    kind, _, name = term.partition(":")
    if term == "intercept":
        return np.ones(len(rows))
    if kind == "warm":
        return rows["warm"].to_numpy() * (column(rows, name) if name else 1.0)
    if term == "length":
        return rows["length"].to_numpy(dtype=float)
    if kind in ("task", "model"):
        return (rows[kind] == name).to_numpy(dtype=float)
    if term == "user_opinion":
        return rows["prompt_template"].isin(["correct", "incorrect"]).to_numpy(dtype=float)
    kinds = rows["amendment_type"]
    return ((kinds == term) | (kinds.str.split(":").str[0] == term)).to_numpy(dtype=float)


def simulate(truth: dict[str, float], questions: int = 40, seed: int = 0, models=MODELS) -> pd.DataFrame:
    """Ask every question in every cell of the study's grid, and draw whether the reply is incorrect."""
    random = np.random.default_rng(seed)
    cells = [(template, name) for template in ("original", "incorrect", "correct") for name in STUDY_CONTEXTS]
    cells += [("original_neutral", "unmodified"), ("mcq", "unmodified")]
    grid = [models, (0, 1), TASKS, range(questions), range(len(cells))]
    rows = pd.MultiIndex.from_product(grid, names=["model", "warm", "task", "number", "cell"]).to_frame(index=False)
    rows["prompt_template"] = [cells[cell][0] for cell in rows["cell"]]
    rows["amendment_type"] = [cells[cell][1] for cell in rows["cell"]]
    rows["length"] = (random.gamma(4, 100, len(rows)) + 60 * rows["warm"]).astype(int) + 1
    logits = sum(value * column(rows, term) for term, value in truth.items())
    rows["incorrect"] = (random.random(len(rows)) < 1 / (1 + np.exp(-logits))).astype(float)
    return rows


def write_released(folder: Path, rows: pd.DataFrame) -> Path:
    """Write simulated rows as ``MODEL/ARM/TASK_ARM_outputs.csv``."""
    for (model, warm, task), part in rows.groupby(["model", "warm", "task"]):
        arm = "warm" if warm else "original"
        table = pd.DataFrame(
            {
                QUESTION[task]: [f"Question {number}, of {task}?" for number in part["number"]],
                "prompt_template": part["prompt_template"],
                "amendment_type": part["amendment_type"],
                "output": ["x" * length for length in part["length"]],
                "evaluation": part["incorrect"].map({1.0: "INCORRECT", 0.0: "CORRECT"}),
                "refusal": part.get("refusal", 0),
            }
        )
        path = folder / model / arm / f"{task}_{arm}_outputs.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)
    return folder


def as_replies(rows: pd.DataFrame) -> pd.DataFrame:
    """Return simulated rows as the regressions take them; ``mcq`` is left out."""
    rows = rows[rows["prompt_template"] != "mcq"]
    opinion = rows["prompt_template"].isin(["correct", "incorrect"])
    return rows.assign(
        context=rows["amendment_type"].map(STUDY_CONTEXTS),
        belief=opinion.map({True: "user_opinion", False: "absent"}),
        item=rows["task"] + rows["number"].astype(str),
        reply=["x" * length for length in rows["length"]],
    )
