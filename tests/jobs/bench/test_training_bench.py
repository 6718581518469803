import importlib.util
import json

import pytest

from jobs.bench.__main__ import run_bench
from jobs.bench.bench_result import reason_without_figure
from jobs.bench.contender_task import make_task, read_bench_workload
from jobs.bench.random_model import make_random_model
from jobs.bench.training_bench import run_contender_alone
from warmray.config import ModelConfig, load_config
from warmray.errors import InputError
from warmray.models.loading import load_model, resolve_model

TINY = {
    "model_type": "llama", "vocab_size": 320, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": False,
    "bos_token_id": 310, "eos_token_id": [311, 312],
}  # fmt: skip


@pytest.fixture(scope="module")
def random_folder(embedded, tmp_path_factory):
    """A model made from a ``config.json`` alone."""
    architecture = tmp_path_factory.mktemp("architecture")
    (architecture / "config.json").write_text(json.dumps(TINY), encoding="utf-8")
    return make_random_model(ModelConfig(source=str(architecture)), architecture / "model")


@pytest.fixture
def task(random_folder, tmp_path):
    settings = {"model.source": random_folder, "train.learning_rate": 0.01, "train.row_length": 1024}
    config = load_config(overrides=[f"{key}={value}" for key, value in settings.items()])
    return make_task(config, 6, 1, tmp_path)


def test_a_random_model_has_an_embedding_for_every_token_of_the_embedded_tokenizer(random_folder):
    base = resolve_model(ModelConfig(source=str(random_folder)))
    model = load_model(base)
    assert model.config.num_hidden_layers == TINY["num_hidden_layers"]
    assert model.get_input_embeddings().num_embeddings == 49_152
    assert model.get_output_embeddings().weight.std() > 0


@pytest.mark.slow
def test_a_bench_takes_as_many_steps_as_asked_or_one_epoch(random_folder, tmp_path):
    config = load_config(overrides=[f"model.source={random_folder}"])
    for asked in (4, 5, 20, 21, 22, 59):
        assert read_bench_workload(make_task(config, asked, 1, tmp_path)).schedule.total_steps == asked
    workload = read_bench_workload(make_task(config, None, 1, tmp_path))
    assert sum(len(batch) for batch in workload.batches) == len(workload.examples)


def test_full_fine_tuning_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"set train\.method to `lora`"):
        make_task(load_config(overrides=["train.method=full"]), 6, 1, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trainin"], "No such command 'trainin'; did you mean 'training'?"),
        (["training", "--steps", "3"], "--steps '3': Input should be greater than or equal to 4"),
        (["training", "--threads", "0"], "--threads '0': Input should be greater than or equal to 1"),
        (["training", "--contenders", "ours,tlr"], "unknown 'tlr'; did you mean 'trl'?"),
        (["training", "--row-length", "8"], "row_length"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line(arguments, hint):
    with pytest.raises(InputError) as caught:
        run_bench(arguments)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.drill
@pytest.mark.slow
def test_our_loop_has_a_figure_on_random_weights(task):
    run = run_contender_alone("bare", task)
    assert run.refusal is None
    assert len(run.measured) == task.steps - 2


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs TRL: pip install '.[bench]'")
def test_trl_trains_exactly_the_tokens_that_our_loop_trains(task):
    runs = [run_contender_alone(name, task) for name in ("bare", "torch", "trl", "trl-packing")]
    assert [reason_without_figure(run) for run in runs] == [None] * 4
    counts = {(sum(s.tokens for s in run.steps), sum(s.trained_tokens for s in run.steps)) for run in runs}
    assert len(counts) == 1


def test_without_trl_one_line_says_how_to_install_it_and_only_our_loop_runs(monkeypatch, capsys):
    from jobs.bench import training_bench as training

    monkeypatch.setattr(training.importlib.util, "find_spec", lambda name: None)
    assert training._present(["ours", "bare", "trl", "trl-packing"]) == ["ours", "bare"]
    (line,) = capsys.readouterr().out.splitlines()
    assert "-m pip install -c constraints.txt -e '.[bench]'" in line
