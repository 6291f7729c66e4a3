"""Which network reads a checkpoint, and each from a clip to its row, as transformers would."""

import json
from dataclasses import replace

import numpy as np
import pytest
from transformers import (
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from mer_jax.data.clips import Clip
from mer_jax.features.encoder_settings import EncoderSettings, ImageSettings, SpeechSettings, TextSettings
from mer_jax.features.encoders import image_encoder, speech_encoder, text_encoder
from mer_jax.features.memory import encoder_memory
from mer_jax.features.networks import NETWORKS, checkpoint_of
from mer_jax.runtime.errors import DataError
from tests.data.media_files import write_sound
from tests.features.test_encoders import RATE, assert_close, mean_and_variance, row
from tests.models.test_hubert import SMALL, torch_hidden_states
from tests.models.test_whisper import SMALL as SMALL_WHISPER
from tests.oracle import load_torch


@pytest.mark.parametrize("modality", NETWORKS)
def test_the_model_type_names_the_network_and_an_unknown_one_the_known(modality, tmp_path):
    for kind, network in NETWORKS[modality].items():
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, "num_hidden_layers": 1}))
        _, config, chosen = checkpoint_of(str(tmp_path), modality)
        assert chosen is network and config.num_hidden_layers == 1
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(DataError, match="model_type is 't5'; expected " + " or ".join(NETWORKS[modality])) as error:
        checkpoint_of(str(tmp_path), modality)
    assert "\n" not in str(error.value)


WIDTHS = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
BIT = {"image_processor_type": "BitImageProcessor", "image_mean": [0.485, 0.456, 0.406]}
BIT |= {"image_std": [0.229, 0.224, 0.225], "size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}}


def test_faces_by_dinov2_as_its_own_files_want_them(oracle, tmp_path):
    """Cropped to other images than it was trained on; a crop that is no square is refused."""
    oracle.checkpoint(tmp_path, "encoders/dinov2", Dinov2Model, Dinov2Config(**WIDTHS, image_size=70, patch_size=7))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(BIT))
    crops = np.random.default_rng(0).integers(40, 216, (3, 1, 1, 3)) + np.arange(48)[:, None, None]
    np.save(tmp_path / "faces.npy", crops.repeat(48, 2).astype(np.uint8)[..., ::-1])
    settings = ImageSettings(source=str(tmp_path), dtype="float32", batch_frames=8)
    ours = row(image_encoder(settings), Clip("a", "train", faces=tmp_path / "faces.npy"), tmp_path)

    def compute():
        import torch

        processor = BitImageProcessorPil.from_pretrained(tmp_path)
        pixels = processor(list(crops.repeat(48, 2).astype(np.uint8)), return_tensors="np")["pixel_values"]
        model = load_torch(Dinov2Model, tmp_path)
        return {"embeddings": model(torch.tensor(np.asarray(pixels, np.float32))).pooler_output}

    expected = oracle("encoders/dinov2", compute)["embeddings"]
    assert_close(ours.reshape(2, -1), mean_and_variance(expected), 1e-3)
    assert sum(encoder_memory(EncoderSettings(image=settings), "image", "cpu")) > 0
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(BIT | {"crop_size": {"height": 28, "width": 20}}))
    with pytest.raises(DataError, match=r"crop_size is .*; expected a square of at least 7 px"):
        image_encoder(settings)


def test_faces_by_siglip_as_its_own_files_want_them(oracle, tmp_path):
    """Stretched to a square, by SigLIP 2's bilinear filter; images of another size than the network's are refused."""
    vision, text = WIDTHS | {"intermediate_size": 44, "image_size": 30, "patch_size": 7}, WIDTHS | {"vocab_size": 9}
    config = SiglipConfig(vision_config=vision, text_config=text)
    oracle.checkpoint(tmp_path, "encoders/siglip", SiglipModel, config)
    processor = SiglipImageProcessorPil(size={"height": 30, "width": 30}, resample=2)
    processor.save_pretrained(tmp_path)
    crops = (
        np.random.default_rng(0).integers(40, 216, (3, 1, 1, 3)) + np.arange(48)[:, None, None] + np.arange(40)[:, None]
    )
    crops = crops.clip(0, 255).astype(np.uint8)
    np.save(tmp_path / "faces.npy", crops[..., ::-1])
    settings = ImageSettings(source=str(tmp_path), dtype="float32", batch_frames=8)
    ours = row(image_encoder(settings), Clip("a", "train", faces=tmp_path / "faces.npy"), tmp_path)

    def compute():
        import torch

        pixels = np.asarray(processor(list(crops), return_tensors="np")["pixel_values"], np.float32)
        return {"embeddings": load_torch(SiglipModel, tmp_path).get_image_features(torch.tensor(pixels)).pooler_output}

    assert_close(ours.reshape(2, -1), mean_and_variance(oracle("encoders/siglip", compute)["embeddings"]), 1e-3)
    processor.size = {"height": 32, "width": 32}
    processor.save_pretrained(tmp_path)
    with pytest.raises(DataError, match=r"size is .*; expected a height and a width of 30 px"):
        image_encoder(settings)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match=r"no preprocessor_config.json, which says how images are resized"):
        image_encoder(settings)


NOISE = np.random.default_rng(0).normal(scale=np.repeat([300, 6000], 12_000), size=24_000) + 500  # 1.5 s


def sound(folder):
    write_sound(folder / "clip.wav", [NOISE.astype(np.int16)[None]], "pcm_s16le", "mono")
    return Clip("a", "train", media=folder / "clip.wav")


def test_sound_by_wavlm(oracle, tmp_path):
    config = WavLMConfig(**SMALL | {"num_hidden_layers": 4})
    oracle.checkpoint(tmp_path, "encoders/wavlm", WavLMModel, config)
    extractor = Wav2Vec2FeatureExtractor()
    extractor.save_pretrained(tmp_path)
    settings = SpeechSettings(source=str(tmp_path), dtype="float32", batch_seconds=2.0)
    ours = row(speech_encoder(settings), sound(tmp_path), tmp_path)

    def compute():
        inputs = extractor(NOISE.astype(np.int16) / 32768, sampling_rate=RATE, return_tensors="np")["input_values"]
        states = torch_hidden_states(load_torch(WavLMModel, tmp_path), inputs.astype(np.float32), 4)
        return {"pooled": mean_and_variance(states.sum(0)[0])}

    assert_close(ours.reshape(2, -1), oracle("encoders/wavlm", compute)["pooled"])


def test_sound_by_whisper_in_pieces_of_its_own_length(oracle, tmp_path):
    """A second, and the rest with silence behind it, whatever the settings say of pieces; not normalised."""
    config = WhisperConfig(**SMALL_WHISPER | {"encoder_layers": 4})
    oracle.checkpoint(tmp_path, "encoders/whisper", WhisperForConditionalGeneration, config)
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    extractor.save_pretrained(tmp_path)
    settings = SpeechSettings(source=str(tmp_path), dtype="float32", chunk_seconds=0.5)
    encoder = speech_encoder(settings)
    assert encoder.fingerprint == speech_encoder(replace(settings, chunk_seconds=10.0)).fingerprint
    ours = row(encoder, sound(tmp_path), tmp_path)

    def compute():
        import torch

        pieces, model = np.split(NOISE.astype(np.int16) / 32768, [RATE]), None
        model = load_torch(WhisperForConditionalGeneration, tmp_path).model.encoder
        inputs = extractor(pieces, sampling_rate=RATE, return_tensors="pt")["input_features"]
        out = model(inputs, output_hidden_states=True)
        states = torch.stack([*out.hidden_states[-4:-1], out.last_hidden_state]).sum(0)
        return {"frames": torch.cat([states[0], states[1, :25]])}

    assert_close(ours.reshape(2, -1), mean_and_variance(oracle("encoders/whisper", compute)["frames"]))
    with pytest.raises(DataError, match=r"is for sound of 16000 Hz: set encoders\.speech\.sample_rate=16000"):
        speech_encoder(replace(settings, sample_rate=8_000))
    WhisperFeatureExtractor(feature_size=80, chunk_length=1).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="feature_size is 80; expected 16"):
        speech_encoder(settings)


def test_what_stands_between_the_special_tokens_of_bert_is_pooled(oracle, tmp_path):
    config = BertConfig(**WIDTHS, intermediate_size=48, vocab_size=7, max_position_embeddings=16)
    oracle.checkpoint(tmp_path, "encoders/bert", BertModel, config)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "我", "走", "了"]), "utf-8")
    settings = TextSettings(source=str(tmp_path), dtype="float32", buckets_tokens=(8, 16))
    ours = row(text_encoder(settings, {}, "zh-1"), Clip("a", "train", transcript="我走了。"), tmp_path)

    def compute():
        import torch

        out = load_torch(BertModel, tmp_path)(torch.tensor([[2, 4, 5, 6, 1, 3]]), output_hidden_states=True)
        return {"tokens": torch.stack(out.hidden_states[-4:]).sum(0)[0, 1:-1]}

    assert_close(ours.reshape(2, -1), mean_and_variance(oracle("encoders/bert", compute)["tokens"]))
    assert sum(encoder_memory(EncoderSettings(text=settings), "text", "cpu")) > 0
    with pytest.raises(DataError, match="takes 16 tokens, fewer than the 32 of"):
        text_encoder(replace(settings, buckets_tokens=(32,)), {}, "zh-1")
