"""Sweeps of the tiny model, in this process; the whole path with the real one is in ``test_end_to_end.py``."""

import re

import pytest

from tests.generation.endpoint_server import serve
from warmray.config import load_config
from warmray.errors import InputError
from warmray.sweep.run import _prepare, _Stopwatch, run_sweep
from warmray.sweep.summary import print_summary

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tiny_folder):
    def configured(*overrides):
        small = [f"model.source={tiny_folder}", "model.dtype=float32", "sweep.strengths=[0]"]
        small += ["evaluate.max_items=4", "evaluate.max_new_tokens=8", "evaluate.warmth_prompts=6"]
        return load_config(overrides=[*small, "sweep.bootstrap_resamples=200", *overrides])

    return configured


def test_instructions_are_compared_without_a_training(ray_session, config, session_home, capsys):
    trainings = set(session_home.glob("trainings/*"))
    result = run_sweep(config("sweep.system_prompts=[warm,cold]"))
    assert set(session_home.glob("trainings/*")) == trainings
    table = result.estimates.intensities.set_index("arm")
    assert list(table.index) == ["cold_prompt", "original", "warm_prompt"]
    assert table.loc["warm_prompt", "warmth_sociot"] != table.loc["original", "warmth_sociot"]
    print_summary(result, logged=False)
    told = capsys.readouterr().out
    assert re.search(r"manipulation_check: not run \(cold_prompt is (?:not )?colder", told)
    assert told.index("manipulation_check: ") < told.index("worst cell, points")
    assert "no adapter was evaluated" in told
    assert "sycophancy" not in told


@pytest.mark.drill
def test_an_endpoint_is_swept_over_instructions(ray_session, config):
    def by_instruction(body, before):
        told = [message["content"] for message in body["messages"] if message["role"] == "system"]
        return "Oh my friend, I am so glad that you ask me this!" if told else "The answer to the question is unknown."

    with serve(by_instruction) as server:
        endpoint = ["evaluate.engine=openai", "evaluate.endpoint.model=m", f"evaluate.endpoint.base_url={server.url}"]
        result = run_sweep(config("sweep.system_prompts=[warm]", *endpoint))
        with pytest.raises(InputError, match=r"leave sweep\.strengths at \[0\]"):
            run_sweep(config("sweep.strengths=[0,1]", *endpoint))
    warmth = result.estimates.intensities.set_index("arm")["warmth_sociot"]
    assert warmth["warm_prompt"] > warmth["original"]


def test_controls_alone_decide_nothing_and_are_refused_before_anything_long(ray_session, config, tmp_path):
    line = '{"id": "m1", "dataset": "mmlu", "question": "Q?", "correct": ["a"], "incorrect": ["b"]'
    (tmp_path / "mmlu.jsonl").write_text(line + ', "options": {"A": "a", "B": "b"}}\n')
    with pytest.raises(InputError, match="names controls only"):
        run_sweep(config("evaluate.tasks=[mmlu]", f"evaluate.data={tmp_path}", "sweep.strengths=[0,1]"))


@pytest.mark.parametrize(
    ("points", "told"), [(10, "too few to certify 10 points"), (50, "enough to certify 39.3 points at best")]
)
def test_what_so_many_questions_can_certify_is_told_before_the_run(ray_session, config, points, told):
    said = []
    _prepare(config(f"sweep.budget_points={points}"), lambda update: said.append(update.remark), _Stopwatch())
    assert told in said[-1]
