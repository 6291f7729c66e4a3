"""What a later start goes on with: kept with a checksum and the name of what made it, and read back with suspicion."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import dump_json, finite, load_json, of_the_system

FORMAT = 1  # of kept files; a reader of another one refuses
KEPT = "_kept"  # the key that a kept JSON object has beside its content

blake2b: Callable[..., Any] = partial(hashlib.blake2b, digest_size=8)


class Damaged(DataError):
    """A kept file is not as it was written, or something else made it. The message names it and says why."""


def digest_of(*parts: Any) -> str:
    """A name for bytes, and for all that JSON can hold or repr tells apart."""
    digest = blake2b()
    for part in parts:
        whole = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=repr).encode()
        digest.update(len(whole).to_bytes(8, "little"))
        digest.update(whole)
    return digest.hexdigest()


def file_digests(paths: Iterable[Path]) -> list[str]:
    """Of the content of each file."""

    def digest(path: Path) -> str:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, blake2b).hexdigest()

    with ThreadPoolExecutor() as readers:  # hashing leaves Python's lock
        return list(readers.map(digest, paths))


def digests_in(folder: Path, paths: Iterable[Path] | None = None) -> dict[str, str]:
    """Name below the folder -> digest of its content, for those of the paths that are files, or for all files in it."""
    files = sorted(path for path in (folder.rglob("*") if paths is None else paths) if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    return dict(zip(names, file_digests(files), strict=True))


def digests_under(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """`digests_in` a folder of some of its files and all that is in some of its folders, those that there are."""
    places = [folder / name for name in names]
    return digests_in(folder, (path for place in places for path in (place, *place.rglob("*"))))


def listed_files(content: Mapping[str, Any]) -> dict[str, str]:
    """The `digests_in` a folder that a kept object has under "files"."""
    return {**content["files"]}


def changed_in(folder: Path, digests: Mapping[str, str]) -> list[str]:
    """The names that are not there any more, or of other content than that of these digests."""
    there = digests_in(folder, (folder / name for name in digests))
    return [name for name, digest in digests.items() if there.get(name) != digest]


def mark(made_of: str, *content: Any) -> dict[str, Any]:
    """What a file says of itself: its format, what made it, and the checksum of its content."""
    return {"format": FORMAT, "made_of": made_of, "checksum": digest_of(made_of, *content)}


def check(path: Path, written: Any, made_of: str, *content: Any) -> None:
    """Compares the `mark` that was written into a file with that of the content which was read from it.

    Raises:
        Damaged: they differ.
    """
    if not isinstance(written, dict) or "format" not in written:
        raise Damaged(f"{path}: no checksum in it; an earlier version wrote it, or it is damaged")
    if written["format"] != FORMAT:
        raise Damaged(f"{path}: of format {written['format']}, where this version reads {FORMAT}")
    if written.get("made_of") != made_of:
        raise Damaged(f"{path}: made by other settings or inputs than these")
    if written != mark(made_of, *content):
        raise Damaged(f"{path}: not as it was written")


def keep(path: Path, content: dict[str, Any], made_of: str = "", own: bool = False) -> None:
    """Writes a JSON object, whole or not at all. own: as of `write_whole`."""
    content = finite(content)
    dump_json(path, content | {KEPT: mark(made_of, content)}, own)


def read_kept(
    path: Path, made_of: str = "", earlier: bool = False, parse: Callable[[dict[str, Any]], Any] = dict
) -> Any:
    """What `parse` makes of the JSON object that `keep` wrote for the same `made_of`.

    earlier: one that an earlier version wrote, without a checksum, is taken as it is.

    Raises:
        Damaged: it is not, or not whole, or not what `parse` expects: another version wrote it.
        DataError: the system does not give it.
    """
    try:
        content = load_json(path)
    except DataError as error:
        if of_the_system(error.__cause__ or error):
            raise
        raise Damaged(str(error)) from error
    if not isinstance(content, dict):
        raise Damaged(f"{path}: not a JSON object")
    written = content.pop(KEPT, None)
    if written is not None or not earlier:
        check(path, written, made_of, content)
    try:
        return parse(content)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Damaged(f"{path}: holds other things than this version keeps there ({error!r})") from error


def has_checksum(path: Path) -> bool:
    """Whether a kept file is of this version, or is none: earlier ones wrote JSON objects without checksums."""
    try:
        content = load_json(path)
    except DataError:
        return True
    return not isinstance(content, dict) or KEPT in content


def usable(
    path: Path, made_of: str = "", earlier: bool = False, parse: Callable[[dict[str, Any]], Any] = dict
) -> Any | None:
    """`read_kept`, or None: there is no such file, or, with a line that says so, it has to be made again."""
    if not path.exists():
        return None
    try:
        return read_kept(path, made_of, earlier, parse)
    except Damaged as reason:
        make_again(reason)
        return None


def make_again(reason: Damaged) -> None:
    """Says that something kept is not used."""
    print(f"  {reason}: made again", file=sys.stderr, flush=True)
