"""What a finished run has come to: the last file that it writes, which later starts compare with."""

from collections.abc import Iterable
from pathlib import Path

from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import changed_in, digests_under, has_checksum, keep, listed_files, usable
from mer_jax.runtime.lock import check_held

INVENTORY = "inventory.json"


def take_inventory(workdir: Path, results: Iterable[str]) -> None:
    """Notes files of a workdir that nothing changes any more. results: files and folders, some perhaps not there.

    Raises DataError where the workdir has been removed meanwhile.
    """
    check_held(workdir)
    keep(workdir / INVENTORY, {"files": digests_under(workdir, results)})


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
        return [INVENTORY] if has_checksum(workdir / "config.json") else []
    files = usable(workdir / INVENTORY, parse=listed_files)
    if files is None:
        return [INVENTORY]
    return changed_in(workdir, {name: digest for name, digest in files.items() if name.startswith(under)})
