"""The default engine: transformers' ``generate`` on CPU or GPU.

A batch has rows of similar length, with padding on the left. Tokens that all prompts of a batch share come first and
are computed once. On a CPU all rows of a batch have one strength, merged into the weights; on a GPU strengths mix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import Cache, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from warmray.generation.engine import Completion, FinishReason, Request
from warmray.generation.window import by_window, encode_chat
from warmray.models.adapters import AdaptedModel


class TransformersEngine:
    """Generation with one loaded model, with or without an adapter."""

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
            batch_size: Largest number of rows in a batch.
            batch_tokens: Largest number of tokens in a batch: prompts, replies and padding.
            mix_strengths: Whether rows of several strengths share a batch. None: if the model prefers it.
        """
        self.adapted = adapted
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.mix_strengths = adapted.prefers_mixing if mix_strengths is None else mix_strengths
        # A reply ends at the model's end tokens or at the tokenizer's.
        configured = adapted.model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        self.end_ids = {token for token in [*ends, tokenizer.eos_token_id] if token is not None}

    def generate(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Yield completions in batches of similar prompt length, after those of prompts that do not fit."""
        prompts = {request.key: encode_chat(self.tokenizer, request) for request in requests}
        context = getattr(self.adapted.model.config, "max_position_embeddings", None)
        fitting, too_long = by_window(requests, prompts, context)
        if too_long:
            yield too_long
        for batch in self._batches(fitting, prompts):
            yield self._generate_batch(batch, [prompts[request.key] for request in batch])

    def _batches(self, requests: Sequence[Request], prompts: dict[str, list[int]]) -> Iterator[list[Request]]:
        """Yield batches of one sampling (and one strength, unless they mix) within the limits of rows and tokens."""

        def group(request: Request) -> tuple[float, ...]:
            sampling = (request.sampling.temperature, request.sampling.max_new_tokens)
            return sampling if self.mix_strengths else (*sampling, request.strength)

        batch: list[Request] = []
        for request in sorted(requests, key=lambda r: (*group(r), len(prompts[r.key]), r.key)):
            # Rows come in order of length: the new row is the longest, and all others are padded to it.
            tokens = (len(batch) + 1) * (len(prompts[request.key]) + request.sampling.max_new_tokens)
            full = len(batch) == self.batch_size or tokens > self.batch_tokens
            if batch and (full or group(batch[0]) != group(request)):
                yield batch
                batch = []
            batch.append(request)
        if batch:
            yield batch

    @torch.inference_mode()
    def _generate_batch(self, batch: list[Request], prompts: list[list[int]]) -> list[Completion]:
        """Generate the replies of one batch, given the tokens of its prompts."""
        sampling, strengths = batch[0].sampling, [request.strength for request in batch]
        device = self.adapted.model.device

        # The shared prefix [1 x shared] and the padded rest [rows x longest]. Rows of several strengths share no
        # prefix: its keys and values depend on the strength.
        shared = _shared_prefix_length(prompts) if len(set(strengths)) == 1 else 0
        prefix = torch.tensor([prompts[0][:shared]], device=device, dtype=torch.long)
        rest = self.tokenizer.pad({"input_ids": [ids[shared:] for ids in prompts]}, return_tensors="pt").to(device)
        prefixes = prefix.expand(len(prompts), -1)

        # transformers always decodes greedily; at a temperature, noise makes the largest score a random draw.
        noise = LogitsProcessorList()
        if sampling.temperature != 0:
            noise.append(_RowNoise(sampling.temperature, [request.seed for request in batch], device))

        with self.adapted.at_strengths(strengths) as model:
            # Keys and values of the prefix, computed once and repeated for every row.
            cache: Cache | None = None
            if shared:
                cache = model.get_decoder()(input_ids=prefix, use_cache=True).past_key_values
                cache.batch_repeat_interleave(len(prompts))
            output = model.generate(
                input_ids=torch.cat([prefixes, rest["input_ids"]], dim=1),
                attention_mask=torch.cat([torch.ones_like(prefixes), rest["attention_mask"]], dim=1),
                past_key_values=cache,
                max_new_tokens=sampling.max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=noise,
                pad_token_id=self.tokenizer.pad_token_id,
            )

        # A reply is cut at its end token; without one, it has reached max_new_tokens.
        completions = []
        for request, reply in zip(batch, output[:, shared + rest["input_ids"].shape[1] :].tolist(), strict=True):
            end = next((i for i, token in enumerate(reply) if token in self.end_ids), None)
            text = str(self.tokenizer.decode(reply[:end], skip_special_tokens=True)).strip()
            finish: FinishReason = "length" if end is None else "stop"
            completions.append(Completion(request.key, text, len(reply[:end]), finish))
        return completions


class _RowNoise(LogitsProcessor):
    """Adds noise to the scores of each row, from that row's own generator: the largest score is a random draw.

    The Gumbel-max trick: argmax(logits / temperature + Gumbel noise) has the distribution of the softmax.
    """

    def __init__(self, temperature: float, seeds: list[int], device: torch.device) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores, of shape [rows x vocabulary], with noise."""
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() / self.temperature - noise.log()


def _shared_prefix_length(prompts: list[list[int]]) -> int:
    """Return the number of leading tokens that all prompts share (a system prompt); each keeps one own token."""
    # All prompts sort between the first and the last, and therefore share what these two share.
    first, last = min(prompts), max(prompts)
    differs = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return min(next(differs, len(first)), min(len(ids) for ids in prompts) - 1)
