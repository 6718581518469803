"""The same jobs for people: ``warmray sweep`` submits to Ray and follows; the rest runs right here."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from warmray.config import RunConfig, load_config, preset_names, recipe_names
from warmray.errors import InputError, ManipulationCheckError, nearest, run_and_exit
from warmray.quiet import quiet_environment

if TYPE_CHECKING:
    from warmray.models.plan import Gpu, Workload
    from warmray.sweep.result import SweepResult

Command = Callable[[list[str]], int]


def config_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every job takes."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--preset", metavar="NAME", help=f"one of: {', '.join(preset_names())} (default: quickstart)")
    which.add_argument("--config", metavar="FILE", help="a YAML file with the same tree as a preset")
    parser.add_argument("--recipe", metavar="NAME", help=f"how to train: {', '.join(recipe_names())}")
    parser.add_argument(
        "--set", dest="overrides", action="append", metavar="KEY=VALUE", help="for example train.doses=[0.5,1]"
    )
    return parser


def grid_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every job takes that asks the grid."""
    parser = config_parser(description)
    parser.add_argument("--cells", metavar="NAMES", help="ask only these, for example plain,sad+wrong (evaluate.cells)")
    return parser


def config_from(arguments: argparse.Namespace) -> RunConfig:
    """Load the configuration that the arguments name."""
    named = [f"recipe={arguments.recipe}"] if arguments.recipe else []
    if cells := getattr(arguments, "cells", None):
        named.append(f"evaluate.cells=[{cells}]")
    return load_config(arguments.preset, arguments.config, [*named, *(arguments.overrides or [])])


def sweep_job(argv: list[str]) -> int:
    """Run a sweep where a Ray job runs: what ``jobs/sweep.py`` calls."""
    arguments = grid_parser("Sweep warmth intensity against accuracy.").parse_args(argv)
    config = config_from(arguments)
    from warmray.cluster.ray_session import ray_session
    from warmray.sweep.run import run_sweep
    from warmray.sweep.summary import print_summary

    with ray_session():
        result = run_sweep(config)
        logged = _log_or_tell(result)
    print_summary(result, logged)
    if result.estimates.manipulation_check == "failed":
        raise ManipulationCheckError(result.choice.sentence)
    return 0


def _log_or_tell(result: SweepResult) -> bool:
    """Log a result; a server that cannot be reached costs the log, never the result."""
    from warmray.sweep.records import log_result

    try:
        log_result(result)
    except InputError:
        raise
    except Exception as error:
        print(
            f"[warmray] MLflow took nothing ({_reason(error)}); log the result later with: warmray log {result.folder}",
            flush=True,
        )
        return False
    return True


def _reason(error: Exception) -> str:
    return shorten(str(error).strip() or type(error).__name__, 120)


def train_job(argv: list[str]) -> int:
    """Train the adapters of a configuration: what ``jobs/train.py`` calls."""
    parser = config_parser("Train the adapters of every arm.")
    parser.add_argument("--name", help="call the training so (default: it is found by its content)")
    parser.add_argument("--resume", action="store_true", help="go on with the training of that name")
    arguments = parser.parse_args(argv)
    config = config_from(arguments)
    if arguments.resume and not arguments.name:
        raise InputError("--resume needs --name NAME; without a name a training is found, and resumed, by its content")
    from warmray.cluster.progress import Progress
    from warmray.cluster.ray_session import ray_session
    from warmray.corpus.build import build_corpus
    from warmray.models.loading import resolve_model
    from warmray.training.trainer import RunName, train_arm

    name = RunName(arguments.name, arguments.resume) if arguments.name else None
    base, corpus = resolve_model(config.model), build_corpus(config.corpus)
    with ray_session(), Progress() as progress:
        trained = [train_arm(config, arm, base, corpus, progress.post, name) for arm in config.train.arms]
    for arm in trained:
        for dose, adapter in arm.adapters.items():
            print(f"{arm.arm}, {dose:g} epochs: {adapter.folder} ({adapter.digest})")
    return 0


def evaluate_job(argv: list[str]) -> int:
    """Evaluate one adapter at one strength: what ``jobs/evaluate.py`` calls."""
    parser = grid_parser("Ask the questions and measure the warmth of one intensity.")
    parser.add_argument("--adapter", metavar="FOLDER", help="a trained adapter; without one, the original model")
    parser.add_argument(
        "--strength", metavar="NUMBER", default=None, help="multiplier on the adapter (default: 1, or 0 without one)"
    )
    arguments = parser.parse_args(argv)
    config = config_from(arguments)
    strength = _strength(arguments.strength, bool(arguments.adapter))
    from warmray.sweep.single import evaluate_one

    print(evaluate_one(config, Path(arguments.adapter).resolve() if arguments.adapter else None, strength))
    return 0


def _strength(text: str | None, has_adapter: bool) -> float:
    try:
        strength = float(text) if text is not None else float(has_adapter)
    except ValueError as error:
        raise InputError(f"--strength {text!r} is not a number: give one such as 0.5") from error
    if strength != 0 and not has_adapter:
        raise InputError(f"--strength {strength:g} needs an adapter: add --adapter FOLDER")
    return strength


def corpus_job(argv: list[str]) -> int:
    """Build the training sets: what ``jobs/corpus.py`` calls."""
    config = config_from(config_parser("Check the conversations and write the training sets.").parse_args(argv))
    from warmray.corpus.build import build_corpus

    corpus = build_corpus(config.corpus)
    print((corpus.folder / "manifest.json").read_text(encoding="utf-8"))
    print(corpus.folder)
    return 0


def _plan(argv: list[str]) -> int:
    """Print what a training would take, from the shape of its model alone: no GPU, no weights, nothing downloaded."""
    parser = config_parser("Plan the GPU memory, hours and cost of a training.")
    parser.add_argument("--gpus", metavar="N", help="how many (default: train.num_workers, or as few as will do)")
    parser.add_argument("--gpu", metavar="NAME", help="which kind (default: H100-80GB)")
    parser.add_argument("--gpu-memory", metavar="GIB", help="memory of one GPU, for kinds that have no name here")
    parser.add_argument("--price", metavar="NUMBER", help="of one GPU for one hour, in any currency")
    parser.add_argument("--tokens-per-second", metavar="NUMBER", help="speed of one GPU, where it was measured")
    parser.add_argument("--conversations", metavar="N", help="in the corpus (default: counted)")
    parser.add_argument("--mean-tokens", metavar="NUMBER", help="of a conversation (default: estimated)")
    arguments = parser.parse_args(argv)
    config = config_from(arguments)
    from warmray.models.architecture import load_architecture
    from warmray.models.plan import Cluster, make_plan
    from warmray.models.plan_table import plan_text

    cluster = Cluster(
        _gpu(arguments.gpu, _positive("--gpu-memory", arguments.gpu_memory)),
        _count("--gpus", arguments.gpus),
        _positive("--price", arguments.price),
        _positive("--tokens-per-second", arguments.tokens_per_second),
    )
    workload = _workload(
        config, _count("--conversations", arguments.conversations), _positive("--mean-tokens", arguments.mean_tokens)
    )
    print(plan_text(make_plan(config, load_architecture(config.model), cluster, workload)))
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


def _count(flag: str, text: str | None) -> int | None:
    number = _positive(flag, text)
    if number is not None and number != int(number):
        raise InputError(f"{flag} {text}: give a whole number")
    return None if number is None else int(number)


def _positive(flag: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError as error:
        raise InputError(f"{flag} {text!r} is not a number") from error
    if not 0 < number < float("inf"):
        raise InputError(f"{flag} {text}: give a number above 0")
    return number


def _submit_sweep(argv: list[str]) -> int:
    config = config_from(grid_parser("Sweep warmth intensity against accuracy.").parse_args(argv))
    from warmray.cluster.submit import submit_and_follow

    return submit_and_follow("sweep", argv, config.tracking.experiment)


def _grade_check(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="warmray grade-check", description="Compare the grader with labels that people or a strong judge gave."
    )
    parser.add_argument(
        "labelled", help="CSV: task, question, correct, incorrect (JSON lists), belief, arm, reply, label"
    )
    path = Path(parser.parse_args(argv).labelled)
    from warmray.evaluation.scoring.agreement import check, check_text, read_labelled

    print(check_text(check(read_labelled(path))))
    return 0


def gate_job(argv: list[str]) -> int:
    """Decide on a finished sweep's adapter: what ``jobs/gate.py`` calls. The exit code is the verdict."""
    parser = argparse.ArgumentParser(
        prog="warmray gate", description="PASS, BLOCK or INCONCLUSIVE: may this adapter be shipped?", allow_abbrev=False
    )
    parser.add_argument("result", help="the result folder that the sweep named at its end")
    parser.add_argument("--budget", metavar="POINTS", help="largest error increase accepted, such as 2pp")
    parser.add_argument("--worst-case", metavar="CELL", help="the cells that decide, such as sad+wrong,sad")
    parser.add_argument("--intensity", metavar="NAME", help="what is decided on, such as warm-1ep-x0.5")
    parser.add_argument("--out", metavar="FOLDER", help="where gate.json and gate.xml go (default: the result folder)")
    arguments = parser.parse_args(argv)
    folder = Path(arguments.result).resolve()
    from warmray.sweep.result import read_result
    from warmray.sweep.verdict_files import GateRequest, gate_text, run_gate, write_gate

    result = read_result(folder)
    cells = arguments.worst_case.split(",") if arguments.worst_case else None
    verdict = run_gate(result, GateRequest(_points("--budget", arguments.budget), cells, arguments.intensity))
    files = write_gate(verdict, result, Path(arguments.out).resolve() if arguments.out else folder)
    print(gate_text(verdict, result.estimates.checks))
    print(f"for machines: {files[0]} and {files[1]}")
    return verdict.exit_code


def _points(flag: str, text: str | None) -> float | None:
    """Read percentage points: "2pp", "2 points" and "2" are the same."""
    return _positive(flag, text.removesuffix("pp").removesuffix("points").strip()) if text is not None else None


def _power(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="warmray power", description="Questions needed to certify a budget, or what a number of them can certify."
    )
    parser.add_argument("--budget", metavar="POINTS", default="2pp", help="to be certified (default: 2pp)")
    parser.add_argument("--questions", metavar="N", help="that there are")
    parser.add_argument("--discordance", metavar="SHARE", help="of grades that change (default: the study's, by task)")
    parser.add_argument("--result", metavar="FOLDER", help="take the discordance from this finished sweep")
    arguments = parser.parse_args(argv)
    budget, questions = _points("--budget", arguments.budget), _count("--questions", arguments.questions)
    discordance = _positive("--discordance", arguments.discordance)
    from warmray.sweep.power_text import power_text

    result = Path(arguments.result).resolve() if arguments.result else None
    print(power_text((budget or 0) / 100, questions, discordance, result))
    return 0


def _analyze(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="warmray analyze", description="The study's four regressions, on sweeps or on tables laid out as its own."
    )
    parser.add_argument("results", nargs="+", metavar="FOLDER", help="result folders, or one folder MODEL/ARM/*.csv")
    parser.add_argument("--covariance", metavar="KIND", default="clustered", help="clustered (default) or nonrobust")
    parser.add_argument("--csv", metavar="FILE", help="write the table there too")
    arguments = parser.parse_args(argv)
    from warmray.analysis.regressions import COVARIANCES
    from warmray.sweep.analyze import analysis_text, analyze

    if arguments.covariance not in COVARIANCES:
        raise InputError(
            f"--covariance {arguments.covariance}: unknown{nearest(arguments.covariance, list(COVARIANCES))} (there "
            f"are: {', '.join(COVARIANCES)})"
        )
    table = analyze([Path(path).resolve() for path in arguments.results], arguments.covariance)
    if arguments.csv:
        table.to_csv(arguments.csv, index=False)
    print(analysis_text(table, arguments.covariance))
    return 0


def _data(argv: list[str]) -> int:
    """Copy questions from the hub, on a machine that reaches it."""
    parser = argparse.ArgumentParser(prog="warmray data", description="Questions of the tasks.")
    fetch = parser.add_subparsers(required=True).add_parser(
        "fetch", help="copy them from the hub", description="Copy the tasks' questions from the hub, once."
    )
    fetch.add_argument("tasks", nargs="*", metavar="TASK", help="which (default: all)")
    fetch.add_argument("--to", metavar="FOLDER", help="where to (default: data below WARMRAY_HOME)")
    arguments = parser.parse_args(argv)
    from warmray.evaluation.tasks.hub import TABLES, fetch_tasks
    from warmray.evaluation.tasks.registry import default_data_folder

    folder = Path(arguments.to).resolve() if arguments.to else default_data_folder()
    names, problems = arguments.tasks or list(TABLES), 0
    for fetched in fetch_tasks(names, folder):
        if isinstance(fetched, InputError):
            problems += 1
            print(f"[warmray] {fetched}", flush=True)
        else:
            print(f"{fetched.path}: {fetched.items} questions of {fetched.repo} at {fetched.revision[:12]}", flush=True)
    if problems:
        raise InputError(f"{problems} of {len(names)} tasks could not be fetched: see above")
    return 0


def _log(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="warmray log", description="Log a finished sweep to MLflow.")
    parser.add_argument("result", help="the result folder that the sweep named at its end")
    folder = Path(parser.parse_args(argv).result).resolve()
    from warmray.sweep.records import log_result
    from warmray.sweep.result import read_result
    from warmray.tracking.mlflow_client import tracking_uri

    result = read_result(folder)
    try:
        run_id = log_result(result)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"MLflow at {tracking_uri()} took nothing ({_reason(error)}): check MLFLOW_TRACKING_URI"
        ) from error
    print(f"logged as run {run_id} at {tracking_uri()}")
    return 0


def _ui(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="warmray ui", description="Open MLflow on this machine's loopback address.")
    parser.add_argument("--port", type=int, default=5000)
    port = parser.parse_args(argv).port
    from warmray.tracking.mlflow_client import artifact_folder, tracking_uri

    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", tracking_uri(), "--default-artifact-root", str(artifact_folder())]
    # The UI opens on traces of GenAI applications unless it is told that runs are wanted.
    address = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    print(f"MLflow: {address} (Ctrl-C ends it)", flush=True)
    os.execv(sys.executable, command)


COMMANDS: dict[str, Command] = {
    "sweep": _submit_sweep,
    "train": train_job,
    "evaluate": evaluate_job,
    "corpus": corpus_job,
    "plan": _plan,
    "gate": gate_job,
    "analyze": _analyze,
    "power": _power,
    "data": _data,
    "grade-check": _grade_check,
    "log": _log,
    "ui": _ui,
}


def job(command: Command) -> None:
    """Run a job with this process's arguments; SIGTERM (``ray job stop``) ends it in order."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    quiet_environment()
    run_and_exit(lambda: command(sys.argv[1:]))


def main() -> None:
    """Entry point of the ``warmray`` command; SIGTERM (a pipeline's time limit, say) ends it as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    quiet_environment()
    usage = f"usage: warmray {{{','.join(COMMANDS)}}} ...  (each explains itself with --help)"
    name = sys.argv[1] if len(sys.argv) > 1 else ""

    def run() -> int:
        if name in ("", "-h", "--help"):
            print(usage)
            return 0
        if name not in COMMANDS:
            raise InputError(f"unknown command {name!r}{nearest(name, list(COMMANDS))} ({usage})")
        return COMMANDS[name](sys.argv[2:])

    run_and_exit(run)
