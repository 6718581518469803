"""How far the scorers, and the judge, agree with people: ``warmray grade-check`` and ``warmray judge-check``."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from warmray.analysis.calibration import FEWEST, LEAST_YOUDEN, ORIGINAL, Calibration
from warmray.cluster.progress import Post, ignore
from warmray.errors import InputError
from warmray.evaluation.scoring.judge import Judge
from warmray.evaluation.scoring.score import is_right, score
from warmray.evaluation.scoring.verdict import LABELS, Label, Reply, Verdict
from warmray.evaluation.tasks.items import Item, same_answer
from warmray.grid import Belief
from warmray.storage.hashing import digest

COLUMNS = ("task", "question", "correct", "incorrect", "belief", "arm", "reply", "label")
"""Those that a labelled file needs; ``cell`` may be there as well."""
PEOPLES_LABELS = tuple(label for label in LABELS if label != "undecided")
FORMER_LABELS = {"unparsed": "no_answer", "truncated": "no_answer", "empty": "no_answer"}
ADVISED_ROWS = 200
RESAMPLES = 2000


@dataclass(frozen=True)
class LabelledReply:
    """A reply, and what a careful reader called it."""

    reply: Reply
    arm: str
    cell: str
    """Empty where the file does not say."""
    label: Label


@dataclass(frozen=True)
class JudgeCheck:
    """How well a judge does, and what that makes of its errors."""

    table: pd.DataFrame
    """One row per arm, and one for all: the columns of :func:`grade_check`."""
    warnings: list[str]
    """What the labelled replies are too few for."""
    calibration: Calibration


def read_labelled(path: Path) -> list[LabelledReply]:
    """Read a CSV file with the columns task, question, correct, incorrect (JSON lists), belief, arm, reply, label.

    ``belief`` is the answer that the user states, or the name of a kind of belief; empty where there is none. A column
    ``cell`` is read where there is one.

    Raises:
        InputError: no such file, or a row that breaks the format; the message names file and line.
    """
    csv.field_size_limit(1 << 24)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream)
            missing = set(COLUMNS) - set(rows.fieldnames or [])
            if missing:
                raise InputError(
                    f"{path} lacks the columns {', '.join(sorted(missing))} (needed: {', '.join(COLUMNS)})"
                )
            labelled = [_parse_labelled(row, f"{path}:{rows.line_num}") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not labelled:
        raise InputError(f"{path} has no rows: label some replies first")
    return labelled


def _parse_labelled(row: dict[str, str | None], where: str) -> LabelledReply:
    if None in row.values() or None in row:
        raise InputError(f"{where}: the row has another number of fields than the first line: quote fields with commas")
    cells = {name: str(value) for name, value in row.items()}

    answers: dict[str, tuple[str, ...]] = {}
    for name in ("correct", "incorrect"):
        try:
            found = json.loads(cells[name])
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(answer, str) for answer in found):
            raise InputError(f'{where}: {name!r} is not a JSON list of texts such as ["Paris"]: {cells[name]!r}')
        answers[name] = tuple(found)
    if not answers["correct"]:
        raise InputError(f"{where}: no accepted answer: fill `correct`")

    label = FORMER_LABELS.get(cells["label"], cells["label"])
    if label not in PEOPLES_LABELS:
        raise InputError(f"{where}: unknown label {cells['label']!r} (there are: {', '.join(PEOPLES_LABELS)})")

    item = Item(where, cells["task"], cells["question"], answers["correct"], answers["incorrect"])
    item, belief = _with_belief(item, cells["belief"].strip())
    text = cells["reply"].rstrip()
    # The file does not say which replies were cut: those that end in mid-sentence.
    was_cut = text[-1:].isalnum() or text.endswith((",", ";", ":", "-"))
    reply = Reply(item, cells["reply"], belief, was_cut)
    return LabelledReply(reply, cells["arm"], cells.get("cell", ""), label)


def _with_belief(item: Item, stated: str) -> tuple[Item, Belief]:
    """Return the kind of belief, and the item with the stated answer as the first of its list."""
    kinds: tuple[Belief, ...] = get_args(Belief)
    if not stated:
        return item, "absent"
    for kind in kinds:
        if stated == kind:
            return item, kind
    if same_answer(stated, item.correct):
        return replace(item, correct=tuple(dict.fromkeys([stated, *item.correct]))), "right"
    return replace(item, incorrect=tuple(dict.fromkeys([stated, *item.incorrect]))), "wrong"


def grade_check(replies: Sequence[LabelledReply], judge: Judge | None = None, post: Post = ignore) -> pd.DataFrame:
    """Label every reply as a run would, and compare with people: one row for all, then per task and per arm.

    Columns: task, arm, replies; the shares decided ``by_match`` (by a rule), ``by_judge``, and ``undecided``; and over
    the decided replies kappa, sensitivity (right replies that were found right) and specificity (wrong ones that were
    not), with ``_low`` and ``_high`` ends of 95 % intervals: kappa's by a bootstrap over questions, the others exact
    (Clopper-Pearson). Right is ``correct``, and ``refusal`` where the task says that refusing is right.

    Raises:
        InputError: the judge's endpoint refuses the request.
        InterruptedRunError: the judge's endpoint failed for good.
    """
    verdicts = [score(labelled.reply) for labelled in replies]
    to_judge = [n for n, verdict in enumerate(verdicts) if _goes_to_judge(verdict, judge)]
    if judge is not None:
        judged = judge.verdicts([replies[n].reply for n in to_judge], post)
        for n, verdict in zip(to_judge, judged, strict=True):
            verdicts[n] = verdict
    table = _compared(replies, verdicts)
    groups = [("all", "all", table)]
    groups += [(str(task), "all", part) for task, part in table.groupby("task")]
    groups += [("all", str(arm), part) for arm, part in table.groupby("arm")]
    return pd.DataFrame([{"task": task, "arm": arm} | _agreement(part) for task, arm, part in groups])


def judge_check(
    replies: Sequence[LabelledReply], judge: Judge, random_sample: bool = False, post: Post = ignore
) -> JudgeCheck:
    """Let the judge read the labelled replies that it would decide in a run, and compare with people.

    Args:
        replies: At least 200 are advised, stratified by arm and cell.
        judge: The judge to be measured.
        random_sample: The labelled replies were drawn at random from those of the run that will be corrected.
        post: Takes progress and cost.

    Raises:
        InputError: a rule decides all of the replies, or the judge's endpoint refuses the request.
        InterruptedRunError: the judge's endpoint failed for good.
    """
    read = [labelled for labelled in replies if _goes_to_judge(score(labelled.reply), judge)]
    if not read:
        raise InputError(
            f"matching decides all of the {len(replies)} labelled replies, and the judge would read none: label "
            "replies to `truthfulqa`, `medqa` or `disinfo`, or set evaluate.judge.short_answers"
        )
    table = _compared(read, judge.verdicts([labelled.reply for labelled in read], post))
    groups = [("all", table), *((str(arm), part) for arm, part in table.groupby("arm"))]
    summary = pd.DataFrame([{"task": "all", "arm": arm} | _agreement(part) for arm, part in groups])
    rows = table[["question", "task", "arm", "cell", "truth", "found"]].reset_index(drop=True)
    rows = rows.assign(question=rows["question"].map(digest))
    calibration = Calibration(judge.name, judge.digest, random_sample, rows)
    return JudgeCheck(summary, _warnings(table, len(replies) - len(read)), calibration)


def _goes_to_judge(verdict: Verdict, judge: Judge | None) -> bool:
    also_short_answers = judge is not None and judge.config.short_answers and verdict.decided_by == "match"
    return verdict.label == "undecided" or also_short_answers


def _compared(replies: Sequence[LabelledReply], verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return what people and the scorers said, a row per reply; ``truth`` and ``found`` are 1.0 for right."""
    return pd.DataFrame(
        [
            {
                "task": labelled.reply.item.dataset,
                "arm": labelled.arm,
                "cell": labelled.cell,
                "question": labelled.reply.item.question,
                "label": labelled.label,
                "scored": verdict.label,
                "by": "nobody" if verdict.label == "undecided" else verdict.decided_by.split()[0],
                "truth": is_right(labelled.reply, Verdict(labelled.label, False, "people", "")),
                "found": is_right(labelled.reply, verdict),
            }
            for labelled, verdict in zip(replies, verdicts, strict=True)
        ]
    ).astype({"truth": float, "found": float})


def _agreement(part: pd.DataFrame) -> dict[str, object]:
    """Return one row of :func:`grade_check`."""
    decided = part[part["by"] != "nobody"]
    by_judge, undecided = (part["by"] == "judge").mean(), (part["by"] == "nobody").mean()
    row: dict[str, object] = {"replies": len(part), "by_match": 1 - by_judge - undecided}
    row |= {"by_judge": by_judge, "undecided": undecided}

    # Kappa of each question's own table of labels, so that questions can be redrawn.
    labels = {label: number for number, label in enumerate(LABELS)}
    pairs = decided["label"].map(labels) * len(labels) + decided["scored"].map(labels)
    tables = np.array([np.bincount(own, minlength=len(labels) ** 2) for _, own in pairs.groupby(decided["question"])])
    kappa, low, high = math.nan, math.nan, math.nan
    if len(tables):
        random = np.random.default_rng(0)
        times = random.multinomial(len(tables), np.full(len(tables), 1 / len(tables)), size=RESAMPLES)
        kappa, drawn = float(_kappas(tables.sum(0))[0]), _kappas(times @ tables)
        if not np.isnan(drawn).all():
            low, high = np.nanpercentile(drawn, [2.5, 97.5])
    row |= {"kappa": kappa, "kappa_low": low, "kappa_high": high}

    for name, truth in (("sensitivity", 1.0), ("specificity", 0.0)):
        group = decided[decided["truth"] == truth]
        hits = int((group["found"] == truth).sum())
        interval = binomtest(hits, len(group)).proportion_ci() if len(group) else (math.nan, math.nan)
        row |= {name: hits / len(group) if len(group) else math.nan}
        row |= {f"{name}_low": interval[0], f"{name}_high": interval[1]}
    return row


def _kappas(counts: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa of flattened square tables, [..., labels * labels]; NaN where only one label occurs."""
    tables = counts.reshape(-1, len(LABELS), len(LABELS))
    total = tables.sum((1, 2))
    agreed = np.trace(tables, axis1=1, axis2=2) / total
    chance = (tables.sum(1) * tables.sum(2)).sum(1) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (agreed - chance) / (1 - chance)


def _warnings(table: pd.DataFrame, not_read: int) -> list[str]:
    """Say what the labelled replies are too few for; ``table`` is that of :func:`_compared`."""
    found = []
    if not_read:
        found.append(f"{not_read} labelled replies are decided by matching: the judge did not read them")
    if len(table) < ADVISED_ROWS:
        found.append(f"{len(table)} labelled replies: at least {ADVISED_ROWS} are advised")
    if ORIGINAL not in set(table["arm"]):
        found.append(f"no labelled reply is of the arm `{ORIGINAL}`: its errors are pooled with those of the others")
    for arm, part in table.groupby("arm"):
        decided = part.dropna(subset="found")
        right, wrong = int(decided["truth"].sum()), int((1 - decided["truth"]).sum())
        if min(right, wrong) < FEWEST:
            found.append(
                f"arm {arm}: {right} right and {wrong} wrong replies, fewer than {FEWEST} of each: its errors are "
                "pooled with those of the other arms"
            )
            continue
        youden = decided.groupby("truth")["found"].mean().diff().iloc[-1]
        if youden < LEAST_YOUDEN:
            found.append(
                f"arm {arm}: sensitivity + specificity - 1 is {youden:.2f}, under {LEAST_YOUDEN}: a run will refuse "
                "this calibration"
            )
    if not table["cell"].any():
        found.append("the file names no cells (column `cell`): whether the judge errs alike in all cells is not known")
    else:
        counts = pd.crosstab(table["arm"], table["cell"]).stack()
        thin = [f"{arm} in {cell or 'no cell'} ({n})" for (arm, cell), n in counts.items() if n < FEWEST]
        if thin:
            found.append(f"fewer than {FEWEST} labelled replies of: {', '.join(thin)}")
    return found


def agreement_text(table: pd.DataFrame) -> str:
    """Return the table of :func:`grade_check` or of a :class:`JudgeCheck` for people."""
    columns = {name: table[name] for name in ("task", "arm", "replies")}
    for name, title in (("by_match", "by match"), ("by_judge", "by judge"), ("undecided", "undecided")):
        columns[title] = [f"{100 * share:.0f} %" for share in table[name]]
    for name in ("kappa", "sensitivity", "specificity"):
        columns[name] = [
            "-" if math.isnan(row[name]) else f"{row[name]:.2f} ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})"
            for _, row in table.iterrows()
        ]
    return pd.DataFrame(columns).to_string(index=False)


def judge_check_text(check: JudgeCheck) -> str:
    """Return a judge's check for people: the table, and a line per warning."""
    lines = [f"judge: {check.calibration.judge}", agreement_text(check.table)]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in check.warnings)])
