"""The files that a data set keeps of its clips beside its tables: media, face crops, ready-made features."""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePath
from urllib.parse import unquote

from mer_jax.data.clips import Clip, Problem
from mer_jax.runtime.errors import DataError
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
SEARCHED = 50  # rows and files among which two similar names are looked for


def without_suffix(name: str) -> str:
    """A clip's name without the suffix of its media file, which tables may write; other dots are the name's own."""
    path = PurePath(name)
    return path.stem if path.suffix.lower() in MEDIA_SUFFIXES else name


def key_of(name: str) -> str:
    """What the ways to write one clip's name have in common: "a.mp4" is "a"; in either normal form of Unicode."""
    return unicodedata.normalize("NFC", without_suffix(name))


def forms_of(name: str) -> list[str]:
    """The names that a clip's files may bear: as it is written first, without a suffix, in both normal forms."""
    names = (name, without_suffix(name))
    return list(dict.fromkeys([*names, *(unicodedata.normalize(form, n) for n in names for form in ("NFC", "NFD"))]))


def located(root: Path, cell: str) -> Path:
    """The file that a table's cell names, relative to `root`; also with Windows' backslashes, as a web address has it
    (%20), or in another normal form of Unicode. The cell as it is written where there is none."""
    ways = (cell, cell.replace("\\", "/"), unquote(cell))
    written = [*ways, *(unicodedata.normalize(form, way) for way in ways for form in ("NFC", "NFD"))]
    return next((root / path for path in written if os.path.isfile(root / path)), root / cell)


def media_of_name(media: Mapping[str, Path], name: str) -> Path | None:
    """The file of a clip's name among those that `media_files` gives."""
    return media.get(unicodedata.normalize("NFC", name)) or media.get(key_of(name))


@dataclass(frozen=True)
class ClipFiles:
    """Face crops and features, which lie at the same places below `root` in every layout.

    features: stream -> folder under `features/` with ready-made `{name}.npy`.
    """

    root: Path
    features: Mapping[str, str]

    def __post_init__(self) -> None:
        """Raises DataError where a folder of features is not there."""
        for folder in self.features.values():
            if not (self.root / "features" / folder).is_dir():
                raise DataError(f"{self.root / 'features' / folder}: no such folder of ready-made features")

    def complete(self, clip: Clip) -> Clip:
        """The clip with its crops and features."""
        names, features = forms_of(clip.name), dict[str, Path]()
        for stream, folder in self.features.items():
            paths = (self.root / "features" / folder / f"{name}.npy" for name in names)
            if path := next((path for path in paths if path.exists()), None):
                features[stream] = path
        return replace(clip, faces=self.crops(clip.name), features=features)

    def crops(self, name: str) -> Path | None:
        """A clip's face crops: the baseline's array, or OpenFace's folder of aligned images."""
        places = ("{0}/{0}.npy", "{0}.npy", "{0}/{0}_aligned", "{0}_aligned")
        paths = (self.root / "openface_face" / place.format(form) for form in forms_of(name) for place in places)
        return next((path for path in paths if path.exists()), None)

    def featured_names(self) -> set[str]:
        """Names of the clips that have any features."""
        folders = (self.root / "features" / folder for folder in self.features.values())
        return {key_of(path.stem) for folder in folders for path in folder.glob("[!.]*.npy")}

    def problems(self, clips: Sequence[Clip], unused_media: Iterable[str], table: str) -> list[Problem]:
        """Clips that have no files, and files that have no clip.

        Args:
            clips: all that the tables name.
            unused_media: names of media files that belong to none of them.
            table: the file that they should have had a row in.
        """
        without_media = [clip for clip in clips if clip.media is None and not clip.features]
        without_row = sorted(unused_media)
        faces = (self.root / "openface_face").glob("[!.]*")
        crops = {key_of(path.name.removesuffix(".npy").removesuffix("_aligned")) for path in faces}
        without_clip = sorted(crops - {key_of(clip.name) for clip in clips} - set(without_row))
        return [
            *(Problem(clip.name, clip.split, None, "row without a clip") for clip in without_media),
            *(Problem(name, "none", None, f"clip without a row in {table}: not used") for name in without_row),
            *(Problem(name, "none", "image", "face crops without a clip: not used") for name in without_clip),
        ]


def media_files(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Clip's key (see `key_of`) -> media file, for every media file of a folder (which may be missing); video first.

    Further files of the same name are noted in `problems`; hidden files (macOS' `._a.mp4`) are none.
    """
    files: dict[str, Path] = {}
    paths = [path for path in listing(folder) if is_media(path)]
    for path in sorted(paths, key=lambda path: (path.suffix.lower() in SOUND_SUFFIXES, path.name)):
        name = unicodedata.normalize("NFC", printable(path.stem))
        first = files.setdefault(name, path)
        if first is not path:
            read, other = printable(first.name), printable(path.name)
            problems.append(Problem(name, "none", None, f"two files ({read} is read, {other} is not)"))
    return files


def is_media(path: Path) -> bool:
    """Whether a file's name is one of a media file."""
    return path.suffix.lower() in MEDIA_SUFFIXES and not path.name.startswith(".")


def listing(folder: Path) -> list[Path]:
    """What is in a folder, in the order of names; nothing where it is missing."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def no_media(folder: Path) -> str:
    """A line about the files of a folder that are no media; empty if all are."""
    names = [path.name for path in listing(folder) if path.is_file() and not is_media(path)]
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {'file is' if len(names) == 1 else 'files are'} no media: {some}" if names else ""


def check_names(folder: Path, clips: Sequence[Clip], media: Mapping[str, Path], table: str) -> list[str]:
    """A warning where so many rows have no media, and media no row, that their names seem to differ.

    Args:
        media: what lies in `folder`, by name.

    Raises:
        DataError: none of the media belongs to a row, though there are both.
    """
    used = {clip.media for clip in clips}
    rows = [clip.name for clip in clips if clip.media is None and not clip.features]
    files = [path.name for path in media.values() if path not in used]
    if not rows or len(files) < max(1, len(media) / 4):
        return []
    row, file = next(
        ((row, match[0]) for row in rows[:SEARCHED] if (match := get_close_matches(row, files[:SEARCHED], 1, 0.6))),
        (rows[0], files[0]),
    )
    example = f"do the names differ, as {row!r} in {table} and {file!r} in {folder.name} do?"
    if len(files) == len(media) and len(rows) == len(clips):
        raise DataError(f"{folder}: none of its {len(media)} media files belongs to a row: {example}")
    return [f"rows without media: {len(rows):,}, media without a row: {len(files):,}; {example}"]
