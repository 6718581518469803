"""The default engine: transformers' ``generate`` on CPU or GPU.

Batches hold rows of similar length, padded on the left behind the tokens that all their prompts share: those are
computed once. On a CPU all rows of a batch have one strength, merged into the weights; elsewhere strengths mix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import Cache, LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from warmray.generation.engine import Completion, Request
from warmray.generation.window import by_window, encode_chat
from warmray.models.adapters import AdaptedModel


class TransformersEngine:
    """Generation with one loaded model, which may carry an adapter."""

    def __init__(
        self,
        adapted: AdaptedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        batch_tokens: int = 1 << 14,
        mix_strengths: bool | None = None,
    ) -> None:
        """Take a model in evaluation mode and a tokenizer that pads on the left.

        Args:
            adapted: The model.
            tokenizer: Its tokenizer.
            batch_size: Most rows of a batch.
            batch_tokens: Most tokens of a batch, prompts and replies, padding included.
            mix_strengths: Whether rows of several strengths share a batch. None: where no merging is worth its while.
        """
        self.adapted = adapted
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.mix_strengths = adapted.prefers_mixing if mix_strengths is None else mix_strengths
        end_of_turn = tokenizer.eos_token_id
        configured = adapted.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self.end_ids = {token for token in [*ends, end_of_turn] if token is not None}

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield completions in batches of similar prompt length; first those of prompts that do not fit."""
        prompts = {request.key: encode_chat(self.tokenizer, request) for request in requests}
        context = getattr(self.adapted.model.config, "max_position_embeddings", None)
        fitting, too_long = by_window(requests, prompts, context)
        if too_long:
            yield too_long
        for batch in self._batches(fitting, prompts):
            yield self._generate_batch(batch, [prompts[request.key] for request in batch])

    def _batches(self, requests: Sequence[Request], prompts: dict[str, list[int]]) -> Iterator[list[Request]]:
        """Cut batches of one sampling (and one strength, unless they mix) within the budgets of rows and tokens."""

        def together(request: Request) -> tuple[float, ...]:
            drawn = (request.sampling.temperature, request.sampling.max_new_tokens)
            return drawn if self.mix_strengths else (*drawn, request.strength)

        batch: list[Request] = []
        for request in sorted(requests, key=lambda r: (*together(r), len(prompts[r.key]), r.key)):
            # The rows come in order of length: the newest is the longest, to which all others are padded.
            tokens = (len(batch) + 1) * (len(prompts[request.key]) + request.sampling.max_new_tokens)
            full = len(batch) == self.batch_size or tokens > self.batch_tokens
            if batch and (full or together(batch[0]) != together(request)):
                yield batch
                batch = []
            batch.append(request)
        if batch:
            yield batch

    @torch.inference_mode()
    def _generate_batch(self, batch: list[Request], prompts: list[list[int]]) -> list[Completion]:
        strengths = [request.strength for request in batch]
        shared = _shared_prefix_length(prompts) if len(set(strengths)) == 1 else 0
        device = self.adapted.model.device
        prefix = torch.tensor([prompts[0][:shared]], device=device, dtype=torch.long)
        rest = self.tokenizer.pad({"input_ids": [ids[shared:] for ids in prompts]}, return_tensors="pt").to(device)
        prefixes = prefix.expand(len(prompts), -1)
        with self.adapted.at_strengths(strengths) as model:
            output = model.generate(
                input_ids=torch.cat([prefixes, rest["input_ids"]], dim=1),
                attention_mask=torch.cat([torch.ones_like(prefixes), rest["attention_mask"]], dim=1),
                past_key_values=_repeated_cache(model, prefix, len(prompts)) if shared else None,
                max_new_tokens=batch[0].sampling.max_new_tokens,
                do_sample=False,  # the dice are thrown by the processor, a row's own ones
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=_dice(batch, device),
                pad_token_id=self.tokenizer.pad_token_id,
            )
        replies = output[:, shared + rest["input_ids"].shape[1] :].tolist()
        return [self._completion(request, reply) for request, reply in zip(batch, replies, strict=True)]

    def _completion(self, request: Request, reply: list[int]) -> Completion:
        ended = next((i for i, token in enumerate(reply) if token in self.end_ids), None)
        kept = reply[:ended]
        text = str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip()
        return Completion(request.key, text, len(kept), "length" if ended is None else "stop")


class _OwnDice(LogitsProcessor):
    """Makes the largest score of every row a draw at a temperature, by noise from that row's own generator.

    The Gumbel-max trick: argmax(logits / temperature + Gumbel noise) is distributed as the softmax says.
    """

    def __init__(self, temperature: float, seeds: list[int], device: torch.device) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Take scores of shape [rows x vocabulary] and return them with noise."""
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() / self.temperature - noise.log()


def _dice(batch: list[Request], device: torch.device) -> LogitsProcessorList:
    temperature = batch[0].sampling.temperature
    if temperature == 0:
        return LogitsProcessorList()
    return LogitsProcessorList([_OwnDice(temperature, [request.seed for request in batch], device)])


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
