"""Compiled programs between starts: found again, bounded, and never a reason to fail or to compute something else."""

import os
import subprocess
import sys

import pytest

from mer_jax.runtime.compilations import DIGEST, Compilations

KEYS = "jit_f-0", "jit_g-1", "jit_h-2"


def test_a_program_comes_back_as_it_was_put(tmp_path):
    programs = Compilations(tmp_path / "xla")
    assert programs.get(KEYS[0]) is None
    programs.put(KEYS[0], b"program")
    assert Compilations(tmp_path / "xla").get(KEYS[0]) == b"program"
    assert os.listdir(tmp_path / "xla") == [KEYS[0]]


DAMAGES = {"cut": lambda file: file[:-1], "changed": lambda file: file[:-1] + b"?", "empty": lambda file: b""}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_program_is_none_and_makes_room_for_another(tmp_path, damage):
    programs = Compilations(tmp_path)
    programs.put(KEYS[0], b"program")
    (tmp_path / KEYS[0]).write_bytes(damage((tmp_path / KEYS[0]).read_bytes()))
    assert programs.get(KEYS[0]) is None and not (tmp_path / KEYS[0]).exists()
    programs.put(KEYS[0], b"program")
    assert programs.get(KEYS[0]) == b"program"


def test_those_that_were_not_used_for_longest_make_room(tmp_path):
    programs = Compilations(tmp_path)
    for age, key in enumerate(KEYS):
        programs.put(key, b"x" * 10)
        os.utime(tmp_path / key, (1000 + age, 1000 + age))
    assert programs.get(KEYS[0])
    Compilations(tmp_path, most_bytes=2 * (10 + DIGEST))
    assert sorted(os.listdir(tmp_path)) == [KEYS[0], KEYS[2]]


def test_a_folder_that_cannot_be_is_no_error(tmp_path):
    (tmp_path / "xla").write_text("a file")
    programs = Compilations(tmp_path / "xla")
    programs.put(KEYS[0], b"program")
    assert programs.get(KEYS[0]) is None
    (tmp_path / KEYS[1]).mkdir()
    Compilations(tmp_path).put(KEYS[1], b"program")  # where the folder is full, the temporary file goes likewise
    assert Compilations(tmp_path).get(KEYS[1]) is None and sorted(os.listdir(tmp_path)) == [KEYS[1], "xla"]


PROGRAM = """
import sys
sys.argv = ["command"]
from mer_jax.runtime import cli

def main():
    import jax
    import jax.numpy as jnp
    from jax._src import monitoring

    events = []
    monitoring.register_event_listener(lambda event, **_: events.append(event.split("/")[-1]))
    print(float(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.arange(64.0))))
    print(events.count("cache_hits"), events.count("cache_misses"))

cli.run(main)
"""


def start(cache):
    kept_out = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")  # of the tests' own
    environment = {name: value for name, value in os.environ.items() if name not in kept_out}
    environment["MER_JAX_CACHE"] = str(cache)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    result, events = done.stdout.splitlines()
    hits, misses = map(int, events.split())
    return result, hits, misses


def test_a_second_start_compiles_nothing_and_damage_changes_nothing(tmp_path):
    result, hits, misses = start(tmp_path)
    files = sorted((tmp_path / "xla").iterdir())
    assert hits == 0 and misses == len(files) > 0
    assert start(tmp_path) == (result, misses, 0)
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert start(tmp_path) == (result, 0, misses)
    assert start(tmp_path) == (result, misses, 0)


def test_a_cache_that_cannot_be_is_silent(tmp_path):
    (tmp_path / "file").write_text("")
    assert start(tmp_path / "file")[1] == 0
