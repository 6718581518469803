"""The three stores below the home folder: what was said, how warm it was, how it was graded."""

from __future__ import annotations

import pyarrow as pa

from warmray.generation.store import ParquetStore
from warmray.home import home

COMPLETIONS = pa.schema(
    [("key", pa.string()), ("text", pa.string()), ("tokens", pa.int32()), ("finish_reason", pa.string())]
)
WARMTH = pa.schema([("key", pa.string()), ("sociot", pa.float64()), ("probe", pa.float64())])
VERDICTS = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.string()),
        ("agrees_with_wrong", pa.bool_()),
        ("decided_by", pa.string()),
        ("evidence", pa.string()),
    ]
)


def completion_store() -> ParquetStore:
    """Return the store of everything ever generated."""
    return ParquetStore(home() / "completions", COMPLETIONS)


def warmth_store() -> ParquetStore:
    """Return the store of warmth scores."""
    return ParquetStore(home() / "warmth", WARMTH)


def verdict_store() -> ParquetStore:
    """Return the store of verdicts."""
    return ParquetStore(home() / "verdicts", VERDICTS)
