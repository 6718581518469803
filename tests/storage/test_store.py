import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from warmray.errors import InputError, InterruptedRunError
from warmray.storage.store import MANY_SHARDS, ParquetStore

SCHEMA = pa.schema([("key", pa.string()), ("text", pa.string())])

WRITER = """
import sys, pyarrow as pa
from pathlib import Path
from warmray.storage.store import ParquetStore
store = ParquetStore(Path(sys.argv[1]), pa.schema([("key", pa.string()), ("text", pa.string())]))
finished = store.keys()
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    if f"k{number}" not in finished:
        store.append([{"key": f"k{number}", "text": "x" * 2000}])
        print(f"k{number}", flush=True)
    if number % 10 == 0:
        store.compact()
"""


def _writer(folder, count):
    command = [sys.executable, "-c", WRITER, str(folder), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


KILLS = 20


@pytest.mark.drill
@pytest.mark.slow
def test_after_kill_9_no_reported_row_is_missing_and_none_is_double(tmp_path):
    reported: set[str] = set()
    dice = random.Random(0)
    for _ in range(KILLS):
        process = _writer(tmp_path, 10_000)
        assert process.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0.02, 0.15))
        os.kill(process.pid, signal.SIGKILL)
        reported |= set(process.communicate()[0].split())
    rows = ParquetStore(tmp_path, SCHEMA).read()
    print(f"{len(reported)} rows reported done, {len(rows)} kept, after {KILLS} kills")
    assert len(reported) > 100
    assert reported <= set(rows["key"])
    assert rows["key"].is_unique
    assert (rows["text"].str.len() == 2000).all()


def test_two_concurrent_writers_store_every_key_once(tmp_path):
    writers = [_writer(tmp_path, 60) for _ in range(2)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    rows = ParquetStore(tmp_path, SCHEMA).read()
    assert sorted(rows["key"]) == sorted(f"k{number}" for number in range(60))


def test_compaction_keeps_the_rows_in_one_shard_while_others_read(tmp_path):
    store = ParquetStore(tmp_path, SCHEMA)
    for number in range(MANY_SHARDS + 1):
        store.append([{"key": f"k{number}", "text": str(number)}])
    before = store.read().sort_values("key", ignore_index=True)
    begun, compacted = threading.Event(), threading.Event()

    def read_until_compacted() -> set[int]:
        sizes = set()
        while not compacted.is_set():
            sizes.add(len(ParquetStore(tmp_path, SCHEMA).keys()))
            begun.set()
        return sizes

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read_until_compacted)
        assert begun.wait(timeout=60)
        try:
            store.compact()
        finally:
            compacted.set()
        assert reading.result() == {MANY_SHARDS + 1}
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert store.read().sort_values("key", ignore_index=True).equals(before)


def test_a_compaction_that_is_killed_before_its_cleanup_doubles_nothing(tmp_path, monkeypatch):
    store = ParquetStore(tmp_path, SCHEMA)
    for number in range(MANY_SHARDS + 1):
        store.append([{"key": f"k{number}", "text": "x"}])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _killed)
        with pytest.raises(KeyboardInterrupt):
            store.compact()
    assert len(list(tmp_path.glob("*.parquet"))) == MANY_SHARDS + 2
    assert store.read()["key"].is_unique
    store.compact()
    assert len(store.read()) == MANY_SHARDS + 1


def _killed(*_, **__):
    raise KeyboardInterrupt


def test_a_store_of_another_version_is_refused_in_one_line(tmp_path):
    ParquetStore(tmp_path / "completions", SCHEMA, version=1).append([{"key": "a", "text": "1"}])
    newer = ParquetStore(tmp_path / "completions", SCHEMA, version=2)
    for read in (newer.keys, newer.read):
        with pytest.raises(
            InputError, match=r"another version of warmray \(completions 1; this one reads completions 2\)"
        ):
            read()


def test_a_damaged_shard_is_named(tmp_path):
    store = ParquetStore(tmp_path, SCHEMA)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"broken\.parquet is damaged .*: remove it"):
        store.keys()


def test_a_full_disk_stops_with_one_line_and_keeps_earlier_rows(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs permission to mount a small file system")
    try:
        store = ParquetStore(tmp_path / "store", SCHEMA)
        store.append([{"key": "kept", "text": "small"}])
        noise = random.Random(0).randbytes(1_000_000).hex()
        with pytest.raises(InterruptedRunError, match="disk full while writing"):
            store.append([{"key": "lost", "text": noise}])
        assert store.read()["key"].tolist() == ["kept"]
        assert not list((tmp_path / "store").glob("*.partial"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_only_the_requested_keys_are_read(tmp_path):
    store = ParquetStore(tmp_path, SCHEMA)
    store.append([{"key": "a", "text": "1"}, {"key": "b", "text": "2"}])
    assert store.read(["b", "c"])["text"].tolist() == ["2"]
    assert store.keys() == {"a", "b"}
