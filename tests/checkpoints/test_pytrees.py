import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from mer_jax.checkpoints.pytrees import load_trained, remove_trained, save_trained, stored
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.kept import Damaged


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
    """Each file of a checkpoint, and that of their checksums, cut, emptied and with bits flipped."""
    tree = {"a": jnp.arange(5.0), "b": [jnp.ones((2, 3), jnp.int32)]}
    save_trained(tmp_path / "whole", tree)
    count = 0
    for file in [*files(tmp_path / "whole"), tmp_path / "whole.files.json"]:
        content = file.read_bytes()
        damages = [b"", content[: len(content) // 2]] if content else []
        damages += [content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :] for i in range(0, len(content), 37)]
        for damage in damages:
            file.write_bytes(damage)
            with pytest.raises(Damaged) as reason:
                load_trained(tmp_path / "whole", tree)
            assert str(reason.value).startswith(str(tmp_path / "whole")) and "\n" not in str(reason.value)
            count += 1
        file.write_bytes(content)
    assert count > 100


def test_what_something_else_made_is_named(tmp_path):
    save_trained(tmp_path / "epoch", {"a": jnp.arange(3.0)}, "these clips")
    assert load_trained(tmp_path / "epoch", {"a": jnp.zeros(3)}, "these clips")["a"].tolist() == [0, 1, 2]
    with pytest.raises(Damaged, match="made by other settings"):
        load_trained(tmp_path / "epoch", {"a": jnp.zeros(3)}, "others")


def test_other_arrays_than_expected_are_named(tmp_path):
    save_trained(tmp_path / "epoch", {"a": jnp.arange(3.0)})
    with pytest.raises(Damaged, match="not the checkpoint that was expected"):
        load_trained(tmp_path / "epoch", {"b": jnp.zeros(3)})


def test_a_removed_checkpoint_leaves_nothing(tmp_path):
    save_trained(tmp_path / "epoch", {"a": jnp.arange(3.0)})
    for _ in range(2):
        remove_trained(tmp_path / "epoch")
        assert not list(tmp_path.iterdir())


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
