"""The default engine: transformers' ``generate``, greedy, on CPU or GPU.

Batches are padded on the left, behind the tokens that all their prompts share: those are computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from warmray.errors import InputError
from warmray.generation.engine import Completion, Request
from warmray.models.adapters import AdaptedModel


class TransformersEngine:
    """Greedy generation with one loaded model, which may carry an adapter."""

    def __init__(self, adapted: AdaptedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int) -> None:
        """Take a model in evaluation mode and a tokenizer that pads on the left."""
        self.adapted = adapted
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        end_of_turn = tokenizer.eos_token_id
        configured = adapted.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self.end_ids = {token for token in [*ends, end_of_turn] if token is not None}

    def generate(self, requests: Sequence[Request], strength: float) -> Iterator[list[Completion]]:
        """Yield completions in batches of similar prompt length.

        Raises:
            InputError: a prompt and its reply do not fit into the model's context.
        """
        prompts = {request.key: self._encode(request) for request in requests}
        ordered = sorted(requests, key=lambda request: (request.max_new_tokens, len(prompts[request.key]), request.key))
        for start in range(0, len(ordered), self.batch_size):
            batch = ordered[start : start + self.batch_size]
            yield self._generate_batch(batch, [prompts[request.key] for request in batch], strength)

    def _encode(self, request: Request) -> list[int]:
        text = self.tokenizer.apply_chat_template(list(request.messages), tokenize=False, add_generation_prompt=True)
        tokens = self.tokenizer.encode(str(text), add_special_tokens=False)
        context = getattr(self.adapted.model.config, "max_position_embeddings", None)
        if context and len(tokens) + request.max_new_tokens > context:
            raise InputError(
                f"prompt {request.key} has {len(tokens)} tokens; with {request.max_new_tokens} new ones it does not "
                f"fit into the model's context of {context}: shorten the question or lower evaluate.max_new_tokens"
            )
        return tokens

    @torch.inference_mode()
    def _generate_batch(self, batch: list[Request], prompts: list[list[int]], strength: float) -> list[Completion]:
        shared = _shared_prefix_length(prompts)
        device = self.adapted.model.device
        prefix = torch.tensor([prompts[0][:shared]], device=device)
        rest = self.tokenizer.pad({"input_ids": [ids[shared:] for ids in prompts]}, return_tensors="pt").to(device)
        prefixes = prefix.expand(len(prompts), -1)
        with self.adapted.at_strength(strength) as model:
            output = model.generate(
                input_ids=torch.cat([prefixes, rest["input_ids"]], dim=1),
                attention_mask=torch.cat([torch.ones_like(prefixes), rest["attention_mask"]], dim=1),
                past_key_values=_repeated_cache(model, prefix, len(prompts)) if shared else None,
                max_new_tokens=max(request.max_new_tokens for request in batch),
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        replies = output[:, shared + rest["input_ids"].shape[1] :].tolist()
        return [self._completion(request, reply) for request, reply in zip(batch, replies, strict=True)]

    def _completion(self, request: Request, reply: list[int]) -> Completion:
        ended = next((i for i, token in enumerate(reply) if token in self.end_ids), None)
        kept = reply[:ended]
        text = str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip()
        return Completion(request.key, text, len(kept), "length" if ended is None else "stop")


def _shared_prefix_length(prompts: list[list[int]]) -> int:
    """Return how many leading tokens (a system prompt, say) all prompts share; each keeps one token of its own."""
    first, last = min(prompts), max(prompts)  # what these two share, all that sort between them share
    differs = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return min(next(differs, len(first)), min(len(ids) for ids in prompts) - 1)


def _repeated_cache(model: PreTrainedModel, prefix: torch.Tensor, rows: int) -> Cache:
    """Compute the keys and values of a prefix of shape [1 x tokens] once, for ``rows`` rows."""
    cache: Cache = model.get_decoder()(input_ids=prefix, use_cache=True).past_key_values
    cache.batch_repeat_interleave(rows)
    return cache
