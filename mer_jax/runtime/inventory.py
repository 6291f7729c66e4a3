"""What a finished run has come to: the last file that it writes, which later starts compare with."""

from collections.abc import Iterable
from pathlib import Path

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import load_json
from mer_jax.runtime.kept import KEPT, file_digests, keep, usable

INVENTORY = "inventory.json"


def take_inventory(workdir: Path, results: Iterable[str]) -> None:
    """Notes files of a workdir that nothing changes any more. results: files and folders, some perhaps not there."""
    places = [workdir / name for name in results]
    paths = sorted(path for place in places for path in (place, *place.rglob("*")) if path.is_file())
    names = [path.relative_to(workdir).as_posix() for path in paths]
    keep(workdir / INVENTORY, {"files": dict(zip(names, file_digests(paths), strict=True))})


def require_results(workdir: Path) -> None:
    """Raises DataError where a workdir holds no finished run, or its settings or checkpoints have changed since."""
    if changed := changes(workdir, ("config.json", "checkpoints")):
        what = "its run is not finished" if changed == [INVENTORY] else f"{changed[0]} is not as the run wrote it"
        raise DataError(f"{workdir}: {what}; start the same mer_jax.train command again")


def changes(workdir: Path, under: tuple[str, ...] = ("",)) -> list[str]:
    """Results of these beginnings that are not there, or not as the run wrote them; the inventory if that is so.

    A run of an earlier version, which wrote no inventory, is taken as it is.
    """
    if not (workdir / INVENTORY).exists() and (workdir / "metrics.json").exists():
        return [INVENTORY] if KEPT in load_json(workdir / "config.json") else []
    inventory = usable(workdir / INVENTORY)
    if inventory is None:
        return [INVENTORY]
    files = {name: digest for name, digest in inventory["files"].items() if name.startswith(under)}
    there = [name for name in files if (workdir / name).is_file()]
    digests = dict(zip(there, file_digests(workdir / name for name in there), strict=True))
    return [name for name, digest in files.items() if digests.get(name) != digest]
