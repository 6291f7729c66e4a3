"""A run's face crops: the data set's own where a clip has them, else cut out of its frames once and kept."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np

from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings, identity, media_of, time_limit
from mer_jax.data.detect import map_with_detector
from mer_jax.data.faces import FACE_SIZE, crop_clip
from mer_jax.data.kept_crops import COUNTS, FAILURE, Cut, about, check_crops
from mer_jax.data.timing import frame_times
from mer_jax.data.workers import map_in_workers
from mer_jax.runtime.disk import check_room
from mer_jax.runtime.files import write_whole
from mer_jax.runtime.hosts import meet, own_part
from mer_jax.runtime.kept import Damaged, file_digests, keep, make_again, read_kept, usable
from mer_jax.runtime.progress import progress

FEW = 8  # clips that are looked into


def find_faces(clips: Sequence[Clip], folder: Path, settings: ExtractionSettings, thorough: bool = False) -> list[Clip]:
    """Clips with their aligned face crops, detected into `folder` where the data set has none.

    Crops are uint8 BGR [T, 128, 128, 3] as OpenFace's are; none at all for a clip without a face. A clip that cannot be
    searched says why, and is tried again at the next start; one whose file has changed, or whose crops are damaged, is
    searched again.

    thorough: compares the content of the crops with what it was, where else their sizes do (see `check_crops`).
    """
    without = [clip for clip in clips if needs_crops(clip)]
    if not without:
        return list(clips)
    paths = {clip.name: folder / clip.name / f"{clip.name}.npy" for clip in without}
    part = own_part(without)
    with ThreadPoolExecutor() as readers:
        cut = list(readers.map(lambda clip: is_cut(clip, paths[clip.name], settings, thorough), part))
    missing = [clip for clip, there in zip(part, cut, strict=True) if not there]
    with progress("faces", len(clips), "clip") as bar:
        bar.update(len(clips) - len(missing))  # the others bring theirs, or have no media
        for clip, crops in zip(missing, cut_faces(missing, settings), strict=True):
            bar.update(1)
            write_crops(clip, crops, paths[clip.name], settings)
    meet("faces")
    return [with_faces(clip, paths[clip.name]) if clip.name in paths else clip for clip in clips]


def needs_crops(clip: Clip) -> bool:
    """Whether crops are to be cut of its media; a prepared clip brings its own."""
    return bool(clip.media and not clip.faces and not clip.hides("image"))


def check_room_for_crops(clips: Sequence[Clip], folder: Path, settings: ExtractionSettings) -> None:
    """Raises DataError where the disk of `folder` has no room for the crops that `find_faces` would write to it.

    By the frames of a few clips, in each of which there may be a face.
    """
    without = [clip for clip in clips if needs_crops(clip) and not (folder / clip.name).exists()]
    few = without[:: -(-len(without) // FEW) or 1]
    counts = map_in_workers(number_of_frames, few, lambda clip: time_limit(clip, settings.time_limit))
    frames = [min(count, settings.most_face_frames) for count in counts if not isinstance(count, Absent)]
    if frames:
        what = f"the face crops of {len(without):,} clips"
        check_room(folder, int(np.mean(frames) * len(without) * FACE_SIZE**2 * 3), what)


def number_of_frames(clip: Clip) -> int:
    """Of a clip's video, 0 without one: a worker's job."""
    try:
        return len(frame_times(media_of(clip)).times)
    except Absent:
        return 0


def cut_faces(clips: Sequence[Clip], settings: ExtractionSettings) -> Iterator[tuple[np.ndarray, int] | Absent]:
    """Of each clip with media: crops uint8 RGB [T, S, S, 3] and frames without the main face; or why there are none."""
    job = partial(crop_clip, size=FACE_SIZE, most_frames=settings.most_face_frames)
    return map_with_detector(job, clips, settings)


def write_crops(clip: Clip, crops: tuple[np.ndarray, int] | Absent, path: Path, settings: ExtractionSettings) -> None:
    """Writes what `cut_faces` gave for a clip, for all hosts to read."""
    counts = path.with_name(COUNTS)
    if isinstance(crops, Absent):
        for outdated in (path, counts):
            outdated.unlink(missing_ok=True)
        keep(path.with_name(FAILURE), {"reason": str(crops)}, own=True)
        return
    pictures, without_face = crops
    content = BytesIO()  # straight into a file numpy's errors would not tell what the system has against it
    np.save(content, pictures[..., ::-1], allow_pickle=False)
    with write_whole(path, mode="wb", own=True) as file:
        file.write(content.getbuffer())
    (digest,), size = file_digests([path]), path.stat().st_size
    cut = Cut(len(pictures), without_face, identity(clip.media), settings.face_stride, size, digest)
    keep(counts, cut.as_json(), own=True)


def is_cut(clip: Clip, path: Path, settings: ExtractionSettings, thorough: bool = False) -> bool:
    """Whether the crops are there and whole, of the clip's file as it is now, and searched as the settings say."""
    cut = usable(path.with_name(COUNTS), earlier=True, parse=Cut.from_json)
    if cut is None or cut.of != identity(clip.media) or cut.face_stride not in (None, settings.face_stride):
        return False
    try:
        if not path.exists() or cut.size not in (None, path.stat().st_size):
            raise Damaged(f"{path}: not as it was written")
        if thorough:
            check_crops(path)
    except Damaged as reason:
        make_again(reason)
        return False
    return True


def with_faces(clip: Clip, path: Path) -> Clip:
    """The clip with its crops, or with the reason why there are none."""
    if path.exists():
        return replace(clip, faces=path, cut=True)
    return replace(clip, no_faces=read_kept(path.with_name(FAILURE), earlier=True, parse=lambda said: said["reason"]))


def faces_section(clips: Sequence[Clip]) -> dict[str, int] | None:
    """Clips and frames that `find_faces` has searched, and those without a face; None where it searched none."""
    counts = [about(clip.faces) for clip in clips if clip.faces and clip.cut]
    if not counts:
        return None
    return {
        "clips": len(counts),
        "clips_without": sum(not count.with_face for count in counts),
        "frames": sum(count.with_face + count.without for count in counts),
        "frames_without": sum(count.without for count in counts),
    }
