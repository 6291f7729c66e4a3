"""Opening: a file is a file, streams that are none, and reasons instead of crashes."""

import errno
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from av.error import err_check

from mer_jax.data.frames import read_frames
from mer_jax.data.media import probe
from mer_jax.data.sound import read_sound
from mer_jax.data.streams import Unreadable
from tests.data.media_files import numbered_frames, tone, write_covered, write_video


def test_a_stream_of_an_unknown_codec_is_none(tmp_path):
    write_video(tmp_path / "v.mp4", numbered_frames(3), tone(0.5))
    (tmp_path / "x.mp4").write_bytes((tmp_path / "v.mp4").read_bytes().replace(b"avc1", b"xyzw"))
    assert probe(tmp_path / "x.mp4").video is None
    np.testing.assert_array_equal(read_sound(tmp_path / "x.mp4", 16_000), tone(0.5))
    with pytest.raises(Unreadable, match="no video stream"):
        read_frames(tmp_path / "x.mp4")


def test_missing_streams_and_broken_files_give_reasons(tmp_path):
    write_video(tmp_path / "silent.mp4", numbered_frames(3))
    write_video(tmp_path / "sound.mp4", None, tone(0.5))
    (tmp_path / "text.mp4").write_text("no video at all")
    whole = (tmp_path / "silent.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unreadable, match="no sound track"):
        read_sound(tmp_path / "silent.mp4", 16_000)
    with pytest.raises(Unreadable, match="no video stream"):
        read_frames(tmp_path / "sound.mp4")
    for name in ("text.mp4", "cut.mp4", "missing.mp4"):
        with pytest.raises(Unreadable, match="cannot decode"):
            read_frames(tmp_path / name)


NAMES = (
    b"a:b.mp4", b"concat:x.mp4", b"#1.mp4", b"%03d.mp4", b"http:127.0.0.1:8080.mp4", b"-", b"pipe:0", b"data:x,y.mp4",
    b"file:x.mp4", b"crypto:a", b"subfile,,start,0,end,9,,:x.mp4", b"two\nlines.mp4", b"\xff\xfe.mp4", b"a|b?c*d.mp4",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "v.mp4", numbered_frames(3), tone(0.5))
    os.rename(tmp_path / "v.mp4", name)
    path = Path(os.fsdecode(name))
    np.testing.assert_array_equal(read_frames(path), numbered_frames(3))
    np.testing.assert_array_equal(read_sound(path, 16_000), tone(0.5))


def test_a_pattern_is_one_picture(tmp_path):
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / f"{number}.png")
    with pytest.raises(Unreadable, match="cannot decode"):
        read_frames(tmp_path / "%d.png")
    Image.new("RGB", (64, 64), (9, 0, 0)).save(tmp_path / "%d.png")
    assert read_frames(tmp_path / "%d.png")[:, 0, 0].tolist() == [[9, 0, 0]]


def test_playlists_and_text_reach_nothing(tmp_path):
    """FFmpeg would read the files and addresses that they name."""
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        write_video(tmp_path / "v.mp4", numbered_frames(3))
        address = f"http://127.0.0.1:{server.server_port}/v.ts"
        hls = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
        contents = {
            "local.m3u8": hls.format("v.mp4"),
            "far.m3u8": hls.format(address),
            "hls.mp4": hls.format(address),
            "concat.mp4": "ffconcat version 1.0\nfile v.mp4\n",
            "concat.txt": f"ffconcat version 1.0\nfile '{address}'\n",
            "dash.mpd": f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{address}</BaseURL></MPD>',
            "s.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
            "s.srt": "1\n00:00:01,000 --> 00:00:02,000\nhello\n",
            "notes.txt": "hello\n" * 100,
        }
        for name, content in contents.items():
            (tmp_path / name).write_text(content)
            with pytest.raises(Unreadable, match="cannot decode"):
                probe(tmp_path / name)
        server.shutdown()
    assert not asked


@pytest.mark.parametrize(("suffix", "codec"), [(".mp3", "libmp3lame"), (".flac", "flac"), (".m4a", "aac")])
def test_a_cover_is_no_video(tmp_path, suffix, codec):
    path = tmp_path / f"s{suffix}"
    write_covered(path, codec)
    with pytest.raises(Unreadable, match="no video stream"):
        read_frames(path)
    assert probe(path).video is None
    assert read_sound(path, 16_000).size >= 8_000


def test_names_in_a_file_may_be_in_any_encoding(tmp_path):
    """PyAV refuses metadata that are no UTF-8, unless it is told."""
    import wave

    with wave.open(str(tmp_path / "s.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(tone(0.5).tobytes())
    title = "情感".encode("gb18030")
    body = b"INFOINAM" + len(title).to_bytes(4, "little") + title
    data = bytearray((tmp_path / "s.wav").read_bytes())
    data[36:36] = b"LIST" + len(body).to_bytes(4, "little") + body
    data[4:8] = (len(data) - 8).to_bytes(4, "little")
    (tmp_path / "s.wav").write_bytes(data)
    np.testing.assert_array_equal(read_sound(tmp_path / "s.wav", 16_000), tone(0.5))


def test_ffmpegs_error_of_reading_is_the_files_unless_the_system_says_so_too(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").touch()

    def failing(*_, **options):
        err_check(-errno.EIO)

    monkeypatch.setattr("mer_jax.data.streams.av.open", failing)
    with pytest.raises(Unreadable, match="cannot decode: Input/output error"):
        probe(tmp_path / "a.mp4")

    def lost(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("mer_jax.data.streams.read_through", lost)
    with pytest.raises(OSError, match=r"Input/output error: .*a\.mp4"):
        probe(tmp_path / "a.mp4")
