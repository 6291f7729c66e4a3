"""Checkpoints from the Hugging Face hub, or a mirror of it: what has to be fetched is known before it is.

The library's environment variables hold: HF_ENDPOINT (a mirror), HF_HOME (where downloads are kept), HF_HUB_OFFLINE,
HF_TOKEN. What was downloaded before serves without a network.
"""

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from io import StringIO
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from huggingface_hub import HfApi, ModelInfo, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import validate_repo_id

from mer_jax.checkpoints.sources import ASSETS
from mer_jax.checkpoints.weight_files import weight_files
from mer_jax.runtime.disk import SPARE_BYTES, free_bytes, size_text
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import of_the_system
from mer_jax.runtime.terminal import terminal

SMALL = ("*.json", "*.txt", "*.model")
WEIGHTS = (  # of which the first that a checkpoint has are fetched
    ("model.safetensors", "model-*-of-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model-*-of-*.bin"),
)
SECONDS = 4.0  # that the hub may take to say what a checkpoint consists of
HELP = "pass the folder of a checkpoint, name a mirror by HF_ENDPOINT=https://..., or try encoders=bundled"

_listings: dict[tuple[str, str, str], ModelInfo] = {}  # so that one process works with one commit
_silent: dict[str, tuple[float, Exception]] = {}  # when a hub was not to be reached, and how that showed


@dataclass(frozen=True)
class Source:
    """A checkpoint's `source`: the folder that it is, or the name and revision that it has on the hub."""

    text: str
    folder: Path | None
    repository: str = ""
    revision: str = constants.DEFAULT_REVISION

    @classmethod
    def parse(cls, text: str) -> "Source":
        """`bundled/NAME` (comes with the package), a folder, `user/name` or `user/name@revision`."""
        bundled, _, name = text.partition("/")
        folder = ASSETS / name if bundled == "bundled" else Path(text)
        if folder.is_dir():
            return cls(text, folder)
        repository, _, revision = text.partition("@")
        return cls(text, None, repository, revision or constants.DEFAULT_REVISION)


@dataclass(frozen=True)
class Plan:
    """What is known of a source before anything is fetched.

    Attributes:
        source: as it was given.
        folder: where it is; None if something has to be fetched.
        commit: the hash of what the hub has under that name; empty for a folder that is no download.
        files: to be fetched, with their sizes in bytes; those that are here are not among them.
        problem: why it cannot be had, in one line; empty if it can.
    """

    source: str
    folder: Path | None = None
    commit: str = ""
    files: tuple[tuple[str, int], ...] = ()
    problem: str = ""

    @property
    def bytes(self) -> int:
        """To be fetched."""
        return sum(size for _, size in self.files)

    def __str__(self) -> str:
        """What will be fetched, for the user."""
        return (
            f"{self.source}: {len(self.files)} files of {size_text(self.bytes)} from {constants.ENDPOINT} (commit "
            f"{self.commit[:10]}) into {constants.HF_HUB_CACHE}"
        )


def plan(sources: Iterable[str], weights: bool = True) -> list[Plan]:
    """What each of the sources needs, asked of the hub side by side; takes seconds, with or without a network.

    Args:
        sources: see `Source`; each counts once.
        weights: whether the weights are needed, or the small files alone.
    """
    parsed = [Source.parse(source) for source in dict.fromkeys(map(str, sources))]
    if not parsed:
        return []
    with ThreadPoolExecutor(len(parsed)) as threads:
        return list(threads.map(lambda source: _plan(source, weights), parsed))


def lack_of_space(plans: Iterable[Plan]) -> str:
    """Says in one line that the disk has no room for all that is to be fetched; empty if it has."""
    need, free = sum(plan.bytes for plan in plans), free_bytes(Path(constants.HF_HUB_CACHE))
    if not need or need + SPARE_BYTES <= free:
        return ""
    return (
        f"{constants.HF_HUB_CACHE}: {size_text(need)} are to be fetched, and {size_text(free)} are free there: make "
        "room, or name another folder by HF_HOME"
    )


def commit_of(folder: Path) -> str:
    """The hash of the commit that a folder of the hub's cache holds; empty for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else ""


def download(source: Source, weights: bool) -> Path:
    """The folder of a checkpoint of the hub, fetched (announced by a line) as far as it is not here.

    Raises:
        DataError: the hub does not give it and it is not here, or the disk has no room for it.
    """
    found = _plan(source, weights)
    if found.folder is not None:
        return found.folder
    if problem := found.problem or lack_of_space([found]):
        raise DataError(problem)
    print(f"  fetching {found}", file=sys.stderr, flush=True)
    names = _needed([file.rfilename for file in _listing(source).siblings or []], weights)
    try:
        with redirect_stderr(terminal() or StringIO()):  # bars are for terminals, whose cursor they move
            return Path(
                snapshot_download(
                    source.repository, revision=source.revision, endpoint=constants.ENDPOINT, allow_patterns=names
                )
            )
    except Exception as error:  # whatever the library makes of a network
        if of_the_system(error):
            raise
        raise DataError(
            f"{source.text}: not fetched from {constants.ENDPOINT} ({_reason(error)}): the same command goes on where "
            f"it ended; or {HELP}."
        ) from error


def _plan(source: Source, weights: bool) -> Plan:
    if source.folder is not None:
        return Plan(source.text, source.folder, commit_of(source.folder))
    try:
        validate_repo_id(source.repository)
        listing = _listing(source)
    except Exception as error:  # whatever the library makes of a network and of what a server answers
        if of_the_system(error):
            raise
        folder = _cached(source, weights)
        return Plan(source.text, folder, folder.name) if folder else Plan(source.text, problem=_refusal(source, error))
    sizes = {file.rfilename: file.size or 0 for file in listing.siblings or []}
    small, all_needed = _needed(list(sizes), False), _needed(list(sizes), True)
    if "config.json" not in small or all_needed == small:
        lack = "config.json" if "config.json" not in small else "model.safetensors or pytorch_model.bin"
        return Plan(source.text, problem=f"{source.text}: has no {lack} on the hub; use another checkpoint.")
    here = {
        name: try_to_load_from_cache(source.repository, name, revision=listing.sha)
        for name in (all_needed if weights else small)
    }
    lacking = tuple((name, sizes[name]) for name, path in here.items() if not isinstance(path, str))
    folder = None if lacking else Path(str(here["config.json"])).parent
    return Plan(source.text, folder, listing.sha or "", lacking)


def _needed(names: list[str], weights: bool) -> list[str]:
    """Of a checkpoint's files those that are read: the small ones, and the weights in one format."""

    def like(patterns: Iterable[str]) -> list[str]:
        return [name for name in names if "/" not in name and any(fnmatchcase(name, glob) for glob in patterns)]

    return like(SMALL) + (next(filter(None, map(like, WEIGHTS)), []) if weights else [])


def _cached(source: Source, weights: bool) -> Path | None:
    """The folder of what was downloaded before; None if it is not all there."""
    for patterns in WEIGHTS if weights else [()]:
        with suppress(DataError, OSError, ValueError):
            folder = snapshot_download(
                source.repository,
                revision=source.revision,
                local_files_only=True,
                allow_patterns=[*SMALL, *patterns],
                ignore_patterns="*/*",
            )
            if weights:
                weight_files(Path(folder))
            return Path(folder)
    return None


def _listing(source: Source) -> ModelInfo:
    """What the hub says of a checkpoint, asked once in a process; a hub that is long in failing, once in a minute."""
    key = (constants.ENDPOINT, source.repository, source.revision)
    if key not in _listings:
        began = time.monotonic()
        failed, error = _silent.get(constants.ENDPOINT, (-60.0, None))
        if error is not None and began - failed < 60:
            raise error
        api = HfApi(endpoint=constants.ENDPOINT)
        call = partial(api.model_info, revision=source.revision, files_metadata=True, timeout=SECONDS)
        try:
            _listings[key] = _in_time(partial(call, source.repository))
        except Exception as error:
            if time.monotonic() - began > 1:
                _silent[constants.ENDPOINT] = time.monotonic(), error
            raise
    return _listings[key]


def _in_time(call: Callable[[], Any]) -> Any:
    """The result of a call, or TimeoutError: to look a name up, for one, takes as long as the system likes."""
    results: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            results.put((call(), None))
        except Exception as error:
            results.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        result, error = results.get(timeout=SECONDS)
    except Empty:
        raise TimeoutError(f"no answer within {SECONDS:.0f} s") from None
    if error is not None:
        raise error
    return result


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).partition('For more information')[0].split())}"[:200]


def _refusal(source: Source, error: Exception) -> str:
    """Why the hub does not give a checkpoint that was not downloaded before, in one line."""
    page = f"{constants.ENDPOINT}/{source.repository}"
    match error:
        case HFValidationError():
            return f"{source.text}: no such folder, and no name of a model on the hub."
        case GatedRepoError():
            return f"{source.text}: given to those alone who accepted its terms: do so at {page}, and set HF_TOKEN."
        case RevisionNotFoundError():
            return f"{source.text}: {page} has no revision {source.revision!r}: name a branch, a tag or a commit."
        case RepositoryNotFoundError():
            return (
                f"{source.text}: no such folder, and {constants.ENDPOINT} has no such model, or shows it to nobody "
                "without a login (HF_TOKEN): check the name."
            )
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} fails ({_reason(error)})"
    return f"{source.text}: no such folder, not downloaded before, and {why}: {HELP}."
