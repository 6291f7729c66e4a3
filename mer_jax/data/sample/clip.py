"""Makes one clip of the bundled sample from its plan: its mp4 and its face crops."""

import os
from pathlib import Path

import av
import numpy as np

from mer_jax.data.faces import align
from mer_jax.data.sample.cues import FACES, random_scene
from mer_jax.data.sample.face import CONTROLS, Expression, Portrait, Pose
from mer_jax.data.sample.persons import Person
from mer_jax.data.sample.plan import FRAME_RATE, VOICE_STRENGTH, ClipPlan, Defect
from mer_jax.data.sample.scene import FRAME
from mer_jax.data.sample.voice import VOICES, synthesise

SAMPLE_RATE = 16_000
ENVELOPE_RATE = 100
CROP = 112  # px, OpenFace's default
BLINKS = 0.3  # per second
X264 = {"preset": "ultrafast", "crf": "22", "threads": "1"}  # one thread: the same bytes on every machine
AAC = {"aac_coder": "fast"}


def write_clip(root: Path, plan: ClipPlan, person: Person) -> None:
    """Writes `video-*/{media}.mp4` and `openface_face/{media}/{media}.npy` (uint8 BGR [T, 112, 112, 3])."""
    rng = np.random.default_rng(plan.seed)
    seconds = plan.num_frames / FRAME_RATE
    delivery = VOICES[plan.speech.emotion] * (VOICE_STRENGTH * plan.speech.intensity)
    sound, envelope = synthesise(person.speaker, delivery, seconds, rng)
    frames, crops = draw_frames(plan, person, envelope, rng)
    if Defect.SILENT in plan.defect:
        sound = np.zeros_like(sound)

    media = root / ("video-labeled" if plan.split == "train" else "video-unlabeled") / f"{plan.media}.mp4"
    media.parent.mkdir(exist_ok=True)
    encode(
        media,
        frames=None if Defect.NO_VIDEO_STREAM in plan.defect else frames,
        sound=None if Defect.NO_SOUND_TRACK in plan.defect else sound,
    )
    if Defect.TRUNCATED in plan.defect:
        os.truncate(media, media.stat().st_size * 2 // 3)
    if Defect.NO_CROPS not in plan.defect:
        folder = root / "openface_face" / plan.media
        folder.mkdir(parents=True)
        np.save(folder / f"{plan.media}.npy", crops)


def draw_frames(
    plan: ClipPlan, person: Person, envelope: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a clip as uint8 RGB frames [T, H, W, 3] and BGR crops [T', 112, 112, 3]; T' is 0 without a face.

    envelope: [S] loudness of the voice, 100 values per second; it opens the mouth.
    """
    scene = random_scene(plan.scene.emotion, plan.scene.intensity, rng)
    if Defect.NO_FACE in plan.defect:
        room = np.asarray(scene.room_only())
        return np.stack([room] * plan.num_frames), np.zeros((0, CROP, CROP, 3), np.uint8)
    seconds = (np.arange(plan.num_frames) + 0.5) / FRAME_RATE
    loudness = np.interp(seconds, np.arange(len(envelope)) / ENVELOPE_RATE, envelope)
    portrait = Portrait(person, scene)
    frames, crops = [], []
    for pose, expression in zip(
        draw_poses(seconds, loudness, rng), draw_expressions(plan, seconds, loudness, rng), strict=True
    ):
        frame, landmarks = portrait.draw(pose, expression)
        frames.append(frame)
        crops.append(align(frame, landmarks, CROP)[..., ::-1])
    return np.stack(frames), np.stack(crops)


def draw_poses(seconds: np.ndarray, loudness: np.ndarray, rng: np.random.Generator) -> list[Pose]:
    """A head that sways about a resting place, nods as it speaks, and blinks now and then."""
    x, y, roll, yaw, pitch = (
        rng.normal(0, spread) + sway * np.sin(2 * np.pi * (rng.uniform(0.3, 0.9) * seconds + rng.random()))
        for spread, sway in ((2.5, 2.0), (1.5, 1.0), (0.04, 0.03), (0.25, 0.2), (0.15, 0.15))
    )
    scale = np.full(len(seconds), rng.uniform(0.94, 1.06))
    blinks = rng.random(len(seconds)) < BLINKS / FRAME_RATE
    columns = (x, y, scale, roll, yaw, pitch + 0.25 * loudness, blinks)
    return [Pose(*values) for values in np.stack(columns, axis=1).tolist()]  # in the order of Pose's fields


def draw_expressions(
    plan: ClipPlan, seconds: np.ndarray, loudness: np.ndarray, rng: np.random.Generator
) -> list[Expression]:
    """The emotion rises to its intensity and is held, on a face that rests in its own way and speaks."""
    rest = Expression(*rng.normal(0, 0.08, len(CONTROLS)).tolist())
    rise = np.clip((seconds - rng.uniform(-0.2, 0.2)) / 0.4, 0, 1)
    levels = plan.face.intensity * (0.3 + 0.7 * rise * rise * (3 - 2 * rise))
    return [
        rest + FACES[plan.face.emotion] * level + Expression(mouth_open=0.5 * open_, lip_press=-0.3 * open_)
        for level, open_ in zip(levels.tolist(), loudness.tolist(), strict=True)
    ]


def encode(path: Path, frames: np.ndarray | None, sound: np.ndarray | None) -> None:
    """Writes uint8 RGB frames [T, H, W, 3] as H.264, a float32 waveform [S] as AAC; None: no such stream."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        if frames is not None:
            video = container.add_stream("libx264", rate=FRAME_RATE, options=X264)
            video.width, video.height = FRAME
            video.pix_fmt = "yuv420p"
        if sound is not None:
            audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono", options=AAC)
            block = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            block.sample_rate = SAMPLE_RATE
            container.mux(audio.encode(block))
            container.mux(audio.encode())
        if frames is not None:
            for frame in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(video.encode())
