"""A finished run without training: two networks of a few numbers, behind the bundled encoders."""

import jax
import jax.numpy as jnp
from flax import nnx

from configs.semi import with_bundled_encoders
from mer_jax.data.dataset import FolderData
from mer_jax.features.standardise import Standardiser
from mer_jax.fusion.ensemble import Shape, save_ensemble
from mer_jax.models.fusion import AttentionFusion
from mer_jax.runtime.files import dump_json
from mer_jax.runtime.settings import as_dict
from mer_jax.settings import Settings

LABELS = ("calm", "glad", "sad")
DIMS = {"speech": 3, "text": 2}
TEMPERATURES = (2.0, 0.5)  # with one and with two modalities


def networks(dims=DIMS):
    return [AttentionFusion(dims, 4, len(LABELS), rngs=nnx.Rngs(seed)) for seed in (3, 5)]


def write_ensemble(folder, standardiser=None, dims=DIMS, **shape):
    """`save_ensemble` of these networks. shape: fields of `Shape`."""
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.state(each, nnx.Param) for each in networks(dims)))
    save_ensemble(folder, Shape(LABELS, dims, 4, 2, **shape), params, standardiser or Standardiser.identity(dims))


def write_run(folder, dims=DIMS):
    """The workdir of a run of an earlier version, without an inventory; its features are divided by 2."""
    settings = Settings(variant="folder", data=FolderData(root="/gone", modalities="speech+text"))
    dump_json(folder / "config.json", {"settings": as_dict(with_bundled_encoders(settings))})
    (folder / "metrics.json").touch()
    half = Standardiser.identity(dims)
    half = half._replace(scale={name: x / 2 for name, x in half.scale.items()})
    write_ensemble(folder / "checkpoints", half, dims, temperatures=TEMPERATURES)
    return folder
