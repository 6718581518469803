"""Measure our speed against others: ``python -m jobs.bench training``, or ``evaluation``; see README.md."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from jobs.bench.bench_result import DEFAULT_CONTENDERS, FEWEST_STEPS, LABELS
from warmray.command_line import ConfigFile, Overrides, Preset, Recipe, config_from, new_app, run_app, start

bench_app = new_app("Measure our speed against others, on this machine.")


@bench_app.command("training")
def training_bench(
    preset: Preset = None,
    config: ConfigFile = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=FEWEST_STEPS, help="Optimizer steps (default: one epoch).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Threads and cores of each contender (default: all).")
    ] = None,
    row_length: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="Length of our rows, and of TRL's packed ones.")
    ] = None,
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights",
            help="Use the configured architecture with random weights, and the embedded model's tokenizer.",
        ),
    ] = False,
    contenders: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Which ones, joined by commas, of: {', '.join(LABELS)}.")
    ] = ",".join(DEFAULT_CONTENDERS),
) -> int:
    """Compare our training with TRL's: trained tokens per second in the steady state."""
    rows = [] if row_length is None else [f"train.row_length={row_length}"]
    configured = config_from(preset, config, recipe, [*(overrides or []), *rows])
    from jobs.bench.training_bench import compare_trainings

    cores = threads or len(os.sched_getaffinity(0))
    return compare_trainings(configured, contenders, steps, cores, random_weights)


@bench_app.command("evaluation")
def evaluation_bench(
    preset: Preset = None,
    config: ConfigFile = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", resolve_path=True, help="A trained adapter (default: random weights)."),
    ] = None,
    items: Annotated[int, typer.Option(metavar="N", min=2, help="Number of questions, asked in every cell.")] = 12,
) -> int:
    """Compare our evaluation with other ways of generating the same replies."""
    configured = config_from(preset, config, recipe, overrides)
    from jobs.bench.evaluation_bench import compare_evaluations

    return compare_evaluations(configured, adapter, items)


def run_bench(argv: list[str]) -> int:
    """Run the bench that ``argv`` names and return its exit code."""
    return run_app(bench_app, argv or ["--help"], "python -m jobs.bench")


if __name__ == "__main__":
    start(run_bench)
