"""What a frame of sound measures: the targets that the bundled HuBERT learns to predict."""

import numpy as np

RATE, HOP, WINDOW, FFT = 16_000, 320, 400, 512  # HuBERT's frames: 25 ms each 20 ms
BANDS, CEPSTRA, DELTAS = 40, 24, 12
PITCH_WINDOW, LOWEST, HIGHEST = 800, 65, 500  # samples, Hz
FLOOR = 1e-3  # of a waveform with unit variance


def acoustics(waveform: np.ndarray) -> np.ndarray:
    """Cepstrum of the log-mel spectrum, its slope, log energy, pitch and voicing, per frame.

    Args:
        waveform: [S], zero mean and unit variance.

    Returns:
        [T, CEPSTRA + DELTAS + 3] float32, T as HuBERT counts frames.
    """
    frames = windows(waveform, WINDOW)
    power = np.square(np.abs(np.fft.rfft(frames * HANN, FFT))) / np.square(HANN).sum()
    cepstrum = np.log(power @ MEL_BANK + FLOOR) @ COSINES  # [T, CEPSTRA]
    energy = np.log(np.square(frames).mean(axis=1) + FLOOR)
    slopes = np.gradient(smooth(cepstrum[:, :DELTAS]), axis=0)
    return np.column_stack([cepstrum, slopes, energy, *pitch(waveform)]).astype(np.float32)


def windows(x: np.ndarray, size: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x, size)[::HOP]


def smooth(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((1, 1), (0, 0)), mode="edge")
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def pitch(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Octaves above 150 Hz times voicing, and voicing in [0, 1], each [T], by autocorrelation."""
    margin = (PITCH_WINDOW - WINDOW) // 2
    frames = windows(np.pad(waveform, margin), PITCH_WINDOW)
    spectrum = np.square(np.abs(np.fft.rfft(frames * PITCH_HANN, 2 * PITCH_WINDOW)))
    correlation = np.fft.irfft(spectrum)[:, LAGS] / PITCH_HANN_CORRELATION[LAGS]
    correlation /= np.square(frames * PITCH_HANN).sum(axis=1, keepdims=True) + FLOOR
    # An octave down explains the frame as well; prefer the shorter lag.
    best = (correlation * (1 - 0.05 * np.log2(LAGS / LAGS[0]))).argmax(axis=1)
    voicing = np.clip(np.take_along_axis(correlation, best[:, None], axis=1)[:, 0], 0, 1)
    return np.log2(RATE / LAGS[best] / 150) * voicing, voicing


def mel_bank() -> np.ndarray:
    """[F, BANDS] triangles of unit area, evenly spaced in mel from 60 to 7,600 Hz."""
    low, high = 2595 * np.log10(1 + np.array([60, 7600]) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(FFT, 1 / RATE)[:, None]
    rising = (frequencies - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - frequencies) / np.diff(edges)[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return triangles / triangles.sum(axis=0)


HANN, PITCH_HANN = np.hanning(WINDOW + 1)[:-1], np.hanning(PITCH_WINDOW + 1)[:-1]
PITCH_HANN_CORRELATION = np.fft.irfft(np.square(np.abs(np.fft.rfft(PITCH_HANN, 2 * PITCH_WINDOW))))
PITCH_HANN_CORRELATION /= PITCH_HANN_CORRELATION[0]
LAGS = np.arange(RATE // HIGHEST, RATE // LOWEST)
MEL_BANK = mel_bank()
COSINES = np.cos(np.pi / BANDS * np.outer(np.arange(BANDS) + 0.5, np.arange(CEPSTRA))) * (2 / BANDS) ** 0.5
