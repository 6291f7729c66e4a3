"""Slices of accelerators: their names, and what is said where one cannot be had."""

import re

import numpy as np
import pytest

from launch import devices
from launch.devices import CHIPS, TARGETS, Gpu, Slice, Tpu, open_slice
from mer_jax.runtime.errors import UsageError


@pytest.fixture
def asked(monkeypatch):
    """Every compiler is installed; what it is asked for."""
    calls = []

    def describe(**arguments):
        calls.append(arguments)
        return type("Topology", (), {"devices": [None]})

    monkeypatch.setattr(devices, "find_spec", lambda name: object())
    monkeypatch.setattr(devices.topologies, "get_topology_desc", describe)
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "")
    return calls


@pytest.mark.parametrize("name", ["v5e", "v5e:8", "v5e:2x0", "h100:2x4", "h100:0", "gtx:1", ""])
def test_an_unknown_slice_is_refused_with_the_known_ones(asked, name):
    with pytest.raises(UsageError, match=f"--slice={name}: expected v5e:SHAPE.*h100 or h100:COUNT") as error:
        open_slice(name)
    assert "\n" not in str(error.value) and not asked


def test_gpus_are_described_by_the_data_files(asked):
    assert open_slice("h100").sides == (1,) and open_slice("a100:8").sides == (8,)
    assert [call["topology"] for call in asked] == ["1x1x1", "1x1x8"]
    assert {call["platform"] for call in asked} == {"cuda"}
    assert "H100" in asked[0]["target_config"] and "A100" in asked[1]["target_config"]


def test_tpus_are_described_by_the_environment(asked):
    where = open_slice("v5e:2x4")
    assert asked == [{"platform": "tpu", "topology_name": "v5e:2x4"}]
    assert devices.os.environ["TPU_ACCELERATOR_TYPE"] == "v5litepod-8"
    assert where.inflow == 2 * where.chip.link  # a corner's neighbours


def test_a_row_of_chips_and_a_single_one_have_one_link_each():
    for sides in ((1, 4), (1, 1), (8,)):
        assert Slice("", CHIPS["v5e"], np.arange(1), sides).inflow == CHIPS["v5e"].link


@pytest.mark.parametrize("name, command", [("v5e:2x4", "pip install libtpu"), ("h100", 'pip install "jax[cuda13]"')])
def test_a_compiler_that_is_not_installed_is_named_with_the_command(monkeypatch, name, command):
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=re.escape(command)):
        open_slice(name)


def test_a_package_without_its_parent_is_not_installed(monkeypatch):
    def find(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(devices, "find_spec", find)
    with pytest.raises(UsageError, match="not installed"):
        open_slice("h100")


def test_a_compiler_that_does_not_know_a_slice_says_so_in_one_line(asked, monkeypatch):
    def refuse(**arguments):
        raise RuntimeError("no such topology\nand a trace")

    monkeypatch.setattr(devices.topologies, "get_topology_desc", refuse)
    with pytest.raises(UsageError, match=r"--slice=v5e:3x5: .*\(no such topology\)$"):
        open_slice("v5e:3x5")


def test_every_gpu_has_a_target_that_agrees_with_it():
    for name, chip in CHIPS.items():
        if isinstance(chip, Gpu):
            text = (TARGETS / f"{name}.txtpb").read_text()
            number = {
                field: float(re.search(rf"{field}: (\d+)", text)[1])
                for field in ("memory_bandwidth", "device_memory_size")
            }
            assert number["memory_bandwidth"] == pytest.approx(chip.bandwidth, rel=1e-3)
            assert chip.memory <= number["device_memory_size"] <= 1.1 * chip.memory
        else:
            assert isinstance(chip, Tpu)
