"""Which network reads a checkpoint."""

import json
from dataclasses import replace

import numpy as np
import pytest
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from mer_jax.data.clips import Clip
from mer_jax.features.encoder_settings import EncoderSettings, ImageSettings, TextSettings
from mer_jax.features.encoders import image_encoder, text_encoder
from mer_jax.features.memory import encoder_memory
from mer_jax.features.networks import NETWORKS, checkpoint_of
from mer_jax.runtime.errors import DataError
from tests.features.test_encoders import assert_close, mean_and_variance, row
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
    settings = ImageSettings(source=str(tmp_path), dtype="float32")
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
