"""The fused ensemble as StableHLO, to be served without this package: standardised, fused and calibrated."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from mer_jax.fusion.ensemble import TrainedEnsemble
from mer_jax.fusion.modalities import by_modality

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(ensemble: TrainedEnsemble) -> export.Exported:
    """What `jax.export` makes of an ensemble, for any number of clips B on any of PLATFORMS.

    It is called with features, a dict of [B, D] float32 by stream ([F, B, D] where each fold has its own), and with
    presence, a dict of [B] bool; it gives probabilities [B, C] and attention [B, S]. Groups are not standardised.
    """
    scorer, standardiser = ensemble.scorer, ensemble.standardiser
    temperatures = jnp.asarray(ensemble.temperatures, jnp.float32)

    def fused(features: dict[str, jax.Array], present: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        scaled = {name: (x - standardiser.mean[name]) * standardiser.scale[name] for name, x in features.items()}
        outputs = scorer.apply(ensemble.members, scaled, present)
        count = sum(x.astype(jnp.int32) for x in by_modality(present, ensemble.shape.modality_of).values())
        divisor = temperatures[jnp.maximum(count, 1) - 1]
        return jax.nn.softmax(outputs.logits.mean(axis=0) / divisor[:, None]), outputs.attention.mean(axis=0)

    (clips,) = export.symbolic_shape("B")
    features: Any = {}
    for name, mean in standardiser.mean.items():  # [D] or [F, 1, D]
        features[name] = jax.ShapeDtypeStruct((*mean.shape[:-2], clips, mean.shape[-1]), "float32")
    present: Any = {name: jax.ShapeDtypeStruct((clips,), "bool") for name in features}
    return export.export(jax.jit(fused), platforms=PLATFORMS)(features, present)
