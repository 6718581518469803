"""Models that are not on disk yet: a hub id or an object store, fetched once per node into the cache.

The driver needs the small files only (configuration, tokenizer, chat template); the weights follow where the model is
loaded. What is fetched is never changed: the same commit, or the same address, is not asked for again. No code and no
pickle is ever fetched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from warmray.errors import InputError, WarmrayError, is_disk_full, storage_error
from warmray.hashing import SHORT, digest, file_digest
from warmray.home import make_folder, model_cache, only_one_at, write_whole

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEMES = ("s3", "gs", "file")
SAMPLED_BYTES = 1 << 20
WEIGHTS_SUFFIX = ".safetensors"
INDEX_NAME = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PARALLEL_FILES = 4
HUB_TIMEOUT_S = 15.0
STORE_RETRY_S = 60
COMMIT = re.compile(r"[0-9a-f]{40}")
FETCHED_NAME = re.compile(r"\w[\w.-]*\.(json|jinja|model|txt|safetensors)")
"""File names that may be fetched. A listing is not to be trusted: nothing else in it is ever asked for or written."""


@dataclass(frozen=True)
class ModelFile:
    """A file of a model, and digests of its head and tail where they have been read."""

    name: str
    size: int
    sample: tuple[str, ...] = ()

    @classmethod
    def sampled(cls, name: str, size: int, stream: Any) -> ModelFile:
        """Describe an open file: weights of a 70B model are 140 GB, and head and tail tell versions apart."""
        head = stream.read(SAMPLED_BYTES)
        stream.seek(max(0, size - SAMPLED_BYTES))
        return cls(name, size, (digest(head.hex()), digest(stream.read().hex())))

    @classmethod
    def on_disk(cls, path: Path) -> ModelFile:
        """Describe a file on disk."""
        with path.open("rb") as stream:
            return cls.sampled(path.name, path.stat().st_size, stream)


@dataclass(frozen=True)
class RemoteModel:
    """All that another node needs to fetch the same model: small enough to travel with every task."""

    source: str
    revision: str | None
    """The commit of a hub model."""
    digest: str
    small_files: tuple[ModelFile, ...]
    weights: tuple[ModelFile, ...]


class HubUnreachableError(InputError):
    """Nothing answers at the hub's address, or this process must not ask."""


class _Origin(Protocol):
    """A place that holds one model, unpacked."""

    @property
    def source(self) -> str:
        """The hub id or the address."""

    @property
    def revision(self) -> str | None:
        """The commit, if it is a hub model."""

    @property
    def folder_name(self) -> str:
        """Name of the model's folder in the cache."""

    def sizes(self) -> dict[str, int]:
        """Return the size of every file beside ``config.json``."""

    def describe(self, name: str, size: int) -> ModelFile:
        """Return what makes a listed file known again."""

    def fetch(self, name: str, folder: Path) -> None:
        """Write one file into ``folder``."""

    def digest(self, folder: Path, weights: tuple[ModelFile, ...]) -> str:
        """Return the digest of the model whose small files are in ``folder``."""


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
    return _find(_Hub(repo, _hub_commit(repo, revision)))


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
    return _find(_Store(address.rstrip("/")))


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
        origin: _Origin = _Hub(remote.source, remote.revision) if remote.revision else _Store(remote.source)
        _fetch_files(origin, folder, wanted)
        _write_record(folder, remote)


def content_digest(folder: Path, weights: Iterable[ModelFile]) -> str:
    """Return the digest of a model whose small files are in ``folder``, and whose weights have been sampled."""
    facts: list[object] = [file_digest(folder / "config.json")]
    facts += [[file.name, file.size, *file.sample] for file in weights]
    facts += [file_digest(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()]
    return digest(facts)[:SHORT]


def _find(origin: _Origin) -> tuple[Path, RemoteModel]:
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


def _fetch_small_files(origin: _Origin, folder: Path) -> RemoteModel:
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


def _fetch_files(origin: _Origin, folder: Path, files: tuple[ModelFile, ...]) -> None:
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


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "--", text).strip(".-")


@dataclass(frozen=True)
class _Hub:
    source: str
    revision: str

    @property
    def folder_name(self) -> str:
        return f"{_slug(self.source)}-{self.revision[:12]}"

    def sizes(self) -> dict[str, int]:
        from huggingface_hub.hf_api import RepoFile

        with _hub_errors(self.source, self.revision):
            entries = list(_hub_api().list_repo_tree(self.source, revision=self.revision))
        return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}

    def describe(self, name: str, size: int) -> ModelFile:
        return ModelFile(name, size)  # nothing of a commit can change

    def fetch(self, name: str, folder: Path) -> None:
        with _hub_errors(self.source, self.revision):
            _hub_api().hf_hub_download(self.source, name, revision=self.revision, local_dir=folder)

    def digest(self, folder: Path, weights: tuple[ModelFile, ...]) -> str:
        # A commit names its content.
        return digest([self.source, self.revision])


def _hub_api() -> HfApi:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()
    return HfApi(endpoint=_hub_address())


def _hub_address() -> str:
    # Read here because the hub's library reads it only once, when it is imported.
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _hub_commit(repo: str, revision: str | None) -> str:
    if revision and COMMIT.fullmatch(revision):
        return revision
    known = model_cache() / "revisions" / f"{_slug(repo)}-{digest([repo, revision])}"
    try:
        with _hub_errors(repo, revision):
            commit = _hub_api().model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S).sha or ""
    except HubUnreachableError:
        if not known.is_file():
            raise
        return known.read_text(encoding="utf-8")
    if not COMMIT.fullmatch(commit):
        raise InputError(f"the hub names no commit of {repo}: check HF_ENDPOINT, or give model.revision as a commit")
    _remember(known, commit)
    return commit


def _remember(path: Path, commit: str) -> None:
    # Only for a later run without a network: a cache that cannot be written must not stop this one here.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with only_one_at(path):
            write_whole(path, commit)


@contextlib.contextmanager
def _hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Turn what the hub's library raises, of many unrelated types, into one line a person can act on."""
    try:
        yield
    except WarmrayError:
        raise
    except Exception as error:
        raise _hub_problem(error, repo, revision) from error


def _hub_problem(error: BaseException, repo: str, revision: str | None) -> WarmrayError:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):  # behind it the library hides what happened
        error = error.__cause__ or error
    endpoint = _hub_address()
    if is_disk_full(error) or isinstance(error, PermissionError):
        return storage_error(error, model_cache())
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"model.source {repo} is gated: accept the licence at {endpoint}/{repo} and set HF_TOKEN to a token of "
            "that account (on every node), or give the absolute path of a folder that holds the model"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"model.source {repo} is not at {endpoint}: check the spelling, set HF_TOKEN if it is private, or give the "
            "absolute path of a folder"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"model.revision {revision!r} is not in {repo}: give a commit, tag or branch of it")
    if isinstance(error, errors.HFValidationError):
        return InputError(f"model.source {repo!r} is no hub id (`organisation/name`) and no absolute path of a folder")
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status in (401, 403):
        return InputError(f"{endpoint} refuses {repo} ({status}): check that HF_TOKEN is valid and may read it")
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return HubUnreachableError(
        f"cannot fetch {repo} from {endpoint} ({reason}), and {model_cache()} does not hold it: connect this machine, "
        "or give the absolute path of a folder that holds the model"
    )


@dataclass(frozen=True)
class _Store:
    source: str
    revision: None = None

    @property
    def folder_name(self) -> str:
        url = urlsplit(self.source)
        name = f"{url.netloc}{url.path}".rstrip("/").rpartition("/")[2]
        return f"{_slug(name)}-{digest(self.source)}"

    @cached_property
    def _place(self) -> tuple[Any, str]:
        from pyarrow.fs import FileSystem

        address = self.source
        if address.startswith("gs:") and "retry_limit_seconds" not in address:  # else it tries for 15 minutes
            address += f"{'&' if '?' in address else '?'}retry_limit_seconds={STORE_RETRY_S}"
        with _store_errors(self.source):
            filesystem, path = FileSystem.from_uri(address)
        return filesystem, path.rstrip("/")

    def sizes(self) -> dict[str, int]:
        from pyarrow.fs import FileSelector

        filesystem, path = self._place
        with _store_errors(self.source):
            entries = filesystem.get_file_info(FileSelector(path))
        return {entry.base_name: entry.size for entry in entries if entry.is_file}

    def describe(self, name: str, size: int) -> ModelFile:
        filesystem, path = self._place
        with _store_errors(self.source), filesystem.open_input_file(f"{path}/{name}") as stream:
            return ModelFile.sampled(name, size, stream)

    def fetch(self, name: str, folder: Path) -> None:
        filesystem, path = self._place
        with (
            _store_errors(f"{self.source.rstrip('/')}/{name}"),
            filesystem.open_input_stream(f"{path}/{name}") as stream,
            (folder / name).open("wb") as copy,
        ):
            shutil.copyfileobj(stream, copy, 16 * SAMPLED_BYTES)

    def digest(self, folder: Path, weights: tuple[ModelFile, ...]) -> str:
        return content_digest(folder, weights)


@contextlib.contextmanager
def _store_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, NotImplementedError) as error:
        if is_disk_full(error):
            raise storage_error(error, model_cache()) from error
        missing = isinstance(error, FileNotFoundError) or "NO_SUCH" in str(error)
        reason = "there is no such folder" if missing else " ".join(str(error).split())[:200]
        raise InputError(
            f"cannot read {address} ({reason}): check the address, the network and that this machine may read it "
            "(for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL)"
        ) from error
