"""Three ready-made streams of speech for RAVDESS: log-mel statistics, MFCC, prosody.

    python -m benchmarks.ravdess_streams --root=DIR --out=FOLDER
    python -m mer_jax.train --config=configs/semi.py:folder,root=FOLDER,label_column=emotion6,group_column=actor,\
modalities=speech+image,speech_feature=logmel+mfcc+prosody,image_feature=openface-au --workdir=RUN
    python -m mer_jax.sweep --config=configs/top.py --workdir=RUN

The last prints what each stream is worth, what the best of them are together, and what choosing so is worth on actors
that had no say. DIR as of benchmarks/ravdess.py; FOLDER becomes a folder data set of its clips with one of six labels,
with the streams and DIR's action units.
"""

import csv
import shutil
from pathlib import Path

import numpy as np
from absl import app, flags
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct

from benchmarks.ravdess import RATE, bands_of, log_mel
from mer_jax.data.media import read_sound

OUT = flags.DEFINE_string("out", None, "Folder to make.", required=True)
FRAME, HOP, COEFFICIENTS = 640, 160, 20
PITCH = (RATE // 500, RATE // 60)  # lags of 500 and 60 Hz


def statistics(rows: np.ndarray) -> np.ndarray:
    """Of contours [T, K]: mean, spread, quartiles, mean change of each, [6 * K]."""
    quartiles = np.quantile(rows, (0.1, 0.5, 0.9), axis=0)
    changes = np.abs(np.diff(rows, axis=0)).mean(axis=0)
    return np.concatenate([rows.mean(axis=0), rows.std(axis=0), *quartiles, changes]).astype(np.float32)


def mfcc(path: Path) -> np.ndarray:
    """Statistics of the first cepstral coefficients, [6 * COEFFICIENTS]."""
    return statistics(dct(bands_of(path), axis=0, norm="ortho")[:COEFFICIENTS].T)


def prosody(path: Path) -> np.ndarray:
    """Statistics of log pitch (of voiced frames, by autocorrelation), loudness and voicing; share that is voiced."""
    sound = read_sound(path, RATE).astype(np.float64) / 32768
    frames = sliding_window_view(np.pad(sound, (0, FRAME)), FRAME)[::HOP]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(FRAME)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(frames, 2 * FRAME)) ** 2)[:, :FRAME]
    energy = correlation[:, 0] + 1e-9
    lags = correlation[:, PITCH[0] : PITCH[1]] / energy[:, None]
    voicing, pitch = lags.max(axis=1), np.log(RATE / (PITCH[0] + lags.argmax(axis=1)))
    loudness = np.log(energy)
    voiced = (voicing > 0.4) & (loudness > loudness.max() - 9)
    contours = np.stack([pitch, loudness, voicing], axis=1)[voiced if voiced.sum() > 1 else slice(None)]
    return np.append(statistics(contours), voiced.mean()).astype(np.float32)


def main(_: list[str]) -> None:
    """Writes the folder."""
    root, out = Path(flags.FLAGS.root).resolve(), Path(OUT.value)
    makers = {"logmel": log_mel, "mfcc": mfcc, "prosody": prosody}
    with open(root / "clips.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["emotion6"]]
    for name, make in makers.items():
        (out / "features" / name).mkdir(parents=True, exist_ok=True)
        for row in rows:
            np.save(out / "features" / name / f"{row['name']}.npy", make(root / "media" / f"{row['name']}.flac"))
    shutil.copytree(root / "features" / "openface-au", out / "features" / "openface-au", dirs_exist_ok=True)
    with open(out / "clips.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["name", "emotion6", "actor"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    app.run(main)
