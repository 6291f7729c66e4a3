"""The files that a data set keeps of its clips beside its tables: media, face crops, ready-made features."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mer_jax.data.clips import Clip, Problem
from mer_jax.runtime.files import printable

# What FFmpeg opens and people film and record with. Not taken from its demuxers: those of wav, mpg, wmv and amr name no
# suffix, others name .txt or .dat, and what a folder holds must not depend on how FFmpeg was built.
VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".flv", ".wmv", ".mpg", ".mpeg", ".3gp", ".ts", ".mts",
    ".264", ".265", ".3g2", ".amv", ".asf", ".dav", ".dif", ".divx", ".dv", ".f4v", ".gif", ".h261", ".h263", ".h264",
    ".h265", ".hevc", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mp4v",
    ".mpe", ".mpv", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".vob", ".vro", ".wtv",
    ".y4m",
)  # fmt: skip
SOUND_SUFFIXES = (
    ".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac", ".aiff", ".wma", ".mka",
    ".3ga", ".ac3", ".adts", ".aif", ".aifc", ".amr", ".ape", ".au", ".awb", ".bwf", ".caf", ".dsf", ".dts", ".eac3",
    ".ec3", ".g722", ".gsm", ".latm", ".m4b", ".m4r", ".mlp", ".mp1", ".mp2", ".mpa", ".mpc", ".nist", ".oga", ".oma",
    ".qcp", ".ra", ".rf64", ".sbc", ".shn", ".snd", ".sph", ".spx", ".tak", ".thd", ".tta", ".voc", ".w64", ".wave",
    ".weba", ".wv",
)  # fmt: skip
MEDIA_SUFFIXES = VIDEO_SUFFIXES + SOUND_SUFFIXES


@dataclass(frozen=True)
class ClipFiles:
    """Face crops and features, which lie at the same places below `root` in every layout.

    features: modality -> folder under `features/` with ready-made `{name}.npy`.
    """

    root: Path
    features: Mapping[str, str]

    def complete(self, clip: Clip) -> Clip:
        """The clip with its crops and features."""
        paths = {modality: self.root / "features" / f / f"{clip.name}.npy" for modality, f in self.features.items()}
        features = {modality: path for modality, path in paths.items() if path.exists()}
        return replace(clip, faces=self.crops(clip.name), features=features)

    def crops(self, name: str) -> Path | None:
        """A clip's face crops: the baseline's array, or OpenFace's folder of aligned images."""
        places = (f"{name}/{name}.npy", f"{name}.npy", f"{name}/{name}_aligned", f"{name}_aligned")
        paths = (self.root / "openface_face" / place for place in places)
        return next((path for path in paths if path.exists()), None)

    def featured_names(self) -> set[str]:
        """Names of the clips that have features of any modality."""
        return {path.stem for f in self.features.values() for path in (self.root / "features" / f).glob("*.npy")}

    def problems(self, clips: Sequence[Clip], unused_media: Iterable[str], table: str) -> list[Problem]:
        """Clips that have no files, and files that have no clip.

        Args:
            clips: all that the tables name.
            unused_media: names of media files that belong to none of them.
            table: the file that they should have had a row in.
        """
        without_media = [clip for clip in clips if clip.media is None and not clip.features]
        without_row = sorted(unused_media)
        faces = (self.root / "openface_face").glob("*")
        crops = {path.name.removesuffix(".npy").removesuffix("_aligned") for path in faces}
        without_clip = sorted(crops - {clip.name for clip in clips} - set(without_row))
        return [
            *(Problem(clip.name, clip.split, None, "row without a clip") for clip in without_media),
            *(Problem(name, "none", None, f"clip without a row in {table}: not used") for name in without_row),
            *(Problem(name, "none", "image", "face crops without a clip: not used") for name in without_clip),
        ]


def media_files(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Clip name -> media file, for every media file of a folder (which may be missing); video before sound.

    Further files of the same name are noted in `problems`.
    """
    files: dict[str, Path] = {}
    if not folder.is_dir():
        return files
    paths = [path for path in folder.iterdir() if path.suffix.lower() in MEDIA_SUFFIXES]
    for path in sorted(paths, key=lambda path: (path.suffix.lower() in SOUND_SUFFIXES, path.name)):
        name = printable(path.stem)
        first = files.setdefault(name, path)
        if first is not path:
            read, other = printable(first.name), printable(path.name)
            problems.append(Problem(name, "none", None, f"two files ({read} is read, {other} is not)"))
    return files
