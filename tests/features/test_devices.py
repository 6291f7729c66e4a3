"""Extraction on eight simulated devices: the same features as on one, the decoder's weights split over them."""

import os
import subprocess
import sys

import numpy as np
import pytest

# One process computes all, as the number of devices is fixed when JAX starts.
SCRIPT = """
import sys
from pathlib import Path
import jax, numpy as np
from flax import nnx
from configs.semi import get_config
from mer_jax.checkpoints.huggingface import fetch
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.clips import Clip
from mer_jax.runtime.devices import local_mesh
from mer_jax.features.encoders import image_encoder, speech_encoder, text_encoder, video_encoder
from mer_jax.features.extraction import extract
from mer_jax.features.store import FeatureStore
from mer_jax.models import CLIP, Baichuan
from mer_jax.models.emovclip import EmoVCLIP
from transformers import AutoTokenizer
from mer_jax.models.emovclip import prompt_sets

folder, devices = Path(sys.argv[1]), len(jax.devices())


class Prepared:
    def __init__(self, number):
        self.number = number
        self.random = np.random.default_rng(number)

    def identity(self):
        return str(self.number)

    def sound(self, rate):
        return self.random.integers(-9999, 9999, rate // 2 + 3000 * self.number, np.int16)

    def faces(self):
        return self.random.integers(0, 255, (3 + 4 * self.number, 64, 64, 3), np.uint8)

    def frames(self, choose):
        return self.random.integers(0, 255, (30, 90, 120, 3), np.uint8)[choose(30)]


def clips():
    return [Clip(str(i), "train", transcript="今天真的很高兴。" * (1 + i % 3), prepared=Prepared(i)) for i in range(9)]


def features(encoder):
    store = FeatureStore(folder / f"{encoder.modality}-{encoder.model_parallel}")
    extract(clips(), encoder, store, ExtractionSettings(shard_clips=5))
    assert len(store.shards) == (2 if encoder.copies == 1 else 1)
    rows, present = store.rows([encoder.key(clip) for clip in clips()])
    assert present.all()
    return np.asarray(rows)


settings = get_config().encoders
settings.speech.batch_seconds = 4.0
settings.image.batch_frames = 32
settings.video.batch_frames = 8
settings.text.batch_tokens = 64
model = EmoVCLIP(
    CLIP.from_pretrained(settings.video.source, "float32"), ["angry", "happy"],
    tokenizer=AutoTokenizer.from_pretrained(fetch(settings.video.source)), depth=2, num_prompts=2, rngs=nnx.Rngs(0),
)
found = {
    "speech": features(speech_encoder(settings.speech)),
    "image": features(image_encoder(settings.image)),
    "video": features(video_encoder(settings.video, model, prompt_sets([model]))),
    "text": features(text_encoder(settings.text, {}, "zh-1")),
}
if devices == 8:
    settings.text.model_parallel = 4
    found["text, model parallel"] = features(text_encoder(settings.text, {}, "zh-1"))
    layers = Baichuan.from_pretrained("bundled/baichuan", "float32", local_mesh(4)).layers
    for kernel, split in ((layers.feed_forward.gate.kernel, 2), (layers.attention.out.kernel, 1)):
        (part,) = {shard.data.shape for shard in kernel[...].addressable_shards}
        assert part[split] * 4 == kernel.shape[split], (part, kernel.shape)
np.savez(folder / "found.npz", **found)
"""


def features(folder, devices):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder], env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "found.npz")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return [features(tmp_path_factory.mktemp("features"), devices) for devices in (1, 8)]


@pytest.mark.parametrize("name", ["speech", "image", "video", "text", "text, model parallel"])
def test_eight_devices_give_the_features_of_one(found, name):
    one, eight = found[0][name.partition(",")[0]], found[1][name]
    assert one.shape[0] == 9 and len(np.unique(one, axis=0)) == (3 if "text" in name else 9)
    np.testing.assert_allclose(eight, one, atol=1e-5 * np.abs(one).max())
