"""A model on a Hugging Face hub, and in words what can go wrong there (with data sets as well)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warmray.errors import InputError, WarmrayError, is_disk_full, storage_error
from warmray.models.remote import ModelFile, slug
from warmray.storage.hashing import digest
from warmray.storage.home import model_cache, only_one_at, write_whole

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB_TIMEOUT_S = 15.0
COMMIT = re.compile(r"[0-9a-f]{40}")


class HubUnreachableError(InputError):
    """Nothing answers at the hub's address, or this process must not ask."""


@dataclass(frozen=True)
class HubPlace:
    """What is asked of the hub, and how a person may mend what goes wrong there."""

    repo: str
    revision: str | None
    named: str = "model.source"
    """What names the repository."""
    instead: str = "give the absolute path of a folder that holds the model"
    is_dataset: bool = False

    @property
    def page(self) -> str:
        """Where people read about it, and accept its licence."""
        return f"{hub_address()}/{'datasets/' if self.is_dataset else ''}{self.repo}"


@dataclass(frozen=True)
class Hub:
    """One commit of a hub model."""

    source: str
    revision: str

    @property
    def folder_name(self) -> str:
        """Name of the model's folder in the cache."""
        return f"{slug(self.source)}-{self.revision[:12]}"

    def sizes(self) -> dict[str, int]:
        """Return the size of every file beside ``config.json``."""
        from huggingface_hub.hf_api import RepoFile

        with hub_errors(HubPlace(self.source, self.revision)):
            entries = list(hub_api().list_repo_tree(self.source, revision=self.revision))
        return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}

    def describe(self, name: str, size: int) -> ModelFile:
        """Return what makes a listed file known again."""
        return ModelFile(name, size)  # nothing of a commit can change

    def fetch(self, name: str, folder: Path) -> None:
        """Write one file into ``folder``."""
        with hub_errors(HubPlace(self.source, self.revision)):
            hub_api().hf_hub_download(self.source, name, revision=self.revision, local_dir=folder)

    def digest(self, folder: Path, weights: tuple[ModelFile, ...]) -> str:
        """Return the digest of the model whose small files are in ``folder``."""
        # A commit names its content.
        return digest([self.source, self.revision])


def hub_api() -> HfApi:
    """Return a quiet client of the hub that ``HF_ENDPOINT`` names."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()
    return HfApi(endpoint=hub_address())


def hub_address() -> str:
    """Return the address of the hub."""
    # Read here because the hub's library reads it only once, when it is imported.
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def hub_commit(repo: str, revision: str | None) -> str:
    """Return the commit of a branch or tag, as remembered where the hub cannot be reached.

    Raises:
        InputError: no such model or revision, no licence for it, or the hub cannot be reached.
    """
    if revision and COMMIT.fullmatch(revision):
        return revision
    known = model_cache() / "revisions" / f"{slug(repo)}-{digest([repo, revision])}"
    try:
        with hub_errors(HubPlace(repo, revision)):
            commit = hub_api().model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S).sha or ""
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
def hub_errors(place: HubPlace) -> Iterator[None]:
    """Turn what the hub's library raises, of many unrelated types, into one line a person can act on."""
    try:
        yield
    except WarmrayError:
        raise
    except Exception as error:
        raise _hub_problem(error, place) from error


def _hub_problem(error: BaseException, place: HubPlace) -> WarmrayError:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):  # behind it the library hides what happened
        error = error.__cause__ or error
    endpoint, repo = hub_address(), place.repo
    if is_disk_full(error) or isinstance(error, PermissionError):
        return storage_error(error, model_cache())
    if isinstance(error, errors.GatedRepoError):
        return InputError(
            f"{place.named} {repo} is gated: accept the licence at {place.page} and set HF_TOKEN to a token of "
            f"that account (on every node), or {place.instead}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(
            f"{place.named} {repo} is not at {endpoint}: check the spelling, set HF_TOKEN if it is private, or "
            f"{place.instead}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        name = "revision" if place.is_dataset else "model.revision"
        return InputError(f"{name} {place.revision!r} is not in {repo}: give a commit, tag or branch of it")
    if isinstance(error, errors.HFValidationError):
        return InputError(f"{place.named} {repo!r} is no hub id (`organisation/name`) and no absolute path of a folder")
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if status in (401, 403):
        return InputError(f"{endpoint} refuses {repo} ({status}): check that HF_TOKEN is valid and may read it")
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return HubUnreachableError(
        f"cannot fetch {repo} from {endpoint} ({reason}), and it is not here: connect this machine, or {place.instead}"
    )
