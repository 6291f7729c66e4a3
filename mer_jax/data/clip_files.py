"""The files that a data set keeps of its clips beside its tables: media, face crops, ready-made features."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mer_jax.data.clips import Clip, Problem

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".flv", ".wmv", ".mpg", ".mpeg", ".3gp", ".ts", ".mts",
)  # fmt: skip
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac", ".aiff", ".wma", ".mka")
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
        first = files.setdefault(path.stem, path)
        if first is not path:
            problems.append(Problem(path.stem, "none", None, f"two files ({first.name} is read, {path.name} is not)"))
    return files
