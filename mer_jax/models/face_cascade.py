"""Face detection as one compiled program: MTCNN's cascade on a batch of frames, with fixed shapes.

The published procedure (PyPI `mtcnn` 1.0.0, mtcnn/stages/*.py), where each pyramid level gives its best
`PER_LEVEL` windows and each stage keeps the best `KEPT` boxes of a frame. x and y are continuous: pixel i
covers [i, i + 1). Boxes are (x1, y1, x2, y2); a score of 0 marks an unused place.
"""

from collections.abc import Callable
from functools import partial
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mer_jax.models.mtcnn import MTCNN
from mer_jax.runtime.array_types import Array, Bool, Float, Int, Num, UInt8

MIN_FACE = 24  # pixels
PYRAMID_FACTOR = 0.709  # from one level to the next: half the area
THRESHOLDS = (0.6, 0.7, 0.8)  # least score after P-Net, R-Net, O-Net
PER_LEVEL, KEPT = 64, 128
CHUNKS = 16, 4  # crops per step of R-Net and of O-Net: a frame has tens and a few
CHUNKS_ON_CPU = 8, 2  # where a step takes as long as it has crops, and the last is half empty
WINDOW, STRIDE = 12, 2  # P-Net's
APART = 4  # levels that are searched or not one by one: the largest, for the smallest faces; the rest take 1/16 of all
NOWHERE = APART + 1
LARGEST_PART = 0.55  # of a face's side, for the first level's windows; beyond it landmarks of real faces began to move

Size = tuple[int, int]  # height, width
Network = Callable[[jax.Array], tuple[jax.Array, ...]]  # one of MTCNN's: pixels -> scores, box offsets, ...


def cascade(
    model: MTCNN, frames: UInt8[Array, "B H W 3"], first: Int[Array, "B"]
) -> tuple[Float[Array, "B KEPT 4"], Float[Array, "B KEPT"], Float[Array, "B KEPT 5 2"]]:
    """RGB frames -> boxes, scores, landmarks as (x, y).

    first: of each frame the first pyramid level that is searched, see `first_level`; none from `NOWHERE` on.
    """
    rnet_chunk, onet_chunk = CHUNKS_ON_CPU if jax.default_backend() == "cpu" else CHUNKS
    scores, boxes = propose(model.pnet, frames, first)  # [B, L, PER_LEVEL]
    scores = suppress(boxes, scores, 0.5)
    scores, boxes = best(scores.reshape(len(frames), -1), boxes.reshape(len(frames), -1, 4))
    scores, boxes = suppress(boxes, scores, 0.7), square(boxes)

    scores, offsets = judge(model.rnet, frames, boxes, scores > 0, 24, rnet_chunk)
    scores, boxes = best(above(scores, THRESHOLDS[1]), shift(boxes, offsets))
    scores, boxes = suppress(boxes, scores, 0.7), square(boxes)

    scores, offsets, landmarks = judge(model.onet, frames, boxes, scores > 0, 48, onet_chunk)
    landmarks = jnp.stack(jnp.split(landmarks, 2, axis=-1), axis=-1)  # [B, KEPT, 5, 2]
    landmarks = boxes[:, :, None, :2] + landmarks * extent(boxes)[:, :, None]
    scores, boxes, landmarks = best(above(scores, THRESHOLDS[2]), shift(boxes, offsets), landmarks)
    return boxes, suppress(boxes, scores, 0.7, of_smaller=True), landmarks


def normalise(pixels: Num[Array, "..."]) -> Float[Array, "..."]:
    """0 to 255 -> what the networks take."""
    return (pixels - 127.5) / 128


def first_level(side: float) -> int:
    """The first pyramid level that finding a face with sides of so many pixels takes.

    Windows that are much smaller than a face see its parts, and what they propose comes to nothing.
    """
    return min(APART, int(log(MIN_FACE / max(MIN_FACE, side * LARGEST_PART), PYRAMID_FACTOR)))


@jax.named_scope("propose faces")
def propose(
    pnet: Network, frames: UInt8[Array, "B H W 3"], first: Int[Array, "B"]
) -> tuple[Float[Array, "B levels PER_LEVEL"], Float[Array, "B levels PER_LEVEL 4"]]:
    """Scores and boxes of the best windows of each pyramid level."""
    # On a CPU one frame after the other: what P-Net makes of it then fits into the caches, and what is not searched
    # takes no time.
    at_once = 1 if jax.default_backend() == "cpu" else len(frames)
    parts = frames.reshape(-1, at_once, *frames.shape[1:]), first.reshape(-1, at_once)
    results = jax.lax.map(lambda part: propose_at_once(pnet, *part), parts)
    return jax.tree.map(lambda x: x.reshape(len(frames), *x.shape[2:]), results)


def propose_at_once(
    pnet: Network, frames: UInt8[Array, "B H W 3"], first: Int[Array, "B"]
) -> tuple[Float[Array, "B levels PER_LEVEL"], Float[Array, "B levels PER_LEVEL 4"]]:
    """`propose` for frames that are computed together."""
    _, height, width, _ = frames.shape
    sizes = pyramid(height, width)
    groups = [sizes[level : level + 1] for level in range(APART)] + [sizes[APART:]]
    largest = if_any(first < NOWHERE, lambda: normalise(shrink(frames, *sizes[0])))
    levels = []
    for number, group in enumerate(groups):
        searched = first <= number
        best_cells = if_any(searched, partial(best_windows, pnet, group, largest))
        for (h, w), (scores, shifts, cell) in zip(group, best_cells, strict=True):
            columns = (w - WINDOW) // STRIDE + 1
            corner = STRIDE * jnp.stack([cell % columns, cell // columns], axis=-1)
            windows = jnp.concatenate([corner, corner + WINDOW], axis=-1) + shifts
            boxes = windows * jnp.array([width / w, height / h] * 2)
            missing = (0, PER_LEVEL - scores.shape[1])
            scores = jnp.where(searched[:, None], scores, 0)
            levels.append((jnp.pad(scores, ((0, 0), missing)), jnp.pad(boxes, ((0, 0), missing, (0, 0)))))
    return jax.tree.map(lambda *level: jnp.stack(level, axis=1), *levels)


def if_any(condition: Bool[Array, "B"], function: Callable[[], Any]) -> Any:
    """What the function gives, or zeros, without computing it, where the condition holds nowhere."""
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function))
    return jax.lax.cond(condition.any(), function, lambda: nothing)


def best_windows(
    pnet: Network, sizes: list[Size], largest: Float[Array, "B H W 3"]
) -> list[tuple[Float[Array, "B windows"], Float[Array, "B windows 4"], Int[Array, "B windows"]]]:
    """Scores, shifts of the edges (px) and cells of the best windows in levels of these sizes, from the largest levels.

    All levels lie on one canvas, so that P-Net is compiled and run once; windows across two are not read.
    """
    if not sizes:
        return []
    batch = len(largest)
    corners, canvas_size = pack(sizes)
    canvas = jnp.zeros((batch, *canvas_size, 3))
    for (h, w), (top, left) in zip(sizes, corners, strict=True):
        canvas = canvas.at[:, top : top + h, left : left + w].set(shrink(largest, h, w))
    canvas_scores, canvas_offsets = pnet(canvas)

    levels = []
    for (h, w), (top, left) in zip(sizes, corners, strict=True):
        rows, columns = ((n - WINDOW) // STRIDE + 1 for n in (h, w))
        row, column = top // STRIDE, left // STRIDE
        scores = canvas_scores[:, row : row + rows, column : column + columns].reshape(batch, -1)
        offsets = canvas_offsets[:, row : row + rows, column : column + columns].reshape(batch, -1, 4)
        scores, cell = jax.lax.top_k(above(scores, THRESHOLDS[0]), min(PER_LEVEL, rows * columns))
        levels.append((scores, WINDOW * jnp.take_along_axis(offsets, cell[..., None], axis=1), cell))
    return levels


def pyramid(height: int, width: int) -> list[Size]:
    """Level sizes, largest first; even, so that P-Net's pooling windows never reach over a level's edge."""
    sizes, scale = [], WINDOW / MIN_FACE
    while min(height, width) * scale >= WINDOW:
        sizes.append((2 * round(height * scale / 2), 2 * round(width * scale / 2)))
        scale *= PYRAMID_FACTOR
    return sizes


def pack(sizes: list[Size]) -> tuple[list[tuple[int, int]], Size]:
    """Places levels on a canvas as high as the largest, each as far left as it goes: (top, left), the canvas size."""
    height = sizes[0][0]
    placed: list[tuple[int, int, int, int]] = []  # top, left, bottom, right
    for h, w in sizes:
        free = [
            (left, top)
            for left in [0, *(right for *_, right in placed)]
            for top in [0, *(bottom for _, _, bottom, _ in placed)]
            if top + h <= height
            and not any(y < top + h and top < b and x < left + w and left < r for y, x, b, r in placed)
        ]
        left, top = min(free)
        placed.append((top, left, top + h, left + w))
    return [(top, left) for top, left, *_ in placed], (height, max(right for *_, right in placed))


def shrink(images: Num[Array, "B H W C"], height: int, width: int) -> Float[Array, "B {height} {width} C"]:
    """Resizes to a smaller size: bilinear, antialiased."""
    for axis, target in ((1, height), (2, width)):
        source = images.shape[axis]
        if source == target:
            continue
        scale = source / target
        centres = (np.arange(target) + 0.5) * scale
        taps = np.ceil(centres - scale - 0.5)[:, None] + np.arange(int(2 * scale) + 1)  # [target, taps]
        weights = np.maximum(0, 1 - np.abs(taps + 0.5 - centres[:, None]) / scale) * ((taps >= 0) & (taps < source))
        weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        places = taps.clip(0, source - 1).astype(np.int32)
        # A sum of few shifted images: the product with a matrix that is mostly zeros takes four times as long.
        parts = zip(places.T, np.expand_dims(weights.T, [1, 3, 4] if axis == 1 else [1, 2, 4]), strict=True)
        images = sum(jnp.take(images, place, axis=axis, mode="clip") * weight for place, weight in parts)
    return images


@jax.named_scope("judge faces")
def judge(
    net: Network,
    frames: UInt8[Array, "B H W 3"],
    boxes: Float[Array, "B boxes 4"],
    valid: Bool[Array, "B boxes"],
    size: int,
    chunk: int,
) -> tuple[Float[Array, "B boxes ..."], ...]:
    """R-Net's or O-Net's outputs for the valid boxes; elsewhere the first, the score, is 0.

    Shapes are fixed, but only as many chunks of `chunk` boxes are computed as hold the valid ones.
    """
    flat = boxes.reshape(-1, 4)
    order = jnp.argsort(~valid.ravel(), stable=True)  # the valid ones first
    shapes = jax.eval_shape(net, jax.ShapeDtypeStruct((len(flat), size, size, 3), jnp.float32))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def step(state: tuple[Any, Any]) -> tuple[Any, Any]:
        start, outputs = state
        chosen = jax.lax.dynamic_slice(order, [start], [chunk])
        results = net(crop(frames, flat[chosen], chosen // boxes.shape[1], size))
        return start + chunk, jax.tree.map(lambda o, r: o.at[chosen].set(r), outputs, results)

    count = valid.sum()
    _, outputs = jax.lax.while_loop(lambda state: state[0] < count, step, (0, nothing))
    scores, *rest = (x.reshape(*valid.shape, *x.shape[1:]) for x in outputs)
    return jnp.where(valid, scores, 0), *rest


def crop(
    frames: UInt8[Array, "B H W 3"], boxes: Float[Array, "boxes 4"], owner: Int[Array, "boxes"], size: int
) -> Float[Array, "boxes {size} {size} 3"]:
    """Bilinear crops, normalised, of boxes in the frames of index `owner`; 0 outside the frame."""
    steps = (jnp.arange(size) + 0.5) / size
    corner, extents = boxes[:, :2], extent(boxes)
    x, y = (corner[:, i, None] + extents[:, i, None] * steps - 0.5 for i in range(2))  # [boxes, size]

    def taps(
        centres: Float[Array, "boxes size"], length: int
    ) -> tuple[Int[Array, "boxes size 2"], Float[Array, "boxes size 2"]]:
        index = jnp.floor(centres)[..., None] + jnp.arange(2)
        weights = jnp.where((index >= 0) & (index < length), 1 - jnp.abs(index - centres[..., None]), 0)
        return jnp.clip(index, 0, length - 1).astype(jnp.int32), weights

    rows, row_weights = taps(y, frames.shape[1])
    columns, column_weights = taps(x, frames.shape[2])
    rows, columns = rows.reshape(len(boxes), -1, 1), columns.reshape(len(boxes), 1, -1)
    corners = normalise(frames[owner[:, None, None], rows, columns]).reshape(-1, size, 2, size, 2, 3)
    return jnp.einsum("NYAXBC,NYA,NXB->NYXC", corners, row_weights, column_weights)


def above(scores: Float[Array, "..."], threshold: float) -> Float[Array, "..."]:
    """The scores, 0 where not above the threshold."""
    return jnp.where(scores > threshold, scores, 0)


def best(
    scores: Float[Array, "B boxes"], *arrays: Float[Array, "B boxes ..."]
) -> tuple[Float[Array, "B KEPT ..."], ...]:
    """The `KEPT` best of each frame, sorted: their scores, and what belongs to them in `arrays`."""
    scores, index = jax.lax.top_k(scores, KEPT)
    return scores, *(x[jnp.arange(len(x))[:, None], index] for x in arrays)


def extent(boxes: Float[Array, "*B 4"]) -> Float[Array, "*B 2"]:
    """Width and height."""
    return boxes[..., 2:] - boxes[..., :2]


def square(boxes: Float[Array, "*B 4"]) -> Float[Array, "*B 4"]:
    """Grows the shorter side about the centre."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = extent(boxes).max(axis=-1, keepdims=True) / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def shift(boxes: Float[Array, "*B 4"], offsets: Float[Array, "*B 4"]) -> Float[Array, "*B 4"]:
    """Moves each edge by its offset, in units of the box's width and height."""
    return boxes + offsets * jnp.tile(extent(boxes), 2)


def suppress(
    boxes: Float[Array, "*B boxes 4"], scores: Float[Array, "*B boxes"], threshold: float, of_smaller: bool = False
) -> Float[Array, "*B boxes"]:
    """Greedy non-maximum suppression: sets the score of boxes that overlap a better one to 0.

    Args:
        boxes, scores: best first.
        threshold: on intersection / union, or intersection / the smaller area where `of_smaller`.
    """
    worse, better = boxes[..., :, None, :], boxes[..., None, :, :]
    top_left, bottom_right = jnp.maximum(worse[..., :2], better[..., :2]), jnp.minimum(worse[..., 2:], better[..., 2:])
    shared = jnp.maximum(bottom_right - top_left, 0).prod(axis=-1)
    areas = extent(boxes).prod(axis=-1)
    pairs = areas[..., :, None], areas[..., None, :]
    whole = jnp.minimum(*pairs) if of_smaller else sum(pairs) - shared
    rank = jnp.arange(scores.shape[-1])
    rivals = (shared > threshold * whole) & (rank < rank[:, None])  # [..., worse, better]

    # A box is kept if no better rival is. Whom the first n passes keep among the n best is final, mostly after few.
    valid = scores > 0
    _, kept = jax.lax.while_loop(
        lambda passes: jnp.any(passes[0] != passes[1]),
        lambda passes: (passes[1], valid & ~jnp.any(rivals & passes[1][..., None, :], axis=-1)),
        (jnp.zeros_like(valid), valid),
    )
    return jnp.where(kept, scores, 0)
