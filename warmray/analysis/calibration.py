"""The accuracy loss corrected for the judge's errors, which are measured on replies that people have labelled.

A judge that errs more often on warm replies than on the original's shifts the raw loss, and no number of questions
shows it. Two corrections are known. Rogan & Gladen (1978, American Journal of Epidemiology 107) divide by the judge's
sensitivity and specificity in each arm. Prediction-powered inference (Angelopoulos et al. 2023, Science 382) adds the
mean error of the judge on labelled replies, which have to be a random sample of the replies that are corrected.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from warmray.analysis.measures import INTENSITY
from warmray.errors import InputError

FORMAT = "warmray judge calibration 1"
LEAST_YOUDEN = 0.3
"""Below this sensitivity + specificity - 1 a judge separates right from wrong too poorly to be corrected."""
FEWEST = 10
"""Labelled right replies, and wrong ones, that an arm needs for error rates of its own."""
ORIGINAL = "original"
_COUNTS = ["right_found_right", "right_found_wrong", "wrong_found_right", "wrong_found_wrong"]
_ASKED = ["item", "cell", "sample"]
CORRECTED_COLUMNS = [
    *INTENSITY, "cell", "loss_raw", "loss_corrected", "low", "high", "lower_one_sided", "upper_one_sided", "method",
    "note",
]  # fmt: skip
"""Of :func:`corrected_loss`."""
_PSEUDO_PAIRS = pd.DataFrame({"ruled": [0.0, 0.0, 1.0, -1.0], "weight": 0.5})
"""Half a pair in each of its four cells (Agresti & Min 2005, as in :mod:`.intervals`): where no answer changed, the
interval still has a width. They are redrawn with the questions, and are no part of the point estimate."""


@dataclass(frozen=True)
class Calibration:
    """What people and the judge said of the same replies."""

    judge: str
    digest: str
    """Of the judge: models, addresses, prompt and schema."""
    random_sample: bool
    """The labelled replies were drawn at random from those of the run."""
    rows: pd.DataFrame
    """One row per reply: question, task, arm, cell, truth (1.0 is right, 0.0 is not), found (the same as the judge
    found it; NaN where it did not decide)."""

    def table(self, by: list[str]) -> pd.DataFrame:
        """Count what people called right and wrong, and how the judge found it, in each group of ``by``."""
        decided = self.rows.dropna(subset="found")
        named = _count_number(decided).map(dict(enumerate(_COUNTS)))
        return pd.crosstab([decided[name] for name in by], named).reindex(columns=_COUNTS, fill_value=0)


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration file (JSON): the counts by arm and task for people, the rows for the bootstrap."""
    rows = calibration.rows.astype(object).where(calibration.rows.notna(), None)
    record = {
        "format": FORMAT,
        "judge": calibration.judge,
        "digest": calibration.digest,
        "random_sample": calibration.random_sample,
        "counts": calibration.table(["arm", "task"]).reset_index().to_dict("records"),
        "rows": rows.to_dict("records"),
    }
    try:
        path.write_text(json.dumps(record, indent=1), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the calibration {path}: {error.strerror}") from error


def read_calibration(path: Path) -> Calibration:
    """Read what :func:`write_calibration` wrote.

    Raises:
        InputError: there is no such file, or it is not a calibration of this version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the calibration {path}: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(f"{path} is not a {FORMAT!r} file: write it with `warmray judge-check`")
    rows = pd.DataFrame(record["rows"], columns=["question", "task", "arm", "cell", "truth", "found"])
    rows = rows.astype({"truth": float, "found": float})
    return Calibration(record["judge"], record["digest"], bool(record["random_sample"]), rows)


def check_calibration(calibration: Calibration, judge: str, digest: str, arms: Sequence[str]) -> None:
    """Refuse a calibration that does not fit, before a run starts.

    Args:
        calibration: What was measured.
        judge: Name of the judge of the run.
        digest: Its digest.
        arms: The arms of the run beside the original.

    Raises:
        InputError: another judge, address, prompt or schema was measured, or the judge is too poor in an arm.
    """
    if calibration.digest != digest:
        raise InputError(
            f"evaluate.judge.calibration was measured with the judge {calibration.judge} ({calibration.digest}), and "
            f"the run uses {judge} ({digest}): model, address and prompt must be the same; run `warmray judge-check`"
        )
    for arm in (ORIGINAL, *arms):
        counts, _ = _labelled_counts(calibration, arm)
        _refuse_poor(calibration, arm, counts.sum(0))


def corrected_loss(rows: pd.DataFrame, calibration: Calibration, resamples: int, seed: int) -> pd.DataFrame:
    """Return the accuracy loss of every intensity and cell, corrected for the judge's errors.

    Replies that a rule decided are taken as they are. The judge's errors are those of its arm: ``original`` for
    strength 0, else the arm of the intensity. Replies that nobody decided are left out, and counted in the note. The
    intervals are percentiles of one bootstrap that redraws the run's questions and the labelled questions. Values are
    not clipped: a report shows at most -1 to 1.

    Args:
        rows: Measured replies of the deciding cells: arm, dose, strength, item, cell, sample, right (1.0, 0.0, or NaN
            where nobody decided), decided_by (begins with ``judge`` where the judge decided).
        calibration: The judge's errors on labelled replies.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        arm, dose, strength, cell, loss_raw, loss_corrected, low, high (two-sided 95 %), lower_one_sided,
        upper_one_sided (95 %), method, note; shares. One row per method: ``Rogan-Gladen``, and ``prediction-powered``
        where the labelled replies are a random sample. The second is narrower and needs no error rates that hold
        everywhere; but the labelled replies of an arm must come from the strength that is corrected.

    Raises:
        InputError: the judge is too poor in an arm (sensitivity + specificity - 1 is under 0.3), or too few replies
            are labelled.
    """
    random = np.random.default_rng(seed)
    original = rows[rows["strength"] == 0].drop_duplicates(_ASKED)
    warmed = rows[rows["strength"] != 0]
    methods = ["Rogan-Gladen", "prediction-powered"] if calibration.random_sample else ["Rogan-Gladen"]

    # One draw of the run's questions and one of the labelled questions serve every intensity, cell and method.
    items = pd.Index(rows["item"].unique())
    item_times = _draw_clusters(len(items), len(_PSEUDO_PAIRS), resamples, random)
    own_intensities = {ORIGINAL: 1} | warmed.drop_duplicates(INTENSITY)["arm"].value_counts().to_dict()
    arms = list(own_intensities)
    labelled = calibration.rows["question"].nunique()
    labelled_times = _draw_clusters(labelled, len(arms) * len(_COUNTS), resamples, random)

    found = []
    for (*intensity, cell), own in warmed.groupby([*INTENSITY, "cell"], sort=False):
        # Means over the questions, in every draw. A question that is not decided on both sides weighs nothing.
        pairs, left_out = _pair(original, own)
        table = pd.concat([pairs.reindex(items), _PSEUDO_PAIRS]).fillna(0.0)
        weights = item_times * table["weight"].to_numpy()
        with np.errstate(invalid="ignore"):  # no question may be decided: everything is NaN then
            mean = pd.DataFrame(weights @ table.to_numpy() / weights.sum(1, keepdims=True), columns=table.columns)
        raw = mean["ruled"] + mean["judged_original"] - mean["judged_own"]

        for method in methods:
            loss = mean["ruled"].to_numpy(copy=True)
            notes = [f"{left_out} pairs of replies were undecided and left out"] if left_out else []
            for side, arm, sign in (("original", ORIGINAL, 1), ("own", str(intensity[0]), -1)):
                judged, share = mean[f"judged_{side}"].to_numpy(), mean[f"share_{side}"].to_numpy()
                if not share[0]:
                    continue
                # The counts of the arm in every draw, [resamples + 1, 4]; the arm's pseudo-replies are its own.
                counts, note = _labelled_counts(calibration, arm, cell if method == "prediction-powered" else None)
                pseudo = np.zeros((len(arms), len(_COUNTS), len(_COUNTS)))
                pseudo[arms.index(arm)] = np.eye(len(_COUNTS)) / 2
                drawn = labelled_times @ np.vstack([counts, pseudo.reshape(-1, len(_COUNTS))])
                if method == "Rogan-Gladen":
                    _refuse_poor(calibration, arm, drawn[0])
                    sensitivity, specificity = _rates(drawn.T)
                    loss += sign * (judged + (specificity - 1) * share) / (sensitivity + specificity - 1)
                else:
                    if own_intensities[arm] > 1:
                        notes.append(f"the labelled replies of {arm} stand for all of its strengths")
                    right_found_wrong, wrong_found_right = drawn.T[1:3]
                    loss += sign * (judged + (right_found_wrong - wrong_found_right) / drawn.sum(1) * share)
                notes += [note] if note else []
            low, lower, upper, high = np.percentile(loss[1:], [2.5, 5, 95, 97.5])
            row = dict(zip([*INTENSITY, "cell"], [*intensity, cell], strict=True))
            row |= {"loss_raw": raw[0], "loss_corrected": loss[0], "low": low, "high": high}
            row |= {"lower_one_sided": lower, "upper_one_sided": upper, "method": method}
            found.append(row | {"note": "; ".join(notes)})
    return pd.DataFrame(found, columns=CORRECTED_COLUMNS)


def _draw_clusters(count: int, pseudo: int, resamples: int, random: np.random.Generator) -> np.ndarray:
    """Return how often each of ``count`` clusters is drawn, [resamples + 1, count + pseudo].

    The first row is the sample as it was measured: every cluster once, and no pseudo-cluster.
    """
    total = count + pseudo
    drawn = [np.bincount(random.integers(0, total, total), minlength=total) for _ in range(resamples)]
    return np.vstack([np.repeat([1.0, 0.0], [count, pseudo]), *drawn])


def _pair(original: pd.DataFrame, own: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Pair an intensity's replies with the original's and average within the question; count the undecided pairs.

    Columns: ``ruled``, the loss among the replies that a rule decided; and for each side what the judge found right
    (``judged_original``) and its share of the replies (``share_original``); ``weight`` is 1.
    """
    pairs = own.merge(original, on=_ASKED, suffixes=("_own", "_original"))
    decided = pairs.dropna(subset=["right_own", "right_original"])
    columns: dict[str, pd.Series] = {"item": decided["item"], "ruled": pd.Series(0.0, decided.index)}
    for side, sign in (("original", 1), ("own", -1)):
        share = decided[f"decided_by_{side}"].str.startswith("judge").astype(float)
        columns["ruled"] = columns["ruled"] + sign * decided[f"right_{side}"] * (1 - share)
        columns |= {f"judged_{side}": decided[f"right_{side}"] * share, f"share_{side}": share}
    return pd.DataFrame(columns).groupby("item").mean().assign(weight=1.0), len(pairs) - len(decided)


def _labelled_counts(calibration: Calibration, arm: str, cell: str | None = None) -> tuple[np.ndarray, str]:
    """Return the 2 x 2 counts of every labelled question, [questions, 4], and a remark where others stand in.

    They are those of the arm (in the cell, where one is given); where these are too few, those of the arm in all
    cells, and then those of all arms.
    """
    rows = calibration.rows
    decided, own = rows["found"].notna(), rows["arm"] == arm
    choices = [
        (own & (rows["cell"] == cell), ""),
        (own, f"too few labelled replies of {arm} in {cell}: the arm's errors in all cells are taken"),
        (decided, f"too few labelled replies of {arm}: the judge's errors in all arms are taken"),
    ]
    if cell is None:
        choices = [(own, ""), choices[2]]
    for chosen, note in choices:
        kept = rows[chosen & decided]
        right, wrong = kept["truth"].sum(), (1 - kept["truth"]).sum()
        if min(right, wrong) >= FEWEST:
            counts = np.zeros((rows["question"].nunique(), len(_COUNTS)))
            questions = pd.factorize(rows["question"])[0][chosen & decided]
            np.add.at(counts, (questions, _count_number(kept).to_numpy()), 1.0)
            return counts, note
    raise InputError(
        f"the calibration of {calibration.judge} has {right:g} right and {wrong:g} wrong labelled replies that the "
        f"judge decided: {FEWEST} of each are needed, and 200 replies are advised; label more, and run `warmray "
        "judge-check` again"
    )


def _count_number(rows: pd.DataFrame) -> pd.Series:
    """Return which of the four counts each decided row belongs to."""
    return (2 * (1 - rows["truth"]) + (1 - rows["found"])).astype(int)


def _rates(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sensitivity (right replies found right) and the specificity of counts, [4, ...]."""
    right_right, right_wrong, wrong_right, wrong_wrong = counts
    return right_right / (right_right + right_wrong), wrong_wrong / (wrong_right + wrong_wrong)


def _refuse_poor(calibration: Calibration, arm: str, counts: np.ndarray) -> None:
    sensitivity, specificity = _rates(counts)
    youden = sensitivity + specificity - 1
    if youden < LEAST_YOUDEN:
        raise InputError(
            f"the judge {calibration.judge} is too poor to correct for: in the arm {arm} its sensitivity is "
            f"{sensitivity:.2f} and its specificity {specificity:.2f} ({counts.sum():g} labelled replies), which makes "
            f"{youden:.2f} (their sum less 1), and {LEAST_YOUDEN} is needed: name another judge, or leave "
            "evaluate.judge.calibration out"
        )
