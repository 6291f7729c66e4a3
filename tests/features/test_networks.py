"""Which network reads a checkpoint."""

import json

import pytest

from mer_jax.features.networks import NETWORKS, checkpoint_of
from mer_jax.runtime.errors import DataError


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
