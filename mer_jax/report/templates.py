"""The templates of the report's pages."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Escapes whatever a template puts in."""
    return Environment(
        loader=PackageLoader("mer_jax", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
