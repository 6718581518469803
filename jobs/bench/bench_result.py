"""What a contender did, whether its figures are valid, and the comparison as text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from warmray.models.plan import known_gpu

Contender = Literal["ours", "bare", "torch", "trl", "trl-packing", "trl-tuned"]
LABELS: dict[Contender, str] = {
    "ours": "ours: Ray Train, DeepSpeed, MLflow",
    "bare": "ours, bare: DeepSpeed alone",
    "torch": "ours, without DeepSpeed either",
    "trl": "TRL SFTTrainer, its defaults",
    "trl-packing": "TRL SFTTrainer, packing",
    "trl-tuned": "TRL SFTTrainer, packing, no recomputation",
}
DEFAULT_CONTENDERS: tuple[Contender, ...] = ("ours", "bare", "trl", "trl-packing")
FEWEST_STEPS = 4
WARM_UP_STEPS = 2
"""First steps, which no figure counts: caches fill, kernels are chosen, workers connect."""
MFU_FLOPS_PER_PARAMETER = 4
"""Per token, by convention for LoRA: frozen weights need no gradient, and recomputation does not count."""
BUSY_SHARE = 0.15
"""The bench gives no verdict if other processes took more of the cores than this between two contenders."""
FIGURE_COLUMNS = ("STEPS", "SECONDS", "TRAINED TOKENS/S", "TOKENS/S", "MFU")


@dataclass(frozen=True)
class Step:
    """One optimizer step in tokens of our tokeniser: assistant tokens are trained, padding does not count."""

    ended_s: float
    """Seconds on any steady clock."""
    trained_tokens: int
    tokens: int
    loss: float
    """Cross-entropy in nats per trained token, before the step."""


@dataclass(frozen=True)
class Run:
    """A contender's training: its steps, and the largest absolute value among the adapter's B matrices."""

    steps: tuple[Step, ...]
    largest_b: float
    """LoRA starts with B = 0: 0 means that nothing was trained."""

    @property
    def measured(self) -> tuple[Step, ...]:
        """The steps of the steady state."""
        return self.steps[WARM_UP_STEPS:]

    @property
    def seconds(self) -> float:
        """Wall clock of the steady state, including everything between its steps."""
        return self.steps[-1].ended_s - self.steps[WARM_UP_STEPS - 1].ended_s

    @property
    def trained_tokens_per_second(self) -> float:
        """Speed in assistant tokens, the ones with a loss."""
        return sum(step.trained_tokens for step in self.measured) / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Speed in all tokens except padding."""
        return sum(step.tokens for step in self.measured) / self.seconds

    @property
    def refusal(self) -> str | None:
        """Why the figures are not valid, or None: a trainer that trains nothing is fast."""
        if len(self.steps) <= WARM_UP_STEPS:
            return f"it took {len(self.steps)} steps, and the first {WARM_UP_STEPS} do not count"
        if not 0 < self.largest_b < math.inf:
            return f"its adapter did not move: the largest value in LoRA's B is {self.largest_b:g}"
        third = math.ceil(len(self.steps) / 3)
        first, last = (mean(step.loss for step in part) for part in (self.steps[:third], self.steps[-third:]))
        if not last < first:
            return f"its loss did not fall: {first:.3f} in the first {third} steps, {last:.3f} in the last"
        return None


@dataclass(frozen=True)
class Failure:
    """A contender without a figure, and why."""

    reason: str


Outcome = Run | Failure


@dataclass(frozen=True)
class Setting:
    """What all contenders have in common."""

    model: str
    parameters: int
    lora_rank: int
    dtype: str
    device: str
    threads: int
    conversations: int
    batch_size: int
    tokens: int
    trained_tokens: int

    def mfu(self, run: Run) -> float | None:
        """Return the share of the GPU's peak that LoRA's arithmetic uses; None if the peak is not known."""
        gpu = known_gpu(self.device)
        if gpu is None or gpu.bf16_tflops is None:
            return None
        return MFU_FLOPS_PER_PARAMETER * self.parameters * run.tokens_per_second / (gpu.bf16_tflops * 1e12)


@dataclass(frozen=True)
class Target:
    """A comparison of two contenders and its goal."""

    name: str
    left: Contender
    right: Contender
    value: Callable[[Run, Run], float]
    form: str
    wanted: str
    is_met: Callable[[float], bool]


def _ratio(left: Run, right: Run) -> float:
    return left.trained_tokens_per_second / right.trained_tokens_per_second


def _overhead_percent(left: Run, right: Run) -> float:
    """Return how much more time ``left`` takes than ``right`` for the same tokens."""
    return 100 * (_ratio(right, left) - 1)


TARGETS = (
    Target("ours over TRL's defaults", "ours", "trl", _ratio, "{:.2f} x", "at least 2 x", lambda x: x >= 2),
    Target("ours over TRL's packing", "ours", "trl-packing", _ratio, "{:.2f} x", "at least 1.5 x", lambda x: x >= 1.5),
    Target("Ray and MLflow cost", "ours", "bare", _overhead_percent, "{:+.1f} %", "at most 5 %", lambda x: x <= 5),
    Target("Ray, MLflow and DeepSpeed", "ours", "torch", _overhead_percent, "{:+.1f} %", "", lambda x: True),
    Target("ours over TRL, tuned", "ours", "trl-tuned", _ratio, "{:.2f} x", "", lambda x: True),
)


def reason_without_figure(outcome: Outcome) -> str | None:
    """Return why a contender has no figure, or None if it has one."""
    return outcome.reason if isinstance(outcome, Failure) else outcome.refusal


def comparison_text(setting: Setting, outcomes: dict[Contender, Outcome], busy_share: float = 0.0) -> str:
    """Return the text that the bench prints at its end.

    Args:
        setting: What all contenders have in common.
        outcomes: In the order of the table.
        busy_share: The largest share of the cores that other processes took between contenders.
    """
    head = [
        f"{setting.model}: {setting.parameters:,} parameters, LoRA rank {setting.lora_rank}, {setting.dtype}, on "
        f"{setting.device} with {setting.threads} threads",
        f"{setting.conversations} conversations, {setting.batch_size} per step: {setting.tokens:,} tokens, "
        f"{setting.trained_tokens:,} of them trained; measured from step {WARM_UP_STEPS + 1} on",
    ]
    reasons = ((LABELS[name], reason_without_figure(outcome)) for name, outcome in outcomes.items())
    refusals = [f"no figure for {label}: {reason}" for label, reason in reasons if reason]

    # Notes that readers need to interpret the figures.
    notes = ["MFU counts 4 FLOPs per parameter and token; speeds are compared in trained tokens."]
    if {"trl", "trl-packing"} & set(outcomes):
        notes.append("TRL recomputes activations by default; --contenders ours,trl-tuned compares without.")
    if busy_share > BUSY_SHARE:
        notes.append(
            f"Other processes kept up to {busy_share:.0%} of the cores busy: measure again on a quiet machine."
        )

    parts = [head, _figure_table(setting, outcomes), refusals, _verdict_lines(outcomes, busy_share), notes]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _figure_table(setting: Setting, outcomes: dict[Contender, Outcome]) -> list[str]:
    """Return the lines of the table: a header, then one line per contender; dashes stand for figures not valid."""
    lines: list[tuple[str, ...]] = [("CONTENDER", *FIGURE_COLUMNS)]
    for name, outcome in outcomes.items():
        if isinstance(outcome, Failure) or outcome.refusal:
            lines.append((LABELS[name], *("-",) * len(FIGURE_COLUMNS)))
            continue
        mfu = setting.mfu(outcome)
        lines.append(
            (
                LABELS[name],
                str(len(outcome.measured)),
                f"{outcome.seconds:.1f}",
                f"{outcome.trained_tokens_per_second:,.1f}",
                f"{outcome.tokens_per_second:,.1f}",
                "-" if mfu is None else f"{mfu:.1%}",
            )
        )

    # Align the names left and the figures right.
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return [
        "  ".join([name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:], strict=True))])
        for name, *rest in lines
    ]


def _verdict_lines(outcomes: dict[Contender, Outcome], busy_share: float) -> list[str]:
    """Return one line for every target whose two contenders have valid figures."""
    lines = []
    for target in TARGETS:
        pair = [outcomes.get(target.left), outcomes.get(target.right)]
        runs = [run for run in pair if isinstance(run, Run) and run.refusal is None]
        if len(runs) < len(pair):
            continue
        value = target.value(*runs)
        line = f"{target.name}: {target.form.format(value)}"
        if target.wanted:
            verdict = "met" if target.is_met(value) else "MISSED"
            line += f" (wanted {target.wanted}: {'not judged' if busy_share > BUSY_SHARE else verdict})"
        lines.append(line)
    return lines
