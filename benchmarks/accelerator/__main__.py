"""What one real card does, against what it could do and against torch on the same card.

    python -m benchmarks.accelerator [--only=clip,hubert] [--small] [--seconds=520] [--output=FILE.json]

Peer: transformers' models in torch, bfloat16, scaled dot-product attention, at the best of the same batch sizes and,
there, through torch.compile as well, of which the faster counts; for fusion the challenge baseline's loop, for faces
facenet-pytorch's stages. Equal work: the same shapes and number of clips, random weights; sound goes from the host to
the card on either side, fusion's candidates on ours alone. Every part is first compared with float32 on the host
("correct"), and what is wrong is not timed. Calls are warmed up and repeated; the median counts, and "ratio" has the
spread of both. "of peak": FLOPs that the result needs (`benchmarks/work.py`) over the rate of a plain bfloat16 product
in this run, for fusion of a float32 one as JAX has it by default. "of bandwidth": the least that is read and written,
over that of a plain copy. "compile": the first call less the median one, of our best batch size. "batch": frames,
seconds of sound, prompts, clips of a step held at once, pictures; for fusion the epochs of a call.

Each rival of each part has a process of its own: its memory is free again, and whatever ends it, or takes longer than
its time, is a line of the table. Only jax, flax, optax, numpy, torch and transformers are needed, the peer's parts are
skipped without torch, and nothing is downloaded. A line of JSON comes with each part, the table with all of them last.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any

from absl import app, flags

from benchmarks.accelerator.measure import MARK, Line

UNITS = {
    "clip": "frames/s",
    "hubert": "s of sound/s",
    "decoder": "prompts/s",
    "emovclip": "frames trained/s",
    "faces": "faces/s",
    "folds": "fold-epochs/s",
    "sweep": "fold-epochs/s",
}
LIMITS = {  # seconds for ours and for the peer, compilation included: the most that either takes
    "products": (40, 0),
    "clip": (70, 50),
    "hubert": (110, 60),
    "folds": (50, 25),
    "emovclip": (100, 60),
    "decoder": (70, 50),
    "sweep": (50, 25),
    "faces": (50, 25),
}
FLOAT32 = ("folds", "sweep")

ONLY = flags.DEFINE_list("only", list(LIMITS), "Parts; the peak is measured in any case.")
SMALL = flags.DEFINE_bool("small", False, "Small models and data, for a CPU.")
SECONDS = flags.DEFINE_float("seconds", 520, "For everything; what would take longer is skipped.")
OUTPUT = flags.DEFINE_string("output", None, "File for the JSON, written anew after each part.")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(rival: str, part: str, seconds: float) -> list[Line]:
    """The lines of one rival's part, in a process of its own that has so much time."""
    size = "small" if SMALL.value else "full"
    environment = os.environ | {
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # compile times are those of a first start
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }
    platforms = environment.get("JAX_PLATFORMS", "")
    if rival == "torch_peers":
        environment["JAX_PLATFORMS"] = "cpu"  # it reads weights by JAX, which is to leave the card alone
    elif platforms and "cpu" not in platforms:
        environment["JAX_PLATFORMS"] = f"{platforms},cpu"  # where the comparison runs
    command = [sys.executable, "-m", f"benchmarks.accelerator.{rival}", part, size, f"{seconds:.0f}"]
    lines = list[Line]()

    def read(output: IO[str]) -> None:
        for text in output:
            if text.startswith(MARK):
                lines.append(json.loads(text.removeprefix(MARK)))
                say(f"  {rival} {part}: {shown(lines[-1])}")

    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, start_new_session=True
        ) as process,
    ):
        reader = Thread(target=read, args=(process.stdout,))
        reader.start()
        failed = ""
        try:
            if code := process.wait(seconds):
                errors.seek(0)
                said = errors.read().decode(errors="replace").split("\n")
                failed = f"exit code {code}: {next((line for line in reversed(said) if line.strip()), '')[:200]}"
        except subprocess.TimeoutExpired:
            failed = f"not done after {seconds:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # it, and what it has started
        reader.join()
    return [*lines, {"failed": failed}] if failed else lines


def shown(line: Line) -> str:
    """A line of results for who waits."""
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in line.items()
    )


def fastest(lines: Sequence[Line]) -> Line | None:
    """The best batch size and way."""
    return max((line for line in lines if "rate" in line), key=lambda line: line["rate"], default=None)


def row(part: str, ours: Sequence[Line], peers: Sequence[Line], peaks: dict[str, float]) -> dict[str, Any]:
    """One line of the table."""
    best, rival = fastest(ours), fastest(peers)
    notes = [
        f"{who}: {line['failed']}"
        for who, lines in (("ours", ours), ("torch", peers))
        for line in lines
        if "failed" in line
    ]
    correct = next((line for line in ours if "right" in line), None)
    result: dict[str, Any] = {"part": part, "unit": UNITS[part]}
    if correct:
        result["correct"] = f"{'yes' if correct['right'] else 'NO'}: {correct['parity']}"
    if best:
        peak = peaks.get("float32, by default" if part in FLOAT32 else "bfloat16")
        result |= {"ours": round(best["rate"], 1), "batch": best["batch"], "s a call": round(best["seconds"], 3)}
        result |= {"of peak": f"{best['flops/s'] / peak:.0%}"} if peak and best["flops/s"] else {}
        result |= (
            {"of bandwidth": f"{best['bytes/s'] / peaks['memory']:.0%}"}
            if "memory" in peaks and best["bytes/s"]
            else {}
        )
        result |= {"compile, s": round(best["compile"], 1)}
    if rival:
        result |= {"torch": round(rival["rate"], 1), "its batch": rival["batch"], "by": rival["how"]}
    if best and rival:
        # Rates are of medians; fastest against slowest calls of either bound the ratio.
        lowest = best["rate"] * best["seconds"] / best["high"] / (rival["rate"] * rival["seconds"] / rival["low"])
        highest = best["rate"] * best["seconds"] / best["low"] / (rival["rate"] * rival["seconds"] / rival["high"])
        result["ratio"] = f"{best['rate'] / rival['rate']:.2f} ({lowest:.2f} to {highest:.2f})"
    return result | ({"note": "; ".join(notes)} if notes else {})


def main(_: list[str]) -> None:
    """All parts, the most telling first."""
    if unknown := [part for part in ONLY.value if part not in LIMITS]:
        raise app.UsageError(f"--only={','.join(unknown)}: unknown; known: {','.join(LIMITS)}")
    end = time.monotonic() + SECONDS.value
    has_torch = importlib.util.find_spec("torch") is not None
    results: dict[str, Any] = {"benchmark": "accelerator", "small": SMALL.value}
    peaks: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for part, limits in LIMITS.items():
        if part != "products" and part not in ONLY.value:
            continue
        lines: list[list[Line]] = [[], []]
        for i, rival in enumerate(("ours", "torch_peers")):
            seconds = min(limits[i] * (5.0 if SMALL.value else 1.0), end - time.monotonic())
            if not limits[i]:
                continue
            if i and not has_torch:
                lines[i] = [{"failed": "skipped: there is no torch"}]
            elif seconds < min(15, limits[i]):
                lines[i] = [{"failed": "skipped: the time is over"}]
            else:
                say(f"{rival} {part}, {seconds:.0f} s at most ...")
                lines[i] = measure(rival, part, seconds)
        if part == "products":
            for line in lines[0]:
                results |= {key: line[key] for key in ("card", "platform", "jax", "failed") if key in line}
                if "peak" in line:
                    peaks[line["peak"]] = line.get("flops/s") or line["bytes/s"]
            results["TFLOP/s and TB/s"] = {name: round(rate / 1e12, 3) for name, rate in peaks.items()}
        else:
            rows.append(row(part, lines[0], lines[1], peaks))
        details = {"part": part, "measured": {"ours": lines[0], "torch": lines[1]}}
        print(json.dumps(rows[-1] | details if part != "products" else results | details), flush=True)
        if OUTPUT.value:
            Path(OUTPUT.value).write_text(json.dumps(results | {"rows": rows}, indent=1), "utf-8")
    from benchmarks.timing import show  # imports JAX, which here nothing else needs

    print(f"\n{results.get('card', 'no card')}, peaks in TFLOP/s and TB/s: {results.get('TFLOP/s and TB/s')}")
    show(rows, **results)


if __name__ == "__main__":
    app.run(main)
