from dataclasses import replace

import pytest

from warmray.config import RunConfig, load_config
from warmray.errors import InputError
from warmray.models.architecture import load_architecture
from warmray.models.memory import GIB, MemorySetup, memory_use
from warmray.models.plan import GPUS, SETUPS, STUDY_WORKLOAD, Cluster, Gpu, Plan, Workload, make_plan
from warmray.models.plan_table import plan_text, recommendation
from warmray.training.schedule import Schedule

H100 = GPUS["H100-80GB"]
STUDY = ["recipe=study"]
OPEN_MODELS = ("llama-3.1-8b", "mistral-small", "qwen2.5-32b", "llama-3.1-70b")


def _config(preset: str, *overrides: str) -> RunConfig:
    return load_config(preset, overrides=list(overrides))


def _plan(config: RunConfig, num_gpus: int | None = None, gpu: Gpu = H100, **cluster: float) -> Plan:
    return make_plan(config, load_architecture(config.model), Cluster(gpu, num_gpus, **cluster), STUDY_WORKLOAD)


@pytest.mark.parametrize("preset", OPEN_MODELS[:3])
def test_the_studys_8b_to_32b_trainings_fit_on_two_h100(preset):
    plan = _plan(_config(preset, *STUDY), 2)
    assert plan.best.memory.total_bytes <= H100.usable_bytes


def test_the_studys_70b_training_fits_on_three_h100_with_gradient_checkpointing_and_on_no_fewer():
    config = _config("llama-3.1-70b", *STUDY)
    plan = _plan(config, 3)
    assert (plan.best.setup, plan.fewest_gpus) == (MemorySetup(3, gradient_checkpointing=True), 3)
    assert "ZeRO-3 with gradient checkpointing on 3 x H100-80GB" in recommendation(plan)
    with pytest.raises(InputError, match=r"does not fit on 2 x H100-80GB.*needs 7\d\.\d GiB.*71\.2 of its.*take 3 of"):
        _plan(config, 2)


@pytest.mark.parametrize("preset", OPEN_MODELS)
def test_a_preset_has_the_zero_stage_and_the_gpus_that_its_plan_recommends(preset):
    config = _config(preset)
    plan = _plan(config)
    assert plan.num_gpus == config.train.num_workers
    assert plan.best.setup.zero_stage == config.train.zero_stage
    assert "set train." not in recommendation(plan)


def test_another_stage_than_the_configured_is_recommended_with_the_setting_for_it():
    assert recommendation(_plan(_config("llama-3.1-8b", "train.zero_stage=3"))).endswith("set train.zero_stage=1")


def test_a_gpu_that_no_number_of_holds_the_model_is_told_so():
    with pytest.raises(InputError, match="no number of them does; take larger ones, or lower train"):
        _plan(_config("llama-3.1-70b"), 4, Gpu("small", 12, None))


def test_without_a_number_of_gpus_the_fewest_are_planned():
    plan = _plan(_config("llama-3.1-70b", "train.num_workers=auto"))
    assert plan.num_gpus == plan.fewest_gpus == 3


def test_no_part_of_the_memory_grows_with_the_number_of_gpus():
    config = _config("llama-3.1-70b")
    shape = load_architecture(config.model)
    for setup in SETUPS:
        totals = [memory_use(shape, config.train, setup, n).total_bytes for n in range(1, 65)]
        assert totals == sorted(totals, reverse=True)


def test_each_zero_stage_divides_what_its_paper_says():
    config = _config("llama-3.1-70b")
    shape = load_architecture(config.model)
    one, two, three = (memory_use(shape, config.train, MemorySetup(stage, True), 8) for stage in (1, 2, 3))
    alone = memory_use(shape, config.train, MemorySetup(1, True), 1)
    assert 8 * one.optimizer_bytes == alone.optimizer_bytes
    assert one.weights_bytes == two.weights_bytes == alone.weights_bytes
    assert one.gradients_bytes > two.gradients_bytes
    assert three.weights_bytes == pytest.approx(alone.weights_bytes / 8 + 2.2 * GIB, rel=0.02)  # and what is gathered


def test_hours_and_cost_follow_from_tokens_speed_and_busy_gpus():
    config = _config("llama-3.1-8b", "train.batch_size=16", "train.doses=[2]", "train.arms=[warm, cold]")
    cluster = Cluster(H100, 3, price_per_gpu_hour=2, tokens_per_second=1000)
    plan = make_plan(config, load_architecture(config.model), cluster, Workload(800, 500, "made up"))
    assert (plan.steps, plan.tokens) == (100, 800_000)
    assert plan.steps == Schedule(800, 16, (2.0,), seed=0).total_steps
    # Of 16 conversations the fullest of three GPUs takes 6: together they do 16 in the time of 6.
    assert plan.hours == pytest.approx(2 * 800_000 / (1000 * 16 / 6) / 3600)
    assert plan.cost == pytest.approx(plan.hours * 3 * 2)
    assert "16 conversations keep 2.7 of 3 GPUs busy" in plan_text(plan)


def test_recomputation_costs_half_as_much_arithmetic_again():
    config = _config("qwen2.5-32b")
    recomputing, larger = _plan(config, 2), _plan(config, 2, replace(H100, memory_gib=500))
    assert recomputing.best.setup.gradient_checkpointing
    assert not larger.best.setup.gradient_checkpointing
    assert larger.tokens_per_second == pytest.approx(1.5 * recomputing.tokens_per_second)


def test_a_gpu_of_unknown_speed_gives_no_hours():
    text = plan_text(_plan(_config("llama-3.1-8b"), 1, Gpu("GPU of 80 GiB", 80, None)))
    assert "hours" not in text.splitlines()[-1]
    assert "give --tokens-per-second" in text


def test_plans_are_made_for_bfloat16_only():
    with pytest.raises(InputError, match=r"model\.dtype is float32"):
        _plan(_config("quickstart", "model.dtype=float32"))


def test_the_table_is_aligned_and_the_last_line_recommends():
    lines = plan_text(_plan(_config("llama-3.1-70b"))).splitlines()
    table = lines[3 : 4 + len(SETUPS)]
    assert len({len(line) for line in table}) == 1
    assert lines[-1].startswith("Recommended: ZeRO-3 with gradient checkpointing on 4 x H100-80GB")
