"""A Parquet store of finished rows, found again by content key.

Every append is a new shard, written under a temporary name and renamed: a reader sees whole shards only, writers never
touch each other's files, and a killed process loses nothing that was appended.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from warmray.errors import storage_error
from warmray.home import make_folder


class ParquetStore:
    """Rows of one schema, each with a unique string column ``key``, in a folder of shards."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        """Open (and create) the store.

        Raises:
            InputError: the folder cannot be written.
        """
        self.folder = make_folder(folder)
        self.schema = schema

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows as one shard; when this returns they survive a kill.

        Raises:
            InterruptedRunError: the disk is full; nothing half-written is left.
        """
        table = pa.Table.from_pylist(list(rows), schema=self.schema)
        if table.num_rows == 0:
            return
        path = self.folder / f"{uuid.uuid4().hex}.parquet"
        partial = path.with_suffix(".partial")
        try:
            pq.write_table(table, partial)
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise storage_error(error, self.folder) from error

    def read(self, keys: Iterable[str] | None = None) -> pd.DataFrame:
        """Return the rows (all, or those of ``keys``), each key once."""
        shards = [pq.read_table(path, schema=self.schema) for path in sorted(self.folder.glob("*.parquet"))]
        table = pa.concat_tables(shards) if shards else self.schema.empty_table()
        frame = table.to_pandas().drop_duplicates("key")
        if keys is not None:
            frame = frame[frame["key"].isin(set(keys))]
        return frame.reset_index(drop=True)

    def keys(self) -> set[str]:
        """Return the keys of all finished rows."""
        found: set[str] = set()
        for path in self.folder.glob("*.parquet"):
            found.update(pq.read_table(path, columns=["key"]).column("key").to_pylist())
        return found
