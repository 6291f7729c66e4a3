"""The report on a data set: everything counted, every defect named."""

from dataclasses import replace

from mer_jax.data.check import FEWEST, IMBALANCE, overview, probe_media, report, warnings
from mer_jax.data.clips import INTENDED, Clip, Dataset, Problem
from mer_jax.data.folder import COLUMNS, read_folder
from tests.data.media_files import numbered_frames, tone, write_video
from tests.data.test_sound import write_tracks

OWN_COLUMNS = dict(zip(COLUMNS, COLUMNS, strict=True))


def broken_folder(root):
    (root / "media").mkdir()
    write_video(root / "media" / "whole.mp4", numbered_frames(3), tone(0.5))
    write_video(root / "media" / "mute.mp4", numbered_frames(3))
    write_video(root / "media" / "silent.mp4", numbered_frames(3), tone(1.5, peak=20))
    (root / "media" / "sound.wav").touch()
    write_video(root / "media" / "sound.m4a", None, tone(0.5))
    (root / "media" / "broken.mp4").write_bytes(b"no media")
    (root / "media" / "orphan.mp4").write_bytes(b"")
    rows = ["name,label,split,group,text", "whole,x,train,g,hello", "mute,x,train,,", "sound,y,train,,hi"]
    rows += [
        "broken,,,,",
        "silent,,,,",
        "gone,,,,",
        "test,x,test,g,yes",
        "whole,y,train,g,",
        *(f"more{i},x,,," for i in range(20)),
    ]
    (root / "clips.csv").write_text("\n".join(rows), "utf-8")
    return read_folder(root, OWN_COLUMNS, {})


def test_report_names_every_defect(tmp_path):
    dataset = broken_folder(tmp_path)
    done = []
    problems = list(probe_media(dataset.clips, 1, 30.0, done.append))
    assert sum(done) == 5
    lines = report(dataset, problems)
    text = "\n".join(lines)
    table = [line.split() for line in lines[1:5]]
    assert table[0] == ["split", "clips", "media", "faces", "text", "groups", "x", "y", "unknown"]
    assert table[1] == ["train", "23", "3", "0", "2", "1", "22", "1", "0"]
    assert table[2] == ["unlabeled", "3", "2", "0", "0", "0", "0", "0", "3"]
    assert "22 labelled clips are x, 1 y" in text and "fewer than 10 labelled clips: y" in text
    assert "1 groups are in the train and in the test split" in text
    for defect in (
        "22 x clip: row without a clip",
        "1 x speech: silent\n          silent, unlabeled",
        "24 x text: empty transcript",
        "and 19 more",
        "1 x clip: the name stands twice",
        "whole, none (clips.csv, row 9)",
        "1 x clip: clip without a row in clips.csv",
        "1 x clip: two files",
        "1 x clip: cannot decode",
        "1 x speech: no sound track",
    ):
        assert defect in text, f"{defect}\n{text}"


def test_the_overview_is_short(tmp_path):
    lines = overview(broken_folder(tmp_path))
    assert lines[1] == "train: 23 clips (x 22, y 1)"
    assert lines[2] == "unlabeled: 3 clips (labels unknown)"
    assert "problems" in lines[-1] and len(lines) < 10


def test_several_tracks_are_said_with_the_one_that_is_read(tmp_path):
    """One that is not there costs the sound alone."""
    write_tracks(tmp_path / "two.mkv", "eng", "fra", frames=numbered_frames(3))
    clips = [Clip("two", "train", media=tmp_path / "two.mkv", audio_track=track) for track in ("", "fra", "deu")]
    problems = list(probe_media(clips, 1, 30.0, lambda count: None))
    assert {problem.modality for problem in problems} == {"speech"}
    assert [problem.reason for problem in problems] == [
        "2 sound tracks (track 0, eng, is read)",
        "2 sound tracks (track 1, fra, is read)",
        "no sound track 'deu' (there: track 0, eng; track 1, fra)",
    ]


def labelled(**counts):
    clips = [Clip(f"{label}{i}", "train", label=label) for label, count in counts.items() for i in range(count)]
    return Dataset("d", tuple(counts), tuple(clips), {})


def test_warnings_begin_where_they_say():
    assert FEWEST == IMBALANCE == 10
    assert warnings(labelled(x=10, y=99)) == []
    assert warnings(labelled(x=10, y=100)) == ["classes are imbalanced: 100 labelled clips are y, 10 x"]
    alone = "a single labelled clip: x, which is held out where networks never saw the class"
    assert alone in warnings(labelled(x=1, y=2)) and not any("single" in line for line in warnings(labelled(x=2, y=0)))
    assert warnings(labelled(x=9, y=89, z=0)) == [
        "classes are imbalanced: 89 labelled clips are y, 0 z",
        "fewer than 10 labelled clips: x, z",
    ]


def test_what_is_wrong_most_often_comes_first_and_is_shown_in_part():
    often = [Problem(f"c{i}", "test", "speech", f"odd ({i})") for i in range(7)]
    lines = report(labelled(x=0), [Problem("a", "train", None, "rare"), *often])
    assert lines[-9:] == [
        "      7 x speech: odd",
        *(f"          c{i}, test ({i})" for i in range(5)),
        "          and 2 more",
        "      1 x clip: rare",
        "          a, train",
    ]
    assert report(labelled(x=0), [])[-1] == "no problems found"


def test_without_any_transcript_one_line_says_so():
    lines = report(labelled(x=2, y=2), [])
    assert lines[-2:] == ["no clip has a transcript", "no problems found"]
    assert not any("empty transcript" in line for line in lines)


def test_problems_on_purpose_alarm_nobody():
    problems = (Problem("a", "train", None, f"odd ({INTENDED})"), Problem("b", "train", None, "odd"))
    intended, mixed = (overview(replace(labelled(x=2), problems=some))[-1] for some in (problems[:1], problems))
    assert intended.startswith("1 problems in tables and folders that the sample has on purpose; ")
    assert mixed.startswith("2 problems in tables and folders; ")
