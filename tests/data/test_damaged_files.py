"""A few damaged files of each kind: every one is accounted for. Hundreds of them: benchmarks/fuzz.py."""

from functools import partial

import numpy as np
import pytest

from mer_jax.data.builder import FEATURES
from mer_jax.data.check import report
from mer_jax.data.clips import Absent, Clip
from mer_jax.data.decoding import ExtractionSettings
from mer_jax.data.faces import Faces
from mer_jax.data.folder import COLUMNS, read_folder
from mer_jax.data.records import PrepareSettings, RecordSettings, prepare_clip
from mer_jax.data.workers import map_in_workers
from mer_jax.runtime.errors import DataError
from tests.data.damaged_files import ENCODINGS, MEDIA_DAMAGE, TABLE_DAMAGE, damaged_media, damaged_table
from tests.data.media_files import numbered_frames, tone, write_video

SETTINGS = RecordSettings(
    PrepareSettings(frames=4, frame_side=32, jpeg_quality=90),
    ExtractionSettings(most_face_frames=64, time_limit=20.0),
    face_size=32,
)
NO_FACES = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def test_every_damaged_media_file_ends_as_a_record_or_a_reason(tmp_path):
    rng, clips = np.random.default_rng(0), []
    for suffix in (".mp4", ".mkv"):
        write_video(tmp_path / f"whole{suffix}", numbered_frames(6, 32, 48), tone(0.5), lossy=True)
        whole = (tmp_path / f"whole{suffix}").read_bytes()
        for kind in MEDIA_DAMAGE:
            path = tmp_path / f"{kind} {suffix[1:]}{suffix}"
            path.write_bytes(damaged_media(whole, kind, rng))
            clips.append(Clip(path.stem, "train", media=path))
        clips.append(Clip(f"whole {suffix}", "train", media=tmp_path / f"whole{suffix}"))
    records = list(
        map_in_workers(
            partial(prepare_clip, settings=SETTINGS),
            clips,
            lambda clip: 20.0,
            count=2,
            answer=lambda frames: [NO_FACES] * len(frames),
        )
    )
    endings = dict(zip((clip.name for clip in clips), records, strict=True))
    assert not [ending for ending in endings.values() if isinstance(ending, Absent)]  # no worker was lost
    for name, record in endings.items():
        FEATURES.serialize_example({"id": name, "transcript": "", "label": "", **record})
        if name.startswith("whole"):
            assert len(record["waveform"]) >= 8000 and len(record["frames"]) == 4
        if name.startswith(("noise", "empty")):
            assert not len(record["waveform"]) and not record["frames"]
            assert "cannot decode" in record["absent"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", TABLE_DAMAGE)
def test_a_damaged_table_is_read_or_one_clear_error(tmp_path, kind, encoding):
    (tmp_path / "clips.csv").write_bytes(damaged_table(kind, encoding, np.random.default_rng(0)))
    try:
        dataset = read_folder(tmp_path, dict(zip(COLUMNS, COLUMNS, strict=True)), {})
    except DataError as error:
        assert str(error).startswith(f"{tmp_path / 'clips.csv'}: ")
        assert encoding == "utf-16" or kind in ("quote", "bytes", "doubled column", "short rows", "long rows")
    else:
        assert 0 < len(dataset.clips) <= 12
        assert len({clip.name for clip in dataset.clips}) == len(dataset.clips)
        assert report(dataset, ())
