"""`python -m mer_jax` and the console scripts: which commands there are, or one of them.

python -m mer_jax                 lists them
mer-train --help                  is python -m mer_jax.train --help, and python -m mer_jax train --help
"""

import runpy
import sys
from pathlib import Path

from mer_jax.runtime.signals import leave_on_signals
from mer_jax.runtime.usage import headline, version

COMMANDS = (
    "prepare",
    "transcribe",
    "annotate",
    "extract",
    "tune",
    "train",
    "sweep",
    "predict",
    "serve",
    "export",
)  # as they are used


def main() -> None:
    """Runs the command that the script's name (mer-NAME), or the first argument, says, or lists all."""
    leave_on_signals()
    script = Path(sys.argv[0]).stem
    name = script.removeprefix("mer-") if script.startswith("mer-") else "".join(sys.argv[1:2])
    if name in COMMANDS:
        sys.argv[:] = sys.argv[0 if script.startswith("mer-") else 1 :]
        runpy.run_module(f"mer_jax.{name}", run_name="__main__", alter_sys=True)
    elif name == "--version":
        print(version())
    elif name in ("", "--help", "-h"):
        print("Multimodal emotion recognition in JAX. Commands, each with --help:\n")
        for command in COMMANDS:
            print(f"  mer-{command:12}{headline(Path(__file__).with_name(f'{command}.py'))}")
        print("\nmer-NAME is python -m mer_jax.NAME")
    else:
        print(f"error: unknown command {name!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
