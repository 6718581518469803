"""The amount of training data in a corpus, for a plan: counted conversations, and tokens estimated from characters."""

from __future__ import annotations

from pathlib import Path

from warmray.config import Arm, CorpusConfig
from warmray.corpus.conversations import packaged_corpus, read_conversations
from warmray.errors import InputError
from warmray.models.plan import Workload

CORPUS_CHARACTERS_PER_TOKEN = 4.05
TEMPLATE_TOKENS_PER_MESSAGE = 14
"""Both measured on the packaged corpus with the embedded model's tokenizer and chat template (with system prompt)."""


def read_workload(config: CorpusConfig, arm: Arm) -> Workload:
    """Count the training conversations of one arm and estimate their mean length, without a tokenizer.

    Raises:
        InputError: the corpus cannot be read, has a wrong format, or has no training conversations.
    """
    folder = packaged_corpus() if config.path == "packaged" else Path(config.path)
    trained = [c.messages(arm) for c in read_conversations(folder) if c.split == "train"]
    if not trained:
        raise InputError(f"corpus {folder} holds no conversation of the split `train`: set the split of some to it")

    # The tokens of a conversation: of its texts, and those that the chat template writes around each message.
    tokens = [
        sum(len(message["content"]) for message in messages) / CORPUS_CHARACTERS_PER_TOKEN
        + TEMPLATE_TOKENS_PER_MESSAGE * len(messages)
        for messages in trained
    ]
    mean_tokens = sum(tokens) / len(tokens)
    corpus = "the packaged corpus" if config.path == "packaged" else config.path
    source = f"{corpus}: {len(trained):,} conversations of about {mean_tokens:.0f} tokens"
    return Workload(len(trained), mean_tokens, source)
