import json

import numpy as np
import pandas as pd
import pytest

from warmray.analysis.calibration import (
    Calibration,
    check_calibration,
    corrected_loss,
    read_calibration,
    write_calibration,
)
from warmray.analysis.intervals import mean_change
from warmray.errors import InputError

LOSS = 0.08
JUDGE_RATES = {"original": (0.96, 0.94), "warm": (0.95, 0.80)}
"""Sensitivity and specificity: this judge lets a wrong answer pass more often when it is warm."""


def _replies(right, decided_by="judge x", **columns) -> pd.DataFrame:
    """A reply per question of the original and of warm x 1, right as the two rows of ``right`` say."""
    parts = [
        pd.DataFrame({"strength": strength, "item": [f"q{n}" for n in range(len(own))], "right": own})
        for strength, own in zip((0.0, 1.0), np.asarray(right, dtype=float), strict=True)
    ]
    defaults = {"arm": "warm", "dose": 1.0, "cell": "sad+wrong", "sample": 0, "decided_by": decided_by}
    return pd.concat(parts, ignore_index=True).assign(**defaults | columns)


def _labelled(arm, right_right=0, right_wrong=0, wrong_right=0, wrong_wrong=0, cell="sad+wrong") -> pd.DataFrame:
    counts = {(1, 1): right_right, (1, 0): right_wrong, (0, 1): wrong_right, (0, 0): wrong_wrong}
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    rows = pd.DataFrame(pairs, columns=["truth", "found"], dtype=float)
    names = {"question": [f"{cell} {n}" for n in range(len(rows))], "task": "medqa", "arm": arm, "cell": cell}
    return rows.assign(**names)


def _calibration(*parts, random_sample=False) -> Calibration:
    return Calibration("x", "digest", random_sample, pd.concat(parts, ignore_index=True))


GOOD = _labelled("original", 90, 10, 10, 40), _labelled("warm", 80, 20, 20, 80)


def _right(*counts) -> np.ndarray:
    """Pairs (original, warm): so many of (1, 1), (1, 0), (0, 1), (0, 0)."""
    return np.repeat([[1, 1, 0, 0], [1, 0, 1, 0]], counts, axis=1)


def test_rogan_gladen_uses_the_error_rates_of_each_arm():
    row = corrected_loss(_replies(_right(60, 20, 10, 10)), _calibration(*GOOD), 200, seed=0).iloc[0]
    assert row["loss_raw"] == pytest.approx(0.80 - 0.70)
    assert row["loss_corrected"] == pytest.approx((0.80 + 0.80 - 1) / 0.70 - (0.70 + 0.80 - 1) / 0.60)
    assert row["method"] == "Rogan-Gladen"
    assert row["low"] < row["lower_one_sided"] < row["loss_corrected"] < row["upper_one_sided"] < row["high"]


def test_prediction_powered_adds_the_mean_error_of_each_arm():
    table = corrected_loss(_replies(_right(60, 20, 10, 10)), _calibration(*GOOD, random_sample=True), 200, seed=0)
    assert list(table["method"]) == ["Rogan-Gladen", "prediction-powered"]
    assert table["loss_corrected"].iloc[1] == pytest.approx(0.80 + 0 / 150 - (0.70 + 0 / 200))
    skewed = _calibration(GOOD[0], _labelled("warm", 80, 5, 35, 80), random_sample=True)
    corrected = corrected_loss(_replies(_right(60, 20, 10, 10)), skewed, 200, seed=0)["loss_corrected"]
    assert corrected.iloc[1] == pytest.approx(0.80 - (0.70 - 30 / 200))


def test_what_a_rule_decided_is_taken_as_it_is():
    row = corrected_loss(_replies(_right(60, 20, 10, 10), "match"), _calibration(*GOOD), 200, seed=0).iloc[0]
    assert row["loss_corrected"] == pytest.approx(row["loss_raw"])

    half = _replies(_right(60, 20, 10, 10))
    half.loc[half["item"].isin([f"q{n}" for n in range(60)]), "decided_by"] = "match"
    row = corrected_loss(half, _calibration(*GOOD), 200, seed=0).iloc[0]
    # Of the 40 questions that the judge decided, 20 and 10 were found right.
    expected = 0.4 * ((0.5 + 0.80 - 1) / 0.70 - (0.25 + 0.80 - 1) / 0.60)
    assert row["loss_corrected"] == pytest.approx(expected)


def test_undecided_replies_are_left_out_and_counted():
    rows = _replies(_right(60, 20, 10, 10))
    rows.loc[rows["item"].isin(["q0", "q1"]) & (rows["strength"] == 1), "right"] = np.nan
    row = corrected_loss(rows, _calibration(*GOOD), 200, seed=0).iloc[0]
    assert row["loss_raw"] == pytest.approx(10 / 98)
    assert "2 pairs of replies were undecided" in row["note"]


def test_several_replies_to_a_question_are_one_cluster():
    once = _replies(_right(60, 20, 10, 10))
    thrice = pd.concat([once.assign(sample=n) for n in range(3)], ignore_index=True)
    pd.testing.assert_frame_equal(
        corrected_loss(once, _calibration(*GOOD), 200, seed=0), corrected_loss(thrice, _calibration(*GOOD), 200, seed=0)
    )


def test_several_labelled_replies_to_a_question_are_one_cluster():
    once = corrected_loss(_replies(_right(60, 20, 10, 10)), _calibration(*GOOD), 2000, seed=0).iloc[0]
    again = _calibration(*GOOD, *GOOD, *GOOD, *GOOD)
    row = corrected_loss(_replies(_right(60, 20, 10, 10)), again, 2000, seed=0).iloc[0]
    assert row["high"] - row["low"] > 0.97 * (once["high"] - once["low"])


def test_no_change_and_no_error_still_leave_an_interval():
    perfect = _calibration(_labelled("original", 50, 0, 0, 50), _labelled("warm", 50, 0, 0, 50))
    row = corrected_loss(_replies(_right(90, 0, 0, 10)), perfect, 500, seed=0).iloc[0]
    assert row["loss_corrected"] == 0
    assert row["low"] < -0.01
    assert row["high"] > 0.01


def test_every_intensity_and_cell_has_a_row():
    rows = _replies(_right(60, 20, 10, 10))
    rows = pd.concat([rows, rows.assign(cell="plain"), rows[rows["strength"] == 1].assign(strength=0.5)])
    table = corrected_loss(rows, _calibration(*GOOD, random_sample=True), 100, seed=0)
    assert set(table[["strength", "cell"]].itertuples(index=False, name=None)) == {
        (1.0, "sad+wrong"), (1.0, "plain"), (0.5, "sad+wrong"),
    }  # fmt: skip
    powered = table[table["method"] == "prediction-powered"]
    assert powered["note"].str.contains("labelled replies of warm stand for all of its strengths").all()
    assert powered.set_index("cell").loc["plain", "note"].count("too few labelled replies of") == 2


def test_an_arm_with_few_labelled_replies_borrows_the_errors_of_all_arms():
    thin = _calibration(GOOD[0], _labelled("warm", 5, 0, 4, 9), _labelled("cold", 80, 20, 20, 80))
    row = corrected_loss(_replies(_right(60, 20, 10, 10)), thin, 200, seed=0).iloc[0]
    assert "too few labelled replies of warm: the judge's errors in all arms are taken" in row["note"]
    sensitivity, specificity = 175 / 205, 129 / 163
    warm = (0.70 + specificity - 1) / (sensitivity + specificity - 1)
    assert row["loss_corrected"] == pytest.approx((0.80 + 0.80 - 1) / 0.70 - warm)


def test_a_judge_that_tells_too_little_apart_is_refused_with_its_numbers():
    poor = _calibration(GOOD[0], _labelled("warm", 65, 35, 45, 55))
    with pytest.raises(
        InputError, match=r"in the arm warm its sensitivity is 0\.65 and its specificity 0\.55 .* 0\.20"
    ):
        corrected_loss(_replies(_right(60, 20, 10, 10)), poor, 200, seed=0)
    with pytest.raises(InputError, match="too poor to correct for"):
        check_calibration(poor, "x", "digest", ["warm"])
    check_calibration(poor, "x", "digest", [])


def test_too_few_labelled_replies_are_an_error():
    with pytest.raises(InputError, match="has 9 right and 20 wrong labelled replies"):
        check_calibration(_calibration(_labelled("original", 9, 0, 0, 20)), "x", "digest", [])


def test_the_calibration_of_another_judge_is_refused():
    with pytest.raises(InputError, match="was measured with the judge x"):
        check_calibration(_calibration(*GOOD), "y", "another digest", ["warm"])


def test_a_calibration_file_gives_back_what_was_written(tmp_path):
    undecided = _labelled("warm", 1).assign(found=np.nan)
    made = _calibration(*GOOD, undecided, random_sample=True)
    write_calibration(made, tmp_path / "c.json")
    read = read_calibration(tmp_path / "c.json")
    assert (read.judge, read.digest, read.random_sample) == ("x", "digest", True)
    assert len(read.rows) == 351
    rows = _replies(_right(60, 20, 10, 10))
    pd.testing.assert_frame_equal(corrected_loss(rows, read, 100, seed=0), corrected_loss(rows, made, 100, seed=0))
    counts = json.loads((tmp_path / "c.json").read_text())["counts"]
    assert counts[0] == {
        "arm": "original", "task": "medqa",
        "right_found_right": 90, "right_found_wrong": 10, "wrong_found_right": 10, "wrong_found_wrong": 40,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "warmray judge calibration 0"}', None])
def test_another_file_is_no_calibration(tmp_path, text):
    if text is not None:
        (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=r"c\.json"):
        read_calibration(tmp_path / "c.json")


# Simulations: a judge of known errors that differ by arm, and a true loss of 8 points.


def _truths(questions: int, random: np.random.Generator) -> np.ndarray:
    """Which questions the original and the warm model answer rightly, [2, questions]; the two go together."""
    ease = random.random(questions)
    other_day = np.where(random.random(questions) < 0.6, ease, random.random(questions))
    return np.array([ease < 0.75, other_day < 0.75 - LOSS])


def _as_judged(truths: np.ndarray, random: np.random.Generator) -> np.ndarray:
    luck = random.random(truths.shape)
    sensitivity, specificity = np.array(list(JUDGE_RATES.values())).T[:, :, None]
    return np.where(truths, luck < sensitivity, luck >= specificity)


def _labelled_sample(questions: int, random: np.random.Generator) -> Calibration:
    truths = _truths(questions, random)
    found = _as_judged(truths, random)
    parts = [
        pd.DataFrame({"question": np.arange(questions), "truth": truth * 1.0, "found": own * 1.0}).assign(
            task="medqa", arm=arm, cell="sad+wrong"
        )
        for arm, truth, own in zip(JUDGE_RATES, truths, found, strict=True)
    ]
    return _calibration(*parts, random_sample=True)


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    """300 data sets of 600 questions and 400 labelled replies: what each method makes of them.

    With 1,000 questions, 1,000 data sets and 500 resamples, Rogan-Gladen covered in 94.2 %, prediction-powered in
    94.9 % and the raw interval in 16.8 %; a loss above 0 was found in 57 % and 73 % (two-sided 95 %).
    """
    random = np.random.default_rng(20)
    found = []
    for run in range(300):
        judged = _as_judged(_truths(600, random), random)
        table = corrected_loss(_replies(judged), _labelled_sample(200, random), resamples=250, seed=run)
        raw = mean_change((judged[0] * 1.0 - judged[1]).tolist())
        found += table[["method", "low", "high", "lower_one_sided", "upper_one_sided"]].to_dict("records")
        ends = {"low": raw.estimate.low, "high": raw.estimate.high}
        found.append({"method": "raw", "lower_one_sided": raw.lower_one_sided} | ends)
    return pd.DataFrame(found).groupby("method").apply(lambda own: own.reset_index(drop=True))


@pytest.mark.parametrize("method", ["Rogan-Gladen", "prediction-powered"])
def test_the_corrected_interval_covers_the_true_loss(simulated, method):
    own = simulated.loc[method]
    assert 0.93 <= own["low"].le(LOSS).mul(own["high"].ge(LOSS)).mean() <= 0.97
    assert 0.92 <= own["lower_one_sided"].le(LOSS).mean() <= 0.98
    assert 0.92 <= own["upper_one_sided"].ge(LOSS).mean() <= 0.98


def test_the_raw_interval_does_not(simulated):
    own = simulated.loc["raw"]
    assert own["low"].le(LOSS).mul(own["high"].ge(LOSS)).mean() < 0.5


def test_a_loss_of_eight_points_is_found(simulated):
    found = simulated["lower_one_sided"].gt(0).groupby(level=0).mean()
    assert found["Rogan-Gladen"] > 0.5
    assert found["prediction-powered"] > found["Rogan-Gladen"]
