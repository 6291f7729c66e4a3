"""Serving: 64 requests at once against prediction of the same clips, and 1,000 requests of which 20 % are broken.

    python -m benchmarks.serve --workdir=RUN --input=FOLDER [--clips=128] [--concurrent=64] [--repeats=3]

Peer: `Recognizer.batch` on the folder's clips in the server's own process, in turn with the requests of a client in
another one: clips/s, and how many times as fast the server is (median, lowest, highest). Clips are those of the
folder, again and again. Then broken ones (cut, damaged, noise, text, a playlist) among them: how all were answered, and
the memory of the server and its decoders after a tenth, a half and all of the requests.
"""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.memory import resident
from benchmarks.timing import ratio, show
from mer_jax.recognition.files import File, media
from mer_jax.recognition.recognizer import Recognizer
from mer_jax.runtime import cli
from mer_jax.runtime.scratch import scratch_folder
from mer_jax.serving.app import Service
from mer_jax.serving.limits import Limits
from mer_jax.serving.server import Server, address, listener
from mer_jax.serving.warming import warm

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.", required=True)
INPUT = flags.DEFINE_multi_string("input", None, "As of mer_jax.predict.", required=True)
CLIPS = flags.DEFINE_integer("clips", 128, "Clips of a round.")
CONCURRENT = flags.DEFINE_integer("concurrent", 64, "Requests at once.")
REPEATS = flags.DEFINE_integer("repeats", 3, "Rounds.")
REQUESTS = flags.DEFINE_integer("requests", 1000, "Of the second part.")
BROKEN = 5  # every so manyth

CLIENT = """
import asyncio, json, sys, httpx2

async def main(address, count, paths):
    async with httpx2.AsyncClient(timeout=600, limits=httpx2.Limits(max_connections=count)) as client:
        slots, statuses = asyncio.Semaphore(count), {}
        async def one(path):
            async with slots:
                with open(path, "rb") as file:
                    content = file.read()
                headers = {"content-type": "application/octet-stream"}
                answer = await client.post(address + "/predict", content=content, headers=headers)
                statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                answer.json()
        await asyncio.gather(*map(one, paths))
    print(json.dumps(statuses))

address, count, *paths = json.load(sys.stdin)
asyncio.run(main(address, count, paths[0]))
"""


def requested(url: str, paths: list[str]) -> tuple[dict[str, int], float]:
    """Answers by status, and seconds without the client's start."""
    start = time.perf_counter()
    message = json.dumps([url, CONCURRENT.value, paths])
    done = subprocess.run([sys.executable, "-c", CLIENT], input=message, capture_output=True, text=True, check=True)
    return json.loads(done.stdout), time.perf_counter() - start


def broken(folder: Path, whole: list[str]) -> list[str]:
    """Files that are no whole clips."""
    rng, content = random.Random(0), Path(whole[0]).read_bytes()
    kinds = {
        "cut": content[: len(content) // 3],
        "noise": rng.randbytes(50_000),
        "damaged": bytes(b if rng.random() > 0.05 else rng.randrange(256) for b in content),
        "text": b"1\n00:00:00,000 --> 00:00:05,000\nhello\n",
        "playlist": b"#EXTM3U\n#EXTINF:5,\nfile:///etc/passwd\n",
    }
    for name, content in kinds.items():
        (folder / name).write_bytes(content)
    return [str(folder / name) for name in kinds]


def main() -> None:
    """The benchmark."""
    recognizer = Recognizer.load(WORKDIR.value)
    warm(recognizer, 16)
    whole = [str(file.path) for file in media(INPUT.value)]
    paths = list(islice(cycle(whole), CLIPS.value))
    files = [File(Path(path)) for path in paths]
    limits = Limits(max(128, CONCURRENT.value), 16, 5.0, 100.0, 600.0, 600.0)
    listening, started = listener("127.0.0.1", 0), threading.Event()
    parts: list[Any] = []

    async def serving(folder: Path) -> None:
        service = Service("benchmark", folder, limits)
        service.begin(recognizer)
        parts.extend([service, Server(service)])
        started.set()
        await parts[1].serve([listening])

    with scratch_folder("mer-serve-benchmark-") as folder, scratch_folder("mer-serve-media-") as bad:
        threading.Thread(target=lambda: asyncio.run(serving(folder)), daemon=True).start()
        started.wait()
        service, server = parts
        url = address(listening)
        seconds: dict[str, list[float]] = {"server": [], "predict": []}
        _, client_start = requested(url, [])
        for repeat in range(REPEATS.value + 1):
            statuses, served = requested(url, paths)
            assert sum(statuses.values()) == len(paths) and set(statuses) <= {"200", "422"}, statuses
            start = time.perf_counter()
            recognizer.batch(files)
            predicted = time.perf_counter() - start
            if repeat:  # the first compiles what is left
                seconds["server"].append(served - client_start)
                seconds["predict"].append(predicted)
        count, total = (service.metrics.registry.get_sample_value(f"mer_batch_clips_{x}") for x in ("count", "sum"))
        rows: list[dict[str, Any]] = [
            {"what": name, "clips/s": round(len(paths) / (sum(each) / len(each)), 2)} for name, each in seconds.items()
        ]
        rows[0] |= ratio(seconds["server"], seconds["predict"]) | {"clips in a batch": round(total / count, 1)}
        bad_paths = broken(bad, whole)
        every = [
            (bad_paths[i // BROKEN % len(bad_paths)] if i % BROKEN == 0 else whole[i % len(whole)])
            for i in range(REQUESTS.value)
        ]
        answers, begin = Counter[str](), 0
        for end in (REQUESTS.value // 10, REQUESTS.value // 2, REQUESTS.value):
            statuses, _ = requested(url, every[begin:end])
            answers.update(statuses)
            begin = end
            rows.append({"what": f"after {end} requests", "answers": dict(answers), "MiB": round(resident())})
        left = [path for path in folder.iterdir() if path.is_dir()]
        server.should_exit = True
    show(rows, concurrent=CONCURRENT.value, clips=len(paths), uploads_left=len(left))


if __name__ == "__main__":
    cli.run(main)
