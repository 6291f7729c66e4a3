"""A finished run over HTTP: a clip comes, the line of `mer_jax.predict` goes; and a page to try it on.

    python -m mer_jax.serve --workdir=RUN [--port=8000]
    curl -F clip=@clip.mp4 -F text="..." http://127.0.0.1:8000/predict

RUN is a run of `mer_jax.train`, or a folder of `mer_jax.export`. Needs `pip install "mer_jax[serve]"`. Clips of many
requests share the device's batches; each is removed when it is answered. `GET /` is the page, `/health` and `/metrics`
(Prometheus) are for machines; docs/serving.md tells of requests, limits and proxies. There is no authentication: what
listens to more than this machine belongs behind a proxy that has one.
"""

from importlib.util import find_spec

from absl import flags

from mer_jax.runtime import cli

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run, or an exported one.", required=True)
HOST = flags.DEFINE_string("host", "127.0.0.1", "Address to listen to; that of this machine alone by default.")
PORT = flags.DEFINE_integer("port", 8000, "Port; 0: any, which is printed.", lower_bound=0, upper_bound=65535)
NAME = flags.DEFINE_multi_string("name", [], "A name by which browsers reach it, beside localhost and addresses.")
QUEUE = flags.DEFINE_integer("queue", 128, "Clips at once, uploads included; others get 429.", lower_bound=1)
BATCH_CLIPS = flags.DEFINE_integer("batch_clips", 16, "Clips that the device gets together.", lower_bound=1)
WAIT_MS = flags.DEFINE_float("wait_ms", 5.0, "Milliseconds that a clip waits for others.", lower_bound=0)
MAX_MIB = flags.DEFINE_float("max_mib", 100.0, "MiB of a request.", lower_bound=0.001)
MAX_SECONDS = flags.DEFINE_float("max_seconds", 600.0, "Length of a clip, s.", lower_bound=0.1)
TIMEOUT = flags.DEFINE_float("timeout", 60.0, "Seconds for an upload, and again for its answer.", lower_bound=0.1)

EXTRA = ("starlette", "uvicorn", "python_multipart", "prometheus_client")


def missing() -> str:
    """What to install, if anything."""
    return "" if all(map(find_spec, EXTRA)) else 'serve needs its extra: pip install "mer_jax[serve]"'


cli.parse_flags(__name__, wrong=missing)

import sys
from pathlib import Path

from mer_jax.recognition.runs import finished_settings


def main() -> None:
    """The command."""
    from mer_jax.serving.browsers import is_loopback  # these need what the extra brings
    from mer_jax.serving.limits import Limits
    from mer_jax.serving.server import serve

    workdir = Path(WORKDIR.value)
    finished_settings(workdir)
    if not is_loopback(HOST.value):
        print(
            f"caution: --host={HOST.value}: whoever reaches it may use it, there is no authentication", file=sys.stderr
        )
    limits = Limits(QUEUE.value, BATCH_CLIPS.value, WAIT_MS.value, MAX_MIB.value, MAX_SECONDS.value, TIMEOUT.value)
    serve(workdir, HOST.value, PORT.value, NAME.value, limits)


if __name__ == "__main__":
    cli.run(main)
