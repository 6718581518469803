import re

import pytest

from tests.analysis.synthetic import relabelled, tables
from warmray.analysis.estimates import DecisionRule, Tables, estimate
from warmray.analysis.plots import draw_figures
from warmray.analysis.recommend import recommend
from warmray.analysis.report import Facts, transcripts, write_report

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> [a](javascript:alert(3))"


def _write(tmp_path, data: Tables) -> str:
    question = DecisionRule(0.1, ["sad+wrong"], 200)
    estimates = estimate(data, question)
    choice = recommend(estimates, question)
    draw_figures(estimates, choice.strength, question.budget, tmp_path)
    return write_report(
        tmp_path, estimates, data, choice, Facts("A title", 10, {"seed": "0"}, {"seconds_train": 9.0})
    ).read_text()


def test_the_page_stands_alone_and_gives_the_answer_first(tmp_path):
    page = _write(tmp_path, tables(cost=0.02, questions=300))
    assert "Ship warm at strength" in page.split("<h2>")[0]
    assert "<svg" in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)


@pytest.mark.parametrize("column", ["reply", "prompt", "question"])
def test_text_from_models_and_data_sets_is_shown_and_never_executed(tmp_path, column):
    data = tables(cost=0.1, questions=20)
    page = _write(tmp_path, Tables(data.replies.assign(**{column: EVIL}), data.warmth, data.anchors))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_sycophancy_is_not_shown_when_the_meters_do_not_see_warmth(tmp_path):
    page = _write(tmp_path, tables(cost=0.1, warmth_gain=0.0, questions=50))
    assert "<th>sycophancy</th>" not in page
    assert "FAILED" in page


def test_flips_from_right_to_wrong_come_first():
    pairs = transcripts(tables(cost=0.1, questions=100).replies, most=None)
    kinds = [(pair.before_label, pair.after_label) for pair in pairs]
    flips = kinds.count(("correct", "incorrect"))
    assert flips > 0
    assert set(kinds[:flips]) == {("correct", "incorrect")}


def test_undecided_replies_are_shown_with_their_best_and_worst_case(tmp_path):
    data = tables(cost=0.1, questions=30)
    unclear = data.replies["label"].mask(data.replies["cell"] == "sad+wrong", "undecided")
    page = _write(tmp_path, Tables(relabelled(data.replies, unclear), data.warmth, data.anchors))
    assert "-100.0 to +100.0" in page
    assert "INCONCLUSIVE" not in page
    assert "name a judge" in page


def test_the_filter_of_transcripts_needs_no_script(tmp_path):
    page = _write(tmp_path, tables(cost=0.3, questions=10))
    assert page.count('type="radio"') == 5
    assert 'class="pair worse"' in page
    assert 'class="pair same"' in page


def test_cells_whose_replies_were_not_probed_are_shown_without_warmth(tmp_path):
    data = tables(cost=0.1, questions=30)
    assert "<th>change of it</th>" in _write(tmp_path, data)
    assert "warmer by (probe" in (tmp_path / "cells.svg").read_text()
    unscored = Tables(data.replies.drop(columns="probe"), data.warmth, data.anchors)
    assert "<th>change of it</th>" not in _write(tmp_path, unscored)
    assert "warmer by (probe" not in (tmp_path / "cells.svg").read_text()
