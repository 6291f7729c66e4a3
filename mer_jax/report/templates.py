"""The templates of the report's pages."""

from typing import TYPE_CHECKING

from mer_jax.runtime.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import Environment


def environment() -> "Environment":
    """Escapes whatever a template puts in. Raises UsageError where Jinja, which lines do without, is not there."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ModuleNotFoundError as error:
        raise UsageError("pages need jinja2: pip install jinja2") from error
    return Environment(
        loader=PackageLoader("mer_jax", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
