"""The challenge's baseline in torch: one fold at a time, epoch after epoch of shuffled batches."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from benchmarks.accelerator.sizes import BATCH, HIDDEN
from benchmarks.work import CLASSES


class Peer(nn.Module):
    """The attention model in plain torch."""

    def __init__(self, dims: Mapping[str, int]):
        super().__init__()
        self.encoders = nn.ModuleDict({name: mlp(width) for name, width in dims.items()})
        self.scorer = mlp(HIDDEN * len(dims))
        self.attention = nn.Linear(HIDDEN, len(dims))
        self.classifier = nn.Linear(HIDDEN, CLASSES)

    def forward(self, embeddings: Mapping[str, torch.Tensor]) -> torch.Tensor:
        encoded = []
        for name, encoder in self.encoders.items():
            x = embeddings[name]
            if self.training:
                x = x * (torch.rand(len(x), 1, device=x.device) >= 0.3)
            encoded.append(encoder(x))
        attention = self.attention(self.scorer(torch.cat(encoded, dim=1)))
        return self.classifier((torch.stack(encoded, dim=2) @ attention[:, :, None])[:, :, 0])


def mlp(width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(0.3)]
    for inputs in (width, HIDDEN, HIDDEN):
        layers += [nn.Linear(inputs, HIDDEN), nn.ReLU()]
    return nn.Sequential(*layers)


class PlainLoop:
    """The peer's training of one fold, with all clips on the device."""

    def __init__(
        self, features: Mapping[str, np.ndarray], labels: np.ndarray, fold_of: np.ndarray, device: str = "cpu"
    ):
        self.features = {name: torch.from_numpy(x).to(device) for name, x in features.items()}
        self.labels, self.fold_of = torch.from_numpy(labels).to(device), torch.from_numpy(fold_of).to(device)
        self.model = Peer({name: x.shape[1] for name, x in features.items()}).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-4, weight_decay=1e-5)

    def epoch(self, fold: int = 0) -> None:
        """Trains once over the fold's clips and scores the held-out ones."""
        self.model.train()
        train = torch.nonzero(self.fold_of != fold)[:, 0]
        for index in train[torch.randperm(len(train), device=train.device)].split(BATCH):
            loss = nn.functional.cross_entropy(self.model(take(self.features, index)), self.labels[index])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        held_out = torch.nonzero(self.fold_of == fold)[:, 0]
        self.score(take(self.features, index) for index in held_out.split(256))

    @torch.no_grad()
    def score(self, batches: Iterator[Mapping[str, torch.Tensor]]) -> torch.Tensor:
        self.model.eval()
        return torch.cat([self.model(batch) for batch in batches])


def take(features: Mapping[str, torch.Tensor], index: torch.Tensor | slice) -> dict[str, torch.Tensor]:
    return {name: x[index] for name, x in features.items()}
