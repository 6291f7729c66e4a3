"""Each encoder from a clip to its row in the store, against transformers; and what its features are stored under."""

import json
import shutil
from operator import attrgetter
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from transformers import AutoFeatureExtractor, AutoTokenizer, CLIPModel, HubertModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from configs.semi import get_config
from mer_jax.checkpoints.sources import ASSETS
from mer_jax.data.clips import Clip
from mer_jax.data.corruptions import Corruption
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.features import checkpoint_folders, encoders
from mer_jax.features.encoders import (
    Encoder,
    check_encoders,
    image_encoder,
    speech_encoder,
    text_encoder,
    video_encoder,
)
from mer_jax.features.extraction import extract
from mer_jax.features.store import FeatureStore
from mer_jax.models.clip import CLIP
from mer_jax.models.emovclip import EmoVCLIP, prompt_sets
from mer_jax.runtime.errors import DataError, UsageError
from mer_jax.text.tokenizer import Tokenizer
from tests.data.media_files import write_sound
from tests.models.test_baichuan import alibi_reference
from tests.models.test_hubert import torch_hidden_states
from tests.oracle import load_torch

RATE = 16_000
RANKINGS = {"我走了。": ("sad", "worried")}


@pytest.fixture
def settings():
    return get_config().encoders


@pytest.fixture(scope="module")
def network():
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "clip")
    clip = CLIP.from_pretrained("bundled/clip", dtype=jnp.float32)
    return EmoVCLIP(clip, ["anger", "joy"], 2, 3, tokenizer=tokenizer, rngs=nnx.Rngs(0))


def row(encoder, clip, folder):
    """The clip's embedding, extracted, stored and read again."""
    extract([clip], encoder, FeatureStore(folder / "store"), ExtractionSettings(shard_clips=1))
    rows, present = FeatureStore(folder / "store").rows([encoder.key(clip)])
    assert present.all()
    return np.asarray(rows)[..., 0, :]


def mean_and_variance(frames):
    frames = np.asarray(frames, np.float64)  # [T, C]
    return np.stack([frames.mean(0), frames.var(0)])


def assert_close(ours, expected, tolerance=1e-4):
    """Relative to the scale of the last axis."""
    scale = np.abs(expected).max(-1, keepdims=True)
    np.testing.assert_allclose(ours / scale, expected / scale, rtol=0, atol=tolerance)


def as_transformers_sees_it(frames, size=48):
    """uint8 RGB [T, H, W, 3] -> normalised pixels [T, S, S, 3]."""
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    return processor(list(frames), return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)


def torch_speech(normal, chunk_samples):
    """Sum of the last four layers' states [T, C] of chunks of a normalised clip [S]."""
    model = load_torch(HubertModel, ASSETS / "hubert")
    chunks = np.split(normal, range(chunk_samples, len(normal), chunk_samples))
    return {"frames": np.concatenate([torch_hidden_states(model, chunk[None], 4).sum(0)[0] for chunk in chunks])}


@pytest.mark.parametrize("chunk_seconds", [10.0, 0.5], ids=["whole", "in chunks"])
def test_speech(settings, oracle, tmp_path, chunk_seconds):
    """A quiet half and a loud one: what is normalised is the clip, not its chunks."""
    noise = np.random.default_rng(0).normal(scale=np.repeat([300, 6000], RATE // 2), size=RATE) + 500
    waveform = noise.astype(np.int16)
    write_sound(tmp_path / "clip.wav", [waveform[None]], "pcm_s16le", "mono")
    settings.speech.chunk_seconds = chunk_seconds
    ours = row(speech_encoder(settings.speech), Clip("a", "train", media=tmp_path / "clip.wav"), tmp_path)

    extractor = AutoFeatureExtractor.from_pretrained(ASSETS / "hubert")
    (normal,) = extractor(waveform / 32768, sampling_rate=RATE, return_tensors="np")["input_values"]
    expected = oracle(
        f"encoders/speech_{chunk_seconds:g}", lambda: torch_speech(normal.astype(np.float32), int(chunk_seconds * RATE))
    )
    assert_close(ours.reshape(2, -1), mean_and_variance(expected["frames"]))


def test_text(settings, tmp_path):
    """Ranking and transcript by template zh-1, against the decoder's formula in float64."""
    ours = row(text_encoder(settings.text, RANKINGS, "zh-1"), Clip("a", "train", transcript="我走了。"), tmp_path)
    (ids,) = Tokenizer(ASSETS / "baichuan").encode(["情绪从最可能到最不可能：难过、担心。文本：我走了。"])
    tensors = safetensors.numpy.load_file(ASSETS / "baichuan" / "model.safetensors")
    states = alibi_reference(tensors, np.array(ids), 4, 4, [1 / 4, 1 / 16, 1 / 64, 1 / 256])
    assert_close(ours.reshape(2, -1), mean_and_variance(states.sum(0)))


def test_the_beginning_of_a_text_is_seen_and_not_pooled(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(Tokenizer, "prefix", property(lambda self: [5], lambda self, value: None), raising=False)
    ours = row(text_encoder(settings.text, {}, "zh-1"), Clip("a", "train", transcript="我走了。"), tmp_path)
    (ids,) = Tokenizer(ASSETS / "baichuan").encode(["我走了。"])
    tensors = safetensors.numpy.load_file(ASSETS / "baichuan" / "model.safetensors")
    states = alibi_reference(tensors, np.array([5, *ids]), 4, 4, [1 / 4, 1 / 16, 1 / 64, 1 / 256])
    assert_close(ours.reshape(2, -1), mean_and_variance(states.sum(0)[1:]))


def torch_faces(pixels):
    import torch

    model = load_torch(CLIPModel, ASSETS / "clip")
    return {"embeddings": model.get_image_features(torch.tensor(pixels.transpose(0, 3, 1, 2))).pooler_output}


def test_image(settings, oracle, tmp_path):
    """Smooth crops, which no rounding while resizing can change by much; blue first in the file."""
    rng = np.random.default_rng(0)
    crops = rng.integers(40, 216, (30, 1, 1, 3)) + np.arange(112)[:, None, None] // 4 - np.arange(112)[:, None] // 3
    crops = crops.astype(np.uint8)  # RGB
    np.save(tmp_path / "faces.npy", crops[..., ::-1])
    ours = row(image_encoder(settings.image), Clip("a", "train", faces=tmp_path / "faces.npy"), tmp_path)
    expected = oracle("encoders/image", lambda: torch_faces(as_transformers_sees_it(crops).astype(np.float32)))
    assert_close(ours.reshape(2, -1), mean_and_variance(expected["embeddings"]), 1e-3)


def torch_video(pixels, prompts):
    """Of each set of prompts [depth, K, D], the mean embedding [P] of the frames."""
    import torch

    from tests.models import torch_emovclip

    model = load_torch(CLIPModel, ASSETS / "clip")
    sets = [torch_emovclip.encode_image(model, pixels, torch.tensor(own)).mean(0) for own in prompts]
    return {"embeddings": torch.stack(sets)}


def test_video(settings, oracle, tmp_path, network):
    """Two sets of prompts, each with a row of its own: the mean over the middle frames of 3 segments of 9."""
    settings.video.num_frames = 3
    prompts = prompt_sets([network, network])
    rng = np.random.default_rng(1)
    vision = rng.normal(size=prompts.vision_prompts.shape).astype(np.float32)  # [2, depth, K, D]
    prompts.vision_prompts[...] = jnp.asarray(vision)
    frames = (rng.integers(40, 216, (9, 1, 1, 3)) + np.zeros((48, 48, 1), int)).astype(np.uint8)
    source = SimpleNamespace(identity=lambda: "a", frames=lambda choose: frames[choose(9)])
    ours = row(video_encoder(settings.video, network, prompts), Clip("a", "train", prepared=source), tmp_path)
    pixels = as_transformers_sees_it(frames[[1, 4, 7]]).astype(np.float32)
    expected = oracle("encoders/video", lambda: torch_video(pixels, vision))["embeddings"]
    assert_close(ours, expected)
    assert np.abs(ours[0] - ours[1]).max() > 0.01 * np.abs(ours).max()


def other_checkpoint(source, folder):
    shutil.copytree(ASSETS / source.partition("/")[2], folder / "other")
    (folder / "other" / "generation_config.json").write_text("{}")
    return str(folder / "other")


@pytest.mark.parametrize("modality", ["speech", "image", "text", "video"])
def test_every_setting_that_features_depend_on_is_in_their_fingerprint_and_no_other(
    settings, tmp_path, network, modality, monkeypatch
):
    """A setting left out of it would let features of two kinds lie in one store."""
    monkeypatch.setattr(checkpoint_folders, "normalises_sound", lambda folder, rate: True)  # at any rate
    build = {
        "speech": speech_encoder,
        "image": image_encoder,
        "text": lambda own: text_encoder(own, RANKINGS, "zh-1"),
        "video": lambda own: video_encoder(own, network, prompt_sets([network])),
    }[modality]
    own = settings[modality]
    changes = {
        "dtype": "bfloat16",
        "source": other_checkpoint(own.source, tmp_path),
        "sample_rate": 8_000,
        "chunk_seconds": 5.0,
        "keep_layers": 3,
        "num_frames": 5,
        "most_frames": 5,
        "buckets_tokens": (48, 64),  # the largest is where texts are cut
    }
    indifferent = {"batch_seconds": 1.0, "batch_frames": 9, "batch_tokens": 99, "model_parallel": 1}
    indifferent |= {"pooling": "mean"}  # stands in the store's name
    indifferent |= {"buckets_seconds": (2.0,), "buckets_frames": (4,), "attention": "xla"}
    before = build(own).fingerprint
    for key in own:
        changed = own.copy_and_resolve_references()
        changed[key] = (changes | indifferent)[key]
        assert (build(changed).fingerprint == before) == (key in indifferent), key


@pytest.mark.parametrize("modality", ["speech", "image", "text"])
def test_the_setting_of_attention_reaches_the_network(settings, modality, monkeypatch):
    models = []
    monkeypatch.setattr(encoders, "frozen_program", lambda model, embed: models.append(model))
    settings[modality].attention = "cudnn"
    build = {"speech": speech_encoder, "image": image_encoder, "text": lambda own: text_encoder(own, RANKINGS, "zh-1")}
    build[modality](settings[modality]).load()
    layers = {"speech": "encoder.layers", "image": "vision.layers", "text": "layers"}[modality]
    assert attrgetter(layers)(models[0]).attention.impl == "cudnn"


@pytest.mark.parametrize(("platform", "most"), [("gpu", 6), ("tpu", 2)])
def test_frames_of_all_clips_at_once_or_one_of_each(platform, most, monkeypatch):
    monkeypatch.setattr(encoders, "device_of", lambda x: SimpleNamespace(platform=platform))
    pixels = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 2, 2, 1)

    def encode(frames):
        assert len(frames) == most
        return frames.reshape(most, 4)[:, :3]

    np.testing.assert_array_equal(encoders.encode_frames(encode, jnp.asarray(pixels)), pixels.reshape(2, 3, 4)[..., :3])


def test_prompts_are_in_the_fingerprint_of_video(settings, network):
    prompts = prompt_sets([network])
    before = video_encoder(settings.video, network, prompts).fingerprint
    prompts.vision_prompts[...] = prompts.vision_prompts[...].at[0, 0, 0, 0].add(1e-6)
    assert video_encoder(settings.video, network, prompts).fingerprint != before


def test_a_corrupted_clip_has_an_entry_of_its_own(settings):
    encoder = text_encoder(settings.text, RANKINGS, "zh-1")
    corruptions = [None, Corruption(1, 5.0, 0.0, 1.0, ()), Corruption(2, 5.0, 0.0, 1.0, ())]
    clips = [Clip("a", "test", transcript="我走了。", corruption=corruption) for corruption in corruptions]
    assert len({encoder.key(clip) for clip in [*clips, Clip("b", "test", transcript="我走了。")]}) == 4


def test_a_batch_fills_the_budget_of_every_copy_of_the_weights(monkeypatch):
    monkeypatch.setattr(Encoder, "copies", 3)
    encoder = Encoder("numbers", None, "f", lambda: None, buckets=(4, 8, 100), budget=18)
    assert [encoder.batch_size(bucket) for bucket in encoder.buckets] == [12, 6, 3]


def other_config(source, folder, name, **changes):
    """A copy of a bundled checkpoint with other fields in one of its json files; its folder."""
    shutil.copytree(ASSETS / source, folder / "changed")
    file = folder / "changed" / name
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), "utf-8")
    return str(folder / "changed")


def test_sound_as_it_is_for_a_checkpoint_that_wants_it_so(settings, oracle, tmp_path):
    """Wav2Vec2FeatureExtractor with `do_normalize: false` gives the samples back."""
    waveform = np.random.default_rng(0).normal(500, 3000, RATE // 2).astype(np.int16)
    write_sound(tmp_path / "clip.wav", [waveform[None]], "pcm_s16le", "mono")
    before = speech_encoder(settings.speech).fingerprint
    settings.speech.source = other_config("hubert", tmp_path, "preprocessor_config.json", do_normalize=False)
    encoder = speech_encoder(settings.speech)
    ours = row(encoder, Clip("a", "train", media=tmp_path / "clip.wav"), tmp_path)
    extractor = AutoFeatureExtractor.from_pretrained(settings.speech.source)
    (values,) = extractor(waveform / 32768, sampling_rate=RATE, return_tensors="np")["input_values"]
    np.testing.assert_allclose(values, waveform / 32768, rtol=1e-6)
    expected = oracle("encoders/speech_as_it_is", lambda: torch_speech(values.astype(np.float32), RATE))
    assert_close(ours.reshape(2, -1), mean_and_variance(expected["frames"]))
    assert encoder.fingerprint != before


def test_faces_as_a_checkpoint_of_its_own_preprocessing_wants_them(settings, oracle, tmp_path):
    """Another mean, deviation and filter; video encoders read the same way, and so does the training of prompts."""
    rng = np.random.default_rng(0)
    crops = rng.integers(40, 216, (4, 1, 1, 3)) + np.arange(112)[:, None, None] // 4 - np.arange(112)[:, None] // 3
    np.save(tmp_path / "faces.npy", crops.astype(np.uint8)[..., ::-1])
    own = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    settings.image.source = settings.video.source = other_config("clip", tmp_path, "preprocessor_config.json", **own)
    ours = row(image_encoder(settings.image), Clip("a", "train", faces=tmp_path / "faces.npy"), tmp_path)
    processor = CLIPImageProcessorPil.from_pretrained(settings.image.source)
    pixels = processor(list(crops.astype(np.uint8)), return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    expected = oracle("encoders/image_of_its_own", lambda: torch_faces(pixels.astype(np.float32)))
    assert_close(ours.reshape(2, -1), mean_and_variance(expected["embeddings"]), 1e-3)


@pytest.mark.parametrize(
    ("modality", "source", "name", "changes", "message"),
    [
        ("speech", "hubert", "preprocessor_config.json", {"sampling_rate": 8000}, "sampling_rate is 8000"),
        ("speech", "hubert", "config.json", {"num_hidden_layers": 3}, "has 3 layers, fewer than .*keep_layers=4"),
        ("text", "baichuan", "config.json", {"num_hidden_layers": 2}, "has 2 layers, fewer than .*text.keep_layers=4"),
        ("text", "baichuan", "config.json", {"vocab_size": 1000}, "1,280 entries, but the embedding has 1,000 rows"),
        ("text", "baichuan", "config.json", {"quantization_config": {"quant_method": "gptq"}}, "quant_method gptq"),
        ("image", "clip", "preprocessor_config.json", {"resample": 0}, "resample is 0"),
        ("video", "clip", "preprocessor_config.json", {"crop_size": 9}, "crop_size is 9"),
    ],
)
def test_checkpoints_are_refused_before_any_work(settings, tmp_path, modality, source, name, changes, message):
    settings[modality].source = other_config(source, tmp_path, name, **changes)
    with pytest.raises(DataError, match=message) as error:
        check_encoders(settings, (modality,))
    assert "\n" not in str(error.value)
    check_encoders(settings, [name for name in ("speech", "image", "text", "video") if name != modality])


@pytest.mark.parametrize(
    ("kernel", "name", "platform"), [("cudnn", "an NVIDIA GPU", "gpu"), ("pallas", "a TPU", "tpu")]
)
def test_a_kernel_is_refused_where_its_device_is_not(settings, monkeypatch, kernel, name, platform):
    settings["speech"].attention = kernel
    with pytest.raises(UsageError, match=rf"encoders.speech.attention={kernel} needs {name}, .* a cpu"):
        check_encoders(settings, ("image", "speech"))
    check_encoders(settings, ("image",))
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(platform=platform)] * 2)
    check_encoders(settings, ("speech",))
    other = {"gpu": "tpu", "tpu": "gpu"}[platform]
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(platform=other)])
    with pytest.raises(UsageError, match=f"needs {name}, and this is a {other}"):
        check_encoders(settings, ("speech",))
