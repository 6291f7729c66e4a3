"""What is known before any work: each kind of finding, by its smallest input."""

from dataclasses import replace
from pathlib import Path

import pytest

from configs.semi import get_config
from mer_jax import preflight as module
from mer_jax.checkpoints.hub import Plan
from mer_jax.checkpoints.sources import ASSETS
from mer_jax.data import crops
from mer_jax.preflight import joined, look_over, preflight
from mer_jax.runtime import disk
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.settings import read_settings
from mer_jax.settings import Settings
from mer_jax.text.ranking_settings import ChatSettings
from tests.data.media_files import numbered_frames, write_video
from tests.hub import Hub
from tests.published import publish

TABLE = "name,label,text\na,x,今天\nb,y,明天\nc,x,昨天\nd,y,后天\ne,x,前天\n"


@pytest.fixture
def root(tmp_path):
    """A folder of five labelled transcripts, no media."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clips.csv").write_text(TABLE, "utf-8")
    return tmp_path / "data"


def settings(root, *more, encoders="bundled", **changes):
    argument = ",".join(["folder", f"root={root}", f"encoders={encoders}", *more])
    return replace(read_settings(Settings, get_config(argument)), **changes)


def errors(own, **options):
    """Of the page of a whole run, or of `options`."""
    _, findings = look_over(own, Path("/no/workdir"), own.encoded, **options)
    return [finding.line for finding in findings if finding.stops]


def unreachable(sources, weights):
    """Plans of a hub that has nothing."""
    return [Plan(each, problem=f"{each}: gone") for each in sources]


def notes(own):
    _, findings = look_over(own, Path("/no/workdir"), own.encoded)
    return [finding.line for finding in findings if not finding.stops]


def test_nothing_is_wrong_with_a_folder_of_texts(root, tmp_path, capsys):
    dataset = preflight(settings(root, "modalities=text"), tmp_path / "run", ("text",))
    assert dataset.name == "data" and capsys.readouterr().err == "" and not (tmp_path / "run").exists()


def test_all_is_told_at_once_and_nothing_is_begun(tmp_path, capsys):
    """No folder, no hub, and too deep prompts."""
    own = settings(tmp_path / "gone", encoders="base")
    own = replace(own, encoders=replace(own.encoders, speech=replace(own.encoders.speech, source="bundled/clip")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "plan", lambda sources, weights: [Plan(each, problem=f"{each}: gone") for each in sources]
        )
        with pytest.raises(DataError, match="2 errors, listed above"):
            preflight(own, tmp_path / "run", own.encoded)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"  error: {tmp_path / 'gone'}: no such folder")
    assert lines[1] == "  error: bundled/clip, openai/clip-vit-base-patch16, Qwen/Qwen2.5-1.5B: gone"
    assert len(lines) == 2 and not (tmp_path / "run").exists()


def test_checkpoints_of_one_problem_share_a_line():
    plans = [Plan("a/b", problem="a/b: no hub (1): go on"), Plan("c/d", problem="c/d: no hub (2): go on")]
    assert joined([*plans, Plan("e", problem="e: gated")]) == ["a/b, c/d: no hub (1): go on", "e: gated"]


def test_folds_are_as_many_as_labelled_clips_can_fill(root):
    assert notes(settings(root, "modalities=text")) == []
    (root / "clips.csv").write_text("name,label,text\na,x,今\nb,y,明\nc,,今\n", "utf-8")
    assert notes(settings(root, "modalities=text")) == [
        "2 labelled clips, or groups of them: as many folds, not cv.folds=5"
    ]
    (root / "clips.csv").write_text("name,label,split,text\na,x,train,今\nb,y,test,明\n", "utf-8")
    (error,) = errors(settings(root, "modalities=text"))
    assert "1 labelled clips, all of them held out at once" in error
    assert errors(settings(root, "modalities=text"), learns=False) == []


def test_candidates_who_have_nothing_that_labelled_clips_have(root):
    (root / "clips.csv").write_text("name,label,text\na,x,今\nb,y,明\nc,,今\n", "utf-8")
    (error,) = errors(settings(root, "modalities=text", "candidate_modalities=image"))
    assert "of what counts for the clips that are predicted (image) no labelled clip has any; these have text" in error


def test_a_modality_that_no_clip_has_needs_no_checkpoint(root):
    own = settings(root, encoders="base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module, "plan", lambda sources, weights: [Plan(each, problem=f"{each}: gone") for each in sources]
        )
        assert errors(own) == ["Qwen/Qwen2.5-1.5B: gone"]
    assert "no labelled clip has speech, image, video: the run goes on without" in notes(settings(root))


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("encoders.text", {"keep_layers": 99}, "fewer than encoders.text.keep_layers=99"),
        ("encoders.text", {"source": "bundled/hubert"}, "model_type is 'hubert'"),
        ("encoders.text", {"model_parallel": 3}, "model_parallel=3 does not divide"),
        ("ranking.local", {"source": "bundled/clip"}, "model_type is 'clip'"),
    ],
)
def test_a_checkpoint_that_does_not_serve_is_known_by_its_small_files(root, section, changes, message):
    own = settings(root, "modalities=text")
    outer, inner = section.split(".")
    changed = replace(getattr(own, outer), **{inner: replace(getattr(getattr(own, outer), inner), **changes)})
    if outer == "ranking":
        changed = replace(changed, annotator="local")
    (error,) = errors(replace(own, **{outer: changed}))
    assert message in error


def test_a_folder_without_weights_is_none(root, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    for file in (ASSETS / "baichuan").iterdir():
        if file.suffix != ".safetensors":
            (text / file.name).write_bytes(file.read_bytes())
    own = settings(root, "modalities=text")
    own = replace(own, encoders=replace(own.encoders, text=replace(own.encoders.text, source=str(text))))
    (error,) = errors(own)
    assert "expected model.safetensors or pytorch_model.bin" in error
    assert errors(own, weights=False) == []


def test_the_annotators_key_and_budget(root, monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    own = settings(root, "modalities=text")
    ranking = replace(own.ranking, annotator="openai", cache=str(tmp_path), openai=ChatSettings(max_requests=4))
    own = replace(own, ranking=ranking)
    (error,) = errors(own)
    assert "set OPENAI_API_KEY" in error
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    (note,) = notes(own)
    assert "will be asked: 5 requests" in note and "budget over all starts: 4 requests; not enough for all" in note
    enough = replace(own, ranking=replace(ranking, openai=ChatSettings(max_requests=5)))
    assert "not enough" not in notes(enough)[0]


def test_prompts_deeper_than_the_tower(root):
    (root / "media").mkdir()
    write_video(root / "media" / "a.mp4", numbered_frames(3))
    own = settings(root, "modalities=video")
    assert errors(own) == []
    deep = replace(own, tune=replace(own.tune, depth=replace(own.tune.depth, text=99)))
    (error,) = errors(deep)
    assert "depth=99, but the text tower has" in error
    assert errors(deep, learns=False) == []


def test_room_for_the_crops(root, monkeypatch):
    """Three frames of 128 x 128 x 3 bytes."""
    (root / "media").mkdir()
    write_video(root / "media" / "a.mp4", numbered_frames(3))
    own = settings(root, "modalities=image")
    need = 3 * 128 * 128 * 3
    for free, expected in ((need, 0), (need - 1, 1)):
        monkeypatch.setattr(disk, "free_bytes", lambda folder, free=free: disk.SPARE_BYTES + free)
        lines = errors(own)
        assert len(lines) == expected, lines
    assert "the face crops of 1 clips take about 0.1 MB" in lines[0] and crops.FEW > 1


def test_a_device_that_is_too_small(root, monkeypatch, tmp_path):
    own = settings(root, "modalities=text")
    monkeypatch.setattr(module, "device_bytes", lambda: 1_000_000)
    (error,) = errors(own)
    assert error.startswith("encoders.text: bundled/baichuan takes about") and "of a device's 1.0 MB" in error
    (tmp_path / "features" / "text-0" / "0").mkdir(parents=True)  # where it has worked before
    _, findings = look_over(own, tmp_path, ("text",))
    assert not findings


def test_what_is_to_be_fetched_is_said_before(root, tmp_path, monkeypatch):
    """From a stand-in of the hub; of the weights nothing is fetched."""
    publish(tmp_path / "hub", "Qwen/Qwen2.5-1.5B")
    with Hub(tmp_path / "hub") as hub:
        hub.serve_this_process(monkeypatch, tmp_path / "cache")
        own = settings(root, "modalities=text", encoders="base")
        assert errors(own) == []
        (note,) = notes(own)
        assert note.startswith("to be fetched: Qwen/Qwen2.5-1.5B: ")
        assert not [asked for asked in hub.asked if asked.startswith("GET") and asked.endswith("safetensors")]
