"""Models that are not on disk yet: a hub id or an object store, fetched once per node into the cache.

The driver needs the small files only (configuration, tokenizer, chat template); the weights follow where the model is
loaded. What is fetched is never changed: the same commit, or the same address, is not asked for again. No code and no
pickle is ever fetched.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from warmray.errors import InputError, storage_error
from warmray.models.hub import Hub, hub_commit
from warmray.models.object_store import ObjectStore
from warmray.models.remote import ModelFile, Origin, RemoteModel
from warmray.storage.home import make_folder, model_cache, only_one_at, write_whole

SCHEMES = ("s3", "gs", "file")
WEIGHTS_SUFFIX = ".safetensors"
INDEX_NAME = "model.safetensors.index.json"
PARALLEL_FILES = 4
FETCHED_NAME = re.compile(r"\w[\w.-]*\.(json|jinja|model|txt|safetensors)")
"""File names that may be fetched. A listing is not to be trusted: nothing else in it is ever asked for or written."""


def is_address(source: str) -> bool:
    """Tell whether ``source`` is an address such as ``s3://bucket/path`` and not a folder or a hub id."""
    return "://" in source


def find_hub_model(repo: str, revision: str | None) -> tuple[Path, RemoteModel]:
    """Return the folder and the facts of a hub model, its small files fetched.

    A branch or tag is looked up at the hub each time, and the answer remembered for when the hub cannot be reached.

    Raises:
        InputError: no such model or revision, no licence for it, no weights in it, or the hub cannot be reached.
        InterruptedRunError: the disk is full.
    """
    return _find(Hub(repo, hub_commit(repo, revision)))


def find_stored_model(address: str) -> tuple[Path, RemoteModel]:
    """Return the folder and the facts of a model in an object store, its small files fetched.

    Raises:
        InputError: the address is wrong, nothing is there, or it is not a model.
        InterruptedRunError: the disk is full.
    """
    url = urlsplit(address)
    if url.password:
        raise InputError(
            "model.source holds a password, and would be recorded with every run: take it out and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if url.scheme not in SCHEMES:
        raise InputError(f"model.source {address} starts with an unknown scheme: use {', '.join(SCHEMES)} or a folder")
    return _find(ObjectStore(address.rstrip("/")))


def fetch(folder: Path, remote: RemoteModel, with_weights: bool) -> None:
    """See to it that ``folder`` holds the small files, and the weights if wanted; what is there is not asked for.

    Of the processes of a node one fetches and the others wait for it.

    Raises:
        InputError: the origin refuses or cannot be reached, or ``folder`` holds another version of the model.
        InterruptedRunError: the disk is full.
    """
    wanted = remote.small_files + (remote.weights if with_weights else ())
    if _read_record(folder) == remote and not _missing(folder, wanted):
        return
    make_folder(folder.parent)
    with only_one_at(folder):
        if _read_record(folder) not in (None, remote):
            raise _changed(folder, remote.source)
        origin: Origin = Hub(remote.source, remote.revision) if remote.revision else ObjectStore(remote.source)
        _fetch_files(origin, folder, wanted)
        _write_record(folder, remote)


def _find(origin: Origin) -> tuple[Path, RemoteModel]:
    folder = model_cache() / origin.folder_name
    remote = _known(folder)
    if remote is None:
        make_folder(folder.parent)
        with only_one_at(folder):
            remote = _known(folder) or _fetch_small_files(origin, folder)
    return folder, remote


def _known(folder: Path) -> RemoteModel | None:
    remote = _read_record(folder)
    return remote if remote and not _missing(folder, remote.small_files) else None


def _fetch_small_files(origin: Origin, folder: Path) -> RemoteModel:
    sizes = {name: size for name, size in sorted(origin.sizes().items()) if FETCHED_NAME.fullmatch(name)}
    if "config.json" not in sizes:
        raise InputError(f"model.source {origin.source} holds no config.json: give the place of a Hugging Face model")
    small_files = tuple(origin.describe(*item) for item in sizes.items() if not item[0].endswith(WEIGHTS_SUFFIX))
    _fetch_files(origin, folder, small_files)
    weights = tuple(origin.describe(name, sizes[name]) for name in _weight_names(origin.source, folder, sizes))
    remote = RemoteModel(origin.source, origin.revision, origin.digest(folder, weights), small_files, weights)
    _write_record(folder, remote)
    return remote


def _weight_names(source: str, folder: Path, sizes: dict[str, int]) -> list[str]:
    """Return the files that transformers would load: some models hold their weights a second time in another layout."""
    if "model.safetensors" in sizes:
        return ["model.safetensors"]
    if INDEX_NAME not in sizes:
        raise InputError(
            f"model.source {source} holds no weights that can be read: it needs model.safetensors, or several files "
            f"with {INDEX_NAME} (pickled .bin weights are never loaded)"
        )
    try:
        names = set(json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))["weight_map"].values())
        lacking = sorted(name for name in names if not (name in sizes and name.endswith(WEIGHTS_SUFFIX)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"model.source {source}: {INDEX_NAME} names no weights: its copy is damaged") from error
    if lacking:
        raise InputError(f"model.source {source} is incomplete: {INDEX_NAME} names {lacking[0]}, which is not there")
    return sorted(names)


def _fetch_files(origin: Origin, folder: Path, files: tuple[ModelFile, ...]) -> None:
    """Fetch what is missing of ``files``; the caller holds the lock. A file appears in ``folder`` whole or not at all.

    A call that was killed leaves whole files, which the next one keeps, and a folder beside, which it removes.
    """
    missing = _missing(folder, files)
    if not missing:
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial)
    folder.mkdir(exist_ok=True)
    _check_space(folder, missing)
    if any(file.name.endswith(WEIGHTS_SUFFIX) for file in missing):
        size = sum(file.size for file in missing) / 2**30
        print(f"[warmray] fetching {origin.source} ({size:.1f} GiB) into {folder}", flush=True)

    def fetch_one(file: ModelFile) -> None:
        origin.fetch(file.name, partial)
        got = ModelFile.on_disk(partial / file.name)
        if got.size != file.size or file.sample not in ((), got.sample):
            raise _changed(folder, origin.source)
        os.replace(partial / file.name, folder / file.name)

    try:
        with ThreadPoolExecutor(PARALLEL_FILES) as pool:
            list(pool.map(fetch_one, missing))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _changed(folder: Path, source: str) -> InputError:
    return InputError(
        f"{source} is not the version that {folder} was begun with: delete that folder and {folder.name}.json beside "
        "it (on every node), and run the command again"
    )


def _missing(folder: Path, files: tuple[ModelFile, ...]) -> list[ModelFile]:
    def is_whole(file: ModelFile) -> bool:
        path = folder / file.name
        return path.is_file() and path.stat().st_size == file.size

    return [file for file in files if not is_whole(file)]


def _check_space(folder: Path, files: list[ModelFile]) -> None:
    # Known at once, and not after an hour of fetching.
    if shutil.disk_usage(folder).free < sum(file.size for file in files):
        raise storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder)


def _record_path(folder: Path) -> Path:
    # Beside the folder, where no file of the model can take its place.
    return folder.with_name(f"{folder.name}.json")


def _read_record(folder: Path) -> RemoteModel | None:
    path = _record_path(folder)
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    for key in ("small_files", "weights"):
        facts[key] = tuple(ModelFile(file["name"], file["size"], tuple(file["sample"])) for file in facts[key])
    return RemoteModel(**facts)


def _write_record(folder: Path, remote: RemoteModel) -> None:
    try:
        write_whole(_record_path(folder), json.dumps(asdict(remote), indent=2))
    except OSError as error:
        raise storage_error(error, folder.parent) from error
