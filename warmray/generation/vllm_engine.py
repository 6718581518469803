"""The engine for GPU clusters: vLLM's offline engine, with a rescaled copy of the adapter for every strength.

Rows are ordered by strength, because vLLM holds few adapters at once, and then by prompt, because its prefix cache
computes common beginnings once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from warmray.errors import InputError, InterruptedRunError
from warmray.generation import vllm_worker
from warmray.generation.engine import Completion, Request
from warmray.generation.window import by_window, encode_chat
from warmray.models.adapters import Adapter, save_at_strength
from warmray.models.loading import BaseCheckpoint, best_device, load_tokenizer
from warmray.models.sources import fetch
from warmray.storage.home import home, make_folder, only_one_at

ROWS_AT_ONCE = 256
"""Rows per answer of the worker. If it is killed, the rows of one answer are lost."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM accepts for the largest LoRA rank."""
SHARE_OF_HOST_MEMORY = 0.25
GRACE_S = 20
"""Seconds that the process may take to end by itself."""
MAX_ADAPTERS = 8
"""Number of strengths that vLLM holds at once."""


class VllmEngine:
    """Generation with a vLLM process, which ends with this object."""

    def __init__(
        self, base: BaseCheckpoint, adapter: Adapter | None, python: str | None = None, **settings: Any
    ) -> None:
        """Start vLLM with one base model.

        Args:
            base: The base model.
            adapter: A LoRA adapter, or None for the base alone.
            python: A Python with vLLM; None: the current one.
            settings: Further arguments of ``vllm.LLM``.

        Raises:
            InputError: that Python has no vLLM, or vLLM cannot serve the adapter.
            InterruptedRunError: vLLM did not start.
        """
        self.base = base
        self.adapter = adapter
        if base.remote:
            fetch(base.folder, base.remote, with_weights=True)
        config = json.loads((base.folder / "config.json").read_text(encoding="utf-8"))
        self._context = settings.get("max_model_len") or config.get("max_position_embeddings")
        arguments = _vllm_arguments(base, adapter) | settings
        self._tokenizer = load_tokenizer(base)

        # The process has its own session: its children can be killed with it.
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - open as long as the process
        try:
            self._process = subprocess.Popen(
                [python or sys.executable, vllm_worker.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            raise InputError(f"evaluate.vllm_python {python}: {error.strerror}: give a Python that has vLLM") from error
        self._ask(arguments)

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield completions in batches.

        Raises:
            InterruptedRunError: the vLLM process ended.
        """
        prompts = {request.key: encode_chat(self._tokenizer, request) for request in requests}
        fitting, too_long = by_window(requests, prompts, self._context)
        if too_long:
            yield too_long
        # Rows of one strength together, and rows with a common beginning next to each other.
        ordered = sorted(fitting, key=lambda r: (r.strength, r.messages[-1]["content"], r.key))
        for start in range(0, len(ordered), ROWS_AT_ONCE):
            rows = [
                {
                    "key": request.key,
                    "messages": list(request.messages),
                    "temperature": request.sampling.temperature,
                    "max_new_tokens": request.sampling.max_new_tokens,
                    "seed": request.seed,
                    "lora": str(self._rescaled(request.strength)) if request.strength else None,
                }
                for request in ordered[start : start + ROWS_AT_ONCE]
            ]
            yield [Completion(**reply) for reply in self._ask(rows)]

    def close(self) -> None:
        """End the vLLM process and its children."""
        assert self._process.stdin is not None
        # The worker ends when its input ends. This works even if the current process is killed.
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.close()

    def _rescaled(self, strength: float) -> Path:
        """Return the folder of a copy of the adapter that acts as the adapter does at ``strength``."""
        if self.adapter is None:
            raise ValueError("a model without an adapter has strength 0 only")
        folder = make_folder(home() / "rescaled") / f"{self.adapter.digest}-x{strength:g}"
        with only_one_at(folder):
            if not (folder / "adapter_model.safetensors").exists():
                save_at_strength(self.adapter, self.base, strength, folder)
        return folder

    def _ask(self, question: object) -> Any:
        """Send one JSON line to the worker and return its answer.

        Raises:
            InputError: vLLM is not installed.
            InterruptedRunError: the process ended, now or at an earlier question.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer = ""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if answer:
            return json.loads(answer)

        # The process ended. The first error in its log is the cause; errors of its parent processes follow.
        self.close()
        self._errors.seek(0)
        log = self._errors.read()
        cause = re.search(r"\w+Error: .*", log) or re.search(r"\S.*(?=\s*\Z)", log)
        reason = cause[0][:300] if cause else "no error message"
        if "No module named 'vllm'" in reason:
            raise InputError(
                "vLLM is not installed for this Python: run `make vllm`, which builds an environment with it for a "
                "CPU, and set evaluate.vllm_python to its Python"
            )
        raise InterruptedRunError(f"vLLM ended: {reason} (finished replies are kept)")


def _vllm_arguments(base: BaseCheckpoint, adapter: Adapter | None) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM``.

    Raises:
        InputError: vLLM cannot serve the adapter.
    """
    arguments: dict[str, Any] = {"model": str(base.folder), "dtype": base.dtype, "enable_prefix_caching": True}
    if best_device().type == "cpu":
        arguments["gpu_memory_utilization"] = SHARE_OF_HOST_MEMORY  # the name is the same on CPUs
    if adapter is None:
        return arguments

    # The largest rank must be one of a few values, and at least the adapter's.
    if adapter.is_whole_model:
        raise InputError(f"{adapter.folder} is a whole model: evaluate.engine `vllm` serves LoRA adapters only")
    settings = json.loads((adapter.folder / "adapter_config.json").read_text(encoding="utf-8"))
    rank = max([settings["r"], *settings.get("rank_pattern", {}).values()])
    if rank > RANKS[-1]:
        raise InputError(
            f"adapter {adapter.folder} has rank {rank}, and vLLM serves at most {RANKS[-1]}: use evaluate.engine "
            "`transformers`"
        )
    largest_rank = next(r for r in RANKS if r >= rank)
    return arguments | {"enable_lora": True, "max_lora_rank": largest_rank, "max_loras": MAX_ADAPTERS}
