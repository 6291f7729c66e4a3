from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from mer_jax.checkpoints.pytrees import content_of, load_trained, save_trained, stored
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import Damaged, mark


@pytest.mark.parametrize("width", [0, 3])
def test_arrays_come_back_and_empty_ones_too(tmp_path, width):
    tree = {"prompts": [jnp.arange(2.0 * width).reshape(2, width), jnp.zeros((0, 4))]}
    save_trained(tmp_path / "kept", tree)
    found = load_trained(tmp_path / "kept", {"prompts": [jnp.ones((2, width)), jnp.ones((0, 4))]})
    np.testing.assert_array_equal(found["prompts"][0], tree["prompts"][0])
    assert found["prompts"][1].shape == (0, 4)


def test_saving_again_replaces_what_was_there(tmp_path):
    for value in (1.0, 2.0):
        save_trained(tmp_path / "kept", {"a": jnp.full(3, value)})
    np.testing.assert_array_equal(load_trained(tmp_path / "kept", {"a": jnp.zeros(3)})["a"], [2, 2, 2])


def test_no_checkpoint(tmp_path):
    with pytest.raises(DataError, match="expected the workdir of a finished run"):
        load_trained(tmp_path / "none", {"a": jnp.zeros(1)})


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_no_damaged_file_is_believed(tmp_path):
    """Each file of a checkpoint cut, emptied and with bits flipped: the arrays come back, or it is named."""
    tree = {"a": jnp.arange(5.0), "b": [jnp.ones((2, 3), jnp.int32)]}
    save_trained(tmp_path / "whole", tree)
    outcomes = Counter()
    for file in files(tmp_path / "whole"):
        content = file.read_bytes()
        damages = [b"", content[: len(content) // 2]]
        damages += [content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :] for i in range(0, len(content), 37)]
        for damage in damages:
            file.write_bytes(damage)
            try:
                loaded = load_trained(tmp_path / "whole", tree)
                assert all(map(np.array_equal, jax.tree.leaves(loaded), jax.tree.leaves(tree)))
                outcomes["whole"] += 1
            except Damaged as reason:
                assert str(reason).startswith(f"{tmp_path / 'whole'}: ") and "\n" not in str(reason)
                outcomes["named"] += 1
        file.write_bytes(content)
    assert outcomes["named"] > 10


def test_what_something_else_made_is_named(tmp_path):
    arrays = stored({"a": jnp.arange(3.0)})
    written = mark("these clips", *content_of(arrays))
    ocp.save(tmp_path / "epoch", arrays, custom_metadata=written)
    assert load_trained(tmp_path / "epoch", {"a": jnp.zeros(3)}, "these clips")["a"].tolist() == [0, 1, 2]
    with pytest.raises(Damaged, match="epoch: made by other settings"):
        load_trained(tmp_path / "epoch", {"a": jnp.zeros(3)}, "others")


def test_saving_the_same_again_touches_nothing_unless_it_is_damaged(tmp_path):
    tree = {"a": jnp.arange(3.0)}
    save_trained(tmp_path / "kept", tree)
    times = [path.stat().st_mtime_ns for path in files(tmp_path / "kept")]
    save_trained(tmp_path / "kept", tree)
    assert [path.stat().st_mtime_ns for path in files(tmp_path / "kept")] == times
    max(files(tmp_path / "kept"), key=lambda path: path.stat().st_size).write_bytes(b"")
    save_trained(tmp_path / "kept", tree)
    assert load_trained(tmp_path / "kept", tree)["a"].tolist() == [0, 1, 2]


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path, capsys):
    ocp.save(tmp_path / "old", stored({"a": jnp.arange(3.0)}))
    assert load_trained(tmp_path / "old", {"a": jnp.zeros(3)})["a"].tolist() == [0, 1, 2]
    assert "earlier version" in capsys.readouterr().err
