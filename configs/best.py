"""The recipe we stand for: what raises the honest score on real data, each part a setting of its own.

    python -m mer_jax.train --config=configs/best.py --workdir=runs/best

Variants and their arguments are those of configs/semi.py, which trains as the paper does; folders take this recipe
there, too (`recipe=paper` leaves it). It differs in

    fusion.network = "average"            the mean of the weights of the last half of all epochs, not the best epoch
    fusion.seeds = 3                      networks of each fold, whose logits are averaged
    fusion.epochs = 60                    so that each modality alone has been seen often enough
    fusion.standardise = "group"          within groups (speakers, dialogues) where the data set has them
    self_training.chooser = "own_fold"    its own networks, which have not seen what it holds out, choose for a fold
    self_training.weight = 0.3, rounds = 5

The bundled sample: 5 min on two cores that were busy otherwise, too. Expected: test WAF 83.9, cross-validated 84.6, as
the challenge counts 87.4; one seed. What each part is worth: configs/recipe.py, and on real data `benchmarks.ravdess`.
"""

from ml_collections import ConfigDict

from configs import semi


def get_config(argument: str = "sample") -> ConfigDict:
    """As of configs/semi.py, with the recipe."""
    return semi.get_config(f"{argument},recipe=best")
