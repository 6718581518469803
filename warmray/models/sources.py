"""Where models come from: ``model.source`` becomes a folder on this node, fetched once per node where it is remote.

``huggingface_hub`` keeps hub models in ``hub`` below the model cache, in its own layout; copies out of object stores
are in ``stores``. The driver fetches the small files only (configuration, tokenizer, chat template); the weights follow
where the model is loaded. No code and no pickle is ever fetched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from warmray.errors import InputError, WarmrayError, is_disk_full, storage_error
from warmray.models.embedded_model import embedded_checkpoint
from warmray.storage.hashing import digest, file_digest
from warmray.storage.home import make_folder, model_cache, only_one_at, write_whole

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
COMMIT = re.compile(r"[0-9a-f]{40}")
FETCHED_NAME = re.compile(r"\w[\w.-]*\.(json|jinja|model|txt|safetensors)|README\.md")
"""File names that may be fetched. A listing is not trusted: nothing else in it is asked for or written."""
WEIGHTS_SUFFIX = ".safetensors"
INDEX_NAME = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "file": "fsspec"}
"""The object stores, and the package that reads each."""
SAMPLED_BYTES = 1 << 20
HUB_TIMEOUT_S = 15.0
ABANDONED_AFTER_S = 3600.0
"""A partial file of the hub's library that nobody has written to for this long belongs to a killed process."""


@dataclass(frozen=True)
class ModelFile:
    """A file of a remote model; ``size`` is in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class RemoteModel:
    """All that another node needs to fetch the same model: small enough to travel with every task."""

    source: str
    """The hub id, or the address."""
    version: str
    """The commit of a hub model, or the digest of an object store's listing (names, sizes, and etags or times)."""
    digest: str
    small_files: tuple[ModelFile, ...]
    weights: tuple[ModelFile, ...] = ()

    @property
    def revision(self) -> str | None:
        """The commit, if it is a hub model."""
        return None if "://" in self.source else self.version


def locate(source: str, revision: str | None = None) -> tuple[Path, str, RemoteModel | None]:
    """Return the folder of a model, the digest that names its content, and what a node without it fetches it from.

    The driver looks up a branch, a tag or the address of an object store each time, to notice a change. If that fails,
    or under ``HF_HUB_OFFLINE=1``, it uses the version that it saw last. A commit that is here opens no connection.

    Raises:
        InputError: no such model or revision, no licence for it, no weights in it, or it cannot be reached.
        InterruptedRunError: the disk is full.
    """
    is_hub_id = HUB_ID.fullmatch(source) is not None
    if revision is not None and not is_hub_id:
        raise InputError(f"model.revision {revision!r} fits a hub id, not model.source {source}: leave it out")
    if is_hub_id or "://" in source:
        folder, remote = _find_on_hub(source, revision) if is_hub_id else _find_in_store(source.rstrip("/"))
        return folder, remote.digest, remote
    folder = embedded_checkpoint() if source == "embedded" else Path(source).expanduser()
    if not folder.is_absolute():
        raise InputError(
            f"model.source is the relative path {source!r}: give an absolute one, a hub id (`organisation/name`), or "
            "`embedded`"
        )
    if not (folder / "config.json").is_file():
        raise InputError(f"model.source {folder} holds no config.json: give a Hugging Face model folder, or `embedded`")
    weights = tuple(sorted(folder.glob(f"*{WEIGHTS_SUFFIX}")))
    if not weights:
        raise InputError(f"model.source {folder} holds no weights: it needs *{WEIGHTS_SUFFIX} files")
    return folder, _folder_digest(folder, weights), None


def fetch(folder: Path, remote: RemoteModel, with_weights: bool) -> None:
    """Make sure that ``folder`` holds the small files, and the weights if wanted.

    What is there opens no connection. One process of a node fetches and the others wait for it. A file appears whole or
    not at all, so a call that was killed loses only the files that it was working on.

    Raises:
        InputError: the source refuses, cannot be reached, or has changed since the run began.
        InterruptedRunError: the disk is full.
    """
    wanted = remote.small_files + (remote.weights if with_weights else ())
    if not _missing(folder, wanted):
        return
    make_folder(folder.parent)
    with only_one_at(folder):
        missing = _missing(folder, wanted)
        needed = sum(file.size for file in missing)
        if shutil.disk_usage(folder.parent).free < needed:  # said now, and not after an hour of fetching
            raise storage_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder)
        if any(file.name.endswith(WEIGHTS_SUFFIX) for file in missing):
            print(f"[warmray] fetching {remote.source} ({needed / 2**30:.1f} GiB) into {folder}", flush=True)
        if missing:
            fetch_files = _fetch_from_hub if remote.revision else _fetch_from_store
            fetch_files(folder, remote, missing)
        for file in _missing(folder, wanted):
            raise InputError(
                f"{remote.source}: {file.name} did not arrive with the {file.size} bytes of its listing: run the same "
                "command again"
            )


def _missing(folder: Path, files: tuple[ModelFile, ...]) -> list[ModelFile]:
    paths = [(file, folder / file.name) for file in files]
    return [file for file, path in paths if not (path.is_file() and path.stat().st_size == file.size)]


def _small_files(source: str, sizes: dict[str, int]) -> tuple[ModelFile, ...]:
    names = sorted(name for name in sizes if FETCHED_NAME.fullmatch(name) and not name.endswith(WEIGHTS_SUFFIX))
    if "config.json" not in names:
        raise InputError(f"model.source {source} holds no config.json: give the place of a Hugging Face model")
    return tuple(ModelFile(name, sizes[name]) for name in names)


def _weights(source: str, folder: Path, sizes: dict[str, int]) -> tuple[ModelFile, ...]:
    """Return the files that transformers would load: some models hold their weights a second time in another layout."""
    if "model.safetensors" in sizes:
        return (ModelFile("model.safetensors", sizes["model.safetensors"]),)
    if INDEX_NAME not in sizes:
        raise InputError(
            f"model.source {source} holds no weights that can be read: it needs model.safetensors, or several files "
            f"with {INDEX_NAME} (pickled .bin weights are never loaded)"
        )
    try:
        names = sorted(set(json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))["weight_map"].values()))
        lacking = [n for n in names if not (n in sizes and FETCHED_NAME.fullmatch(n) and n.endswith(WEIGHTS_SUFFIX))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"model.source {source}: {INDEX_NAME} names no weights: its copy is damaged") from error
    if lacking:
        raise InputError(f"model.source {source} is incomplete: {INDEX_NAME} names {lacking[0]}, which is not there")
    return tuple(ModelFile(name, sizes[name]) for name in names)


def _content_digest(folder: Path, filesystem: Any, weights: list[tuple[str, int]]) -> str:
    """Digest the small files in ``folder``, and head and tail of each weights file (its path there and its size)."""
    facts: list[object] = [file_digest(folder / "config.json")]
    for path, size in weights:
        head = filesystem.cat_file(path, start=0, end=min(size, SAMPLED_BYTES))
        tail = filesystem.cat_file(path, start=max(0, size - SAMPLED_BYTES), end=size)
        facts.append([path.rpartition("/")[2], size, digest(head.hex()), digest(tail.hex())])
    return digest(facts + [file_digest(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()])


@lru_cache(maxsize=8)
def _folder_digest(folder: Path, weights: tuple[Path, ...]) -> str:
    import fsspec

    return _content_digest(folder, fsspec.filesystem("file"), [(str(path), path.stat().st_size) for path in weights])


# Object stores ---------------------------------------------------------------------------------------------------


def _find_in_store(address: str) -> tuple[Path, RemoteModel]:
    from huggingface_hub import is_offline_mode

    filesystem, path = _open_store(address)
    label = re.sub(r"[^\w.-]+", "--", path.rpartition("/")[2]).strip(".-")
    record = model_cache() / "stores" / f"{label}-{digest(address)}.json"
    known = _seen_last(record)
    if known and is_offline_mode():
        return known
    try:
        version, sizes = _list_store(address, filesystem, path)
    except InputError as error:
        if not known:
            raise
        print(f"[warmray] {error}; using the version seen last, {known[0]}", flush=True)
        return known
    if known and known[1].version == version:
        return known
    folder = record.with_name(f"{record.stem}-{version}")
    remote = RemoteModel(address, version, "", _small_files(address, sizes))
    fetch(folder, remote, with_weights=False)
    weights = _weights(address, folder, sizes)
    with _store_errors(address):
        content = _content_digest(folder, filesystem, [(f"{path}/{file.name}", file.size) for file in weights])
    _check_version(remote, filesystem, path)
    remote = replace(remote, digest=content, weights=weights)
    try:
        with only_one_at(record):
            write_whole(record, json.dumps(asdict(remote), indent=2))
    except OSError as error:
        raise storage_error(error, record) from error
    return folder, remote


def _seen_last(record: Path) -> tuple[Path, RemoteModel] | None:
    if not record.is_file():
        return None
    facts = json.loads(record.read_text(encoding="utf-8"))
    files = {key: tuple(ModelFile(**file) for file in facts[key]) for key in ("small_files", "weights")}
    remote = RemoteModel(**(facts | files))
    folder = record.with_name(f"{record.stem}-{remote.version}")
    return None if _missing(folder, remote.small_files) else (folder, remote)


def _open_store(address: str) -> tuple[Any, str]:
    """Return the file system of an address and the folder's path in it. Opens no connection."""
    import fsspec

    url = urlsplit(address)
    if "@" in url.netloc or url.query:
        raise InputError(
            f"model.source is a {url.scheme} address with a key or options, which would be recorded with every run: "
            "remove them and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL"
        )
    if url.scheme not in SCHEMES:
        raise InputError(f"model.source {address} starts with an unknown scheme: use {', '.join(SCHEMES)} or a folder")
    if url.scheme == "file":
        if url.netloc:
            raise InputError(f"cannot read {address}: write file:///absolute/folder")
        return fsspec.filesystem("file"), unquote(url.path)
    # s3fs tries everything five times; five times five would keep an offline cluster waiting for minutes.
    retries = {"config_kwargs": {"retries": {"total_max_attempts": 1}}} if url.scheme == "s3" else {}
    try:
        # Nothing is kept from an earlier call: neither credentials nor listings.
        filesystem, path = fsspec.url_to_fs(address, skip_instance_cache=True, use_listings_cache=False, **retries)
    except ImportError as error:
        raise InputError(
            f"model.source {address} needs {SCHEMES[url.scheme]}: on every node, pip install 'warmray[{url.scheme}]'"
        ) from error
    return filesystem, path


def _list_store(address: str, filesystem: Any, path: str) -> tuple[str, dict[str, int]]:
    """Return the version of what a folder holds now, and the size of every file that may be fetched."""
    with _store_errors(address):
        entries = {entry["name"].rpartition("/")[2]: entry for entry in filesystem.ls(path, detail=True)}
    files = {n: e for n, e in sorted(entries.items()) if e["type"] == "file" and FETCHED_NAME.fullmatch(n)}
    facts = [[n, e["size"], str(e.get("ETag") or e.get("etag") or e.get("mtime"))] for n, e in files.items()]
    return digest([address, facts]), {name: entry["size"] for name, entry in files.items()}


def _check_version(remote: RemoteModel, filesystem: Any, path: str) -> None:
    # An object store serves no older version: what was read may come from two of them.
    if _list_store(remote.source, filesystem, path)[0] != remote.version:
        raise InputError(f"{remote.source} has changed since this run began: run the command again")


def _fetch_from_store(folder: Path, remote: RemoteModel, missing: list[ModelFile]) -> None:
    filesystem, path = _open_store(remote.source)
    _check_version(remote, filesystem, path)
    folder.mkdir(exist_ok=True)
    for file in missing:
        partial = folder / f"{file.name}.partial"  # left behind by a killed call, it is written over
        with _store_errors(f"{remote.source}/{file.name}"):
            filesystem.get_file(f"{path}/{file.name}", str(partial))
        _check_version(remote, filesystem, path)  # a change may be in this copy
        os.replace(partial, folder / file.name)


@contextlib.contextmanager
def _store_errors(address: str) -> Iterator[None]:
    """Turn what the stores' libraries raise, of many unrelated types, into one line a person can act on."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise storage_error(error, model_cache()) from error
        missing = isinstance(error, FileNotFoundError)
        reason = "there is no such folder" if missing else " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"cannot read {address} ({reason}): check the address, the network and that this machine may read it "
            "(for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL)"
        ) from error


# The hub ---------------------------------------------------------------------------------------------------------


class HubUnreachableError(InputError):
    """Nothing answers at the hub's address, or this process must not ask."""


def hub_api() -> HfApi:
    """Return a quiet client of the hub that ``HF_ENDPOINT`` names."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()
    # Read here because the library reads it only once, when it is imported.
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/"))


def _find_on_hub(repo: str, revision: str | None) -> tuple[Path, RemoteModel]:
    from huggingface_hub import get_cached_repo_tree

    cache = model_cache() / "hub"
    commit = _hub_commit(repo, revision, cache)
    with hub_errors(repo, revision):
        found = hub_api().snapshot_download(repo, revision=commit, cache_dir=cache, allow_patterns=["config.json"])
        sizes = {file.path: file.size for file in get_cached_repo_tree(repo, revision=commit, cache_dir=cache)}
    folder = cache / Path(found).relative_to(cache.resolve())  # a link in the cache's path may differ between nodes
    remote = RemoteModel(repo, commit, digest([repo, commit]), _small_files(repo, sizes))
    fetch(folder, remote, with_weights=False)
    return folder, replace(remote, weights=_weights(repo, folder, sizes))


def _hub_commit(repo: str, revision: str | None, cache: Path) -> str:
    """Return the commit of a branch or tag, as remembered where the hub cannot be reached."""
    if revision and COMMIT.fullmatch(revision):
        return revision
    api = hub_api()
    try:
        with hub_errors(repo, revision):
            api.model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S)  # the next call has no time limit
            commit = api.resolve_revision(repo, revision=revision, cache_dir=cache).resolved
    except HubUnreachableError as unreachable:
        try:
            commit = api.resolve_revision(repo, revision=revision, cache_dir=cache, local_files_only=True).resolved
        except Exception:
            raise unreachable from None
    if not COMMIT.fullmatch(commit):
        raise InputError(f"the hub names no commit of {repo}: check HF_ENDPOINT, or give model.revision as a commit")
    return commit


def _fetch_from_hub(folder: Path, remote: RemoteModel, missing: list[ModelFile]) -> None:
    # The library asks for nothing that exists, so a damaged file must go, and it leaves what a killed process began.
    for path in [folder / file.name for file in missing]:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
    for partial in folder.parents[1].glob("blobs/*.incomplete"):
        if time.time() - partial.stat().st_mtime > ABANDONED_AFTER_S:
            partial.unlink(missing_ok=True)
    cache, names = folder.parents[2], [file.name for file in missing]
    with hub_errors(remote.source, remote.version):
        hub_api().snapshot_download(remote.source, revision=remote.version, cache_dir=cache, allow_patterns=names)


@contextlib.contextmanager
def hub_errors(
    repo: str,
    revision: str | None,
    named: str = "model.source",
    instead: str = "give the absolute path of a folder that holds the model",
    page: str = "",
) -> Iterator[None]:
    """Turn what the hub's library raises, of many unrelated types, into one line a person can act on.

    ``named`` says what names the repository, ``instead`` how to do without the hub, and ``page`` where its licence is,
    if not at the repository's name.
    """
    from huggingface_hub import errors

    try:
        yield
    except WarmrayError:
        raise
    except Exception as raised:
        hub = hub_api().endpoint
        # The library hides behind LocalEntryNotFoundError what happened.
        error = (isinstance(raised, errors.LocalEntryNotFoundError) and raised.__cause__) or raised
        status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
        if is_disk_full(error) or isinstance(error, PermissionError):
            raise storage_error(error, model_cache()) from raised
        if isinstance(error, errors.GatedRepoError):
            line = (
                f"{named} {repo} is gated: accept the licence at {hub}/{page or repo} and set HF_TOKEN to a token of "
                f"that account (on every node), or {instead}"
            )
        elif isinstance(error, errors.RepositoryNotFoundError):
            line = f"{named} {repo} is not at {hub}: check the spelling, set HF_TOKEN if it is private, or {instead}"
        elif isinstance(error, errors.RevisionNotFoundError):
            line = (
                f"{'' if page else 'model.'}revision {revision!r} is not in {repo}: give a commit, tag or branch of it"
            )
        elif isinstance(error, errors.HFValidationError):
            line = f"{named} {repo!r} is not a hub id (`organisation/name`) and not the absolute path of a folder"
        elif status in (401, 403):
            line = f"{hub} refuses {repo} ({status}): check that HF_TOKEN is valid and may read it"
        else:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise HubUnreachableError(
                f"cannot fetch {repo} from {hub} ({reason}), and it is not here: connect this machine, or {instead}"
            ) from raised
        raise InputError(line) from raised
