"""How much a corpus holds, for a plan: counted conversations, and tokens estimated from their letters."""

from __future__ import annotations

from pathlib import Path

from warmray.config import Arm, CorpusConfig
from warmray.corpus.conversations import Conversation, packaged_corpus, read_conversations
from warmray.errors import InputError
from warmray.models.plan import Workload

CHARACTERS_PER_TOKEN = 4.05
TEMPLATE_TOKENS_PER_MESSAGE = 14
"""Both as the embedded model's tokenizer and chat template (with its system prompt) have it on the packaged corpus."""


def read_workload(config: CorpusConfig, arm: Arm) -> Workload:
    """Count the training conversations of one arm and estimate their mean length, without a tokenizer.

    Raises:
        InputError: the corpus cannot be read, breaks the format, or holds nothing to train on.
    """
    folder = packaged_corpus() if config.path == "packaged" else Path(config.path)
    trained = [c for c in read_conversations(folder) if c.split == "train"]
    if not trained:
        raise InputError(f"corpus {folder} holds no conversation of the split `train`: mark some so")
    mean_tokens = sum(_estimated_tokens(conversation, arm) for conversation in trained) / len(trained)
    corpus = "the packaged corpus" if config.path == "packaged" else config.path
    source = f"{corpus}: {len(trained):,} conversations of about {mean_tokens:.0f} tokens"
    return Workload(len(trained), mean_tokens, source)


def _estimated_tokens(conversation: Conversation, arm: Arm) -> float:
    messages = conversation.messages(arm)
    characters = sum(len(message["content"]) for message in messages)
    return characters / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS_PER_MESSAGE * len(messages)
