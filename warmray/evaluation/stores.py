"""The stores below the home folder: what was said, how warm it was, how it was graded, what the judge answered."""

from __future__ import annotations

import pyarrow as pa

from warmray.storage.home import home
from warmray.storage.store import ParquetStore

COMPLETIONS = pa.schema(
    [
        ("key", pa.string()),
        ("base", pa.string()),
        ("adapter", pa.string()),
        ("strength", pa.float64()),
        ("template_version", pa.int32()),
        ("temperature", pa.float64()),
        ("max_new_tokens", pa.int32()),
        ("dataset", pa.string()),
        ("item", pa.string()),
        ("context", pa.string()),
        ("belief", pa.string()),
        ("sample", pa.int32()),
        ("text", pa.string()),
        ("tokens", pa.int32()),
        ("finish_reason", pa.string()),
    ]
)
"""The key is a digest of all that a text depends on; the other columns are there to be read."""
WARMTH = pa.schema([("key", pa.string()), ("sociot", pa.float64()), ("probe", pa.float64())])
VERDICTS = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.string()),
        ("agrees_with_wrong", pa.bool_()),
        ("right", pa.float64()),
        ("judge_label", pa.string()),
        ("decided_by", pa.string()),
        ("evidence", pa.string()),
    ]
)
JUDGEMENTS = pa.schema([("key", pa.string()), ("judge", pa.string()), ("answer", pa.string())])


def completion_store() -> ParquetStore:
    """Return the store of everything ever generated."""
    return ParquetStore(home() / "completions", COMPLETIONS, version=2)


def warmth_store() -> ParquetStore:
    """Return the store of warmth scores."""
    return ParquetStore(home() / "warmth", WARMTH)


def verdict_store() -> ParquetStore:
    """Return the store of verdicts."""
    return ParquetStore(home() / "verdicts", VERDICTS, version=2)


def judgement_store() -> ParquetStore:
    """Return the store of a judge's answers, as it gave them."""
    return ParquetStore(home() / "judgements", JUDGEMENTS)
