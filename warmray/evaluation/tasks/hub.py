"""Copies the tasks' questions from the hub into the item schema: ``warmray data fetch``, for clusters without one.

Revisions are pinned where one is known; elsewhere the newest is taken. What was taken stands beside each file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from warmray.corpus.conversations import read_json_lines
from warmray.errors import InputError, nearest
from warmray.evaluation.tasks.registry import TASKS
from warmray.evaluation.tasks.task import HubTable, Row
from warmray.models.sources import HUB_TIMEOUT_S, hub_api, hub_errors
from warmray.storage.hashing import digest
from warmray.storage.home import make_folder, only_one_at, write_whole

FETCHABLE: dict[str, HubTable] = {name: task.hub for name, task in TASKS.items() if task.hub}


@dataclass(frozen=True)
class Fetched:
    """What a task's file holds, and where it came from."""

    path: Path
    repo: str
    revision: str
    rows: int
    """Of the data set; some become no item."""
    items: int
    digest: str
    """Of the file as it was written."""


def fetch_tasks(names: list[str], folder: Path) -> Iterator[Fetched | InputError]:
    """Copy tasks into ``folder``, one after the other; the problem of one does not keep the others away.

    Raises:
        InputError: a name is unknown, or the folder cannot be written.
    """
    for name in names:
        if name not in FETCHABLE:
            raise InputError(
                f"unknown task {name!r}{nearest(name, list(FETCHABLE))} (there are: {', '.join(FETCHABLE)})"
            )
    make_folder(folder)
    for name in names:
        try:
            yield fetch_task(name, folder)
        except InputError as error:
            yield error


def fetch_task(name: str, folder: Path) -> Fetched:
    """Copy one task's questions into ``<name>.jsonl``, or tell what was copied before.

    Raises:
        InputError: the hub refuses or cannot be reached, the data set is not laid out as expected, or a file of that
            name stands there that was not fetched.
    """
    path, record = folder / f"{name}.jsonl", folder / f"{name}.source.json"
    with only_one_at(path):
        if record.is_file() and path.is_file():
            return Fetched(path, **json.loads(record.read_text(encoding="utf-8")))
        if path.exists():
            raise InputError(f"{path} was not fetched by warmray and is left as it is: move it away to fetch this task")
        fetched = _fetch(name, FETCHABLE[name], path)
        known = {key: value for key, value in asdict(fetched).items() if key != "path"}
        write_whole(record, json.dumps(known, indent=2))
        return fetched


def _fetch(name: str, table: HubTable, path: Path) -> Fetched:
    instead = f"put {path.name} there yourself (docs/evaluation.md lists its fields)"
    page = f"datasets/{table.repo}"
    with (
        tempfile.TemporaryDirectory(prefix="fetch-", dir=path.parent) as scratch,
        hub_errors(table.repo, table.revision, f"task {name}: data set", instead, page),
    ):
        api = hub_api()
        revision = api.dataset_info(table.repo, revision=table.revision, timeout=HUB_TIMEOUT_S).sha or ""
        api.snapshot_download(
            table.repo, repo_type="dataset", revision=revision, local_dir=scratch, allow_patterns=[table.files]
        )
        files = sorted(file for file in Path(scratch).rglob("*") if file.suffix in (".parquet", ".jsonl"))
        rows = [row for file in files for row in _rows(file)]
    if not rows:
        raise InputError(f"task {name}: {table.repo} at {revision[:12]} has no rows in files named {table.files}")
    items = list(_items(name, table, rows))
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    write_whole(path, text)
    return Fetched(path, table.repo, revision, len(rows), len(items), digest(text))


def _rows(file: Path) -> list[Row]:
    if file.suffix == ".jsonl":
        return [row for _, row in read_json_lines(file)]
    rows: list[Row] = pq.read_table(file).to_pylist()
    return rows


def _items(name: str, table: HubTable, rows: list[Row]) -> Iterator[Row]:
    """Turn rows into items, the first of each question; ids follow the order of the rows."""
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        try:
            item = table.to_item(row)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"task {name}: row {number} of {table.repo} is not as expected ({type(error).__name__}: {error}; it "
                f"has {', '.join(row)})"
            ) from error
        if item is not None and item["question"] not in seen:
            seen.add(item["question"])
            group = f"{name}-{item['subject']}" if "subject" in item else name
            yield {"id": f"{group}-{number:05d}", "dataset": name} | item
