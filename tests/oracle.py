"""What torch computes, in tests that run with or without it.

A test asks `oracle(name, compute)` for torch's values. Without torch these are the ones stored in
`tests/goldens/{name}.safetensors`. With torch (`pip install -r tests/parity-requirements.txt`) they are computed anew,
and the stored ones must still equal them. Weights are not stored: numpy draws them. What new or changed tests need is
stored by

    rm -r tests/goldens && python -m pytest -m parity -n0 --write-goldens
"""

import importlib.util
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

GOLDENS = Path(__file__).parent / "goldens"
HAS_TORCH = importlib.util.find_spec("torch") is not None


@dataclass(frozen=True)
class Oracle:
    """Torch's values by name: stored, computed, or computed and stored."""

    folder: Path = GOLDENS
    compute: bool = HAS_TORCH
    write: bool = False

    def __call__(
        self, name: str, compute: Callable[[], Mapping[str, Any]], tolerance: float = 1e-5
    ) -> dict[str, np.ndarray]:
        """Torch's values, as `compute` returns them: anything that numpy takes for arrays.

        Args:
            name: of the file in `folder`, without suffix. Several tests may share one, with one set of values.
            compute: called with torch alone, so that it may import it.
            tolerance: that the stored values have, relative to an array's largest: CPUs differ in how they round.

        Raises:
            AssertionError: torch's values are no longer the stored ones.
        """
        file = self.folder / f"{name}.safetensors"
        if not self.compute:
            return safetensors.numpy.load_file(file)
        values = {key: np.ascontiguousarray(value) for key, value in compute().items()}
        if self.write:
            file.parent.mkdir(parents=True, exist_ok=True)
            safetensors.numpy.save_file(values, file)
        stored = safetensors.numpy.load_file(file)
        assert stored.keys() == values.keys(), f"{file} holds other values than torch's"
        for key, golden in stored.items():
            assert golden.shape == values[key].shape, f"{key} in {file} is of another shape than torch's"
            atol = tolerance * np.abs(golden).max(initial=0)
            np.testing.assert_allclose(golden, values[key], rtol=0, atol=atol, err_msg=f"{key} in {file}")
        return values

    def checkpoint(self, folder: Path, name: str, model_class: Any, config: Any) -> Path:
        """Writes a checkpoint with the tensors that transformers saves, under its names; returns its folder.

        Biases and scales are drawn too, so that no tensor can be dropped or swapped unnoticed.

        Args:
            folder: made if needed.
            name: under which the tensors' shapes are stored.
            model_class: transformers' torch model, and `config` its configuration.
        """
        shapes = self(f"{name}.shapes", lambda: saved_shapes(model_class(config)))
        rng = np.random.default_rng(0)
        tensors = {}
        for tensor, shape in sorted(shapes.items()):
            noise = rng.standard_normal(tuple(shape))
            is_scale = not shape.size or re.search(r"norm\d?\.weight$|original0$", tensor)
            tensors[tensor] = np.asarray(1 + 0.2 * noise if is_scale else 0.15 * noise, np.float32)
        config.save_pretrained(folder)
        safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder


def saved_shapes(model: Any) -> dict[str, np.ndarray]:
    """Names and shapes of the tensors in a torch model's checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = safetensors.numpy.load_file(Path(folder) / "model.safetensors")
    return {name: np.array(tensor.shape, np.int64) for name, tensor in tensors.items()}


def load_torch(model_class: Any, folder: Path) -> Any:
    """A checkpoint as transformers reads it, in float32 and for inference; each tensor must have its place."""
    model, report = model_class.from_pretrained(folder, dtype="float32", output_loading_info=True)
    assert set(report["missing_keys"]) <= {"masked_spec_embed"}  # HuBERT's, for training
    assert not report["unexpected_keys"]
    return model.eval().requires_grad_(False)
