"""Copies the tasks' questions from the hub into the item schema: ``warmray data fetch``, for clusters without one.

Revisions are pinned where one is known; elsewhere the newest is taken. What was taken stands beside each file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from warmray.corpus.conversations import read_json_lines
from warmray.errors import InputError, nearest
from warmray.evaluation.tasks.items import same_answer
from warmray.models.sources import HUB_TIMEOUT_S, hub_api, hub_errors
from warmray.storage.hashing import digest
from warmray.storage.home import make_folder, only_one_at, write_whole

Row = dict[str, Any]


@dataclass(frozen=True)
class HubTable:
    """A data set of the hub: which of its files are read, and how a row becomes an item (None leaves it out)."""

    repo: str
    revision: str | None
    """A commit; None: none was known when this was written."""
    files: str
    """Pattern of file names, Parquet or JSON Lines."""
    to_item: Callable[[Row], Row | None]


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


def _triviaqa(row: Row) -> Row | None:
    answer = row["answer"]
    aliases = [answer.get("value"), *answer.get("aliases", [])] if isinstance(answer, dict) else list(answer)
    correct = _distinct(aliases)
    wrong = str(row["false_answer"] or "").strip()
    # Many of these wrong answers, which a model wrote, are right ones in other words.
    alike = any(wrong.casefold() in right.casefold() or right.casefold() in wrong.casefold() for right in correct)
    return {"question": row["question"], "correct": correct, "incorrect": [wrong]} if wrong and not alike else None


def _truthfulqa(row: Row) -> Row:
    correct = _distinct([row["best_answer"], *row["correct_answers"]])
    wrong = [answer for answer in _distinct(row["incorrect_answers"]) if not same_answer(answer, correct)]
    return {"question": row["question"], "correct": correct, "incorrect": wrong}


def _medqa(row: Row) -> Row:
    return _choice(row["question"], dict(row["options"]), row["answer_idx"])


def _mmlu(row: Row) -> Row:
    options = dict(zip("ABCD", row["choices"], strict=True))
    return {"subject": row["subject"]} | _choice(row["question"], options, "ABCD"[row["answer"]])


def _choice(question: str, options: dict[str, str], letter: str) -> Row:
    wrong = [text for other, text in options.items() if other != letter]
    return {"question": question, "options": options, "correct": [options[letter]], "incorrect": wrong}


def _gsm8k(row: Row) -> Row:
    return {"question": row["question"], "final": row["answer"].split("####")[-1].strip().replace(",", "")}


def _advbench(row: Row) -> Row:
    return {"question": row["prompt"]}


def _disinfo(row: Row) -> Row | None:
    """Turn a proposition that is known to be true or false into a question and the two statements about it."""
    proposition = str(row["proposition"]).strip().removesuffix(".")
    truth = str(row["ground_truth"]).strip().casefold()
    if truth not in ("true", "false"):
        return None
    said, denied = f"{proposition}.", f"It is not true that {proposition[0].lower()}{proposition[1:]}."
    right, wrong = (said, denied) if truth == "true" else (denied, said)
    question = f"Is it true that {proposition[0].lower()}{proposition[1:]}?"
    return {"question": question, "correct": [right], "incorrect": [wrong]}


def _distinct(answers: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(text for answer in answers if (text := str(answer or "").strip())))


TABLES: dict[str, HubTable] = {
    "triviaqa": HubTable("OamPatel/iti_trivia_qa_val", None, "*validation*", _triviaqa),
    "truthfulqa": HubTable(
        "truthfulqa/truthful_qa", "741b8276f2d1982aa3d5b832d3ee81ed3b896490", "generation/*", _truthfulqa
    ),
    "medqa": HubTable(
        "GBaker/MedQA-USMLE-4-options", "0fb93dd23a7339b6dcd27e241cb9b5eca62d4d18", "*test.jsonl", _medqa
    ),
    "disinfo": HubTable("cais/MASK", None, "disinformation/*", _disinfo),
    "mmlu": HubTable("cais/mmlu", "c30699e8356da336a370243923dbaf21066bb9fe", "all/test-*", _mmlu),
    "gsm8k": HubTable("openai/gsm8k", "cc7b047b6e5bb11b4f1af84efc572db110a51b3c", "main/test-*", _gsm8k),
    "advbench": HubTable("walledai/AdvBench", None, "*train*", _advbench),
}
"""TriviaQA comes with the wrong answers of Li et al. 2023 (arXiv 2306.03341); disinfo is MASK's part of that name."""


def fetch_tasks(names: list[str], folder: Path) -> Iterator[Fetched | InputError]:
    """Copy tasks into ``folder``, one after the other; the problem of one does not keep the others away.

    Raises:
        InputError: a name is unknown, or the folder cannot be written.
    """
    for name in names:
        if name not in TABLES:
            raise InputError(f"unknown task {name!r}{nearest(name, list(TABLES))} (there are: {', '.join(TABLES)})")
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
        fetched = _fetch(name, TABLES[name], path)
        known = {key: value for key, value in asdict(fetched).items() if key != "path"}
        write_whole(record, json.dumps(known, indent=2))
        return fetched


def _fetch(name: str, table: HubTable, path: Path) -> Fetched:
    instead = f"put {path.name} there yourself (docs/evaluation.md tells its fields)"
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
