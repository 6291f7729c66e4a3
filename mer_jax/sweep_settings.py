"""What a sweep is asked for."""

from dataclasses import dataclass

from mer_jax.data.tables import is_usable
from mer_jax.runtime.settings import setting


@dataclass(frozen=True)
class SweepSettings:
    """A sweep's config: rows, or a search that makes them."""

    name: str = setting("sweep", wrong=lambda name: "" if is_usable(name) else "expected what can name a folder")
    seeds: int = setting(1, least=1)
    self_training: bool = setting(False)
    subsets: bool = setting(False)  # score every subset of present modalities, too
    rows: tuple[dict, ...] = setting(())  # name, modalities ("+"-joined), paper's scores, a row's changes
    search: dict = setting({})  # field of `config.fusion` -> values
    settings: int = setting(0, least=0)  # different draws from the grid of `search`; 0: the whole grid
    top: bool = setting(False)  # in place of rows: every stream alone, then the best of them together
