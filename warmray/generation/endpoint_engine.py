"""The engine for an OpenAI-compatible endpoint: many requests at once, within a bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from warmray.errors import InputError
from warmray.generation.endpoint import Endpoint
from warmray.generation.engine import Completion, Request


class EndpointEngine:
    """Asks the one model that an endpoint serves; there is no adapter to dial."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Take the endpoint."""
        self.endpoint = endpoint

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield completions one by one, as they come.

        Raises:
            InputError: a strength is asked for, or the endpoint refuses.
            InterruptedRunError: it failed for good; what was yielded before is fine.
        """
        if any(request.strength != 0 for request in requests):
            raise InputError(
                f"the endpoint serves {self.endpoint.config.model} as it is: strengths need evaluate.engine "
                "`transformers` or `vllm`"
            )
        with ThreadPoolExecutor(self.endpoint.config.concurrency) as pool:
            asked = [pool.submit(self._complete, request) for request in requests]
            try:
                for future in as_completed(asked):
                    yield [future.result()]
            finally:
                for future in asked:
                    future.cancel()

    def _complete(self, request: Request) -> Completion:
        sampling = request.sampling
        answer = self.endpoint.ask(request.messages, sampling.temperature, sampling.max_new_tokens, request.seed)
        return Completion(request.key, answer.text, answer.tokens, "length" if answer.was_cut else "stop")
