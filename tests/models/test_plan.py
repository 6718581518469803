from dataclasses import replace
from functools import cache

import pytest

from warmray.config import RunConfig, load_config
from warmray.errors import InputError
from warmray.models.architecture import load_architecture
from warmray.models.gpu_fit import HOST_SETUP, fit_setup
from warmray.models.memory import GIB, MemorySetup, memory_use
from warmray.models.plan import (
    GPUS,
    SETUPS,
    STUDY_WORKLOAD,
    Cluster,
    Gpu,
    Plan,
    Workload,
    flops_per_parameter,
    known_gpu,
    make_plan,
)
from warmray.models.plan_table import plan_text, recommendation
from warmray.training.schedule import Schedule

H100 = GPUS["H100-80GB"]
_shape = cache(load_architecture)
STUDY = ["recipe=study"]
OPEN_MODELS = ("llama-3.1-8b", "mistral-small", "qwen2.5-32b", "llama-3.1-70b")


def _config(preset: str, *overrides: str) -> RunConfig:
    return load_config(preset, overrides=list(overrides))


def _plan(config: RunConfig, num_gpus: int | None = None, gpu: Gpu = H100, **cluster: float) -> Plan:
    return make_plan(config, _shape(config.model), Cluster(gpu, num_gpus, **cluster), STUDY_WORKLOAD)


@pytest.mark.parametrize("preset", OPEN_MODELS[:3])
def test_the_studys_8b_to_32b_trainings_fit_on_two_h100(preset):
    plan = _plan(_config(preset, *STUDY), 2)
    assert plan.best.memory.total_bytes <= H100.usable_bytes


def test_the_studys_70b_training_fits_on_three_h100_with_gradient_checkpointing_and_not_on_two():
    config = _config("llama-3.1-70b", *STUDY)
    plan = _plan(config, 3)
    assert (plan.best.setup, plan.fewest_gpus) == (MemorySetup(3, gradient_checkpointing=True), 3)
    assert "ZeRO-3 with gradient checkpointing on 3 x H100-80GB" in recommendation(plan)
    with pytest.raises(
        InputError, match=r"does not fit on 2 x H100-80GB.*needs 7\d\.\d GiB.*71\.2 of 79\.1 GiB.*use 3 GPUs"
    ):
        _plan(config, 2)


@pytest.mark.parametrize("preset", OPEN_MODELS)
def test_the_plan_recommends_the_setup_of_a_preset_for_its_own_recipe(preset):
    config = _config(preset)
    plan = _plan(config)
    assert plan.num_gpus == config.train.num_workers
    assert plan.best.configured
    assert "set train." not in recommendation(plan)


@pytest.mark.parametrize("preset", OPEN_MODELS)
@pytest.mark.parametrize("recipe", ["study", "warmray"])
def test_a_preset_fits_on_its_gpus_with_either_recipe(preset, recipe):
    config = _config(preset, f"recipe={recipe}")
    shape = _shape(config.model)
    setup = fit_setup(config.train, shape, config.train.num_workers, H100.memory_gib, H100.name)
    assert setup.zero_stage == config.train.zero_stage
    assert memory_use(shape, config.train, setup, config.train.num_workers).total_bytes <= H100.usable_bytes


def test_a_recommendation_of_another_stage_names_the_setting():
    assert recommendation(_plan(_config("llama-3.1-8b", "train.zero_stage=3"))).endswith("set train.zero_stage=1")


def test_the_error_for_a_gpu_that_is_too_small_in_any_number_says_so():
    with pytest.raises(InputError, match="no number of these GPUs is enough; use larger ones, or lower train"):
        _plan(_config("llama-3.1-70b"), 4, Gpu("small", 12, None))


def test_without_a_number_of_gpus_the_smallest_that_fits_is_planned():
    plan = _plan(_config("llama-3.1-70b", "train.num_workers=auto"))
    assert plan.num_gpus == plan.fewest_gpus == 3


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_memory_does_not_grow_with_the_number_of_gpus(method):
    config = _config("llama-3.1-70b", f"train.method={method}")
    shape = _shape(config.model)
    for setup in SETUPS:
        totals = [memory_use(shape, config.train, setup, n).total_bytes for n in range(1, 65)]
        assert totals == sorted(totals, reverse=True)


def test_each_zero_stage_divides_the_parts_that_its_paper_names():
    config = _config("llama-3.1-70b")
    shape = _shape(config.model)
    one, two, three = (memory_use(shape, config.train, MemorySetup(stage, True), 8) for stage in (1, 2, 3))
    alone = memory_use(shape, config.train, MemorySetup(1, True), 1)
    assert 8 * one.optimizer_bytes == alone.optimizer_bytes
    assert one.weights_bytes == two.weights_bytes == alone.weights_bytes
    assert one.gradients_bytes > two.gradients_bytes
    assert three.weights_bytes == pytest.approx(alone.weights_bytes / 8 + 2.2 * GIB, rel=0.02)  # plus gathered weights


def test_full_training_divides_sixteen_bytes_per_parameter_as_the_paper_of_zero_does():
    config = _config("llama-3.1-8b", "train.method=full")
    shape = _shape(config.model)
    new_gradients = 2 * 2 * shape.largest_tensor  # bytes of the output head, from two chunks of the loss
    gathered = 2 * 1_050_000_000

    def bytes_per_parameter(stage: int) -> float:
        use = memory_use(shape, config.train, MemorySetup(stage, True), 4)
        state = use.weights_bytes + use.gradients_bytes + use.optimizer_bytes + use.adapter_bytes
        return (state - new_gradients - (gathered if stage == 3 else 0)) / shape.parameters

    # Rajbhandari et al. 2020, figure 1, with K = 12 and 4 GPUs.
    assert [bytes_per_parameter(stage) for stage in (1, 2, 3)] == pytest.approx([4 + 12 / 4, 2 + 14 / 4, 16 / 4])


def test_hours_and_cost_follow_from_tokens_speed_and_busy_gpus():
    config = _config("llama-3.1-8b", "train.batch_size=16", "train.doses=[2]", "train.arms=[warm, cold]")
    cluster = Cluster(H100, 3, price_per_gpu_hour=2, tokens_per_second=1000)
    plan = make_plan(config, _shape(config.model), cluster, Workload(800, 2_000, "invented"))
    assert (plan.steps, plan.tokens) == (100, 3_200_000)
    assert plan.steps == Schedule(800, 16, (2.0,), seed=0).total_steps
    # A batch fills 8 rows. One of the three GPUs has 3 rows: all 8 are done in the time of 3.
    assert plan.hours == pytest.approx(2 * 3_200_000 / (1000 * 8 / 3) / 3600)
    assert plan.cost == pytest.approx(plan.hours * 3 * 2)
    assert "16 conversations keep 2.7 of 3 GPUs busy" in plan_text(plan)


def test_recomputation_adds_half_of_the_arithmetic():
    config = _config("qwen2.5-32b")
    recomputing, larger = _plan(config, 2), _plan(config, 2, replace(H100, memory_gib=500))
    assert recomputing.best.setup.gradient_checkpointing
    assert not larger.best.setup.gradient_checkpointing
    assert larger.tokens_per_second == pytest.approx(1.5 * recomputing.tokens_per_second)


@pytest.mark.parametrize(
    ("method", "recomputing", "flops"), [("lora", 0, 4), ("lora", 1, 6), ("full", 0, 6), ("full", 1, 8)]
)
def test_trained_weights_cost_a_third_pass(method, recomputing, flops):
    assert flops_per_parameter(_config("llama-3.1-8b", f"train.method={method}").train, bool(recomputing)) == flops


def test_the_error_for_full_training_proposes_more_gpus_and_offloading():
    settings = r"set train\.zero_stage=3 train\.offload=\[optimizer,parameters\]"
    hint = rf"{settings} \(slow, needs 82\.3 GiB of host memory per GPU"
    with pytest.raises(InputError, match=rf"use 3 GPUs, or {hint}"):
        _plan(_config("llama-3.1-8b", "train.method=full"), 2)


def test_an_offloading_configuration_is_planned_if_nothing_else_fits_and_its_speed_is_not_estimated():
    offloading = ["train.method=full", "train.zero_stage=3", "train.offload=[parameters, optimizer]"]
    plan = _plan(_config("llama-3.1-8b", *offloading, "train.gradient_checkpointing=true"), 2)
    assert (plan.best.setup, plan.hours) == (HOST_SETUP, None)
    last = plan_text(plan).splitlines()[-1]
    assert last.startswith(
        "As configured: ZeRO-3 with gradient checkpointing (optimizer and parameters in host memory)"
    )
    assert last.endswith("82.3 GiB of host memory per GPU; slow: without offloading, 3 GPUs are enough")


def test_unnecessary_offloading_is_a_separate_row_and_not_recommended():
    plan = _plan(_config("llama-3.1-8b", "train.offload=[optimizer]"), 2)
    assert [row.setup.offload for row in plan.rows if row.configured] == [{"optimizer"}]
    assert "*1+optimizer" in plan_text(plan)
    assert recommendation(plan).endswith("set train.offload=[]")


def test_without_a_number_of_gpus_an_offloading_configuration_is_planned_on_the_smallest_that_fits():
    config = _config("llama-3.1-70b", "train.num_workers=auto", "train.offload=[optimizer, parameters]")
    assert _plan(config).num_gpus == 1


def test_the_configured_row_is_marked():
    marked = [line for line in plan_text(_plan(_config("llama-3.1-70b"))).splitlines() if line.strip().startswith("*3")]
    assert len(marked) == 1


def test_an_elastic_training_is_planned_for_its_smallest_number_of_workers():
    plan = _plan(_config("llama-3.1-70b", "train.num_workers=[3, 8]"))
    assert plan.num_gpus == 3
    assert "the smallest of train.num_workers [3, 8]" in plan_text(plan)
    assert "set train." not in recommendation(plan)
    with pytest.raises(InputError, match="use 3 GPUs"):
        _plan(_config("llama-3.1-70b", "train.num_workers=[2, 8]"))


def test_fewer_target_modules_make_a_smaller_adapter_and_unknown_ones_are_refused():
    text = plan_text(_plan(_config("llama-3.1-8b", "train.target_modules=[q_proj, v_proj]")))
    assert "+ 6,815,744 of the adapter (LoRA rank 16 on q_proj, v_proj)" in text
    with pytest.raises(InputError, match="called 'q_prj'; did you mean 'q_proj'"):
        _plan(_config("llama-3.1-8b", "train.target_modules=[q_prj]"))


@pytest.mark.parametrize(
    ("device_name", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100-80GB"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("A100-PCIE-40GB", "A100-40GB"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_a_gpu_is_found_by_its_device_name(device_name, name):
    assert known_gpu(device_name) == (GPUS[name] if name else None)


def test_an_h100_on_pcie_has_a_lower_peak_than_one_on_sxm():
    assert GPUS["H100-PCIe"].bf16_tflops < H100.bf16_tflops


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
