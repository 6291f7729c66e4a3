"""Config files: those of the current folder, and those that came with the package."""

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from mer_jax.runtime.errors import UsageError

PACKAGE = Path(__file__).parents[1]
BUNDLED = next(filter(Path.is_dir, (PACKAGE / "configs", PACKAGE.parent / "configs")), PACKAGE)
"""Where these are: in the package once it is installed, beside it in a checkout."""


def locate(file: Path) -> Path:
    """The config file of that name: a bundled one, `configs/NAME.py`, from any folder that has none of that name.

    Raises:
        UsageError: there is none.
    """
    bundled = BUNDLED / file.name
    if file.is_file():
        return file
    if file == Path("configs", file.name) and bundled.is_file():
        return bundled
    raise UsageError(
        f"{file}: no such config file; {file.parent}/ holds {listed(file.parent.glob('*.py'))}; "
        f"with mer_jax came {listed(Path('configs', known.name) for known in BUNDLED.glob('*.py'))}"
    )


def listed(files: Iterable[Path]) -> str:
    """Their names, or that there are none."""
    return ", ".join(sorted(map(str, files))) or "nothing"


class ConfigFile(ConfigFileFlagParser):
    """Reads `FILE.py[:ARGUMENT]`. What a config imports as `configs.NAME` is beside it, or a bundled one."""

    def parse(self, path: str) -> Any:
        name, colon, argument = path.partition(":")
        file = locate(Path(name))
        configs = sys.modules["configs"] = ModuleType("configs")
        configs.__path__ = [str(file.parent.absolute()), str(BUNDLED)]
        return super().parse(f"{file}{colon}{argument}")
