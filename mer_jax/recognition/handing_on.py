"""A finished run -> a folder of what predicts: settings, weights as safetensors, a model card, checksums."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
from jinja2 import Environment, PackageLoader, StrictUndefined

from mer_jax import __version__
from mer_jax.checkpoints.config_classes import all_fields, digest
from mer_jax.checkpoints.huggingface import checkpoint_facts
from mer_jax.checkpoints.pytrees import hand_on
from mer_jax.data.dataset import RootData
from mer_jax.features.networks import checkpoint_of
from mer_jax.features.stream_settings import Stream
from mer_jax.fusion.ensemble import TrainedEnsemble
from mer_jax.fusion.stablehlo import PLATFORMS, exported
from mer_jax.recognition.distance import FAMILIAR
from mer_jax.recognition.runs import CONFIGS, finished_settings
from mer_jax.report.formats import percent
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.files import load_json
from mer_jax.runtime.inventory import take_inventory
from mer_jax.runtime.kept import keep, read_kept
from mer_jax.runtime.random import named_key
from mer_jax.runtime.settings import as_dict
from mer_jax.settings import Settings
from mer_jax.text.ranking_settings import RankingSettings
from mer_jax.tuning.prompts import PromptTuning

LICENCES = {  # of the encoders that presets name, as their model pages have them
    "bundled": "apache-2.0",
    "openai": "mit",
    "TencentGameMate": "mit",
    "facebook": "apache-2.0",
    "baichuan-inc": "Baichuan's community licence",
    "Qwen": "apache-2.0",
    "utter-project": "cc-by-nc-sa-4.0",
}
ENCODERS = "encoders.json"
NEEDED = "requirements.txt"  # what predicting takes of packages
COPIED = ("ensemble.json", "standardiser.safetensors", FAMILIAR)


def hand_on_run(workdir: Path, output: Path) -> list[str]:
    """Writes the folder; gives lines on what it holds and what it lacks.

    Raises:
        DataError: the run is not finished, or not as it was written.
        UsageError: `output` holds other things.
    """
    settings = finished_settings(workdir)
    ensemble = TrainedEnsemble(workdir / "checkpoints")
    if output.exists() and any(output.iterdir()) and not (output / ENCODERS).exists():  # a run, for one, has none
        raise UsageError(f"{output} holds other files: give another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent) as partial:
        whole = Path(partial) / output.name
        encoders = write_parts(workdir, settings, ensemble, whole)
        shutil.rmtree(output, ignore_errors=True)
        whole.rename(output)
    return [
        f"{len(ensemble.shape.labels)} labels, {'+'.join(ensemble.shape.dims)}",
        *(
            f"{name}: its encoder is the folder {encoder['source']}, which does not go along"
            for name, encoder in encoders.items()
            if Path(encoder["source"]).is_dir()
        ),
    ]


def write_parts(
    workdir: Path, settings: Settings, ensemble: TrainedEnsemble, folder: Path
) -> dict[str, dict[str, str]]:
    """Writes what a folder holds; returns where each encoder comes from, at which content, under which licence."""
    (folder / "checkpoints").mkdir(parents=True)
    versions = read_kept(workdir / "config.json", earlier=True).get("versions", {})
    keep(folder / "config.json", {"settings": as_dict(without_places(settings)), "versions": versions})
    for name in COPIED:
        if (workdir / "checkpoints" / name).exists():  # older runs lack some
            shutil.copyfile(workdir / "checkpoints" / name, folder / "checkpoints" / name)
    hand_on(ensemble.members.params, folder / "checkpoints" / "ensemble.safetensors")
    if "video" in ensemble.shape.dims and "video" in settings.encoded:
        prompts = PromptTuning(settings.tune, settings, ensemble.shape.labels, ensemble.shape.num_folds, workdir)
        trained = prompts.trained_prompts(prompts.build(named_key(settings.seed)))
        hand_on(trained, folder / "checkpoints" / "prompts.safetensors")
    (folder / "fusion.stablehlo").write_bytes(exported(ensemble).serialize())
    encoders = {}
    used = {name: stream for name, stream in settings.encoded_streams.items() if name in ensemble.shape.dims}
    for name, stream in used.items():
        licence = LICENCES.get(stream.source.partition("/")[0], "")
        encoders[name] = checkpoint_facts(stream.source) | {"licence": licence}
    keep(folder / ENCODERS, {"encoders": encoders})
    keep(folder / CONFIGS, complete_configs(used, settings.ranking))
    shutil.copyfile(Path(__file__).with_name(NEEDED), folder / NEEDED)
    (folder / "README.md").write_text(model_card(workdir, settings.variant, encoders), "utf-8")
    take_inventory(folder, (path.name for path in folder.iterdir()))
    return encoders


def complete_configs(streams: Mapping[str, Stream], ranking: RankingSettings) -> dict[str, dict[str, Any]]:
    """Digest of a config.json -> all fields of the config, of each checkpoint that predicting by `streams` reads."""
    sources = [(stream.source, stream.modality) for stream in streams.values()]
    if ranking.annotator == "local" and any(stream.modality == "text" for stream in streams.values()):
        sources.append((ranking.local.source, "text"))
    checkpoints = [checkpoint_of(*source) for source in sources]
    return {digest(each.folder): all_fields(each.config) for each in checkpoints}


def without_places(settings: Settings) -> Settings:
    """The settings without the folders and servers of who trained, which nobody else has and needs."""
    ranking, transcripts = settings.ranking, settings.transcripts
    return replace(
        settings,
        data=replace(settings.data, root="") if isinstance(settings.data, RootData) else settings.data,
        ranking=replace(ranking, cache="", openai=replace(ranking.openai, base_url="")),
        transcripts=replace(transcripts, cache="", openai=replace(transcripts.openai, base_url="")),
        votes=replace(settings.votes, file=""),
    )


def model_card(workdir: Path, variant: str, encoders: Mapping[str, Mapping[str, str]]) -> str:
    """What the hub shows of the folder: data, scores by both names, limits."""
    templates = Environment(loader=PackageLoader("mer_jax", "recognition"), undefined=StrictUndefined, trim_blocks=True)
    templates.filters["percent"] = percent
    return templates.get_template("card.md").render(
        metrics=load_json(workdir / "metrics.json"),
        variant=variant,
        encoders=encoders,
        platforms=PLATFORMS,
        versions={"mer_jax": __version__, "jax": jax.__version__},
    )
