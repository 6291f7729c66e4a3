"""What `pip install .` brings: packages, configs, console scripts and their help; and what a start need not import."""

import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from mer_jax import __main__, __version__
from mer_jax.runtime.config_files import BUNDLED

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def start(*command, cwd=ROOT):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, cwd=cwd)


def test_every_command_has_a_console_script():
    modules = {path.stem for path in (ROOT / "mer_jax").glob("*.py") if "cli.run" in path.read_text("utf-8")}
    scripts = {f"mer-{name}": "mer_jax.__main__:main" for name in modules}
    assert set(__main__.COMMANDS) == modules and PROJECT["project"]["scripts"] == scripts


def test_every_package_is_installed():
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "mer_jax").rglob("*.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages | {"mer_jax.configs"}


def test_all_files_that_are_no_code_are_installed():
    (patterns,) = PROJECT["tool"]["setuptools"]["package-data"].values()
    installed = {path for pattern in patterns for path in (ROOT / "mer_jax").glob(pattern)}
    files = (path for path in (ROOT / "mer_jax").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert {path for path in files if path.suffix != ".py"} <= installed


@pytest.mark.parametrize("command", __main__.COMMANDS)
def test_help_names_every_flag_with_its_default_and_meaning(command):
    code = f"""
import json, sys
from absl import flags
sys.argv = ["mer-{command}", "--help"]
try:
    from mer_jax.__main__ import main
    main()
except SystemExit as end:
    known = flags.FLAGS.flags_by_module_dict()
    own = [flag for module in known if "absl" not in module for flag in known[module]]
    print(json.dumps([end.code, [[flag.name, flag.default, flag.help] for flag in own]]))
"""
    done = start("-c", code)
    *text, last = done.stdout.splitlines()
    exit_code, own = json.loads(last)
    assert exit_code is None and not done.stderr and own
    for name, default, meaning in own:
        (line,) = (line for line in text if line.startswith((f"  --{name} ", f"  --{name}=")))
        assert meaning.split()[0] in line and (default in (None, "") or f"[{default}]" in line)
    configured = any(name == "config" for name, *_ in own)
    assert any(line.startswith("    --config.") for line in text) == configured


def test_help_shows_what_a_setting_means_and_may_be_in_the_config_that_is_given():
    done = start("-m", "mer_jax.train", "--help", "--config=configs/semi.py", "--config.cv.folds=3")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and "--config.cv.folds=3 at least 2" in lines
    assert "--config.encoders.speech.source='bundled/hubert'" in [line.split("  ")[0] for line in lines]
    assert any("clips per class and round; at least 0" in line for line in lines)
    assert any(line.startswith("configs/semi.py The MER2024-SEMI system") for line in lines)


def test_the_list_of_commands():
    done = start("-m", "mer_jax")
    assert done.returncode == 0
    for name in __main__.COMMANDS:
        assert f"  mer-{name} " in done.stdout
    assert "mer-train       The main job: a data set in" in done.stdout
    assert start("-m", "mer_jax", "fly").stderr.startswith("error: unknown command 'fly'; known: prepare, ")


def test_versions():
    assert start("-m", "mer_jax.train", "--version").stdout.startswith(f"mer_jax {__version__}, jax 0.")
    assert start("-m", "mer_jax", "--version").stdout.startswith(f"mer_jax {__version__}, jax 0.")


HEAVY = {"jax", "flax", "optax", "transformers", "torch", "sklearn", "scipy", "grain", "orbax", "matplotlib", "openai"}
HEAVY |= {"tensorflow_datasets", "huggingface_hub", "apache_beam"}
NEEDED = {name: {"jax", "flax", "optax", "transformers", "huggingface_hub"} for name in __main__.COMMANDS}
NEEDED |= {"train": NEEDED["train"] | {"sklearn", "scipy"}}
if not find_spec("torch"):
    NEEDED |= {"prepare": {"jax", "flax", "optax"}}  # transformers is there already where it is to see no torch


def heavy_imports(code):
    done = start("-c", f"import json, sys\n{code}\nprint(json.dumps([*sys.modules]))")
    assert done.returncode == 0, done.stderr
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", NEEDED)
def test_a_command_imports_no_more_than_it_needs(command):
    code = f"from mer_jax.runtime.cli import hide_torch\nhide_torch()\nimport mer_jax.{command}"
    assert heavy_imports(code) <= NEEDED[command]


def test_settings_and_configs_need_no_heavy_library():
    configs = "\n".join(f"import configs.{path.stem}" for path in BUNDLED.glob("*.py"))
    assert heavy_imports(f"import mer_jax.settings, mer_jax.runtime.cli\n{configs}") == set()


@pytest.mark.parametrize("flags", [["--nonsense"], ["--config=configs/semi.py:mer2023"], [], ["--help"]], ids=str)
def test_the_command_line_is_answered_before_the_commands_imports(flags):
    code = f"""
import atexit, runpy
atexit.register(lambda: print(json.dumps([*sys.modules])))
import os
os._exit = sys.exit
sys.argv = ["mer_jax.train", *{flags}]
try:
    runpy.run_module("mer_jax.train", run_name="__main__", alter_sys=True)
except SystemExit:
    pass
"""
    assert heavy_imports(code) == set()


def test_bundled_configs_are_found_from_any_folder(tmp_path):
    config = "from mer_jax.runtime.config_files import ConfigFile; print(ConfigFile(name='config').parse({!r}).{})"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
    done = start("-c", code + config.format("configs/best.py", "fusion.epochs"), cwd=tmp_path)
    assert done.stdout == "60\n", done.stderr
    (tmp_path / "configs").mkdir()
    own = "from configs import semi, table\ndef get_config(): return semi.get_config() if table.OWN else None\n"
    (tmp_path / "configs" / "best.py").write_text(own)
    (tmp_path / "configs" / "table.py").write_text("OWN = True\n")
    done = start("-c", code + config.format("configs/best.py", "fusion.epochs"), cwd=tmp_path)
    assert done.stdout == "30\n", done.stderr
    done = start("-m", "mer_jax.train", "--config=configs/none.py")
    assert "with mer_jax came configs/best.py, " in done.stderr
