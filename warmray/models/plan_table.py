"""A plan as text: one table, how its figures come about, and the recommendation as the last line."""

from __future__ import annotations

from warmray.models.architecture import ALL_LINEAR
from warmray.models.fit import HOST_SETUP, changed_settings
from warmray.models.memory import GIB, LOSS_CHUNK_TOKENS, ON_HOST, OVERHEAD_BYTES, tokens_per_pass
from warmray.models.plan import MODEL_FLOPS_SHARE, Plan, PlanRow, fewest_workers, flops_per_parameter

COLUMNS = (
    "ZERO",
    "RECOMPUTE",
    "WEIGHTS",
    "ADAPTER",
    "GRADIENTS",
    "OPTIMIZER",
    "ACTIVATIONS",
    "LOGITS",
    "STEP",
    "OVERHEAD",
    "TOTAL",
    "FITS",
    "GPUS NEEDED",
)


def plan_text(plan: Plan) -> str:
    """Return what ``warmray plan`` prints."""
    return "\n".join([*_head(plan), "", *_table(plan), "", *_notes(plan), "", recommendation(plan)])


def _head(plan: Plan) -> list[str]:
    architecture, train, gpu = plan.architecture, plan.config.train, plan.cluster.gpu
    return [
        f"{plan.config.name}: {architecture.name}, {architecture.parameters:,} parameters{_trained(plan)}",
        f"{plan.num_gpus} x {gpu.name}: {gpu.usable_bytes / GIB:.1f} of {gpu.memory_gib:g} GiB planned for; "
        f"rows of {train.row_length:,} tokens; all in GiB per GPU",
    ]


def _trained(plan: Plan) -> str:
    train = plan.config.train
    if train.method == "full":
        return ", all of them trained"
    adapter = plan.architecture.adapter_parameters(train.lora_rank, train.target_modules)
    targets = "" if train.target_modules == ALL_LINEAR else f" on {', '.join(train.target_modules)}"
    return f" + {adapter:,} of the adapter (LoRA rank {train.lora_rank}{targets})"


def _table(plan: Plan) -> list[str]:
    cells = [COLUMNS, *(_cells(row) for row in plan.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    return ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells]


def _cells(row: PlanRow) -> tuple[str, ...]:
    memory, offload = row.memory, row.setup.offload
    parts = (
        memory.weights_bytes,
        memory.adapter_bytes,
        memory.gradients_bytes,
        memory.optimizer_bytes,
        memory.activations_bytes,
        memory.logits_bytes,
        memory.step_bytes,
        memory.overhead_bytes,
        memory.total_bytes,
    )
    host = "+host" if offload == ON_HOST else "".join(f"+{part}" for part in offload)
    return (
        f"{'*' if row.configured else ''}{row.setup.zero_stage}{host}",
        "yes" if row.setup.gradient_checkpointing else "no",
        *(f"{part / GIB:.1f}" for part in parts),
        "yes" if row.fits else "no",
        str(row.smallest_num_gpus or "-"),
    )


def _notes(plan: Plan) -> list[str]:
    train, workload = plan.config.train, plan.workload
    chunk = min(LOSS_CHUNK_TOKENS, tokens_per_pass(train))
    kept, recomputed = flops_per_parameter(train, False), flops_per_parameter(train, True)
    lines = [
        "*          as configured",
        "RECOMPUTE  gradient checkpointing: each layer's input is kept, the rest is computed again "
        f"({recomputed / kept - 1:.0%} more arithmetic)",
        f"LOGITS     of {chunk:,} positions at a time, the loss being computed in chunks",
        "STEP       of the optimizer: takes the place of gradients, activations and logits; the larger counts",
        f"OVERHEAD   {OVERHEAD_BYTES / GIB:g} GiB for CUDA, cuBLAS and NCCL; what is not planned for is left to "
        "fragmentation",
        f"3+host     weights and optimizer in host memory, {plan.host_gib(HOST_SETUP):.1f} GiB there per GPU; slow, so "
        "never recommended",
        f"Work       {plan.steps:,} steps of {train.batch_size} conversations, {max(train.doses):g} epochs, "
        f"{plan.tokens:,} tokens{_arms(plan)} ({workload.source})",
    ]
    return [line for line in (*lines, _elastic(plan), _speed(plan)) if line]


def _elastic(plan: Plan) -> str:
    workers = plan.config.train.num_workers
    if not isinstance(workers, tuple) or plan.num_gpus != workers[0]:
        return ""
    return f"Workers    planned for the fewest of train.num_workers {list(workers)}: more hold less each"


def _arms(plan: Plan) -> str:
    count = len(plan.config.train.arms)
    return f" for each of {count} arms" if count > 1 else ""


def _speed(plan: Plan) -> str:
    if plan.tokens_per_second is None and plan.best.setup.offload:
        return "Speed      not reckoned: offloading waits for the bus to the host, give --tokens-per-second"
    if plan.tokens_per_second is None:
        return "Speed      not reckoned: the peak of this GPU is not known, give --tokens-per-second"
    speed = f"Speed      {plan.tokens_per_second:,.0f} tokens/s per GPU"
    if plan.cluster.tokens_per_second is None:
        speed += (
            f": {plan.flops_per_parameter} FLOPs per parameter and token at {MODEL_FLOPS_SHARE:.0%} of "
            f"{plan.cluster.gpu.bf16_tflops:g} TFLOP/s, assumed, with full rows"
        )
    if plan.busy_gpus < plan.num_gpus:
        batch_size = plan.config.train.batch_size
        speed += f"; {batch_size} conversations keep {plan.busy_gpus:.1f} of {plan.num_gpus} GPUs busy"
    return speed


def recommendation(plan: Plan) -> str:
    """Return the best setup, what it takes, and the settings that would have to change for it."""
    row, gpu = plan.best, plan.cluster.gpu
    text = (
        f"{'As configured' if row.setup.offload else 'Recommended'}: {row.setup} on {plan.num_gpus} x {gpu.name}, "
        f"{row.memory.total_bytes / GIB:.1f} of {gpu.usable_bytes / GIB:.1f} GiB"
    )
    if row.setup.offload:
        text += f" and {plan.host_gib(row.setup):.1f} GiB of host memory per GPU"
    if plan.hours is not None:
        gpu_hours = plan.hours * plan.num_gpus
        text += f"; about {_duration(plan.hours)}, {gpu_hours:.{1 if gpu_hours >= 1 else 2}f} GPU hours"
    if plan.cost is not None:
        text += f", {plan.cost:,.2f} at {plan.cluster.price_per_gpu_hour:g} per GPU hour"
    settings = _changed_settings(plan)
    return text + _other_numbers(plan) + (f"; set {' '.join(settings)}" if settings else "")


def _other_numbers(plan: Plan) -> str:
    if plan.best.setup.offload:
        without = f"{plan.fewest_gpus} of them do" if plan.fewest_gpus else "no number of them does"
        return f"; slow: without offloading {without}"
    return f"; {plan.fewest_gpus} would do" if plan.fewest_gpus != plan.num_gpus else ""


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(hours * 60))} min"


def _changed_settings(plan: Plan) -> list[str]:
    train = plan.config.train
    number = [] if fewest_workers(train) in (plan.num_gpus, None) else [f"train.num_workers={plan.num_gpus}"]
    return changed_settings(train, plan.best.setup) + number
