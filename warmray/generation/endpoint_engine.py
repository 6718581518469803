"""The engine for an OpenAI-compatible endpoint: many concurrent requests, up to a limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from warmray.errors import InputError
from warmray.generation.endpoint import Endpoint
from warmray.generation.engine import Completion, Request


class EndpointEngine:
    """Sends chats to the one model that an endpoint serves; it has no adapter with a strength."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Take the endpoint."""
        self.endpoint = endpoint

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield completions one by one, in the order of their arrival.

        Raises:
            InputError: a request has a strength, or the endpoint refuses a request.
            InterruptedRunError: the endpoint failed after all retries. Earlier completions are valid.
        """
        if any(request.strength != 0 for request in requests):
            raise InputError(
                f"the endpoint serves {self.endpoint.config.model} as it is: strengths need evaluate.engine "
                "`transformers` or `vllm`"
            )

        def complete(request: Request) -> Completion:
            sampling = request.sampling
            answer = self.endpoint.ask(request.messages, sampling.temperature, sampling.max_new_tokens, request.seed)
            return Completion(request.key, answer.text, answer.tokens, "length" if answer.was_cut else "stop")

        with ThreadPoolExecutor(self.endpoint.config.concurrency) as pool:
            futures = [pool.submit(complete, request) for request in requests]
            try:
                for future in as_completed(futures):
                    yield [future.result()]
            finally:
                # After a failure, or if the caller stops early, requests that have not started are not sent.
                for future in futures:
                    future.cancel()
