"""Extraction on eight simulated devices: the same features as on one, the decoder's weights split over them."""

import os
import subprocess
import sys

import numpy as np

# One process computes both, as the number of devices is fixed when JAX starts.
SCRIPT = """
import sys
from pathlib import Path
import jax, numpy as np
from ml_collections import ConfigDict
from mer_jax.checkpoints.huggingface import fetch
from mer_jax.data.clips import Clip
from mer_jax.features.encoders import local_mesh, text_encoder
from mer_jax.features.extraction import extract
from mer_jax.features.store import FeatureStore
from mer_jax.models import Baichuan

folder = Path(sys.argv[1])
clips = [Clip(str(i), "train", transcript="今天真的很高兴。" * (1 + i % 3)) for i in range(9)]
found = []
for model_parallel in (1, 4):
    settings = ConfigDict({
        "source": "bundled/baichuan", "dtype": "float32", "keep_layers": 2, "buckets_tokens": (64, 256),
        "batch_tokens": 64, "model_parallel": model_parallel,
    })
    encoder = text_encoder(settings, {}, "zh-1")
    store = FeatureStore(folder / str(model_parallel))
    assert encoder.batch_size(64) == len(jax.devices()) // model_parallel
    extract(clips, encoder, store, shard_size=5)
    found.append(np.asarray(store.rows([encoder.key(clip) for clip in clips])[0]))
np.save(folder / "found.npy", np.stack(found))

if len(jax.devices()) == 8:
    model = Baichuan.from_pretrained("bundled/baichuan", "float32", local_mesh(4))
    layers = model.layers
    for kernel, split in ((layers.feed_forward.gate.kernel, 2), (layers.attention.out.kernel, 1)):
        (part,) = {shard.data.shape for shard in kernel[...].addressable_shards}
        assert part[split] * 4 == kernel.shape[split], (part, kernel.shape)
"""


def features(folder, script, devices):
    folder.mkdir()
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-c", script, folder], env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "found.npy")


def test_eight_devices_give_the_features_of_one(tmp_path):
    one = features(tmp_path / "one", SCRIPT.replace("(1, 4)", "(1,)"), 1)
    eight = features(tmp_path / "eight", SCRIPT, 8)
    np.testing.assert_allclose(eight, np.broadcast_to(one, eight.shape), atol=1e-5 * np.abs(one).max())
