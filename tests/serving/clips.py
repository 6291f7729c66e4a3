"""Clips for requests."""

import io
import wave

import numpy as np


def sound(seconds=1.0, loud=0.3):
    """A wav file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        wiggle = np.sin(np.arange(int(8000 * seconds)) / 5)
        out.writeframes((loud * 2**15 * wiggle).astype(np.int16).tobytes())
    return file.getvalue()
