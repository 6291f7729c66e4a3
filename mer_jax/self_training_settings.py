"""How pseudo-labels are chosen."""

from dataclasses import dataclass

from mer_jax.runtime.settings import setting

OWN_FOLD, ALL_FOLDS = "own_fold", "all_folds"


@dataclass(frozen=True)
class SelfTrainingSettings:
    """How pseudo-labels are chosen: `config.self_training`.

    `cumulative` rounds add to the earlier ones, each clip at most once; others replace them, and all clips may be
    chosen again. With `relabel`, clips of earlier rounds take the label that the newest ensemble predicts, and leave
    where that is less confident than `min_confidence`.

    With the chooser "own_fold", a fold's pseudo-labels are chosen by its own networks, which have not seen the clips
    that it holds out, and never among the groups of these. With "all_folds", the paper's way, the ensemble chooses the
    same ones for all folds: four of five networks have seen a held-out clip, and what they choose tells of it.
    """

    rounds: int = setting(10, least=0)
    k: int = setting(10, least=0)  # clips per class and round
    cumulative: bool = setting(True)
    relabel: bool = setting(False)
    min_confidence: float = setting(0.0, least=0, most=1)  # of the predicted class
    agreement: bool = setting(False)  # only clips on which the unimodal classifiers agree with the multimodal one
    chooser: str = setting(ALL_FOLDS, choices=(OWN_FOLD, ALL_FOLDS))  # whose networks choose what a fold trains on
    weight: float = setting(1.0, least=0, most=1)  # of a pseudo-labelled clip in the loss
    calibrated: bool = setting(False)  # confidence after temperature scaling

    def slots(self, num_classes: int) -> int:
        """The most pseudo-labels there can be at any time."""
        return self.k * num_classes * (self.rounds if self.cumulative else min(self.rounds, 1))
