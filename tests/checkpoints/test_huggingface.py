import json
import os
import shutil
import sys
from dataclasses import replace

import huggingface_hub
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from jax.sharding import PartitionSpec as P
from transformers import CLIPConfig, HubertConfig

from mer_jax.checkpoints.huggingface import (
    CONV,
    SPLIT3,
    TRANSPOSE,
    Rule,
    checkpoint_facts,
    fetch,
    fingerprint,
    load_pretrained,
    read_config,
    save_pretrained,
)
from mer_jax.checkpoints.sources import ASSETS
from mer_jax.checkpoints.weight_files import weight_files
from mer_jax.models.clip import CLIP
from mer_jax.runtime.errors import DataError
from tests.hub import Commit, Hub
from tests.torch_writer import save_torch

LAYERS, WIDTH = 3, 4


class Toy(nnx.Module):
    def __init__(self, rngs):
        keys = jax.random.split(rngs.params(), LAYERS)
        self.layers = jax.vmap(lambda key: nnx.Linear(WIDTH, 2 * WIDTH, rngs=nnx.Rngs(key)))(keys)
        self.query, self.key, self.value = (nnx.Param(jnp.zeros((LAYERS, WIDTH, WIDTH))) for _ in range(3))
        self.conv = nnx.Conv(2, WIDTH, (3, 5), use_bias=False, rngs=rngs)
        self.scale = nnx.Param(jnp.zeros(()))


RULES = (
    Rule("layers.{layer}.weight", "layers.kernel", TRANSPOSE, partition=P(None, None, "model")),
    Rule(("layers.{layer}.bias", "layers.{layer}.beta"), "layers.bias"),
    Rule("layers.{layer}.qkv", ("query", "key", "value"), SPLIT3),
    Rule("conv.weight", "conv.kernel", CONV),
    Rule("scale", "scale", dtype=jnp.float32),
    Rule("*.position_ids", None),
)


def toy_tensors():
    rng = np.random.default_rng(0)
    shapes = {"conv.weight": (WIDTH, 2, 3, 5), "scale": (), "embeddings.position_ids": (1, 7)}
    for layer in range(LAYERS):
        shapes[f"layers.{layer}.weight"] = (2 * WIDTH, WIDTH)
        shapes[f"layers.{layer}.bias"] = (2 * WIDTH,)
        shapes[f"layers.{layer}.qkv"] = (3 * WIDTH, WIDTH)
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in shapes.items()}


def write(folder, tensors, name="model.safetensors"):
    (folder / "config.json").write_text("{}")
    safetensors.numpy.save_file(tensors, folder / name)


def check(module, tensors, layer=1):
    np.testing.assert_array_equal(module.layers.kernel[layer], tensors[f"layers.{layer}.weight"].T)
    np.testing.assert_array_equal(module.layers.bias[layer], tensors[f"layers.{layer}.bias"])
    for index, target in enumerate((module.query, module.key, module.value)):
        block = tensors[f"layers.{layer}.qkv"][index * WIDTH : (index + 1) * WIDTH]
        np.testing.assert_array_equal(target[layer], block.T)
    np.testing.assert_array_equal(module.conv.kernel[2, 4], tensors["conv.weight"][:, :, 2, 4].T)
    np.testing.assert_array_equal(module.scale[...], tensors["scale"])


def test_every_tensor_lands_where_its_rule_says(tmp_path):
    tensors = toy_tensors()
    write(tmp_path, tensors)
    module = load_pretrained(Toy, RULES, tmp_path)
    for layer in range(LAYERS):
        check(module, tensors, layer)


def test_sharded_checkpoint(tmp_path):
    tensors = toy_tensors()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, kept in shards.items():
        write(tmp_path, {name: tensors[name] for name in kept}, file)
    weight_map = {name: file for file, kept in shards.items() for name in kept}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    check(load_pretrained(Toy, RULES, tmp_path), tensors)

    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(DataError, match=r"lists b\.safetensors"):
        load_pretrained(Toy, RULES, tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_torch_checkpoint(tmp_path, legacy, dtype):
    tensors = {name: tensor.astype(dtype) for name, tensor in toy_tensors().items()}
    tensors["embeddings.position_ids"] = np.arange(7)[None]  # whole numbers, which are not needed
    (tmp_path / "config.json").write_text("{}")
    save_torch(tmp_path / "pytorch_model.bin", tensors, legacy)
    check(load_pretrained(Toy, RULES, tmp_path), {name: x.astype(np.float32) for name, x in tensors.items()})


def test_torch_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    test_torch_checkpoint(tmp_path, False, np.float32)


def test_safetensors_are_read_where_there_is_a_torch_file_as_well(tmp_path):
    tensors = toy_tensors()
    write(tmp_path, tensors)
    save_torch(tmp_path / "pytorch_model.bin", {name: -tensor for name, tensor in tensors.items()})
    check(load_pretrained(Toy, RULES, tmp_path), tensors)


def test_quantised_torch_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    save_torch(tmp_path / "pytorch_model.bin", {name: x.astype(np.int8) for name, x in toy_tensors().items()})
    with pytest.raises(DataError, match=r"11 tensors \(conv\.weight, \.\.\.\) are quantised"):
        load_pretrained(Toy, RULES, tmp_path)


def test_all_misfits_are_listed_at_once(tmp_path):
    tensors = toy_tensors()
    del tensors["layers.2.bias"], tensors["scale"]
    tensors["layers.1.beta"] = tensors["layers.1.bias"]
    tensors["layers.3.weight"] = tensors["layers.0.weight"]
    tensors["head.weight"] = np.zeros((2, 2), np.float32)
    tensors["layers.0.qkv"] = np.zeros((3 * WIDTH + 1, WIDTH), np.float32)
    tensors["conv.weight"] = np.zeros((WIDTH, 2, 3, 3), np.float32)
    write(tmp_path, tensors)
    with pytest.raises(DataError) as error:
        load_pretrained(Toy, RULES, tmp_path)
    assert str(error.value).removeprefix(f"{tmp_path}: the weights do not fit config.json: ").split("; ") == [
        "misshapen: conv.weight [4, 2, 3, 3], expected [4, 2, 3, 5]",
        "misshapen: layers.0.qkv [13, 4], expected [12, 4]",
        "missing: layers.2.bias or layers.2.beta",
        "missing: scale",
        "one tensor under two names: layers.1.bias and layers.1.beta",
        "unexpected: head.weight [2, 2]",
        "unexpected: layers.3.weight [8, 4]",
    ]


def test_alternative_names_and_prefix(tmp_path):
    tensors = toy_tensors()
    renamed = {"toy." + name.replace("bias", "beta"): tensor for name, tensor in tensors.items()}
    write(tmp_path, renamed)
    check(load_pretrained(Toy, RULES, tmp_path, prefixes=("toy.",)), tensors)
    with pytest.raises(DataError, match=r"unexpected: toy\.scale"):
        load_pretrained(Toy, RULES, tmp_path)


def test_a_table_must_cover_the_module(tmp_path):
    write(tmp_path, toy_tensors())
    with pytest.raises(ValueError, match="scale"):
        load_pretrained(Toy, [rule for rule in RULES if rule.target != "scale"], tmp_path)


@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_dtype_is_the_loaders_or_the_rules(tmp_path, stored):
    write(tmp_path, {name: tensor.astype(stored) for name, tensor in toy_tensors().items()})
    module = load_pretrained(Toy, RULES, tmp_path, jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves((module.layers, module.conv, module.key))} == {jnp.dtype(jnp.bfloat16)}
    assert module.scale.dtype == jnp.float32


def test_saving_writes_the_same_names_layouts_and_dtypes_back(tmp_path):
    tensors = toy_tensors()
    write(tmp_path, tensors)
    config = CLIPConfig(projection_dim=7)
    save_pretrained(load_pretrained(Toy, RULES, tmp_path), RULES, config, tmp_path / "saved")
    saved = safetensors.numpy.load_file(tmp_path / "saved" / "model.safetensors")
    del tensors["embeddings.position_ids"]
    assert saved.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(saved[name], tensor)
        assert saved[name].shape == tensor.shape
    assert read_config(tmp_path / "saved", {"clip": CLIPConfig}).projection_dim == 7

    half = load_pretrained(Toy, RULES, tmp_path, jnp.bfloat16)
    save_pretrained(half, RULES, config, tmp_path / "half")
    saved = safetensors.numpy.load_file(tmp_path / "half" / "model.safetensors")
    assert saved["conv.weight"].dtype == jnp.bfloat16 and saved["scale"].dtype == np.float32


def test_partition_over_a_mesh(tmp_path):
    tensors = toy_tensors()
    write(tmp_path, tensors)
    mesh = jax.make_mesh((1,), ("model",), devices=jax.devices()[:1])
    module = load_pretrained(Toy, RULES, tmp_path, mesh=mesh)
    assert module.layers.kernel.sharding.spec == P(None, None, "model")
    assert module.conv.kernel.sharding.mesh == mesh and module.layers.bias.sharding.mesh == mesh
    check(module, tensors)


def test_no_such_model_while_offline(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        DataError, match=r"^someone/no-such-model: no such folder, not downloaded before, and HF_HUB_OFFLINE"
    ):
        fetch("someone/no-such-model")
    with pytest.raises(DataError, match="no such folder"):
        fetch(tmp_path / "nowhere")


def test_a_hub_id_in_the_cache_is_found_offline(tmp_path, monkeypatch):
    repository = tmp_path / "models--someone--toy"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    write(snapshot, toy_tensors())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert fetch("someone/toy") == snapshot


def test_broken_folders(tmp_path):
    with pytest.raises(DataError, match=r"no config\.json"):
        fetch(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "hubert"}')
    with pytest.raises(DataError, match="model_type is 'hubert'; expected clip"):
        read_config(tmp_path, {"clip": CLIPConfig})
    with pytest.raises(DataError, match=r"expected model\.safetensors"):
        load_pretrained(Toy, RULES, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(DataError, match="not a whole safetensors file"):
        load_pretrained(Toy, RULES, tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json: cannot be read as JSON .*; download it again"):
        read_config(tmp_path, {"clip": CLIPConfig})


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "base_model.model.", "module._orig_mod."])
def test_what_frameworks_put_before_names_is_dropped(tmp_path, wrapper):
    tensors = toy_tensors()
    write(tmp_path, {wrapper + name: tensor for name, tensor in tensors.items()})
    check(load_pretrained(Toy, RULES, tmp_path), tensors)


def test_a_spare_name_counts_where_there_is_no_other(tmp_path):
    rules = [replace(rule, spare="tied") if rule.source == "scale" else rule for rule in RULES]
    rules.append(Rule("tied", None))
    tensors = toy_tensors()
    write(tmp_path, tensors | {"tied": np.ones((), np.float32)})
    check(load_pretrained(Toy, rules, tmp_path), tensors)
    write(tmp_path, {"tied" if name == "scale" else name: tensor for name, tensor in tensors.items()})
    check(load_pretrained(Toy, rules, tmp_path), tensors)


def test_quantised_weights_are_refused_in_one_line(tmp_path):
    tensors = toy_tensors()
    write(tmp_path, tensors | {"layers.0.weight": tensors["layers.0.weight"].astype(np.int8)})
    with pytest.raises(DataError, match=r"1 tensors \(layers\.0\.weight, \.\.\.\) are quantised") as error:
        load_pretrained(Toy, RULES, tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text('{"model_type": "clip", "quantization_config": {"quant_method": "awq"}}')
    with pytest.raises(DataError, match=r"config\.json: quantization_config \(quant_method awq\)"):
        read_config(tmp_path, {"clip": CLIPConfig})


def test_a_part_that_is_not_there_is_named_in_one_line(tmp_path):
    folder = shutil.copytree(ASSETS / "clip", tmp_path / "clip")
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    vision = {name: tensor for name, tensor in tensors.items() if name.startswith("vision_model")}
    safetensors.numpy.save_file(vision, folder / "model.safetensors")
    with pytest.raises(DataError, match="its weights hold no text_model, which") as error:
        CLIP.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_a_config_that_transformers_cannot_read_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip", "projection_dim": "wide"}')
    with pytest.raises(DataError, match="transformers cannot read it"):
        read_config(tmp_path, {"clip": CLIPConfig})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 10**9),
        ("num_hidden_layers", 10**7),
        ("num_hidden_layers", -1),
        ("conv_dim", [32, 10**9]),
        ("d_model", 10**9),
        ("hidden_size", 1e999),
    ],
)
def test_sizes_beyond_the_weights_are_refused_before_anything_is_allocated(tmp_path, field, value):
    shutil.copytree(ASSETS / "hubert", tmp_path / "hubert")
    file = tmp_path / "hubert" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {field: value}))
    with pytest.raises(DataError, match=rf"config\.json: {field}.* is -?[\d,inf]+, and the weights hold [\d,]+ bytes"):
        read_config(tmp_path / "hubert", {"hubert": HubertConfig})


@pytest.mark.parametrize("name", ["/etc/passwd", "../model.safetensors", 5, None])
def test_an_index_names_files_of_its_folder_alone(tmp_path, name):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(DataError, match=r"index\.json: no weight_map to read in it"):
        weight_files(tmp_path)


@pytest.mark.parametrize("config", ["[]", '{"model_type": ["clip"]}', '{"model_type": "clip", "vision_config": 5}'])
def test_a_config_of_another_kind_is_one_line(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(DataError, match=r"config\.json: "):
        read_config(tmp_path, {"clip": CLIPConfig})


def test_pipes_and_files_of_absurd_sizes_are_refused_before_they_are_read(tmp_path):
    folder = shutil.copytree(ASSETS / "clip", tmp_path / "clip")
    assert fetch(folder) == folder
    os.mkfifo(folder / "extra.json")
    with pytest.raises(DataError, match=r"extra\.json: not a regular file"):
        fetch(folder)
    (folder / "extra.json").unlink()
    for name, reason in (("vocab.json", "of 300.0 GiB"), ("model.safetensors", "not a whole safetensors file")):
        with open(folder / name, "wb") as file:
            file.truncate(300 * 2**30)
        with pytest.raises(DataError, match=rf"{name}: {reason}"):
            fetch(folder)
        shutil.copyfile(ASSETS / "clip" / name, folder / name)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 6e4])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, dtype, number):
    tensors = {name: x.astype(dtype) for name, x in toy_tensors().items()}
    tensors["scale"].flat[-1] = number
    write(tmp_path, tensors)
    if np.isfinite(number):
        load_pretrained(Toy, RULES, tmp_path)
        return
    with pytest.raises(DataError, match=r"model\.safetensors: scale holds numbers that are not finite"):
        load_pretrained(Toy, RULES, tmp_path)


def test_which_weights_a_run_used(tmp_path, monkeypatch):
    assert checkpoint_facts("bundled/clip") == {
        "source": "bundled/clip",
        "commit": "",
        "fingerprint": fingerprint(ASSETS / "clip"),
    }
    with Hub(tmp_path) as hub:
        hub.serve_this_process(monkeypatch, tmp_path / "cache")
        shutil.copytree(ASSETS / "hubert", tmp_path / "maker" / "speech@v1")
        (tmp_path / "maker" / "speech").mkdir()
        facts = checkpoint_facts("maker/speech@v1")
    assert facts == {
        "source": "maker/speech@v1",
        "commit": Commit(tmp_path / "maker" / "speech@v1").hash,
        "fingerprint": fingerprint(ASSETS / "hubert"),
    }
