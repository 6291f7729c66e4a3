"""What a media file says it holds."""

import numpy as np

from mer_jax.data.media import probe
from tests.data.media_files import noise, numbered_frames, tone, write_sound, write_video
from tests.data.test_sound import CLICK, write_stereo, write_tracks


def test_the_probe_hears_no_click(tmp_path):
    for name, waveform in (("click", CLICK), ("quiet", noise(3, -50))):
        write_sound(tmp_path / f"{name}.flac", [waveform[None]], "flac", "mono")
    assert probe(tmp_path / "click.flac").silent and not probe(tmp_path / "quiet.flac").silent


def test_what_was_chosen_from_is_noted(tmp_path):
    write_tracks(tmp_path / "two.mkv", "eng", "fra")
    assert probe(tmp_path / "two.mkv").notes == (("speech", "2 sound tracks (track 0, eng, is read)"),)
    assert probe(tmp_path / "two.mkv", "fra").notes == (("speech", "2 sound tracks (track 1, fra, is read)"),)
    write_video(tmp_path / "one.mp4", numbered_frames(3), tone(0.5))
    assert probe(tmp_path / "one.mp4").notes == ()


def test_channels_that_cancel_each_other_are_not_called_silent(tmp_path):
    write_stereo(tmp_path / "s.flac", tone(1.0), -tone(1.0))
    content = probe(tmp_path / "s.flac")
    assert not content.silent
    assert content.notes == (("speech", "channels that a mix would silence (channel 0 alone is read)"),)
    write_stereo(tmp_path / "s.flac", np.zeros(16_000, np.int16), np.zeros(16_000, np.int16))
    assert probe(tmp_path / "s.flac").silent
