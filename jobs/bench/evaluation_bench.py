"""The evaluation bench: several ways of generating replies to the same prompts at several strengths.

Contenders: a typical research script (one prompt at a time, the model reloaded for every strength), padded batches of
16, PEFT's mixed-adapter batches, our engine, vLLM if the configuration names it, and the whole grid with Ray and the
store.
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

from jobs.bench.random_model import make_random_adapter
from warmray.cluster.progress import ignore
from warmray.config import RunConfig
from warmray.corpus.build import build_corpus
from warmray.evaluation.intensity import IntensityEvaluation, warmth_scorer
from warmray.evaluation.pool import Evaluators, answer, started_evaluators
from warmray.evaluation.stores import completion_store
from warmray.evaluation.tasks.items import Item
from warmray.evaluation.tasks.registry import load_items
from warmray.generation.engine import Engine, Request
from warmray.generation.transformers_engine import TransformersEngine
from warmray.generation.window import encode_chat
from warmray.models.adapters import AdaptedModel, Adapter, resolve_adapter, save_at_strength
from warmray.models.loading import BaseCheckpoint, best_device, load_model, load_tokenizer, resolve_model
from warmray.storage.home import home, make_folder

PADDED_BATCH = 16
COMPARED_REPLIES = 40
"""About how many prompts are answered twice: alone, and in a batch of mixed strengths."""
ONE_BY_ONE_SHARE = 6
"""Every sixth question is asked one by one: enough to measure the speed, and the bench ends within an hour."""
OUR_ENGINE = "our engine"
GRID = "our grid: Ray, store, resumable"
RANDOM_SCALE = 0.01
"""Standard deviation of the B matrices of the random adapter: large enough to change the replies."""


@dataclass(frozen=True)
class Speed:
    """What a contender generated, and how long it took."""

    name: str
    tokens: int
    loading_s: float
    """Time before the first question, for contenders that load once."""
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second, including loading; the grid's excludes the start of Ray, a one-time cost."""
        return self.tokens / (self.seconds + (self.loading_s if self.name != GRID else 0))


@dataclass(frozen=True)
class EvaluationBench:
    """The work of all contenders: every request at every strength."""

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
        _print_speeds(_run_contenders(bench, Path(folder)))
        print(_batching_text(bench))
    return 0


def _run_contenders(bench: EvaluationBench, folder: Path) -> list[Speed]:
    """Run the contenders one after the other."""

    def generate_all(engine: Engine) -> int:
        return sum(completion.tokens for batch in engine.generate(bench.requests()) for completion in batch)

    # A script reloads the model for every strength: its loading counts as generation.
    one_by_one = "one by one, model loaded per strength*"
    speeds = [
        _timed(one_by_one, lambda _: _generate_as_script(bench, folder, 1, one_in=ONE_BY_ONE_SHARE)),
        _timed(f"padded batches of {PADDED_BATCH}", lambda _: _generate_as_script(bench, folder, PADDED_BATCH)),
        _timed("PEFT, strengths mixed in a batch", lambda _: _generate_mixed(bench, folder)),
    ]

    # Engines load once.
    speeds += [
        _timed("our engine, strengths mixed", generate_all, lambda: _our_engine(bench, mix_strengths=True)),
        _timed(OUR_ENGINE, generate_all, lambda: _our_engine(bench)),
    ]
    if python := bench.config.evaluate.vllm_python:
        from warmray.generation.vllm_engine import VllmEngine

        speeds.append(_timed("vLLM", generate_all, lambda: VllmEngine(bench.base, bench.adapter, python)))

    # The grid, as a sweep runs it.
    with contextlib.ExitStack() as stack:
        speeds.append(
            _timed(
                GRID,
                lambda evaluators: _generate_with_grid(bench, evaluators),
                lambda: stack.enter_context(_evaluators(bench, folder / "home")),
            )
        )
    return speeds


def _timed(name: str, generate: Callable[[Any], int], load: Callable[[], Any] = lambda: None) -> Speed:
    """Time ``load``, then ``generate`` on what it returns; ``generate`` returns the number of tokens."""
    print(f"[warmray] bench: {name}", flush=True)
    start = time.monotonic()
    loaded = load()
    started = time.monotonic()
    tokens = generate(loaded)
    return Speed(name, tokens, started - start, time.monotonic() - started)


def _our_engine(bench: EvaluationBench, mix_strengths: bool | None = None) -> TransformersEngine:
    evaluate = bench.config.evaluate
    adapted = AdaptedModel(load_model(bench.base).to(best_device()), bench.adapter)
    tokenizer = load_tokenizer(bench.base)
    return TransformersEngine(adapted, tokenizer, evaluate.batch_size, evaluate.batch_tokens, mix_strengths)


def _generate_as_script(bench: EvaluationBench, folder: Path, batch_size: int, one_in: int = 1) -> int:
    """Generate as research scripts do: load model and adapter for every strength, keep the order of the prompts."""
    from peft import PeftModel

    tokens = 0
    for strength in bench.strengths:
        # Load the model, with a copy of the adapter scaled to the strength.
        model = load_model(bench.base).to(best_device())
        if strength != 0:
            copy = folder / f"x{strength:g}"
            save_at_strength(bench.adapter, bench.base, strength, copy)
            model = PeftModel.from_pretrained(model, str(copy), local_files_only=True)

        requests = [question.request for question in bench.task(strength).questions()][::one_in]
        for start in range(0, len(requests), batch_size):
            tokens += _plain_generate(bench, model, requests[start : start + batch_size])
    return tokens


def _generate_mixed(bench: EvaluationBench, folder: Path) -> int:
    """Generate with PEFT's mixed-adapter batches: one scaled copy of the adapter per strength, prompts by length."""
    from peft import PeftModel

    # Write and load the copies; PEFT calls the model without an adapter `__base__`.
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

    # Generate in batches of prompts of similar length.
    requests = sorted(bench.requests(), key=lambda request: len(request.messages[-1]["content"]))
    size = bench.config.evaluate.batch_size
    batches = [requests[start : start + size] for start in range(0, len(requests), size)]
    return sum(_plain_generate(bench, adapted, b, adapter_names=[names[r.strength] for r in b]) for b in batches)


@torch.inference_mode()
def _plain_generate(bench: EvaluationBench, model: Any, requests: list[Request], **settings: Any) -> int:
    """Generate greedily in one padded batch, and return the number of new tokens."""
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
    """Start Ray and its evaluators with an empty home, and wait until each has loaded its model."""
    from warmray.cluster.ray_session import ray_session

    before = os.environ.get("WARMRAY_HOME")
    os.environ["WARMRAY_HOME"] = str(own_home)
    try:
        with ray_session(), started_evaluators() as evaluators:
            # Ask every evaluator one question: it loads its model for it.
            task = bench.task(bench.strengths[-1])
            asked = task.warmth_prompts()[: len(evaluators.actors)]
            ray.get([a.generate.remote(task, [q]) for a, q in zip(evaluators.actors, asked, strict=True)])
            yield evaluators
    finally:
        os.environ.pop("WARMRAY_HOME")
        if before is not None:
            os.environ["WARMRAY_HOME"] = before


def _generate_with_grid(bench: EvaluationBench, evaluators: Evaluators) -> int:
    """Answer as a sweep does, strength by strength; return the number of tokens that this added to the store."""
    before = int(completion_store().read()["tokens"].sum())
    for strength in bench.strengths:
        answer(bench.task(strength), evaluators, "bench", ignore)
    return int(completion_store().read()["tokens"].sum()) - before


def _print_speeds(speeds: list[Speed]) -> None:
    ours, grid = (next(speed for speed in speeds if speed.name == name) for name in (OUR_ENGINE, GRID))
    print(f"{'CONTENDER':<40} {'TOKENS':>8} {'LOADING':>8} {'SECONDS':>8} {'TOKENS/S':>9}  OUR ENGINE IS")
    for speed in speeds:
        ratio = ours.tokens_per_second / speed.tokens_per_second
        print(
            f"{speed.name:<40} {speed.tokens:>8} {speed.loading_s:>8.1f} {speed.seconds:>8.1f} "
            f"{speed.tokens_per_second:>9.1f}  {ratio:.2f} x"
        )
    print(f"*         one in {ONE_BY_ONE_SHARE} of the questions")
    print("LOADING   seconds before the first question, if loaded once; TOKENS/S includes it, except for the grid")
    slower = ours.tokens / ours.seconds * grid.seconds / grid.tokens
    print(f"the grid takes {slower:.2f} times as long per token as the engine, both with their model loaded")


def _batching_text(bench: EvaluationBench) -> str:
    """Return how many greedy replies change when a prompt is in a batch of several strengths instead of alone."""
    requests = bench.requests()
    step = max(1, len(requests) // COMPARED_REPLIES)
    chosen = [replace(request, key=f"{n}") for n, request in enumerate(requests[::step])]
    replies = []
    for mix, size in ((True, len(chosen)), (False, 1)):
        engine = _our_engine(bench, mix)
        engine.batch_size = size
        replies.append({c.key: c.text for batch in engine.generate(chosen) for c in batch})
    differ = sum(replies[0][key] != text for key, text in replies[1].items())
    return f"{differ} of {len(chosen)} replies in {bench.base.dtype} differ between a mixed batch and the prompt alone"
