"""Writes the bundled face detector, mer_jax/assets/mtcnn/, from the PyPI package `mtcnn` 1.0.0 (MIT).

The package's weights are joblib pickles, so they are read here once, and never by mer_jax itself:

    pip download --no-deps mtcnn==1.0.0
    pip install joblib lz4
    python pretrain/convert_mtcnn.py mtcnn-1.0.0-py3-none-any.whl

The file holds float32: float16 would halve it, but rounding reorders boxes of nearly equal score, which moved
landmarks by up to 5 pixels on real 512 x 512 frames (median 0.2).
"""

import io
import sys
import zipfile
from pathlib import Path

import joblib
import numpy as np
from safetensors.numpy import save_file

TARGET = Path(__file__).parents[1] / "mer_jax" / "assets" / "mtcnn"


def conv(i: int) -> list[str]:
    return [f"conv{i}.kernel", f"conv{i}.bias", f"prelu{i}.slope"]


def head(name: str) -> list[str]:
    return [f"{name}.kernel", f"{name}.bias"]


# Keras gives a flat list in layer order (mtcnn/network/*.py); its conv and dense kernels have Flax's layout.
LAYERS = {
    "pnet": [*conv(1), *conv(2), *conv(3), *head("box"), *head("face")],
    "rnet": [*conv(1), *conv(2), *conv(3), *head("dense"), "prelu4.slope", *head("box"), *head("face")],
    "onet": [
        *(name for i in range(1, 5) for name in conv(i)),
        *head("dense"),
        "prelu5.slope",
        *head("box"),
        *head("landmarks"),
        *head("face"),
    ],
}


def convert(name: str, value: np.ndarray) -> np.ndarray:
    if name.endswith("slope"):
        value = value.reshape(-1)  # [1, 1, C] -> [C]
    if name == "dense.kernel":  # the package flattens [W, H, C], we flatten [H, W, C]; H = W = 3
        value = value.reshape(3, 3, -1, value.shape[-1]).swapaxes(0, 1).reshape(value.shape)
    return np.ascontiguousarray(value, np.float32)


def main(wheel: str) -> None:
    tensors = {}
    with zipfile.ZipFile(wheel) as archive:
        for net, names in LAYERS.items():
            values = joblib.load(io.BytesIO(archive.read(f"mtcnn/assets/weights/{net}.lz4")))
            tensors |= {f"{net}.{n}": convert(n, v) for n, v in zip(names, values, strict=True)}
        licence = archive.read("mtcnn-1.0.0.dist-info/LICENSE")
    TARGET.mkdir(parents=True, exist_ok=True)
    save_file(tensors, TARGET / "model.safetensors")
    (TARGET / "LICENSE").write_bytes(licence)


if __name__ == "__main__":
    main(sys.argv[1])
