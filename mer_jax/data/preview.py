"""A contact sheet of face crops, to see with one's own eyes what the image branch will be fed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mer_jax.runtime.files import write_whole

ACROSS = 12  # crops per clip
MARGIN, CAPTION = 4, 14  # px


def contact_sheet(path: Path, rows: Sequence[tuple[str, np.ndarray]], size: int) -> None:
    """Writes a PNG: per clip its caption and evenly spaced ones of its crops, uint8 RGB [T, size, size, 3]."""
    cell, height = size + MARGIN, CAPTION + size + MARGIN
    sheet = Image.new("RGB", (MARGIN + ACROSS * cell, MARGIN + len(rows) * height), "white")
    paint = ImageDraw.Draw(sheet)
    for row, (caption, crops) in enumerate(rows):
        top = MARGIN + row * height
        paint.text((MARGIN, top), caption, "black")
        last = max(len(crops) - 1, 0)
        for column, crop in enumerate(crops[np.unique(np.linspace(0, last, ACROSS).round().astype(int))[: len(crops)]]):
            sheet.paste(Image.fromarray(crop), (MARGIN + column * cell, top + CAPTION))
    with write_whole(path, mode="wb") as file:
        sheet.save(file, "PNG")
