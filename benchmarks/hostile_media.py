"""Hostile media and face images: endless, absurd, or addresses of others."""

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from benchmarks.hostile_inputs import Input, Place, config, data_set, endless, pipe, sparse


def predicted(name: str, make: Callable[[Place, Path], object], says: str, file: str = "a.mp4") -> Input:
    """A media file for a finished run."""

    def arguments(place: Place) -> list[str]:
        name = file.replace("PORT", place.address.rpartition(":")[2])
        make(place, place.folder / name)
        return ["predict", f"--workdir={place.run}", f"--input={name}"]  # in the current folder, as people call it

    return Input("media", name, arguments, says)


def text(content: str) -> Callable[[Place, Path], object]:
    """A playlist, with URL for an address and FILE for a file."""
    return lambda place, path: path.write_text(
        content.replace("URL", f"{place.address}/a.mp4").replace("FILE", str(place.media))
    )


def touched(place: Place, path: Path) -> None:
    path.write_bytes(b"")


def absurd_gif(place: Place, path: Path) -> None:
    Image.new("P", (8, 8)).save(path, "GIF")
    content = path.read_bytes()
    path.write_bytes(content[:6] + struct.pack("<HH", 65535, 65535) + content[10:])


def absurd_duration(place: Place, path: Path) -> None:
    content = bytearray(place.media.read_bytes())
    for box in (b"mvhd", b"mdhd"):
        place_of = content.find(box) + 4 + 12
        content[place_of : place_of + 8] = struct.pack(">II", 1, 2**32 - 1)
    path.write_bytes(bytes(content))


def many_streams(place: Place, path: Path) -> None:
    stream = b"strh" + struct.pack("<I", 56) + b"vidsMJPG" + bytes(48)
    lists = (b"LIST" + struct.pack("<I", 4 + len(stream)) + b"strl" + stream) * 200_000
    header = b"avih" + struct.pack("<I", 56) + bytes(56) + lists
    body = b"AVI LIST" + struct.pack("<I", 4 + len(header)) + b"hdrl" + header
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def large_frames(place: Place, path: Path) -> None:
    Image.new("RGB", (16_000, 16_000)).save(path, "PNG")


def long_silence(place: Place, path: Path) -> None:
    """A day of it at 48 kHz, 16 GiB that take no room."""
    size = 24 * 3600 * 48_000 * 4 - 4096
    head = (
        b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 48_000, 192_000, 4, 16) + b"data" + struct.pack("<I", 2**32 - 1)
    )
    sparse(path, size, b"RIFF" + struct.pack("<I", 2**32 - 1) + head)


M3U8 = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nURL\n#EXTINF:5,\nfile://FILE\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    "<Representation><BaseURL>URL</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
NO_MEDIA = "cannot decode"
MEDIA = [
    predicted("a pipe", lambda place, path: pipe(path), "not a regular file"),
    predicted("a link to /dev/zero", lambda place, path: endless(path), "not a regular file"),
    predicted("m3u8 playlist", text(M3U8), NO_MEDIA),
    predicted("concat playlist", text("ffconcat version 1.0\nfile URL\nfile FILE\n"), NO_MEDIA),
    predicted("DASH manifest", text(DASH), NO_MEDIA),
    predicted("SDP", text(SDP), NO_MEDIA),
    predicted("an EDL", text("# mpv EDL v0\nURL\nFILE\n"), NO_MEDIA),
    predicted("subtitles", text("1\n00:00:00,000 --> 00:00:05,000\nURL\n"), NO_MEDIA),
    *(
        predicted(f"named {name}", touched, NO_MEDIA, name)
        for name in ("http:127.0.0.1:PORT.mp4", "tcp:127.0.0.1:PORT.mp4", "concat:a|b.mp4", "pipe:0.mp4", "%d.mp4")
    ),
    predicted("2^32 s long", absurd_duration, '"label"'),
    predicted("200,000 streams", many_streams, NO_MEDIA),
    predicted("frames of 65535 x 65535", absurd_gif, '"absent"', "a.gif"),
    predicted("one frame of 16,000 x 16,000", large_frames, '"absent"'),
    predicted("a day of silence, sparse", long_silence, '"absent"', "a.wav"),
    predicted("1 TiB, sparse", lambda place, path: sparse(path, 1 << 40), NO_MEDIA),
]


def crops(name: str, make: Callable[[Place, Path], object], says: str) -> Input:
    """A clip's folder of face images, beside three clips that bring whole ones."""

    def arguments(place: Place) -> list[str]:
        root = data_set(place)
        for clip in "abcd":
            folder = root / "openface_face" / clip / f"{clip}_aligned"
            folder.mkdir(parents=True)
            if clip == "a":
                make(place, folder)
            else:
                Image.new("RGB", (112, 112), "red").save(folder / "frame_1.png")
        return ["extract", *config(root, modalities="image")]

    return Input("crops", name, arguments, says)


def png_bomb(place: Place, folder: Path) -> None:
    Image.new("L", (8, 8)).save(folder / "a.png")
    content = (folder / "a.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + content[24:29]
    (folder / "a.png").write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])


def three_large(place: Place, folder: Path) -> None:
    Image.new("RGB", (13_300, 13_300)).save(folder / "0.png")
    for number in (1, 2):
        shutil.copyfile(folder / "0.png", folder / f"{number}.png")


def many_images(place: Place, folder: Path) -> None:
    Image.new("RGB", (3_840, 3_840)).save(folder / "0.png")
    for number in range(1, 100):
        os.link(folder / "0.png", folder / f"{number}.png")


EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(CANARY) (w) file closefile\nshowpage\n"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><image href="URL"/></svg>'
CROPS = [
    crops("three of 13,300 x 13,300", three_large, "0.png is more than 3840 px across"),
    crops("100 of 3,840 x 3,840", many_images, "GiB of them"),
    crops("a PNG of 100,000 x 100,000", png_bomb, "a.png is more than 3840 px across"),
    crops("a pipe", lambda place, folder: pipe(folder / "a.png"), "not a regular file"),
    crops("a link to /dev/zero", lambda place, folder: endless(folder / "a.png"), "not a regular file"),
    crops(
        "EPS as .jpg", lambda p, f: (f / "a.jpg").write_text(EPS.replace("CANARY", str(p.canary))), "cannot identify"
    ),
    crops("SVG as .jpg", lambda p, f: (f / "a.jpg").write_text(SVG.replace("URL", p.address)), "cannot identify"),
]
