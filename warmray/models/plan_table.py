"""A plan as text: a table of all setups, notes on its figures, and the recommendation as the last line."""

from __future__ import annotations

from dataclasses import astuple

from warmray.models.architecture import ALL_LINEAR
from warmray.models.gpu_fit import HOST_SETUP, changed_settings
from warmray.models.memory import GIB, LOSS_CHUNK_TOKENS, ON_HOST, OVERHEAD_BYTES
from warmray.models.plan import MODEL_FLOPS_SHARE, Plan, fewest_workers, flops_per_parameter

PLAN_COLUMNS = (
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
    """Return the output of ``warmray plan``."""
    architecture, train, gpu = plan.architecture, plan.config.train, plan.cluster.gpu
    if train.method == "full":
        trained = ", all of them trained"
    else:
        adapter = architecture.adapter_parameters(train.lora_rank, train.target_modules)
        targets = "" if train.target_modules == ALL_LINEAR else f" on {', '.join(train.target_modules)}"
        trained = f" + {adapter:,} of the adapter (LoRA rank {train.lora_rank}{targets})"
    head = [
        f"{plan.config.name}: {architecture.name}, {architecture.parameters:,} parameters{trained}",
        f"{plan.num_gpus} x {gpu.name}: {gpu.usable_bytes / GIB:.1f} of {gpu.memory_gib:g} GiB planned for; "
        f"rows of {train.row_length:,} tokens; all figures in GiB per GPU",
    ]
    return "\n".join([*head, "", *_setup_table(plan), "", *_figure_notes(plan), "", recommendation(plan)])


def _setup_table(plan: Plan) -> list[str]:
    """Return the lines of the table: one row per setup, aligned to the right."""
    lines: list[tuple[str, ...]] = [PLAN_COLUMNS]
    for row in plan.rows:
        offload = row.setup.offload
        host = "+host" if offload == ON_HOST else "".join(f"+{part}" for part in offload)
        parts = (*astuple(row.memory), row.memory.total_bytes)  # the parts are declared in the order of the columns
        lines.append(
            (
                f"{'*' if row.configured else ''}{row.setup.zero_stage}{host}",
                "yes" if row.setup.gradient_checkpointing else "no",
                *(f"{part / GIB:.1f}" for part in parts),
                "yes" if row.fits else "no",
                str(row.smallest_num_gpus or "-"),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(PLAN_COLUMNS))]
    return ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in lines]


def _figure_notes(plan: Plan) -> list[str]:
    """Return one line per kind of figure: its meaning and how it is computed."""
    train, workload = plan.config.train, plan.workload
    chunk = min(LOSS_CHUNK_TOKENS, train.row_length)
    kept, recomputed = flops_per_parameter(train, False), flops_per_parameter(train, True)
    arms = f" for each of {len(train.arms)} arms" if len(train.arms) > 1 else ""
    notes = [
        "*          as configured",
        "RECOMPUTE  gradient checkpointing: keeps each layer's input and computes the rest again "
        f"({recomputed / kept - 1:.0%} more arithmetic)",
        f"LOGITS     of {chunk:,} positions at a time, because the loss is computed in chunks",
        "STEP       the optimizer step, when gradients, activations and logits are freed; TOTAL has the larger of both",
        f"OVERHEAD   {OVERHEAD_BYTES / GIB:g} GiB for CUDA, cuBLAS and NCCL; memory that is not planned for absorbs "
        "fragmentation",
        f"3+host     weights and optimizer in host memory, {plan.host_gib(HOST_SETUP):.1f} GiB per GPU; slow, "
        "never recommended",
        f"Work       {plan.steps:,} steps of {train.batch_size} conversations, {max(train.doses):g} epochs, "
        f"{plan.tokens:,} tokens{arms} ({workload.source})",
    ]
    if isinstance(train.num_workers, tuple) and plan.num_gpus == train.num_workers[0]:
        notes.append(
            f"Workers    planned for the smallest of train.num_workers {list(train.num_workers)}: more hold less each"
        )

    # The speed: measured, or estimated from the GPU's peak, or unknown.
    if plan.tokens_per_second is None:
        reason = "offloading waits for the host bus" if plan.best.setup.offload else "the peak of this GPU is unknown"
        return [*notes, f"Speed      not estimated: {reason}; give --tokens-per-second"]
    speed = f"Speed      {plan.tokens_per_second:,.0f} tokens/s per GPU"
    if plan.cluster.tokens_per_second is None:
        speed += (
            f": {plan.flops_per_parameter} FLOPs per parameter and token at {MODEL_FLOPS_SHARE:.0%} of "
            f"{plan.cluster.gpu.bf16_tflops:g} TFLOP/s, assumed, with full rows"
        )
    if plan.busy_gpus < plan.num_gpus:
        speed += f"; {train.batch_size} conversations keep {plan.busy_gpus:.1f} of {plan.num_gpus} GPUs busy"
    return [*notes, speed]


def recommendation(plan: Plan) -> str:
    """Return the best setup, the memory, time and cost that it needs, and the settings to change for it."""
    row, train, gpu = plan.best, plan.config.train, plan.cluster.gpu
    text = (
        f"{'As configured' if row.setup.offload else 'Recommended'}: {row.setup} on {plan.num_gpus} x {gpu.name}, "
        f"{row.memory.total_bytes / GIB:.1f} of {gpu.usable_bytes / GIB:.1f} GiB"
    )
    if row.setup.offload:
        text += f" and {plan.host_gib(row.setup):.1f} GiB of host memory per GPU"

    # Time and cost.
    if plan.hours is not None:
        duration = f"{plan.hours:.1f} hours" if plan.hours >= 1 else f"{max(1, round(plan.hours * 60))} min"
        gpu_hours = plan.hours * plan.num_gpus
        text += f"; about {duration}, {gpu_hours:.{1 if gpu_hours >= 1 else 2}f} GPU hours"
    if plan.cost is not None:
        text += f", {plan.cost:,.2f} at {plan.cluster.price_per_gpu_hour:g} per GPU hour"

    # Other numbers of GPUs.
    fewest = plan.fewest_gpus
    enough = f"{fewest} GPU{' is' if fewest == 1 else 's are'} enough" if fewest else "no number of GPUs is enough"
    if row.setup.offload:
        text += f"; slow: without offloading, {enough}"
    elif fewest != plan.num_gpus:
        text += f"; {enough}"

    # Settings to change.
    settings = changed_settings(train, row.setup)
    if fewest_workers(train) not in (plan.num_gpus, None):
        settings.append(f"train.num_workers={plan.num_gpus}")
    return text + (f"; set {' '.join(settings)}" if settings else "")
