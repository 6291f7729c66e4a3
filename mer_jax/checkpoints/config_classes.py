"""The Hugging Face config classes, each by its name; where transformers is not there, `StoredConfig` stands for all.

An exported run says of each checkpoint what its config is, complete: the defaults of the classes are their own.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_jax.runtime.errors import DataError

if TYPE_CHECKING:
    from transformers import *  # noqa: F403

COMPLETE: dict[str, Mapping[str, Any]] = {}
"""Digest of a config.json -> all fields of the config; what exported runs that were opened say."""


def __getattr__(name: str) -> Any:
    """A class of transformers' by its name."""
    if not name.endswith("Config"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import transformers
    except ModuleNotFoundError:
        return StoredConfig
    return getattr(transformers, name)


class StoredConfig:
    """All fields of a config under their names, sections as configs of their own; reads as transformers' classes do."""

    def __init__(self, **fields: Any):
        for name, value in fields.items():
            is_section = name.endswith("_config") and isinstance(value, dict)
            setattr(self, name, StoredConfig(**value) if is_section else value)

    @classmethod
    def from_pretrained(cls, folder: Path) -> "StoredConfig":
        """Of a checkpoint's folder. Raises DataError if no export says what the config is."""
        if (fields := COMPLETE.get(digest(folder))) is None:
            missing = "transformers is not installed, and the run does not say what is in this config"
            raise DataError(f"{folder / 'config.json'}: {missing}: pip install transformers, or export the run anew")
        return cls(**fields)

    def get_text_config(self) -> "StoredConfig":
        return getattr(self, "text_config", self)

    def to_json_string(self) -> str:
        return json.dumps(self, default=vars)


def digest(folder: Path) -> str:
    """Of a checkpoint's config.json."""
    return sha256((folder / "config.json").read_bytes()).hexdigest()


def all_fields(config: Any) -> dict[str, Any]:
    """The fields of a config of transformers', defaults, other names and sections included."""
    sections = {name: getattr(config, name, None) for name in config.sub_configs}
    return {
        **json.loads(config.to_json_string(use_diff=False)),
        **{name: getattr(config, field) for name, field in config.attribute_map.items()},
        **{name: all_fields(section) for name, section in sections.items() if section is not None},
        "model_type": config.model_type,
    }
