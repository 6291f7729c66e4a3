"""Settings: frozen dataclasses beside the code that uses them, read from a config and checked once, at the door.

A class states each field with its default and what it may be; configs are built from the classes (`as_dict`), commands
turn a config into them (`read_settings`).
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from mer_jax.runtime.errors import UsageError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

Settings = TypeVar("Settings")


def setting(
    default: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    was: Mapping[Any, Any] | None = None,
    wrong: Callable[[Any], str] = lambda value: "",
    private: bool = False,
    decisive: bool = True,
) -> Any:
    """A field with its default, and what its value may be: in bounds, one of few, or by what `wrong` says of it.

    was: values that earlier versions took (or their text) -> today's. private: it is not shown where it is refused.
    decisive: False where no result depends on it: what is kept is then named without it.
    """
    earlier = {str(value): today for value, today in (was or {}).items()}
    checks = {
        "above": above,
        "least": least,
        "most": most,
        "choices": choices,
        "was": earlier,
        "wrong": wrong,
        "private": private,
    }
    return dataclasses.field(default_factory=lambda: default, metadata=checks, repr=decisive)


def few(entries: Collection[Any], least: int = 1) -> str:
    """What is wrong with a list of too few different entries; empty if nothing is: for `wrong`."""
    return "" if len(set(entries)) >= least else f"expected {least} or more different entries"


def section(settings_class: Callable[[], Any]) -> Any:
    """A field that is settings of its own, by default those of the class."""
    return dataclasses.field(default_factory=settings_class)


def as_dict(settings: Any) -> dict[str, Any]:
    """Settings as nested dictionaries, for a ConfigDict or a JSON file."""
    return dataclasses.asdict(settings)


def read_settings(settings_class: type[Settings], values: "ConfigDict | Mapping[str, Any]") -> Settings:
    """The settings that nested dictionaries (a config, or a run's `config.json`) hold; what is missing has its default.

    Raises UsageError with all keys that the class does not know, and all values of another type or out of range; or
    what the class's `check` raises.
    """
    problems: list[str] = []
    plain = values if isinstance(values, Mapping) else values.to_dict()
    settings = _read(settings_class, plain, "", problems)
    if problems:
        raise UsageError("; ".join(problems))
    if check := getattr(settings, "check", None):  # of fields together
        check()
    return settings


def _read(settings_class: Any, values: Mapping[str, Any], prefix: str, problems: list[str]) -> Any:
    hints = get_type_hints(settings_class)
    fields = {field.name: field for field in dataclasses.fields(settings_class)}
    problems += [f"{prefix}{key}: unknown; known: {', '.join(fields)}" for key in values if key not in fields]
    chosen = {}
    for name, value in values.items():
        if name not in fields:
            continue
        among = getattr(hints[name], "among", None)  # one of several classes, by the fields beside it
        if dataclasses.is_dataclass(hints[name]):
            chosen[name] = _section(among(values) if among else hints[name], value, f"{prefix}{name}", problems)
        elif isinstance(value, Mapping) and (entry_class := table_entry(hints[name])):
            chosen[name] = {
                key: _section(
                    isinstance(entry, Mapping) and entry_class(entry), entry, f"{prefix}{name}.{key}", problems
                )
                for key, entry in value.items()
            }
        else:
            value = fields[name].metadata.get("was", {}).get(str(value), value)
            chosen[name] = tuple(value) if isinstance(value, list) else value
            reason = _misfit(chosen[name], hints[name]) or _out_of_range(chosen[name], fields[name].metadata)
            shown = "" if fields[name].metadata.get("private") else f"={value!r}"
            problems += [f"{prefix}{name}{shown}: {reason}"] if reason else []
    return settings_class(**chosen)


def table_entry(hint: Any) -> Callable[[Any], Any] | None:
    """What gives the class of a table's entry, for the type of its field, `dict[str, CLASS]`; None for other fields."""
    entries: Any = (None, *get_args(hint))[-1]
    return entries.among if isinstance(entries, type) and hasattr(entries, "among") else None


def _section(settings_class: Any, value: Any, name: str, problems: list[str]) -> Any:
    if isinstance(value, Mapping):
        return _read(settings_class, value, f"{name}.", problems)
    problems.append(f"{name}={value!r}: expected settings")


def _misfit(value: Any, hint: Any) -> str:
    """Why a value is not of a field's type; empty if it is. Whole numbers are numbers, truth values are not."""
    plain = get_origin(hint) or hint
    if plain is tuple:
        item = get_args(hint)[0]
        right = isinstance(value, tuple) and not any(_misfit(each, item) for each in value)
        return "" if right else f"expected a list of {item.__name__}"
    allowed = (int, float) if plain is float else (plain,)
    right = plain is Any or (isinstance(value, allowed) and (plain is bool or not isinstance(value, bool)))
    return "" if right else f"expected {plain.__name__}"


def _out_of_range(value: Any, bounds: Mapping[str, Any]) -> str:
    """Why a value of the right type is not allowed; empty if it is. Bounds are those of a list's entries, too."""
    if not bounds:
        return ""
    if isinstance(value, tuple):
        of_entries = {**bounds, "wrong": lambda entry: ""}
        return next((reason for entry in value if (reason := _out_of_range(entry, of_entries))), bounds["wrong"](value))
    if bounds["choices"] and value not in bounds["choices"]:
        return f"unknown; known: {', '.join(bounds['choices'])}"
    if isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number"
    if bounds["above"] is not None and value <= bounds["above"]:
        return f"more than {bounds['above']}"
    if bounds["least"] is not None and value < bounds["least"]:
        return f"at least {bounds['least']}"
    if bounds["most"] is not None and value > bounds["most"]:
        return f"at most {bounds['most']}"
    return bounds["wrong"](value)
