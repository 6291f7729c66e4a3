"""Config variants, and the messages for what they do not know."""

from dataclasses import replace

import pytest

from configs import semi
from configs.best import get_config as best_config
from configs.semi import get_config
from mer_jax.data.corruptions import CorruptionSettings
from mer_jax.data.dataset import VARIANTS
from mer_jax.data.prepared import ENCODERS
from mer_jax.features.stream_settings import ReadyMadeStream
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.kept import keep
from mer_jax.runtime.settings import read_settings
from mer_jax.settings import Settings
from mer_jax.text.ranking_settings import RankingSettings


def argument(variant, *more):
    return ",".join([variant, *["root=/d"] * (variant != "sample"), *more])


def test_the_sample_is_the_default():
    config = get_config()
    assert config.variant == "sample" and config.encoders.speech.source == "bundled/hubert"
    assert (config.cv.folds, config.self_training.rounds, config.self_training.k) == (5, 10, 10)
    assert config.fusion.modality_dropout == 0.3


def test_the_word_list_guesses_for_the_sample_alone():
    assert get_config().ranking.lexicon_guesses
    assert not get_config("folder,root=/d").ranking.lexicon_guesses
    assert not get_config("mer2024,root=/d").ranking.lexicon_guesses
    assert RankingSettings().lexicon_guesses  # as runs of before, whose settings lack it


def test_the_best_recipe_is_that_of_folders_and_the_papers_that_of_all_others():
    paper, best = get_config(), best_config()
    assert (paper.fusion.network, paper.self_training.chooser, paper.fusion.standardise) == ("best", "all_folds", "all")
    assert (best.fusion.network, best.self_training.chooser, best.fusion.standardise) == (
        "average",
        "own_fold",
        "group",
    )
    assert (best.fusion.seeds, best.fusion.epochs) == (3, 60) and paper.fusion.epochs == 30
    assert (best.self_training.weight, best.self_training.rounds) == (0.3, 5)
    for variant in ("folder", "mer2024"):
        own, asked = get_config(f"{variant},root=/d"), best_config(f"{variant},root=/d")
        assert (own.to_dict() == asked.to_dict()) == (variant == "folder")
        assert get_config(f"{variant},root=/d,recipe=paper").self_training == paper.self_training


@pytest.mark.parametrize("variant", ["mer2024", "mer2025", "mer2026"])
def test_challenges_use_the_papers_encoders_and_sizes(variant):
    config = get_config(f"{variant},root=/data")
    assert config.data.root == "/data"
    assert config.encoders.speech.source == "TencentGameMate/chinese-hubert-large"
    assert config.tune.num_prompts.to_dict() == {"vision": 4, "text": 4}
    assert config.tune.depth.to_dict() == {"vision": 12, "text": 12}
    assert config.encoders.video.num_frames == 16
    assert config.fusion.hidden == 128 and config.fusion.learning_rate == 3e-4
    assert get_config(f"{variant},root=/data,encoders=bundled").encoders.image.source == "bundled/clip"


def test_votes_come_of_the_file_that_is_named_alone():
    assert get_config().votes.to_dict() == {"file": "", "pseudo_labels": "none"}
    assert get_config("sample,votes=v.csv").votes.file == "v.csv"
    assert best_config("folder,root=/d,votes=v.csv").votes.file == "v.csv"


def test_folder_arguments():
    config = get_config("folder,root=/d,label_column=emotion,modalities=speech+image,image_feature=au")
    assert (config.data.label_column, config.data.modalities, config.data.image_feature) == (
        "emotion",
        "speech+image",
        "au",
    )
    assert config.data.split_column == "split" and config.encoders.image.source == semi.BASE_CLIP


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("encoders", ["paper", "base", "bundled"])
def test_every_variant_takes_every_set_of_encoders_and_any_modalities(variant, encoders):
    config = get_config(argument(variant, f"encoders={encoders}", "modalities=speech+image"))
    settings = read_settings(Settings, config)
    assert settings.encoded == ("speech", "image")
    source = {"paper": "openai/clip-vit-large-patch14", "base": semi.BASE_CLIP, "bundled": "bundled/clip"}[encoders]
    assert config.encoders.image.source == config.encoders.video.source == source
    assert bool(settings.drawn) == (encoders == "bundled")


def test_folders_take_the_base_encoders_and_challenges_the_papers():
    for variant in VARIANTS:
        chosen = get_config(argument(variant)).encoders
        expected = {"sample": "bundled", "folder": "base"}.get(variant, "paper")
        assert chosen == get_config(argument(variant, f"encoders={expected}")).encoders


def test_the_base_encoders_go_by_the_language():
    default, english, other = (
        get_config(argument("folder", *more)) for more in ((), ("language=en",), ("language=other",))
    )
    assert default == get_config(argument("folder", "encoders=base", "language=zh"))
    assert default.encoders.speech.source == "TencentGameMate/chinese-hubert-base"
    assert english.encoders.speech.source == "facebook/hubert-base-ls960"
    assert other.encoders.speech.source == "utter-project/mHuBERT-147"
    wordings = [
        (config.ranking.template, config.ranking.openai.prompt, config.ranking.local.template)
        for config in (default, english, other)
    ]
    assert wordings == [("zh-1", "zh-1", "zh-ask-1"), *[("en-1", "en-1", "en-ask-1")] * 2]
    assert english.encoders.text.source == default.encoders.text.source == "Qwen/Qwen2.5-1.5B"


@pytest.mark.parametrize("asked", ["encoders=bundled", "encoders=base,language=en", "encoders=paper"])
def test_a_prepared_set_takes_the_encoders_that_it_was_prepared_with(asked, tmp_path):
    made = get_config(f"folder,root=/d,{asked}")
    keep(tmp_path / ENCODERS, {modality: encoder.source for modality, encoder in made.encoders.items()})
    prepared = get_config(f"prepared,root={tmp_path}")
    assert prepared.encoders == made.encoders and prepared.ranking == made.ranking
    assert get_config(f"prepared,root={tmp_path},encoders=bundled").encoders.image.source == "bundled/clip"


def test_what_a_damaged_prepared_set_was_made_for_has_to_be_said(tmp_path):
    (tmp_path / ENCODERS).write_text("{}")
    with pytest.raises(UsageError, match=r"encoders\.json.*say encoders="):
        get_config(f"prepared,root={tmp_path}")
    assert get_config(f"prepared,root={tmp_path},encoders=base").encoders.image.source == semi.BASE_CLIP


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("mer2023", "unknown variant 'mer2023'; known: sample, mer2024, mer2025, mer2026, processed, prepared, folder"),
        ("mer2024", "needs its folder"),
        ("folder,root=/d,colour=red", "unknown argument 'colour'.*label_column"),
        ("sample,root=/d", "unknown argument 'root'"),
        ("mer2024,root=/d,encoders=best", "known: base, bundled, paper"),
        ("folder,root=/d,language=fr", "language='fr'; known: zh, en, other"),
        ("mer2024,root=/d,language=en", "language=en is of encoders=base alone, not of paper"),
        ("sample,labelled=3", "unknown argument 'labelled'"),
        ("mer2024,root=/d,recipe=good", "recipe='good'; known: best, paper"),
    ],
)
def test_errors_list_what_is_known(argument, message):
    with pytest.raises(UsageError, match=message):
        get_config(argument)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("mer2026,root=d", "image+video"),
        ("mer2026,root=d,candidate_modalities=", ""),
        ("mer2026,root=d,candidate_modalities=all", "all"),
        ("mer2025,root=d", ""),
        ("sample,candidate_modalities=image", "image"),
    ],
)
def test_sound_and_words_of_mer2026_s_candidates_are_someone_else_s(argument, expected):
    assert semi.get_config(argument).data.candidate_modalities == expected


def test_streams_are_named_by_their_sources_and_typed_at_the_door():
    argument = "folder,root=/d,modalities=speech+eye,eye_feature=eda+gaze.v2,streams=speech:microsoft/wavlm-large"
    settings = read_settings(Settings, semi.get_config(argument))
    assert settings.modality_of == {"speech": "speech", "wavlm-large": "speech", "eda": "eye", "gaze_v2": "eye"}
    own, further = settings.encoders.speech, settings.sources["wavlm-large"].encoder
    assert further.source == "microsoft/wavlm-large" and further.dtype == own.dtype
    assert settings.ready_made == {"eda": "eda", "gaze_v2": "gaze.v2"}
    two = read_settings(Settings, semi.get_config("folder,root=/d,speech_feature=whisper+hubert"))
    assert list(two.sources) == ["hubert", "whisper", "image", "text", "video"]
    assert list(replace(two, left_out="text+hubert").sources) == ["whisper", "image", "video"]
    with pytest.raises(UsageError, match=r"left_out='wisper': no stream 'wisper'; known: hubert.whisper.image"):
        replace(two, left_out="wisper").check()
    with pytest.raises(UsageError, match="no stream is left"):
        replace(two, left_out="+".join(two.sources)).check()


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("speach_feature=a", "unknown argument 'speach_feature'.*stands in modalities="),
        ("speech_feature=a/x+b/x", "two of its streams are called alike"),
        ("modalities=speech+eye", "data.modalities='speech.eye': unknown 'eye'"),
        ("streams=video:openai/clip-vit-base-patch16", "no speech:SOURCE"),
        ("speech_feature=a+hubert,streams=speech:bundled/hubert", "streams.hubert: another stream is called so"),
        ("speech_feature=a+b,image_feature=b+c", "two modalities have a stream 'b'"),
        ("speech_feature=text+b", "two modalities have a stream 'text'"),
        ("modalities=eye+pulse,eye_feature=a+b,pulse_feature=b+c", "pulse_feature='b.c': another"),
        ("modalities=eye,eye_feature=a+hubert,streams=speech:bundled/hubert", "another stream is called 'hubert'"),
        ("speech_feature=self+b", "speech_feature='self.b': a stream is called after its folder: .* no 'self'"),
        ("modalities=none,none_feature=a", "no 'none'"),
    ],
)
def test_streams_that_do_not_go_together_are_refused_in_one_line(argument, problem):
    with pytest.raises(UsageError, match=problem):
        semi.get_config(f"folder,root=/d,{argument}")


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("data", {"candidate_modalities": "image+vidio"}),
        ("cv", {"shown": "image+vidio"}),
        ("corruptions", {"training": CorruptionSettings(drop="image+vidio")}),
    ],
)
def test_a_modality_is_one_of_the_four_or_of_a_stream(section, change):
    settings = read_settings(Settings, semi.get_config("sample"))
    odd = replace(settings, **{section: replace(getattr(settings, section), **change)})
    with pytest.raises(UsageError, match=f"^{section}.*='image.vidio': unknown.* 'vidio'; known: speech"):
        odd.check()
    replace(odd, streams={"v": ReadyMadeStream("vidio", feature="v")}).check()
