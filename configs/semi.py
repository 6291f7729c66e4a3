"""The MER2024-SEMI system: four modalities, five folds, ten rounds of self-training.

The bundled sample: 1 min 40 s to 3 min on two cores, with the sample written before. Expected: test WAF 85.0 (of 300
clips, so uncertain by about 4 points), cross-validated 79.6, as the challenge counts 89.6; one seed.

    python -m mer_jax.train --config=configs/semi.py

A challenge as distributed; also mer2025 and mer2026. Not run here; the paper reports a test WAF of 90.15 on MER2024.
The time is that of decoding the candidates and of the paper's encoders.

    python -m mer_jax.train --config=configs/semi.py:mer2024,root=DIR

What the challenge's baseline makes of them, and what mer_jax.prepare makes of any of these: scores as for the data that
they were made of. Prepared clips need not be decoded, ready-made features not be encoded.

    python -m mer_jax.train --config=configs/semi.py:processed,root=DIR
    python -m mer_jax.train --config=configs/semi.py:prepared,root=DIR

Any folder with clips.csv. Score and time depend on what it holds.

    python -m mer_jax.train --config=configs/semi.py:folder,root=DIR

Arguments of every variant:

    encoders=paper      as in the paper: CLIP ViT-L/14, Chinese HuBERT-large, Baichuan-13B; the challenges' default
    encoders=base       CLIP ViT-B/16, HuBERT-base, Qwen2.5-1.5B: for a card of 16 GB, or a laptop of 16 GB and hundreds
                        of clips; the default of folders
    encoders=bundled    those that come with the package, which know drawings and synthetic voices alone: to try the
                        system without a network; the sample's
    language=zh         of base, the speech: zh (the default), en, or other; how rankings are put into words, too
    modalities=speech+image     some of speech, image, text and video; all by default
    candidate_modalities=image+video    what counts for the unlabelled and test clips, whose sound and words may be
                        someone else's: the default of mer2026; empty, or all, everything
    streams=speech:microsoft/wavlm-large+image:DIR      more encoders, beside the one that each modality has: each with
                        that one's settings, as --config.streams.wavlm-large.dtype=float32 changes them
    speech_feature=a+b  features under features/a and features/b, in place of that modality's encoder; a stream each
    modalities=speech+gaze,gaze_feature=c       a modality of your own, of such features
    (configs/top.py says which of several streams are worth it; --config.left_out=a goes without)
    votes=votes.csv     what a vision-language model, another system or a person takes clips for: a csv with name, and
                        label or a column of probabilities for each label. A prior of the fused logits, by a weight that
                        held-out clips choose: worthless votes get none. They must not come of the labels.
                        --config.votes.pseudo_labels=filter drops candidates for pseudo-labels whose vote is another
                        than the networks', =vote adds them there, too. mer_jax.predict goes without.
    recipe=paper        trains as the paper does; recipe=best, the default of folders, as configs/best.py says

What mer_jax.prepare makes has the encoders that it was prepared with by default. The encoders of paper and base come
from the Hugging Face hub, or from the folder, `name@revision` or mirror ($HF_ENDPOINT) that is asked for:
--config.encoders.text.source=DIR.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mer_jax.data.dataset import VARIANTS, FeaturedData
from mer_jax.data.votes import VoteSettings
from mer_jax.defaults import MODALITIES
from mer_jax.features.encoder_settings import (
    EncoderSettings,
    ImageSettings,
    SpeechSettings,
    TextSettings,
    VideoSettings,
)
from mer_jax.features.stream_settings import ready_made_streams, stream_name
from mer_jax.fusion.fusion_settings import AblationSettings, FusionSettings
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.settings import as_dict, read_settings
from mer_jax.settings import Settings
from mer_jax.text.ranking_settings import ChatSettings, LocalSettings, RankingSettings
from mer_jax.text.transcript_settings import TranscriptSettings
from mer_jax.tuning.tune_settings import PerTower, TuneSettings

ENCODERS = {"sample": "bundled", "folder": "base"}  # by default; of other variants the paper's
SPEECH = {  # by language, for `base`
    "zh": "TencentGameMate/chinese-hubert-base",
    "en": "facebook/hubert-base-ls960",
    "other": "utter-project/mHuBERT-147",  # 147 languages; its licence is for non-commercial use
}
BASE_CLIP = "openai/clip-vit-base-patch16"


def get_config(argument: str = "sample") -> ConfigDict:
    """The config of a variant `name[,key=value...]`; unknown names and keys are errors that list the known."""
    variant, arguments = parse(argument)
    encoders, language, recipe, further, votes = (
        arguments.pop(name) for name in ("encoders", "language", "recipe", "streams", "votes")
    )
    own = {name: arguments.pop(name) for name in own_modalities(variant, arguments)}
    settings = Settings(variant=variant, data=read_settings(VARIANTS[variant], arguments))
    if encoders == "bundled":
        settings = with_bundled_encoders(settings)
    if encoders == "base":
        settings = with_base_encoders(settings, language)
    if recipe == "best":
        settings = with_best_recipe(settings)
    own_streams, more_streams = ready_made_tables(own), encoder_tables(further, settings.encoders)
    if doubled := own_streams.keys() & more_streams.keys():
        raise UsageError(f"streams={further!r}: another stream is called {min(doubled)!r}; rename a folder")
    streams = own_streams | more_streams
    settings = replace(settings, streams=read_settings(Settings, {"streams": streams}).streams)
    settings = replace(settings, votes=VoteSettings(votes))
    settings.check()
    # Where no word speaks there is no ranking, but for the sample: its decoder was trained to read one.
    settings = replace(settings, ranking=replace(settings.ranking, lexicon_guesses=variant == "sample"))
    if variant == "sample":
        settings = replace(settings, ablations=AblationSettings(modality_dropouts=(0.0,), without_video=False))
    return ConfigDict(as_dict(settings))


def own_modalities(variant: str, arguments: dict[str, Any]) -> list[str]:
    """The arguments that bring features of modalities of the user's own, which `modalities` has to name, too."""
    named = arguments.get("modalities", "").split("+") if issubclass(VARIANTS[variant], FeaturedData) else []
    return [f"{name}_feature" for name in named if name not in MODALITIES and f"{name}_feature" in arguments]


def ready_made_tables(arguments: dict[str, str]) -> dict[str, dict[str, str]]:
    """The tables of streams of modalities of the user's own."""
    tables = {}
    for argument, folders in arguments.items():
        modality = argument.removesuffix("_feature")
        for name, folder in ready_made_streams(modality, folders).items():
            if name in tables:
                raise UsageError(f"{argument}={folders!r}: another modality has a stream {name!r}; rename a folder")
            tables[name] = {"modality": modality, "feature": folder}
    return tables


def encoder_tables(asked: str, encoders: EncoderSettings) -> dict[str, dict[str, Any]]:
    """The tables of further encoders, "+"-joined MODALITY:SOURCE, each with the settings of its modality's own."""
    tables = {}
    for each in asked.split("+") if asked else ():
        modality, _, source = each.partition(":")
        if modality not in ("speech", "image", "text") or not source or stream_name(source) in tables:
            raise UsageError(f"streams={asked!r}: {each!r} is no speech:SOURCE, image:SOURCE or text:SOURCE of its own")
        own = as_dict(getattr(encoders, modality))
        tables[stream_name(source)] = own | {"modality": modality, "source": source}
    return tables


def with_base_encoders(settings: Settings, language: str) -> Settings:
    """Encoders for a card of 16 GB, or a laptop and hundreds of clips, and less tuning of prompts.

    In float32: beside weights of 16 bits a CPU holds the same in 32.
    """
    words = "zh" if language == "zh" else "en"
    return replace(
        settings,
        encoders=EncoderSettings(
            speech=SpeechSettings(
                source=SPEECH[language], dtype="float32", buckets_seconds=(2.005, 4.005, 6.005), batch_seconds=40.0
            ),
            image=ImageSettings(
                source=BASE_CLIP, dtype="float32", buckets_frames=(4, 8), batch_frames=32, most_frames=16
            ),
            text=TextSettings(
                source="Qwen/Qwen2.5-1.5B", dtype="float32", buckets_tokens=(32, 64, 128, 512), batch_tokens=1024
            ),
            video=VideoSettings(source=BASE_CLIP, dtype="float32", num_frames=4, batch_frames=32),
        ),
        ranking=RankingSettings(
            template=f"{words}-1",
            openai=ChatSettings(prompt=f"{words}-1"),
            local=LocalSettings(
                source="Qwen/Qwen2.5-1.5B-Instruct",
                template=f"{words}-ask-1",
                dtype="float32",
                buckets_tokens=(64, 128, 512),
                batch_tokens=1024,
            ),
        ),
        transcripts=TranscriptSettings(language="" if language == "other" else language),
        tune=TuneSettings(epochs=5, warmup_epochs=1, micro_batch=4, learning_rate=1e-3),
    )


def with_bundled_encoders(settings: Settings) -> Settings:
    """The small encoders that come with the package, in float32, and a head and prompts that fit them."""
    return replace(
        settings,
        encoders=EncoderSettings(
            speech=SpeechSettings(
                source="bundled/hubert", dtype="float32", buckets_seconds=(1.5, 2.0, 3.1, 4.0, 6.0), batch_seconds=60.0
            ),
            image=ImageSettings(source="bundled/clip", dtype="float32", buckets_frames=(12, 16, 26), batch_frames=512),
            text=TextSettings(
                source="bundled/baichuan", dtype="float32", buckets_tokens=(48, 64, 256), batch_tokens=4096
            ),
            video=VideoSettings(source="bundled/clip", dtype="float32", num_frames=4, batch_frames=256),
        ),
        ranking=RankingSettings(
            local=LocalSettings(
                source="bundled/baichuan",
                template="zh-1",  # the order in which it was trained: label, then transcript
                dtype="float32",
                buckets_tokens=(32, 64, 256),
                batch_tokens=4096,
            )
        ),
        tune=TuneSettings(
            depth=PerTower(4, 4), epochs=4, warmup_epochs=1, batch_size=10, micro_batch=0, learning_rate=5e-3
        ),
        fusion=FusionSettings(hidden=64, learning_rate=1e-3),
    )


def with_best_recipe(settings: Settings) -> Settings:
    """What raises the honest score: see configs/best.py."""
    return replace(
        settings,
        fusion=replace(settings.fusion, standardise="group", network="average", seeds=3, epochs=60),
        self_training=replace(settings.self_training, rounds=5, chooser="own_fold", weight=0.3),
    )


def parse(argument: str) -> tuple[str, dict[str, Any]]:
    """Splits "folder,root=DIR,..." into the variant's name and all its arguments."""
    variant, *pairs = argument.split(",")
    if variant not in VARIANTS:
        raise UsageError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
    fixed = {"labels", *(("labelled", "unlabelled", "test") if variant == "sample" else ())}
    known = [name for name in as_dict(VARIANTS[variant]()) if name not in fixed]
    known += ["encoders", "language", "recipe", "streams", "votes"]
    given: dict[str, Any] = dict(pair.partition("=")[::2] for pair in pairs)
    unknown = sorted(given.keys() - set(known) - set(own_modalities(variant, given)))
    if unknown:
        own = "; a modality of your own stands in modalities=, too" if unknown[0].endswith("_feature") else ""
        raise UsageError(f"unknown argument {unknown[0]!r} of variant {variant!r}; known: {', '.join(known)}{own}")
    if "root" in known and not given.get("root"):
        raise UsageError(f"variant {variant!r} needs its folder: configs/semi.py:{variant},root=DIR")
    given.setdefault("streams", "")
    given.setdefault("votes", "")
    if variant == "mer2026":  # MER-Cross: whoever is seen listens
        given.setdefault("candidate_modalities", "image+video")
    given.setdefault("recipe", "best" if variant == "folder" else "paper")
    encoders, language = default_encoders(variant, given)
    given.setdefault("encoders", encoders)
    if "language" in given and given["encoders"] != "base":
        raise UsageError(f"language={given['language']} is of encoders=base alone, not of {given['encoders']}")
    given.setdefault("language", language)
    for name, choices in (
        ("encoders", ("base", "bundled", "paper")),
        ("language", tuple(SPEECH)),
        ("recipe", ("best", "paper")),
    ):
        if given[name] not in choices:
            raise UsageError(f"{name}={given[name]!r}; known: {', '.join(choices)}")
    return variant, given


def default_encoders(variant: str, given: dict[str, Any]) -> tuple[str, str]:
    """Encoders and language where none are asked for: of a prepared data set those that it was prepared with."""
    sources = dict[str, str]()
    if variant == "prepared" and "encoders" not in given:
        from mer_jax.data.prepared import prepared_sources  # brings NumPy and more

        sources = prepared_sources(Path(given["root"]).expanduser())
    spoken = (language for language, source in SPEECH.items() if source == sources.get("speech"))
    of_source = {BASE_CLIP: "base", "bundled/clip": "bundled"}
    return of_source.get(sources.get("image", ""), ENCODERS.get(variant, "paper")), next(spoken, "zh")
