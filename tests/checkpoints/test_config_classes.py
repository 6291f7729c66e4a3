"""Configs without transformers: all fields, under the names of its classes."""

import pytest
from flax import nnx
from transformers import CLIPConfig, HubertConfig, Qwen2Config, WhisperConfig

from mer_jax.checkpoints import config_classes
from mer_jax.checkpoints.config_classes import COMPLETE, StoredConfig, all_fields, digest
from mer_jax.features.networks import NETWORKS
from mer_jax.models.baichuan_config import BaichuanConfig
from mer_jax.runtime.errors import DataError

CONFIGS = {
    "baichuan": BaichuanConfig(num_hidden_layers=2),
    "clip": CLIPConfig(text_config={"vocab_size": 7}, vision_config={"patch_size": 4}),
    "qwen2": Qwen2Config(rope_theta=77.0, num_hidden_layers=2),
    "wav2vec2": HubertConfig(model_type="wav2vec2", conv_bias=True),
    "whisper": WhisperConfig(d_model=12),
}
PORTS = {kind: network for networks in NETWORKS.values() for kind, network in networks.items()}


def stored(config):
    return StoredConfig(**all_fields(config))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_stored_config_has_the_fields_of_its_class(name):
    config = CONFIGS[name]
    ours = stored(config)
    names = {"hidden_size", "num_hidden_layers", "model_type", "rope_parameters", *config.attribute_map}
    for field in names & {*dir(config)}:
        assert getattr(ours, field) == getattr(config, field), field
    for section in config.sub_configs:
        assert getattr(ours, section).hidden_size == getattr(config, section).hidden_size
    assert ours.get_text_config().vocab_size == config.get_text_config().vocab_size
    assert '"model_type": ' in ours.to_json_string()


@pytest.mark.parametrize("kind", PORTS)
def test_every_port_is_made_of_a_stored_config_too(kind):
    def shapes(config):
        network = nnx.eval_shape(lambda: PORTS[kind](config, rngs=nnx.Rngs(0)))
        return {path: variable.shape for path, variable in nnx.to_flat_state(nnx.state(network))}

    config = PORTS[kind].configs[kind]()
    assert shapes(stored(config)) == shapes(config)


def test_a_config_is_what_an_export_says_of_the_very_file(tmp_path, monkeypatch):
    config = CONFIGS["qwen2"]
    config.save_pretrained(tmp_path)
    with pytest.raises(DataError, match="pip install transformers, or export the run anew"):
        StoredConfig.from_pretrained(tmp_path)
    monkeypatch.setitem(COMPLETE, digest(tmp_path), all_fields(config))
    assert StoredConfig.from_pretrained(tmp_path).hidden_act == config.hidden_act


def test_classes_are_those_of_transformers():
    assert config_classes.CLIPConfig is CLIPConfig
    with pytest.raises(AttributeError, match="no attribute 'CLIP'"):
        config_classes.CLIP  # noqa: B018
