"""What an encoder's features are kept under: the weights' content, wherever it changes, and every setting."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mer_jax.checkpoints.huggingface import fingerprint
from mer_jax.features.encoders import identify


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "clip"}', "utf-8")
    save_file({"a": np.zeros((500, 1000), np.float32), "b": np.zeros(7, np.float32)}, folder / "model.safetensors")
    return folder


def test_any_changed_weight_changes_it(checkpoint):
    before = fingerprint(checkpoint)
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    found = {before}
    for row, column in ((0, 0), (123, 456), (499, 999)):
        changed = tensors["a"].copy()
        changed[row, column] = 1e-7
        save_file({**tensors, "a": changed}, path)
        found.add(fingerprint(checkpoint))
    assert len(found) == 4
    save_file(tensors, path)
    assert fingerprint(checkpoint) == before


def test_names_and_configs_count_and_other_files_do_not(checkpoint):
    before = fingerprint(checkpoint)
    (checkpoint / "README.md").write_text("read me", "utf-8")
    assert fingerprint(checkpoint) == before
    (checkpoint / "config.json").rename(checkpoint / "configs.json")  # still the first one
    renamed = fingerprint(checkpoint)
    (checkpoint / "configs.json").write_text('{"model_type": "llama"}', "utf-8")
    assert len({before, renamed, fingerprint(checkpoint)}) == 3


@pytest.mark.parametrize("name", ["tokenizer.model", "merges.txt", "tokenizer.json", "pytorch_model.bin"])
def test_a_tokenizer_counts_as_the_weights_do(checkpoint, name):
    found = {fingerprint(checkpoint)}
    for content in ("a", "b"):
        (checkpoint / name).write_text(content, "utf-8")
        found.add(fingerprint(checkpoint))
    assert len(found) == 3


def test_an_encoder_is_its_weights_and_its_settings():
    assert identify("bundled/clip", frames=4, dtype="float32") == identify("bundled/clip", dtype="float32", frames=4)
    settings = [("bundled/clip", 4), ("bundled/clip", 8), ("bundled/hubert", 4)]
    assert len({identify(source, frames=frames) for source, frames in settings}) == 3
