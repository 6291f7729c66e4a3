"""A contact sheet of face crops, to see with one's own eyes what the image branch will be fed."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import clip_faces
from mer_jax.runtime.files import write_whole

ACROSS = 12  # crops per clip
MARGIN, CAPTION = 4, 14  # px


def previewed_clips(clips: Sequence[Clip], count: int) -> list[Clip]:
    """At most `count` evenly spaced ones of the clips that have media or crops."""
    clips = [clip for clip in clips if clip.media or clip.faces or clip.prepared]
    return [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, count).round().astype(int))] if clips else []


def preview_rows(
    clips: Sequence[Clip], cut: Callable[[Sequence[Clip]], Iterable[tuple[np.ndarray, int] | Absent]]
) -> list[tuple[str, np.ndarray]]:
    """Of each clip that has media or crops a caption and its crops, uint8 RGB [T, S, S, 3].

    cut: as `cut_faces`, for those without crops.
    """
    to_cut = [clip for clip in clips if not (clip.faces or clip.prepared)]
    results = iter(cut(to_cut) if to_cut else ())  # a detector is not loaded for nothing
    rows = []
    for clip in clips:
        try:
            if clip.faces or clip.prepared:
                crops = clip_faces(clip)
                caption = f"{len(crops)} crops"
            else:
                result = next(results)
                if isinstance(result, Absent):
                    raise result
                crops, missing = result
                caption = f"{len(crops)} crops, {missing} frames without the face"
        except (Absent, OSError) as reason:
            crops, caption = np.zeros((0, 1, 1, 3), np.uint8), str(reason)
        rows.append((f"{clip.name}: {caption}", crops))
    return rows


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
