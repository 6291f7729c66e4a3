"""The fusion head in torch, written from the specification: one encoder after the other. The reference of the tests."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import nn


class TorchFusion(nn.Module):
    """Encoders and scorer of three layers each.

    Args:
        dims: width of each modality's embeddings, in the canonical order.
        weights: by parameter name.
    """

    def __init__(self, dims: Mapping[str, int], hidden: int, num_classes: int, weights: Mapping[str, np.ndarray]):
        super().__init__()
        self.modalities = tuple(dims)
        self.encoders = nn.ModuleList(mlp(dim, hidden, hidden, hidden) for dim in dims.values())
        self.scorer = mlp(len(dims) * hidden, hidden, hidden, hidden)
        self.attention = nn.Linear(hidden, len(dims))
        self.classifier = nn.Linear(hidden, num_classes)
        self.load_state_dict({name: torch.tensor(weight) for name, weight in weights.items()})

    def forward(
        self,
        x: Mapping[str, np.ndarray],
        present: Mapping[str, np.ndarray],
        keep: Mapping[str, np.ndarray] | None = None,
    ):
        """[B, D] and [B] by modality -> logits [B, C], attention [B, M]. keep: dropout's factors, by modality."""
        factors = {name: torch.tensor(mask) for name, mask in (keep or {}).items()}
        features = [
            encoder(torch.tensor(x[name]) * torch.tensor(present[name])[:, None] * factors.get(name, 1))
            for encoder, name in zip(self.encoders, self.modalities, strict=True)
        ]
        attention = self.attention(self.scorer(torch.cat(features, dim=1) * factors.get("scorer", 1)))
        fused = torch.matmul(torch.stack(features, dim=2), attention[:, :, None])[:, :, 0]
        return self.classifier(fused), attention


def mlp(*widths: int) -> nn.Sequential:
    return nn.Sequential(*[part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())])
