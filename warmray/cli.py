"""The commands. ``warmray sweep`` submits its job to Ray and follows it; the others run right here.

A command is a plain function registered with ``@app.command()``; the first line of its docstring is its help. Heavy
libraries are imported inside the functions: ``--help`` must answer at once. The functions whose names end in ``_job``
are also what the files in ``jobs/`` run.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, cast

import typer

from warmray.command_line import (
    Cells,
    ConfigFile,
    Overrides,
    Preset,
    Recipe,
    config_from,
    finite,
    new_app,
    one_of,
    points,
    positive,
    run_app,
    start,
)
from warmray.config import RunConfig
from warmray.errors import InputError, ManipulationCheckError, nearest

if TYPE_CHECKING:
    from warmray.analysis.regressions import Covariance
    from warmray.analysis.study_tables import RefusalChoice
    from warmray.models.plan import Gpu, Workload
    from warmray.sweep.result import SweepResult

RUN = "Run"
PREPARE = "Prepare"
DECIDE = "Decide"
CHECK = "Check the measurement"
RECORDS = "Records"

app = new_app("Measure what fine-tuning for warmth costs a language model in accuracy, and decide whether to ship it.")
data_app = new_app("Copy the questions of the tasks from the hub.")

Result = Annotated[
    Path, typer.Argument(metavar="RESULT", resolve_path=True, help="The result folder that the sweep named at its end.")
]
GIVEN_BUDGET = typer.Option(
    "--budget", metavar="POINTS", parser=points, help="Largest accuracy loss accepted, in percentage points: 2pp, or 2."
)


@app.command("sweep", rich_help_panel=RUN)
def sweep_command(
    preset: Preset = None,
    config: ConfigFile = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    cells: Cells = None,
) -> int:
    """Submit the main job to Ray and follow it: train, evaluate every intensity, analyse, recommend."""
    experiment = config_from(preset, config, recipe, overrides, cells).tracking.experiment
    named = {"--preset": preset, "--config": config, "--recipe": recipe, "--cells": cells}
    argv = [part for option, value in named.items() if value is not None for part in (option, value)]
    argv += [part for override in overrides or [] for part in ("--set", override)]
    from warmray.cluster.submit import submit_and_follow

    return submit_and_follow("sweep", argv, experiment)


def sweep_job(
    preset: Preset = None,
    config: ConfigFile = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    cells: Cells = None,
) -> int:
    """Train, evaluate every intensity, analyse, recommend: what runs where `warmray sweep` submits it."""
    configured = config_from(preset, config, recipe, overrides, cells)
    from warmray.cluster.ray_session import ray_session
    from warmray.sweep.run import run_sweep
    from warmray.sweep.summary import print_summary

    with ray_session():
        result = run_sweep(configured)
        logged = _logged(result)
    print_summary(result, logged)
    if result.estimates.manipulation_check == "failed":
        raise ManipulationCheckError(result.choice.sentence)
    return 0


def _logged(result: SweepResult) -> bool:
    """Log a result to MLflow and return whether that worked: a failure costs the log, never the result."""
    from warmray.sweep.records import log_result

    try:
        log_result(result)
    except InputError:
        raise
    except Exception as error:
        command = f"warmray log {result.folder}"
        print(f"[warmray] MLflow logging failed ({_reason(error)}); log the result later with: {command}", flush=True)
        return False
    return True


def _reason(error: Exception) -> str:
    return shorten(str(error).strip() or type(error).__name__, 120)


@app.command("train", rich_help_panel=RUN)
def train_job(
    preset: Preset = None,
    config: ConfigFile = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the training; without one it is found by its content."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the training of that name.")] = False,
) -> int:
    """Train the adapters of every arm, and nothing else."""
    configured = config_from(preset, config, recipe, overrides)
    if resume and not name:
        raise InputError("--resume needs --name NAME; without a name a training is found, and resumed, by its content")
    from warmray.cluster.progress import Progress
    from warmray.cluster.ray_session import ray_session
    from warmray.corpus.build import build_corpus
    from warmray.models.loading import resolve_model
    from warmray.training.trainer import RunName, train_arm

    run_name = RunName(name, resume) if name else None
    base, corpus = resolve_model(configured.model), build_corpus(configured.corpus)
    with ray_session(), Progress() as progress:
        trained = [train_arm(configured, arm, base, corpus, progress.post, run_name) for arm in configured.train.arms]
    for arm in trained:
        for dose, adapter in arm.adapters.items():
            print(f"{arm.arm}, {dose:g} epochs: {adapter.folder} ({adapter.digest})")
    return 0


@app.command("evaluate", rich_help_panel=RUN)
def evaluate_job(
    preset: Preset = None,
    config: ConfigFile = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    cells: Cells = None,
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", resolve_path=True, help="A trained adapter; without one, the original model."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            parser=finite,
            help="Multiplier on the adapter: 0 is the original model, 1 (the default) the adapter as trained.",
        ),
    ] = None,
) -> int:
    """Ask one adapter at one strength all questions, and measure its warmth."""
    configured = config_from(preset, config, recipe, overrides, cells)
    if strength is None:
        strength = 1.0 if adapter else 0.0
    if strength != 0 and adapter is None:
        raise InputError(f"--strength {strength:g} needs an adapter: add --adapter FOLDER")
    from warmray.sweep.single import evaluate_one

    print(evaluate_one(configured, adapter, strength))
    return 0


@app.command("corpus", rich_help_panel=RUN)
def corpus_job(
    preset: Preset = None, config: ConfigFile = None, recipe: Recipe = None, overrides: Overrides = None
) -> int:
    """Check the conversations and write the training sets."""
    configured = config_from(preset, config, recipe, overrides)
    from warmray.corpus.build import build_corpus

    built = build_corpus(configured.corpus)
    print((built.folder / "manifest.json").read_text(encoding="utf-8"))
    print(built.folder)
    return 0


@app.command("plan", rich_help_panel=PREPARE)
def plan_command(
    preset: Preset = None,
    config: ConfigFile = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    gpus: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="How many GPUs (default: train.num_workers, or as few as will do)."),
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="Which kind of GPU (default: H100-80GB).")] = None,
    gpu_memory: Annotated[
        float | None,
        typer.Option(metavar="GIB", parser=positive, help="Memory of one GPU in GiB, for kinds without a name here."),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", parser=positive, help="Price of one GPU for one hour, in any currency."),
    ] = None,
    tokens_per_second: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", parser=positive, help="Speed of one GPU in tokens/s, where it was measured."),
    ] = None,
    conversations: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of conversations in the corpus (default: counted)."),
    ] = None,
    mean_tokens: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", parser=positive, help="Mean tokens of a conversation (default: estimated)."),
    ] = None,
) -> int:
    """Plan the GPU memory, hours and cost of a training, without a GPU, weights or network."""
    configured = config_from(preset, config, recipe, overrides)
    from warmray.models.architecture import load_architecture
    from warmray.models.plan import Cluster, make_plan
    from warmray.models.plan_table import plan_text

    cluster = Cluster(_gpu(gpu, gpu_memory), gpus, price, tokens_per_second)
    workload = _workload(configured, conversations, mean_tokens)
    print(plan_text(make_plan(configured, load_architecture(configured.model), cluster, workload)))
    return 0


def _gpu(name: str | None, memory_gib: float | None) -> Gpu:
    from warmray.models.plan import DEFAULT_GPU, GPUS, Gpu

    if name is None and memory_gib is not None:
        return Gpu(f"GPU of {memory_gib:g} GiB", memory_gib, None)
    name = name or DEFAULT_GPU
    if name not in GPUS:
        raise InputError(
            f"--gpu {name}: unknown{nearest(name, list(GPUS))} (there are: {', '.join(GPUS)}; for others give "
            "--gpu-memory instead)"
        )
    return GPUS[name] if memory_gib is None else replace(GPUS[name], memory_gib=memory_gib)


def _workload(config: RunConfig, conversations: int | None, mean_tokens: float | None) -> Workload:
    from warmray.corpus.workload import read_workload
    from warmray.models.plan import STUDY_WORKLOAD

    is_study = config.recipe == "study" and config.corpus.path == "packaged"
    workload = STUDY_WORKLOAD if is_study else read_workload(config.corpus, config.train.arms[0])
    if conversations is None and mean_tokens is None:
        return workload
    conversations, mean_tokens = conversations or workload.conversations, mean_tokens or workload.mean_tokens
    return replace(
        workload,
        conversations=conversations,
        mean_tokens=mean_tokens,
        source=f"{conversations:,} conversations of {mean_tokens:.0f} tokens, as given",
    )


@app.command("config", rich_help_panel=PREPARE)
def config_command(
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="A section such as train, or a key such as train.doses.")
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of the whole tree instead.")] = False,
) -> int:
    """List the keys of a configuration: type, unit, default and meaning."""
    if schema:
        print(json.dumps(RunConfig.model_json_schema(), indent=2))
        return 0
    from warmray.config_text import print_keys

    named = preset or config or recipe or overrides
    print_keys(key, config_from(preset, config, recipe, overrides) if named else None)
    return 0


@data_app.command("fetch")
def data_fetch_command(
    tasks: Annotated[list[str] | None, typer.Argument(metavar="[TASK]...", help="Which tasks; all by default.")] = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", resolve_path=True, help="Where to (default: data below WARMRAY_HOME)."),
    ] = None,
) -> int:
    """Copy the questions of the tasks from the hub, once, on a machine that reaches it."""
    from warmray.evaluation.tasks.hub import FETCHABLE, fetch_tasks
    from warmray.evaluation.tasks.registry import default_data_folder

    names, problems = tasks or list(FETCHABLE), 0
    for fetched in fetch_tasks(names, to or default_data_folder()):
        if isinstance(fetched, InputError):
            problems += 1
            print(f"[warmray] {fetched}", flush=True)
        else:
            print(f"{fetched.path}: {fetched.items} questions of {fetched.repo} at {fetched.revision[:12]}", flush=True)
    if problems:
        raise InputError(f"{problems} of {len(names)} tasks could not be fetched: see above")
    return 0


app.add_typer(data_app, name="data", rich_help_panel=PREPARE)


@app.command("gate", rich_help_panel=DECIDE)
def gate_job(
    result: Result,
    budget: Annotated[float | None, GIVEN_BUDGET] = None,
    worst_case: Annotated[
        str | None, typer.Option(metavar="CELLS", help="The cells that decide, such as sad+wrong,sad (gate.cells).")
    ] = None,
    intensity: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What is decided on (default: the recommended one, or the strongest)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", resolve_path=True, help="Where gate.json and gate.xml are written (default: RESULT)."
        ),
    ] = None,
) -> int:
    """Say PASS, BLOCK or INCONCLUSIVE for an adapter of a finished sweep (exit code 0, 1 or 3)."""
    from warmray.sweep.result import read_result
    from warmray.sweep.verdict_files import GateRequest, gate_text, run_gate, write_gate

    finished = read_result(result)
    cells = worst_case.split(",") if worst_case else None
    verdict = run_gate(finished, GateRequest(budget, cells, intensity))
    files = write_gate(verdict, finished, out or result)
    print(gate_text(verdict, finished.estimates.checks))
    print(f"for machines: {files[0]} and {files[1]}")
    return verdict.exit_code


@app.command("analyze", rich_help_panel=DECIDE)
def analyze_command(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...", resolve_path=True, help="Result folders, or one folder laid out MODEL/ARM/*.csv."
        ),
    ],
    covariance: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            parser=one_of("clustered", "nonrobust"),
            help="How standard errors are computed: clustered (on the question), or nonrobust (as in the study).",
        ),
    ] = "clustered",
    refusals: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            parser=one_of("column", "substring", "both"),
            help="What counts as refused: the table's column (a sweep's label), a phrase in the reply, or both.",
        ),
    ] = "column",
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write the effects to this file.")
    ] = None,
    coefficients: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the log-odds of forms 1 to 4: form, length, term, estimate, standard_error, replies.",
        ),
    ] = None,
) -> int:
    """Fit the study's four regressions and one of ours to sweeps, or to the study's tables."""
    from warmray.sweep.analyze import analysis_text, analyze, write_coefficients, write_table

    analysis = analyze(results, cast("Covariance", covariance), cast("RefusalChoice", refusals))
    if csv:
        write_table(analysis.effects, csv)
    if coefficients:
        write_coefficients(analysis, coefficients)
    print(analysis_text(analysis))
    return 0


@app.command("power", rich_help_panel=DECIDE)
def power_command(
    budget: Annotated[float, GIVEN_BUDGET] = 2.0,
    questions: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Also say what this many questions can certify.")
    ] = None,
    discordance: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            parser=positive,
            help="Share of the answers that change, above 0 and up to 1 (default: the study's, by task).",
        ),
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", resolve_path=True, help="Take the discordance from this finished sweep."),
    ] = None,
) -> int:
    """Say how many questions certify a budget, or what a number of questions can certify."""
    from warmray.sweep.power_text import power_text

    print(power_text(budget / 100, questions, discordance, result))
    return 0


Labelled = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="CSV: task, question, correct, incorrect (JSON lists), belief, arm, reply, label; cell where known.",
    ),
]


@app.command("grade-check", rich_help_panel=CHECK)
def grade_check_command(
    file: Labelled,
    preset: Preset = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> int:
    """Compare all labels, by matching and by the judge (if evaluate.judge is set), with labels from people."""
    judge_config = config_from(preset, config, None, overrides).evaluate.judge
    from warmray.cluster.progress import Display, showing_post
    from warmray.evaluation.scoring.agreement import agreement_text, grade_check, read_labelled
    from warmray.evaluation.scoring.judge import Judge

    labelled = read_labelled(file)
    with Display() as display:
        table = grade_check(labelled, Judge(judge_config) if judge_config else None, showing_post(display))
    print(agreement_text(table))
    return 0


@app.command("judge-check", rich_help_panel=CHECK)
def judge_check_command(
    file: Labelled,
    out: Annotated[Path, typer.Option(metavar="FILE", resolve_path=True, help="Where the calibration goes (JSON).")],
    random_sample: Annotated[
        bool, typer.Option("--random-sample", help="The labelled replies are a random sample of those of a run.")
    ] = False,
    preset: Preset = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
) -> int:
    """Measure the judge (evaluate.judge) against labels from people, and write its calibration."""
    judge_config = config_from(preset, config, None, overrides).evaluate.judge
    if judge_config is None:
        raise InputError(
            "judge-check needs a judge: --set evaluate.judge.model=NAME --set evaluate.judge.base_url=ADDRESS"
        )
    from warmray.analysis.calibration import write_calibration
    from warmray.cluster.progress import Display, showing_post
    from warmray.evaluation.scoring.agreement import judge_check, judge_check_text, read_labelled
    from warmray.evaluation.scoring.judge import Judge

    labelled = read_labelled(file)
    with Display() as display:
        check = judge_check(labelled, Judge(judge_config), random_sample, showing_post(display))
    write_calibration(check.calibration, out)
    print(judge_check_text(check))
    print(f"use it with: --set evaluate.judge.calibration={out}")
    return 0


@app.command("log", rich_help_panel=RECORDS)
def log_command(result: Result) -> int:
    """Log a finished sweep to MLflow, if that failed at its end."""
    from warmray.sweep.records import log_result
    from warmray.sweep.result import read_result
    from warmray.tracking.mlflow_client import tracking_uri

    finished = read_result(result)
    try:
        run_id = log_result(finished)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"MLflow logging failed at {tracking_uri()} ({_reason(error)}): check MLFLOW_TRACKING_URI"
        ) from error
    print(f"logged as run {run_id} at {tracking_uri()}")
    return 0


@app.command("ui", rich_help_panel=RECORDS)
def ui_command(
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="Port on this machine's loopback.")] = 5000,
) -> int:
    """Open MLflow on this machine's loopback address, until Ctrl-C."""
    _check_free(port)  # MLflow's server ends with exit code 0 where it cannot listen
    from warmray.tracking.mlflow_client import artifact_folder, tracking_uri

    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", tracking_uri(), "--default-artifact-root", str(artifact_folder())]
    # The UI opens on traces of GenAI applications unless it is told that runs are wanted.
    address = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    print(f"MLflow: {address} (Ctrl-C ends it)", flush=True)
    os.execv(sys.executable, command)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended is no obstacle
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = f"--port {port}: cannot listen on 127.0.0.1 ({error.strerror})"
            raise InputError(f"{reason}: choose another port, such as --port {port + 1}") from error


def run(argv: list[str]) -> int:
    """Run the command that ``argv`` names and return its exit code.

    Raises:
        WarmrayError: what was wrong, in one line; ``exit_code`` is what the process should end with.
    """
    return run_app(app, argv or ["--help"], "warmray")


def main() -> None:
    """Entry point of the ``warmray`` command."""
    start(run)
