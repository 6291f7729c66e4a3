"""A run's working folder: its settings, its stages and how long they took."""

import platform
import resource
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Generic

import jax
from flax.traverse_util import flatten_dict

from mer_jax import __version__
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.runtime.kept import Damaged, keep, read_kept, usable
from mer_jax.runtime.lock import check_held, hold
from mer_jax.runtime.profiling import named, on_devices
from mer_jax.runtime.settings import Settings, as_dict, read_settings

SHOWN = 6  # settings that differ
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "grain", "numpy", "av")


class Run(Generic[Settings]):
    """One workdir, whose settings are checked against those of an earlier start: UsageError if they differ.

    `config.json` is written once a stage is done: a start that fails before that claims nothing. It says when and by
    what command the run was begun.
    """

    def __init__(self, workdir: Path, settings: Settings):
        self.workdir, self.path = workdir, workdir / "config.json"
        self.settings = settings
        self.start = {"begun": datetime.now(UTC).isoformat(timespec="seconds"), "command": command_line()}
        self.stages: list[str] = []
        self._compare()

    def _compare(self) -> None:
        settings, workdir = self.settings, self.workdir
        if self.path.exists():
            earlier = load_settings(type(settings), workdir)
            differing = differences(as_dict(earlier), as_dict(settings))
            if differing:
                more = f", and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
                going_on = getattr(settings, "back_to", lambda earlier: "")(earlier)
                raise UsageError(
                    f"{workdir} holds a run with other settings ({', '.join(differing[:SHOWN])}{more}): "
                    f"{going_on}choose another --workdir, or remove it"
                )

    def announce(self, stages: list[str]) -> None:
        """Says what will happen, before it does. From now on this process alone works in the workdir."""
        hold(self.workdir)
        self._compare()  # with what another process may have begun meanwhile
        self.stages = stages
        print(f"run in {self.workdir}: {' -> '.join(stages)}", file=sys.stderr, flush=True)

    @property
    def timing(self) -> dict[str, float]:
        """Seconds of each finished stage, of the start that finished it."""
        return self._by_stage("timing.json")

    @property
    def device_busy(self) -> dict[str, float]:
        """The share of them, in [0, 1], in which a program was on the devices: see `DeviceClock`."""
        return self._by_stage("device_busy.json")

    def _by_stage(self, name: str) -> dict[str, float]:
        return usable(self.workdir / name, earlier=True, parse=numbers) or {}

    @property
    def begun(self) -> dict[str, str] | None:
        """When the run was begun, and by what command; None of a run of before."""
        return (
            usable(
                self.path,
                earlier=True,
                parse=lambda saved: {key: str(saved[key]) for key in self.start if key in saved},
            )
            or None
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announces a stage, and notes the time it took unless an earlier start already did the work."""
        print(f"[{self.stages.index(name) + 1}/{len(self.stages)}] {name}", file=sys.stderr, flush=True)
        start, busy = time.perf_counter(), on_devices.seconds
        check_held(self.workdir)
        with named(name):
            yield
        check_held(self.workdir)
        busy, seconds = on_devices.seconds - busy, time.perf_counter() - start
        if not self.path.exists():
            settings = as_dict(self.settings)
            keep(self.path, {"settings": settings, "seed": settings["seed"], **self.start, **environment()})
        for file, number in (("timing.json", seconds), ("device_busy.json", min(busy / max(seconds, 1e-9), 1.0))):
            earlier = self._by_stage(file)
            keep(self.workdir / file, earlier | {name: number} | earlier)


def command_line() -> str:
    """The command that this process is, as a person types it."""
    program = Path(sys.argv[0])
    name = f"python -m {program.parent.name}.{program.stem}" if program.suffix == ".py" else program.name
    return f"{name} {shlex.join(sys.argv[1:])}".rstrip()


def load_settings(settings_class: type[Settings], workdir: Path) -> Settings:
    """The settings of the run in a workdir; those that came into being after it have their defaults.

    Raises DataError without a run, or for one that this version cannot read.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise DataError(f"{workdir}: no config.json in it; expected the workdir of a run of mer_jax.train")
    try:
        return read_kept(path, earlier=True, parse=lambda saved: read_settings(settings_class, saved["settings"]))
    except Damaged as error:
        raise DataError(f"{error}; put it back as it was, or start another run") from error
    except UsageError as error:
        raise DataError(f"{path}: not the settings of a run of this version ({error}); start another run") from error


def numbers(saved: dict[str, Any]) -> dict[str, float]:
    """What `timing.json` and `device_busy.json` hold."""
    return {str(name): float(number) for name, number in saved.items()}


def environment() -> dict[str, Any]:
    """Versions, devices and commit, for `config.json`."""
    ours = {"python": platform.python_version(), "mer_jax": __version__}
    versions = ours | {package: metadata.version(package) for package in PACKAGES}
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    names = Counter(" ".join(dict.fromkeys((device.platform, device.device_kind))) for device in jax.devices())
    devices = [f"{count} x {name}" if count > 1 else name for name, count in names.items()]
    return {"versions": versions, "devices": devices, "commit": commit}


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Dotted keys whose values differ, with both values; checkpoints first, by which others are chosen."""
    old, new = flatten_dict(old, sep="."), flatten_dict(new, sep=".")
    return [
        f"{key}: {old.get(key)} there, {new.get(key)} now"
        for key in sorted(old.keys() | new.keys(), key=lambda key: (not key.endswith(".source"), key))
        if old.get(key) != new.get(key)
    ]
