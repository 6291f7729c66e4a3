"""A finished run in one folder to hand on: what predicts, and a card that says what it is.

    python -m mer_jax.export --workdir=RUN --output=DIR [--push=user/name]

`mer_jax.predict --workdir=DIR` and `mer_jax.Recognizer.load(DIR)` take it as they take the run, on any machine;
`Recognizer.load("user/name")` takes what --push has uploaded to the Hugging Face hub. What they need of packages is in
its requirements.txt: not Orbax, Grain, TFDS and transformers, for weights are safetensors and the encoders' configs go
along whole. `fusion.stablehlo` is the fused ensemble for `jax.export.deserialize`.
"""

from absl import flags

from mer_jax.runtime import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write; a new one, or one that this command has written.", required=True
)
PUSH = flags.DEFINE_string("push", None, "Repository of the hub (user/name) to upload it to; $HF_TOKEN allows it.")

cli.parse_flags(__name__)

import sys
from pathlib import Path

from mer_jax.recognition.handing_on import hand_on_run
from mer_jax.recognition.hub import push


def main() -> None:
    """The command."""
    output = Path(OUTPUT.value)
    lines = hand_on_run(Path(WORKDIR.value), output)
    print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
    print(output)
    if PUSH.value:
        print(push(output, PUSH.value))


if __name__ == "__main__":
    cli.run(main)
