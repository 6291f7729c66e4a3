"""A machine that has jax, flax, optax, numpy, torch and transformers, and nothing else of `requirements.txt`.

What else the package imports reads files, asks servers, draws or checks types, which nothing measured here does: where
it is not installed, stand-ins take its place.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NOT_NEEDED = (
    *("jaxtyping", "ml_collections", "sentencepiece", "PIL", "av", "sklearn", "grain", "matplotlib", "jinja2"),
    *("tensorflow_datasets", "importlib_resources", "httpx2", "openai"),
)


class AnyName(type):
    """Has every attribute, takes every subscript, is a type, which annotations join by `|`, and as a set is empty."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __getitem__(cls, item: Any) -> Any:
        return cls

    def __sub__(cls, other: Any) -> Any:
        return set()


class StandIn(metaclass=AnyName):
    """What any name of a package that is not there refers to."""


class StandInModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn


class StandInFinder(MetaPathFinder, Loader):
    """Finds the packages that are not there, and all of their modules."""

    def __init__(self, packages: Sequence[str]):
        self.packages = packages

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition(".")[0] in self.packages else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__version__ = "0.0"  # type: ignore[attr-defined]


def stand_in() -> None:
    """From now on the package can be imported."""
    missing = [name for name in NOT_NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.meta_path.append(StandInFinder(missing))
