"""An OpenAI-compatible endpoint: a provider, or a server of your own (vLLM, llama.cpp, TGI).

The ``openai`` client retries transient failures (429, 5xx, a lost connection, a time-out). It waits longer each time,
or as long as ``Retry-After`` asks. The key comes from ``OPENAI_API_KEY`` and is sent only to the endpoint.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import openai

from warmray.config import EndpointConfig
from warmray.corpus.conversations import Message
from warmray.errors import InputError, InterruptedRunError

MAX_RETRIES = 6
CHARACTERS_PER_TOKEN = 4
"""Of English, roughly: for estimates only."""
_NAMES_FORMAT = re.compile(r"response.?format|json_schema|json_object", re.IGNORECASE)
"""Servers word it differently: ``response_format``, "response format", or the format's own name."""


@dataclass(frozen=True)
class Answer:
    """The reply of an endpoint to one chat."""

    text: str
    tokens: int
    was_cut: bool


@dataclass(frozen=True)
class Spending:
    """Tokens, and their cost if the configuration has prices."""

    prompt_tokens: int
    completion_tokens: int
    cost: float | None

    def __add__(self, other: Spending) -> Spending:
        """Add two amounts for the same model."""
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Spending(
            self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens, cost
        )

    def __str__(self) -> str:
        money = "" if self.cost is None else f", {self.cost:.2f} at the prices given"
        return f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens{money}"


class UnsupportedFormatError(InputError):
    """The server does not support the response format that was asked for."""


class Endpoint:
    """A client for one model; it can be used by several threads at once."""

    def __init__(self, config: EndpointConfig) -> None:
        """Read the key from the environment.

        Raises:
            InputError: the endpoint is a provider, and there is no key.
        """
        self.config = config
        key = os.environ.get("OPENAI_API_KEY")
        if not key and not config.base_url and not os.environ.get("OPENAI_BASE_URL"):
            raise InputError(
                f"model {config.model} is a model of OpenAI, but OPENAI_API_KEY is not set: set it, or set base_url to "
                "a server of your own"
            )
        self._key = key or "none"
        self._client = openai.OpenAI(
            api_key=self._key, base_url=config.base_url, max_retries=MAX_RETRIES, timeout=config.timeout_s
        )
        self.base_url = str(self._client.base_url)
        """The address that is really asked: where the configuration names none, ``OPENAI_BASE_URL`` may."""
        self._lock = threading.Lock()
        self._prompt_tokens = self._completion_tokens = 0

    def take_spent(self) -> Spending:
        """Return the spending since the previous call."""
        with self._lock:
            spent = self._spending(self._prompt_tokens, self._completion_tokens)
            self._prompt_tokens = self._completion_tokens = 0
        return spent

    def estimate(self, chats: Sequence[Sequence[Message]], max_new_tokens: int) -> Spending:
        """Return an upper bound for the cost of these chats: every reply has its full length."""
        characters = sum(len(message["content"]) for chat in chats for message in chat)
        return self._spending(characters // CHARACTERS_PER_TOKEN, len(chats) * max_new_tokens)

    def ask(
        self,
        messages: Sequence[Message],
        temperature: float,
        max_new_tokens: int,
        seed: int,
        response_format: dict[str, Any] | None = None,
    ) -> Answer:
        """Send one chat and return the reply.

        Raises:
            UnsupportedFormatError: it refuses ``response_format``.
            InputError: the endpoint refuses the request itself: the key, the model, a parameter.
            InterruptedRunError: it answered nothing usable after all retries.
        """
        extra: dict[str, Any] = {} if response_format is None else {"response_format": response_format}
        try:
            reply = self._client.chat.completions.create(
                model=self.config.model,
                messages=list(messages),  # type: ignore[arg-type]
                temperature=temperature,
                max_tokens=max_new_tokens,
                seed=seed % (1 << 31),  # a non-negative 32-bit integer
                **extra,
            )
            choice = reply.choices[0]
            text = choice.message.content or ""
            was_cut = choice.finish_reason == "length"
        except openai.APIStatusError as error:
            if response_format is not None and error.status_code in (400, 422) and _NAMES_FORMAT.search(str(error)):
                raise UnsupportedFormatError(f"{self._name} refused the format: {self._reason(error)}") from None
            if error.status_code == 429 or error.status_code >= 500:
                raise self._failed(error) from None
            raise InputError(
                f"{self._name} refused the request ({self._reason(error)}): check model, key and base_url"
            ) from None
        except openai.APIError as error:
            raise self._failed(error) from None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise self._failed(f"the answer is not a chat completion ({type(error).__name__})") from None

        # Some servers report no usage.
        usage = reply.usage
        tokens = usage.completion_tokens if usage else len(text) // CHARACTERS_PER_TOKEN
        with self._lock:
            self._completion_tokens += tokens
            self._prompt_tokens += usage.prompt_tokens if usage else 0
        return Answer(text.strip(), tokens, was_cut)

    def _spending(self, prompt_tokens: int, completion_tokens: int) -> Spending:
        prices = self.config.price_per_million_prompt_tokens, self.config.price_per_million_completion_tokens
        if None in prices:
            return Spending(prompt_tokens, completion_tokens, None)
        cost = (prompt_tokens * (prices[0] or 0) + completion_tokens * (prices[1] or 0)) / 1e6
        return Spending(prompt_tokens, completion_tokens, cost)

    def _failed(self, error: object) -> InterruptedRunError:
        return InterruptedRunError(
            f"{self._name} failed {MAX_RETRIES + 1} times, last with: {self._reason(error)} (finished replies are "
            "kept; the same command continues from them)"
        )

    @property
    def _name(self) -> str:
        return f"the endpoint {self.base_url} (model {self.config.model})"

    def _reason(self, error: object) -> str:
        # Providers repeat a part of the key in their error messages, and messages end up in logs.
        words = [word for word in str(error).split() if "sk-" not in word and self._key not in word]
        return " ".join(words)[:200]
