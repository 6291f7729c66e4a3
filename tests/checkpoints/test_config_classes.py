"""Configs without transformers: all fields, under the names of its classes."""

import pytest
from transformers import CLIPConfig, HubertConfig, Qwen2Config, WhisperConfig

from mer_jax.checkpoints import config_classes
from mer_jax.checkpoints.config_classes import COMPLETE, StoredConfig, note
from mer_jax.models.baichuan_config import BaichuanConfig
from mer_jax.runtime.errors import DataError

CONFIGS = {
    "baichuan": BaichuanConfig(num_hidden_layers=2),
    "clip": CLIPConfig(text_config={"vocab_size": 7}, vision_config={"patch_size": 4}),
    "qwen2": Qwen2Config(rope_theta=77.0, num_hidden_layers=2),
    "wav2vec2": HubertConfig(model_type="wav2vec2", conv_bias=True),
    "whisper": WhisperConfig(d_model=12),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_stored_config_has_the_fields_of_its_class(tmp_path, monkeypatch, name):
    monkeypatch.setattr(config_classes, "COMPLETE", {})
    config = CONFIGS[name]
    config.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="pip install transformers, or export the run anew"):
        StoredConfig.from_pretrained(tmp_path)
    note(tmp_path, config)
    stored = StoredConfig.from_pretrained(tmp_path)
    names = {"hidden_size", "num_hidden_layers", "model_type", "rope_parameters", *config.attribute_map}
    for field in names & {*dir(config)}:
        assert getattr(stored, field) == getattr(config, field), field
    for section in config.sub_configs:
        ours, theirs = getattr(stored, section), getattr(config, section)
        assert ours.hidden_size == theirs.hidden_size and ours.hidden_act == theirs.hidden_act
    assert stored.get_text_config().vocab_size == config.get_text_config().vocab_size
    assert '"model_type": ' in stored.to_json_string()


def test_classes_are_those_of_transformers():
    assert config_classes.CLIPConfig is CLIPConfig and COMPLETE is config_classes.COMPLETE
    with pytest.raises(AttributeError, match="no attribute 'CLIP'"):
        config_classes.CLIP  # noqa: B018
