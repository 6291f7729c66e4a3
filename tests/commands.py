"""Commands as modules: several of them define flags of the same names, and in one process they would clash."""

import importlib
from types import ModuleType

from absl import flags


def import_command(name: str, package: str = "mer_jax") -> ModuleType:
    """`{package}.{name}` for its functions; its flags, and those of other commands, are gone."""
    others = set(flags.FLAGS)
    for flag in ("config", "workdir"):
        if flag in flags.FLAGS:
            delattr(flags.FLAGS, flag)
    module = importlib.import_module(f"{package}.{name}")
    for flag in set(flags.FLAGS) - others | {"config", "workdir"}:
        if flag in flags.FLAGS:
            delattr(flags.FLAGS, flag)
    return module
