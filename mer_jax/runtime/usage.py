"""What --help and --version print."""

import ast
import dataclasses
import io
import tokenize
from collections.abc import Iterator, Mapping
from importlib import metadata
from inspect import getsource
from pathlib import Path
from textwrap import dedent
from typing import Any

from absl import flags

from mer_jax import __version__


def version() -> str:
    """Ours and JAX's."""
    return f"mer_jax {__version__}, jax {metadata.version('jax')}"


def usage(description: str, settings: Any = None) -> str:
    """A command's docstring, its flags, and the settings that --config.NAME=VALUE changes."""
    lines = [description.strip(), "", "Flags:", "", *flag_lines()]
    if settings is not None:
        from mer_jax.runtime.config_files import BUNDLED  # brings ml_collections

        lines += ["", "Configs that came with mer_jax; the current folder may hold others, also of these names:", ""]
        lines += [f"  configs/{file.name:14}{headline(file)}" for file in sorted(BUNDLED.glob("*.py"))]
        lines += ["", "Settings, with their values in the --config that is given, or without one:"]
        lines += setting_lines(settings, "--config.")
    return "\n".join(lines)


def headline(file: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").partition("\n")[0]


def flag_lines() -> Iterator[str]:
    """A line for each flag of ours."""
    for module, known in flags.FLAGS.flags_by_module_dict().items():
        if not module.startswith("absl."):
            for flag in known:
                value = "" if flag.boolean else "=FILE[:VARIANT]" if flag.name == "config" else "=..."
                default = "" if flag.default in (None, "") else f" [{flag.default}]"
                yield f"  --{flag.name + value:26}{' '.join((flag.help or '').split())}{default}"
    yield f"  --{'help':26}This text; with --config=FILE:VARIANT its values."
    yield f"  --{'version':26}The versions of mer_jax and JAX."


def setting_lines(settings: Any, prefix: str) -> Iterator[str]:
    """A line for each setting, after one for each class; sections after what is beside them."""
    yield ""
    yield f"  {(type(settings).__doc__ or '').partition(chr(10))[0]}"
    comments, sections = comments_of(type(settings)), []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            sections.append((value, f"{prefix}{field.name}."))
        elif isinstance(value, dict) and any(map(dataclasses.is_dataclass, value.values())):  # a table of them
            sections += [(entry, f"{prefix}{field.name}.{name}.") for name, entry in value.items()]
        else:
            meaning = "; ".join(filter(None, (comments.get(field.name), bounds(field.metadata))))
            yield f"    {f'{prefix}{field.name}={value!r}':50}  {meaning}".rstrip()
    for value, inner in sections:
        yield from setting_lines(value, inner)


def bounds(allowed: Mapping[str, Any]) -> str:
    """What a setting may be."""
    if allowed.get("choices"):
        return f"one of {', '.join(allowed['choices'])}"
    words = {"above": "more than", "least": "at least", "most": "at most"}
    return ", ".join(f"{word} {allowed[key]:,}" for key, word in words.items() if allowed.get(key) is not None)


def comments_of(settings_class: type) -> dict[str, str]:
    """Field -> what the comment on it says, on its lines or right above them."""
    comments: dict[str, str] = {}
    for each in reversed(settings_class.__mro__[:-1]):
        source = dedent(getsource(each))
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        at = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
        lines = source.splitlines()
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                first, last = node.lineno, node.end_lineno or node.lineno
                while lines[first - 2].lstrip().startswith("#"):
                    first -= 1
                comments[node.target.id] = " ".join(at[line] for line in range(first, last + 1) if line in at)
    return comments
