from dataclasses import replace

import pytest

from jobs.bench.bench_result import Failure, Run, Setting, Step, comparison_text

SETTING = Setting(
    model="tiny", parameters=1_000_000, lora_rank=8, dtype="bfloat16", device="CPU", threads=2, conversations=48,
    batch_size=8, tokens=6_000, trained_tokens=3_000,
)  # fmt: skip


def _run(seconds_per_step: float = 2.0, losses: tuple[float, ...] = (4, 3, 3, 2, 2, 2), largest_b: float = 0.1) -> Run:
    """Six steps of 1,000 tokens, half of them trained; the first two take a hundred times as long."""
    warm = [100 * seconds_per_step * n for n in (1, 2)]
    ends = [*warm, *(warm[-1] + seconds_per_step * n for n in (1, 2, 3, 4))]
    return Run(tuple(Step(end, 500, 1_000, loss) for end, loss in zip(ends, losses, strict=True)), largest_b)


def test_speed_is_measured_after_the_warm_up_and_includes_the_time_between_steps():
    run = _run(seconds_per_step=2.0)
    assert (run.seconds, run.trained_tokens_per_second, run.tokens_per_second) == (8.0, 250.0, 500.0)


@pytest.mark.parametrize("largest_b", [0.0, float("inf"), float("nan")])
def test_a_figure_is_refused_when_the_adapter_did_not_move(largest_b):
    assert "did not move" in _run(largest_b=largest_b).refusal


@pytest.mark.parametrize("losses", [(2, 2, 2, 2, 2, 2), (2, 2, 2, 3, 3, 3), (2, 2, 2, 2, float("nan"), 1)])
def test_a_figure_is_refused_when_the_loss_did_not_fall(losses):
    assert "loss did not fall" in _run(losses=losses).refusal


def test_a_figure_is_refused_when_no_step_is_left_after_the_warm_up():
    assert "took 2 steps" in replace(_run(), steps=_run().steps[:2]).refusal


def test_a_training_whose_adapter_moved_and_whose_loss_fell_has_a_figure():
    assert _run().refusal is None


def test_ratios_and_overhead_compare_trained_tokens_and_are_judged_by_the_targets():
    outcomes = {"ours": _run(1.02), "bare": _run(1.0), "trl": _run(2.55), "trl-packing": _run(1.275)}
    text = comparison_text(SETTING, outcomes)
    assert "ours over TRL's defaults: 2.50 x (wanted at least 2 x: met)" in text
    assert "ours over TRL's packing: 1.25 x (wanted at least 1.5 x: MISSED)" in text
    assert "Ray and MLflow cost: +2.0 % (wanted at most 5 %: met)" in text


def test_a_refused_figure_is_neither_shown_nor_compared():
    outcomes = {"ours": _run(1.0), "trl": _run(2.0, largest_b=0.0), "trl-packing": Failure("it ended early")}
    text = comparison_text(SETTING, outcomes)
    assert "no figure for TRL SFTTrainer, its defaults: its adapter did not move" in text
    assert "no figure for TRL SFTTrainer, packing: it ended early" in text
    assert "ours over" not in text
    assert "250.0" not in text


def test_mfu_counts_4_flops_per_parameter_and_token_and_needs_a_known_gpu():
    setting = replace(SETTING, parameters=8_000_000_000, device="NVIDIA H100 80GB HBM3")
    run = Run(tuple(Step(n, 5_000, 10_000, 4 - n) for n in range(4)), 0.1)
    assert setting.mfu(run) == pytest.approx(4 * 8e9 * 10_000 / 989e12)
    assert SETTING.mfu(run) is None


def test_on_a_busy_machine_no_target_is_judged():
    text = comparison_text(SETTING, {"ours": _run(1.0), "bare": _run(2.0)}, busy_share=0.4)
    assert "Ray and MLflow cost: -50.0 % (wanted at most 5 %: not judged)" in text
    assert "Other processes kept up to 40% of the cores busy" in text
