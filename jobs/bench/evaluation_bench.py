"""The evaluation bench: the same prompts at several strengths through several ways of generating.

As a research script does (one prompt at a time, the model loaded anew for every strength), in padded batches of 16, by
our engine, and by vLLM where it is installed; then the whole grid with Ray, store and all, against the bare engine.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from transformers import PreTrainedModel

from jobs.bench.random_model import make_random_adapter
from warmray.cluster.progress import ignore
from warmray.config import RunConfig
from warmray.corpus.build import build_corpus
from warmray.evaluation.intensity import IntensityEvaluation, warmth_scorer
from warmray.evaluation.pool import Evaluators, answer, started_evaluators
from warmray.evaluation.stores import completion_store
from warmray.evaluation.tasks.items import Item
from warmray.evaluation.tasks.registry import load_items
from warmray.generation.engine import Completion, Engine, Request
from warmray.generation.transformers_engine import TransformersEngine
from warmray.generation.window import encode_chat
from warmray.models.adapters import AdaptedModel, Adapter, resolve_adapter, save_at_strength
from warmray.models.loading import BaseCheckpoint, best_device, load_model, load_tokenizer, resolve_model
from warmray.storage.home import home, make_folder

PADDED_BATCH = 16
COMPARED_REPLIES = 40
"""About so many are asked once alone and once in a mixed batch."""
ONE_BY_ONE_SHARE = 6
"""One in so many questions is asked one by one: enough for its speed, and the bench ends within the hour."""
OURS = "our engine"
GRID = "our grid: Ray, store, resumable"
Start = Callable[[contextlib.ExitStack], Callable[[], int]]
"""Loads what a contender needs, and returns what is then timed."""
RANDOM_SCALE = 0.01
"""Standard deviation of the weights of the adapter that stands in where none is given: it changes what is said."""


@dataclass(frozen=True)
class Speed:
    """What a contender generated, and the wall clock that it took."""

    name: str
    tokens: int
    loading_s: float
    """Before the first question, where that comes once."""
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second, loading included; the grid's start of Ray is once for all and left out."""
        return self.tokens / (self.seconds + (self.loading_s if self.name != GRID else 0))


@dataclass(frozen=True)
class EvaluationBench:
    """What all contenders generate: every request at every strength."""

    base: BaseCheckpoint
    adapter: Adapter
    config: RunConfig
    items: tuple[Item, ...]

    def task(self, strength: float) -> IntensityEvaluation:
        """Return the questions at one strength."""
        evaluate, corpus = self.config.evaluate, build_corpus(self.config.corpus)
        scorer = warmth_scorer(evaluate)
        return IntensityEvaluation(self.base, self.adapter, strength, evaluate, corpus, self.items, scorer)

    @property
    def strengths(self) -> list[float]:
        """The strengths of the sweep."""
        return self.config.sweep.strengths

    def requests(self) -> list[Request]:
        """Return all requests, strength by strength."""
        return [question.request for strength in self.strengths for question in self.task(strength).questions()]


def compare_evaluations(config: RunConfig, adapter_folder: Path | None, questions: int) -> int:
    """Ask so many questions in every way and print how the speeds compare; return the exit code."""
    evaluate = config.evaluate.model_copy(update={"max_items": questions, "warmth_prompts": 2})
    config = config.model_copy(update={"evaluate": evaluate})
    base = resolve_model(config.model)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=make_folder(home())) as folder:
        adapter = (
            resolve_adapter(adapter_folder, base)
            if adapter_folder
            else make_random_adapter(base, Path(folder) / "adapter", rank=8, scale=RANDOM_SCALE)
        )
        bench = EvaluationBench(base, adapter, config, tuple(load_items(config.evaluate)))
        print(f"[warmray] {len(bench.requests())} replies at strengths {bench.strengths}, {best_device().type}")
        _print(_speeds(bench, Path(folder)))
        print(_batching_text(bench))
    return 0


def _speeds(bench: EvaluationBench, folder: Path) -> list[Speed]:
    contenders: dict[str, Start] = {
        "one by one, model loaded per strength*": lambda _: lambda: _scripted(bench, folder, 1, ONE_BY_ONE_SHARE),
        f"padded batches of {PADDED_BATCH}": lambda _: lambda: _scripted(bench, folder, PADDED_BATCH),
        "PEFT, strengths mixed in a batch": lambda _: lambda: _peft_mixed(bench, folder),
        "our engine, strengths mixed": lambda _: _generation(bench, _our_engine(bench, True)),
        OURS: lambda _: _generation(bench, _our_engine(bench)),
    }
    if bench.config.evaluate.vllm_python:
        contenders["vLLM"] = lambda _: _generation(bench, _vllm(bench))
    contenders[GRID] = lambda stack: _grid(bench, stack.enter_context(_evaluators(bench, folder / "home")))
    return [_timed(name, start) for name, start in contenders.items()]


def _timed(name: str, start: Start) -> Speed:
    print(f"[warmray] bench: {name}", flush=True)
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        run = start(stack)
        started = time.monotonic()
        tokens = run()
        return Speed(name, tokens, started - begun, time.monotonic() - started)


def _generation(bench: EvaluationBench, engine: Engine) -> Callable[[], int]:
    return lambda: _tokens(engine.generate(bench.requests()))


def _tokens(batches: Iterator[list[Completion]]) -> int:
    return sum(completion.tokens for batch in batches for completion in batch)


def _our_engine(bench: EvaluationBench, mix_strengths: bool | None = None) -> TransformersEngine:
    evaluate = bench.config.evaluate
    adapted = AdaptedModel(load_model(bench.base).to(best_device()), bench.adapter)
    tokenizer = load_tokenizer(bench.base)
    return TransformersEngine(adapted, tokenizer, evaluate.batch_size, evaluate.batch_tokens, mix_strengths)


def _vllm(bench: EvaluationBench) -> Engine:
    from warmray.generation.vllm_engine import VllmEngine

    return VllmEngine(bench.base, bench.adapter, bench.config.evaluate.vllm_python)


def _scripted(bench: EvaluationBench, folder: Path, batch_size: int, one_in: int = 1) -> int:
    """Generate as scripts do: the model with its adapter loaded for every strength, prompts in the order they come."""
    tokens = 0
    for strength in bench.strengths:
        model = _plain_peft(bench, folder, strength)
        requests = [question.request for question in bench.task(strength).questions()][::one_in]
        for start in range(0, len(requests), batch_size):
            tokens += _plain_generate(bench, model, requests[start : start + batch_size])
    return tokens


def _plain_peft(bench: EvaluationBench, folder: Path, strength: float) -> PreTrainedModel:
    from peft import PeftModel

    model = load_model(bench.base).to(best_device())
    if strength == 0:
        return model
    copy = folder / f"x{strength:g}"
    save_at_strength(bench.adapter, bench.base, strength, copy)
    adapted: PreTrainedModel = PeftModel.from_pretrained(model, str(copy), local_files_only=True)
    return adapted


def _peft_mixed(bench: EvaluationBench, folder: Path) -> int:
    """Generate with PEFT's mixed-adapter batches: every strength a rescaled copy of the adapter, rows by length."""
    from peft import PeftModel

    names = {strength: f"s{number}" if strength else "__base__" for number, strength in enumerate(bench.strengths)}
    copies = {name: folder / name for strength, name in names.items() if strength}
    for strength, name in names.items():
        if strength:
            save_at_strength(bench.adapter, bench.base, strength, copies[name])
    first, *others = copies
    model = load_model(bench.base).to(best_device())
    adapted = PeftModel.from_pretrained(model, str(copies[first]), adapter_name=first, local_files_only=True)
    for name in others:
        adapted.load_adapter(str(copies[name]), adapter_name=name, local_files_only=True)
    requests = sorted(bench.requests(), key=lambda request: len(request.messages[-1]["content"]))
    size = bench.config.evaluate.batch_size
    batches = [requests[start : start + size] for start in range(0, len(requests), size)]
    return sum(_plain_generate(bench, adapted, b, adapter_names=[names[r.strength] for r in b]) for b in batches)


@torch.inference_mode()
def _plain_generate(bench: EvaluationBench, model: Any, requests: list[Request], **settings: Any) -> int:
    tokenizer = load_tokenizer(bench.base)
    inputs = tokenizer.pad({"input_ids": [encode_chat(tokenizer, r) for r in requests]}, return_tensors="pt")
    output = model.generate(
        **inputs.to(best_device()),
        max_new_tokens=requests[0].sampling.max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    replies = output[:, inputs["input_ids"].shape[1] :]
    return int(((replies != tokenizer.pad_token_id) & (replies != tokenizer.eos_token_id)).sum())


@contextlib.contextmanager
def _evaluators(bench: EvaluationBench, own_home: Path) -> Iterator[Evaluators]:
    """Start Ray and its evaluators with stores of their own; every one has answered something, and has its model."""
    from warmray.cluster.ray_session import ray_session

    before = os.environ.get("WARMRAY_HOME")
    os.environ["WARMRAY_HOME"] = str(own_home)
    try:
        with ray_session(), started_evaluators() as evaluators:
            task = bench.task(bench.strengths[-1])
            asked = task.warmth_prompts()[: len(evaluators.actors)]
            ray.get([a.generate.remote(task, [q]) for a, q in zip(evaluators.actors, asked, strict=True)])
            yield evaluators
    finally:
        os.environ.pop("WARMRAY_HOME")
        if before is not None:
            os.environ["WARMRAY_HOME"] = before


def _grid(bench: EvaluationBench, evaluators: Evaluators) -> Callable[[], int]:
    """Answer as a sweep does, strength by strength; return the tokens of what was not answered before."""

    def run() -> int:
        before = int(completion_store().read()["tokens"].sum())
        for strength in bench.strengths:
            answer(bench.task(strength), evaluators, "bench", ignore)
        return int(completion_store().read()["tokens"].sum()) - before

    return run


def _print(speeds: list[Speed]) -> None:
    ours, grid = (next(speed for speed in speeds if speed.name == name) for name in (OURS, GRID))
    print(f"{'CONTENDER':<40} {'TOKENS':>8} {'LOADING':>8} {'SECONDS':>8} {'TOKENS/S':>9}  OUR ENGINE IS")
    for speed in speeds:
        ratio = ours.tokens_per_second / speed.tokens_per_second
        print(
            f"{speed.name:<40} {speed.tokens:>8} {speed.loading_s:>8.1f} {speed.seconds:>8.1f} "
            f"{speed.tokens_per_second:>9.1f}  {ratio:.2f} x"
        )
    print(f"*         one in {ONE_BY_ONE_SHARE} of the questions")
    print("LOADING   before the first question, where that comes once; TOKENS/S count it, but for the grid")
    slower = ours.tokens / ours.seconds * grid.seconds / grid.tokens
    print(f"the grid takes {slower:.2f} times as long as the engine for a token, both with their model loaded")


def _batching_text(bench: EvaluationBench) -> str:
    """Tell how many greedy replies change when a row stands in a batch of several strengths instead of alone."""
    requests = bench.requests()
    step = max(1, len(requests) // COMPARED_REPLIES)
    chosen = [replace(request, key=f"{n}") for n, request in enumerate(requests[::step])]
    replies = []
    for mix, size in ((True, len(chosen)), (False, 1)):
        engine = _our_engine(bench, mix)
        engine.batch_size = size
        replies.append({c.key: c.text for batch in engine.generate(chosen) for c in batch})
    differ = sum(replies[0][key] != text for key, text in replies[1].items())
    return f"{differ} of {len(chosen)} replies in {bench.base.dtype} differ between a mixed batch and the row alone"
