"""A Parquet store of finished rows, found by their content key.

Every append writes a new shard under a temporary name and renames it. Readers see complete shards only, writers never
change each other's files, and a killed process loses no appended row. Compaction writes all rows as one shard before it
removes the old shards. Until then a row may exist twice, and readers drop the second.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from warmray.errors import InputError, storage_error
from warmray.storage.home import make_folder, only_one_at

MANY_SHARDS = 64
"""Compaction does nothing up to this number of shards."""
_FORMAT = b"warmray.format"
"""Key of the format mark in the metadata of a shard."""
_Result = TypeVar("_Result")


class ParquetStore:
    """Rows of one schema, each with a unique string column ``key``, in a folder of shards."""

    def __init__(self, folder: Path, schema: pa.Schema, version: int = 1) -> None:
        """Open the store, and create it first if needed. A new meaning of a column needs a new ``version``.

        Raises:
            InputError: the folder cannot be written.
        """
        self.folder = make_folder(folder)
        self.schema = schema
        self.format = f"{folder.name} {version}".encode()

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows as one shard. After the call they survive a kill.

        Raises:
            InterruptedRunError: the disk is full. No incomplete shard remains.
        """
        table = pa.Table.from_pylist(list(rows), schema=self.schema)
        if table.num_rows:
            self._write(table)

    def read(self, keys: Iterable[str] | None = None) -> pd.DataFrame:
        """Return all rows, or those of ``keys``; each key appears once.

        Raises:
            InputError: another version of warmray wrote the store, or a shard is damaged.
        """
        wanted = None if keys is None else set(keys)
        frame = self._steadily(lambda: self._table(self._shards())).to_pandas()
        if wanted is not None:
            frame = frame[frame["key"].isin(wanted)]
        return frame.reset_index(drop=True)

    def keys(self) -> set[str]:
        """Return the keys of all finished rows.

        Raises:
            InputError: another version of warmray wrote the store, or a shard is damaged.
        """
        return self._steadily(
            lambda: {key for path in self._shards() for key in self._shard(path, ["key"])["key"].to_pylist()}
        )

    def compact(self) -> None:
        """Merge many shards into one. Other processes may read and append at the same time."""
        with only_one_at(self.folder):
            shards = self._shards()
            if len(shards) <= MANY_SHARDS:
                return
            # First the new shard, then the removal: a kill in between leaves every row twice, not zero times.
            self._write(self._table(shards))
            for path in shards:
                path.unlink()

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))

    def _write(self, table: pa.Table) -> None:
        """Write a table as a new shard."""
        path = self.folder / f"{uuid.uuid4().hex}.parquet"
        partial = path.with_suffix(".partial")
        try:
            pq.write_table(table.replace_schema_metadata({_FORMAT: self.format}), partial)
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise storage_error(error, self.folder) from error

    def _table(self, shards: list[Path]) -> pa.Table:
        """Return the rows of all shards; each key appears once."""
        tables = [self._shard(path) for path in shards]
        table = pa.concat_tables(tables) if tables else self.schema.empty_table()
        first = ~table["key"].to_pandas().duplicated()
        return table.filter(pa.array(first))

    def _shard(self, path: Path, columns: list[str] | None = None) -> pa.Table:
        """Read one shard and check its format."""
        try:
            table = pq.read_table(path, columns=columns)
        except pa.ArrowInvalid as error:
            raise InputError(
                f"{path} is damaged ({str(error).splitlines()[0]}): remove it, and its rows are created again"
            ) from error
        # Rows of another version may mean something else.
        found = (table.schema.metadata or {}).get(_FORMAT, b"no format mark")
        if found != self.format:
            raise InputError(
                f"the store {self.folder} was written by another version of warmray ({found.decode()}; this one reads "
                f"{self.format.decode()}): move it to another place, or set WARMRAY_HOME to another folder"
            )
        return table

    def _steadily(self, read: Callable[[], _Result]) -> _Result:
        """Return the result of ``read``, repeated if a compaction removes a shard while it is being read."""
        while True:
            try:
                return read()
            except FileNotFoundError:
                continue
