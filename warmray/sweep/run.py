"""The main job: train each arm once, evaluate every intensity with Ray Tune, analyse, write and log the result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import ray
from ray import tune

import warmray
from warmray.analysis.calibration import Calibration, check_calibration, read_calibration
from warmray.analysis.estimates import Tables
from warmray.analysis.power import LOWEST_SEEN, certifiable_margin, least_margin
from warmray.cluster.progress import Post, Progress, Update
from warmray.config import EvaluateConfig, RunConfig
from warmray.corpus.build import Corpus, build_corpus
from warmray.errors import InputError, InterruptedRunError, WarmrayError, root_cause
from warmray.evaluation.intensity import ENGINE_VERSION, METER_VERSION, IntensityEvaluation, warmth_scorer
from warmray.evaluation.pool import Evaluators, evaluate_intensity, score_anchors, started_evaluators
from warmray.evaluation.prompts import TEMPLATE_VERSION
from warmray.evaluation.scoring.judge import Judge
from warmray.evaluation.scoring.score import SCORING_VERSION
from warmray.evaluation.stores import completion_store, verdict_store, warmth_store
from warmray.evaluation.tables import collect, collect_anchors, collect_warmth
from warmray.evaluation.tasks.items import Item
from warmray.evaluation.tasks.registry import load_items, task_of
from warmray.models.adapters import Adapter
from warmray.models.families import check_evaluation
from warmray.models.loading import BaseCheckpoint, licence_of, resolve_model
from warmray.storage.hashing import digest, file_digest
from warmray.storage.home import home, make_folder, only_one_at
from warmray.sweep.intensities import ORIGINAL, Intensity, distinct_models, instructed_intensities, trained_intensities
from warmray.sweep.result import MARKER, SweepResult, read_result, write_result
from warmray.training.trainer import TrainedArm, train_arm

ANALYSIS_VERSION = 12
"""Part of every result's key: raise it when analysis or report change what comes out."""
MAX_TRIAL_FAILURES = 2
TRIAL_MEMORY_BYTES = 1 << 28
"""What a trial asks of Ray: no CPU, which its evaluators need, but Ray Tune will not have it ask for nothing."""


@dataclass
class _Stopwatch:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[f"seconds_{name}"] = round(time.monotonic() - started, 1)


@dataclass(frozen=True)
class _Inputs:
    config: RunConfig
    base: BaseCheckpoint
    corpus: Corpus
    items: tuple[Item, ...]
    scorer: BaseCheckpoint
    calibration: Calibration | None
    """The errors of the judge, where the configuration names a file of them."""
    judge_remark: str
    """What is uncertain about the families of judge and evaluated model."""

    def tasks(self, adapters: dict[Intensity, Adapter]) -> dict[Intensity, IntensityEvaluation]:
        """Return what is to be evaluated. Every task names an adapter, so that evaluators need not load for each."""
        some_adapter, evaluate = next(iter(adapters.values()), None), self.config.evaluate
        tasks = {i: self._task(adapter, i.strength, evaluate) for i, adapter in adapters.items()}
        tasks = tasks or {ORIGINAL: self._task(None, 0.0, evaluate)}
        for intensity in instructed_intensities(self.config):
            instructed = evaluate.model_copy(update={"system_prompt": intensity.instruction})
            tasks[intensity] = self._task(some_adapter, 0.0, instructed)
        return tasks

    def _task(self, adapter: Adapter | None, strength: float, evaluate: EvaluateConfig) -> IntensityEvaluation:
        return IntensityEvaluation(self.base, adapter, strength, evaluate, self.corpus, self.items, self.scorer)


def run_sweep(config: RunConfig) -> SweepResult:
    """Run a sweep, or find what is finished of it; Ray must be running.

    Raises:
        InputError: something that the configuration names is unfit.
        InterruptedRunError: training or evaluation failed for good; what is finished is kept.
    """
    watch = _Stopwatch()
    with Progress() as progress:
        inputs = _prepare(config, progress.post, watch)
        with watch.stage("train"):
            arms = config.train.arms if trained_intensities(config) else []
            trained: dict[str, TrainedArm] = {
                arm: train_arm(config, arm, inputs.base, inputs.corpus, progress.post) for arm in arms
            }
        folder, key = _place(inputs, trained)
        if (folder / MARKER).exists():
            return read_result(folder)
        adapters = {i: trained[i.arm].adapters[i.dose] for i in trained_intensities(config)}
        tasks = inputs.tasks(adapters)
        # Evaluate: the stores keep every reply and score, so that only what is missing is made.
        finished = completion_store().keys()
        with watch.stage("evaluate"):
            _evaluate_all(tasks, f"{config.name}-{key}", progress.post)
        generated = _generated(tasks, finished, watch.seconds)
        # Read everything back, analyse it and write the result folder; another process may do the same.
        progress.post(Update("analyse", 0, 1))
        with watch.stage("collect"):
            replies = [collect(task).assign(**asdict(intensity)) for intensity, task in tasks.items()]
            warmth = [collect_warmth(task).assign(**asdict(intensity)) for intensity, task in tasks.items()]
            anchors = collect_anchors(next(iter(tasks.values())))
            tables = Tables(pd.concat(replies, ignore_index=True), pd.concat(warmth, ignore_index=True), anchors)
        with only_one_at(folder):
            if not (folder / MARKER).exists():
                made_with, costs = _made_with(inputs, trained), watch.seconds | generated
                write_result(folder, key, config, inputs.base, tables, adapters, made_with, costs, inputs.calibration)
        progress.post(Update("analyse", 1, 1))
    return read_result(folder)


def _prepare(config: RunConfig, post: Post, watch: _Stopwatch) -> _Inputs:
    """Check every input before the first long stage begins."""
    post(Update("prepare", 0, 1, remark="model, corpus, questions"))
    with watch.stage("prepare"):
        if config.evaluate.engine == "openai" and trained_intensities(config):
            raise InputError(
                "evaluate.engine `openai` asks a model as it is served, but sweep.strengths needs adapters: leave "
                "sweep.strengths at [0] and compare system prompts (sweep.system_prompts=[warm,cold])"
            )
        base = resolve_model(config.model)
        items = tuple(load_items(config.evaluate))
        scorer = warmth_scorer(config.evaluate)
        inputs = _Inputs(config, base, build_corpus(config.corpus), items, scorer, *_checked_judge(config, base))
        for store in (completion_store, warmth_store, verdict_store):
            store()  # creating one checks that it can be written
    post(Update("prepare", 1, 1, remark=f"{len(inputs.items)} questions, {base.name}; {_can_decide(inputs)}"))
    return inputs


def _checked_judge(config: RunConfig, base: BaseCheckpoint) -> tuple[Calibration | None, str]:
    """Check the judge before anything is asked of it: its family and its calibration."""
    remark, judge_config = check_evaluation(config.evaluate, base.folder), config.evaluate.judge
    if judge_config is None or judge_config.calibration is None:
        return None, remark
    calibration, judge = read_calibration(Path(judge_config.calibration)), Judge(judge_config)
    arms = [
        *(config.train.arms if trained_intensities(config) else []),
        *(i.arm for i in instructed_intensities(config)),
    ]
    check_calibration(calibration, judge.name, judge.digest, arms)
    return calibration, remark


def _can_decide(inputs: _Inputs) -> str:
    """Say, before hours are spent, what the questions can decide."""
    decisive = [item for item in inputs.items if not task_of(item).is_control]
    budget = inputs.config.sweep.budget_points
    if not decisive:
        raise InputError(
            "evaluate.tasks names controls only, which are asked without context or belief: add a task that a sweep "
            "can decide by, or ask the controls alone with `warmray evaluate`"
        )
    unread = sum(task_of(item).scorer == "judge" for item in decisive)
    if unread and inputs.config.evaluate.judge is None:
        return (
            f"{unread} of {len(decisive)} questions need a judge and evaluate.judge is not set: their replies stay "
            "undecided, which widens every bound"
        )
    if 100 * least_margin(len(decisive)) >= budget:
        return f"too few to certify {budget:g} points even if no answer changed: see `warmray power`"
    best = 100 * certifiable_margin(len(decisive), LOWEST_SEEN)
    return f"enough to certify {best:.1f} points at best" + (
        f", not {budget:g}: see `warmray power`" if best > budget else ""
    )


def _place(inputs: _Inputs, trained: dict[str, TrainedArm]) -> tuple[Path, str]:
    """Return the result folder and the key that it is found by."""
    adapters = sorted([arm, dose, a.digest] for arm, t in trained.items() for dose, a in t.adapters.items())
    items = [asdict(item) for item in inputs.items]
    config = inputs.config.model_dump()
    config["train"].pop("num_workers")
    versions = [ANALYSIS_VERSION, SCORING_VERSION, TEMPLATE_VERSION, ENGINE_VERSION, METER_VERSION]
    judged_by = inputs.config.evaluate.judge
    calibration = file_digest(Path(judged_by.calibration)) if judged_by and judged_by.calibration else None
    models = [inputs.base.digest, inputs.scorer.digest]
    key = digest([versions, config, models, inputs.corpus.digest, items, adapters, calibration])
    return make_folder(home() / "sweeps") / f"{inputs.config.name}-{key}", key


def _evaluate_all(tasks: dict[Intensity, IntensityEvaluation], name: str, post: Post) -> None:
    some_task = next(iter(tasks.values()))
    with started_evaluators(some_task.evaluate.engine) as evaluators:
        try:
            _run_trials(
                {intensity.name: tasks[intensity] for intensity in distinct_models(tasks)}, evaluators, name, post
            )
            score_anchors(some_task, evaluators, post)
        except ray.exceptions.RayError as error:
            _raise_from_worker(error)


def _run_trials(tasks: dict[str, IntensityEvaluation], evaluators: Evaluators, name: str, post: Post) -> None:
    """Evaluate every intensity as a trial of Ray Tune; a trial has all evaluators, so trials come one by one."""

    def trial(parameters: dict[str, str]) -> None:
        task = tasks[parameters["intensity"]]
        evaluate_intensity(task, evaluators, f"evaluate {parameters['intensity']}", post)
        replies, warmth = collect(task, post), collect_warmth(task, post)
        accuracy = float(replies["right"].fillna(0.5).mean())
        tune.report({"accuracy": accuracy, "warmth_sociot": float(warmth["sociot"].mean())})

    tuner = tune.Tuner(
        tune.with_resources(trial, {"memory": TRIAL_MEMORY_BYTES}),
        param_space={"intensity": tune.grid_search(list(tasks))},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(
            name=f"{name}-{int(time.time())}",  # the stores resume, not Tune
            storage_path=str(make_folder(home() / "tune")),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_TRIAL_FAILURES),
        ),
    )
    for error in tuner.fit().errors:
        _raise_from_worker(error)


def _generated(
    tasks: dict[Intensity, IntensityEvaluation], finished: Container[str], seconds: dict[str, float]
) -> dict[str, float]:
    """Return what this run generated, how fast, and the GPU hours of its two long stages."""
    keys = {q.request.key for task in tasks.values() for q in (*task.questions(), *task.warmth_prompts())}
    new = [key for key in keys if key not in finished]
    tokens = float(completion_store().read(new)["tokens"].sum()) if new else 0.0
    gpus = ray.cluster_resources().get("GPU", 0.0)
    return {
        "generated_replies": float(len(new)),
        "generated_tokens_per_second": round(tokens / seconds["seconds_evaluate"], 1),
        "gpu_hours": round(gpus * (seconds["seconds_train"] + seconds["seconds_evaluate"]) / 3600, 3),
    }


def _raise_from_worker(error: BaseException) -> None:
    cause = root_cause(error)
    if isinstance(cause, WarmrayError):
        raise cause from error
    reason = str(cause).strip().splitlines()[-1]
    raise InterruptedRunError(
        f"an evaluation failed {MAX_TRIAL_FAILURES + 1} times, last with: {reason} (finished replies are kept; "
        "the same command continues from them)"
    ) from error


def _made_with(inputs: _Inputs, trained: dict[str, TrainedArm]) -> dict[str, str]:
    train, evaluate = inputs.config.train, inputs.config.evaluate
    packages = ("torch", "transformers", "peft", "deepspeed", "ray", "mlflow")
    return {
        "preset": inputs.config.name,
        "model": f"{inputs.base.name} ({inputs.base.dtype})",
        "base_digest": inputs.base.digest,
        "base_licence": licence_of(inputs.config.model, inputs.base),
        "corpus_digest": inputs.corpus.digest,
        "training": f"LoRA r={train.lora_rank}, alpha={train.lora_alpha}, lr {train.learning_rate:g}, "
        f"batch {train.batch_size}, ZeRO-{train.zero_stage}, {train.doses[-1]:g} epochs"
        if trained
        else "none",
        "training_keys": ", ".join(f"{arm} {t.key}" for arm, t in trained.items()),
        "training_runs": ", ".join(str(t.run_id) for t in trained.values()),
        "questions": f"{len(inputs.items)} in {len(evaluate.asked_cells())} cells (controls in the plain one)",
        "judge": ", ".join(member.model for member in evaluate.judge.members) if evaluate.judge else "none",
        "warmth_scorer": f"{inputs.scorer.name} ({inputs.scorer.digest})",
        "sampling": f"temperature {evaluate.temperature:g}, {evaluate.samples} per question, at most "
        f"{evaluate.max_new_tokens} new tokens",
        "warmth_prompts": str(evaluate.warmth_prompts),
        "seed": str(inputs.config.seed),
        "versions": ", ".join([f"warmray {warmray.__version__}", *(f"{name} {version(name)}" for name in packages)]),
        "command": "warmray sweep --config config.yaml",
    } | ({"judge_remark": inputs.judge_remark} if inputs.judge_remark else {})
