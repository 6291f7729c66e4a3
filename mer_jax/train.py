"""The main job: a data set in, emotions out, with a report of how well.

    python -m mer_jax.train --config=configs/semi.py [--workdir=DIR] [--config.cv.folds=5 ...] [--distributed]

Every stage keeps what it has done in the workdir; a second start goes on where the first one ended.
"""

from pathlib import Path

from absl import flags

from mer_jax.runtime import cli
from mer_jax.runtime.cluster import join_hosts
from mer_jax.settings import Settings

CONFIG = cli.config_flag()
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; default runs/<variant>.")
cli.tensorboard_flag()


def wrong() -> str:
    """What is wrong with the flags together; empty if nothing is."""
    if CONFIG.value is None and WORKDIR.value and not Path(WORKDIR.value, "config.json").exists():
        return f"{WORKDIR.value} holds no run: give --config as well"
    return "" if CONFIG.value or WORKDIR.value else cli.NO_CONFIG


cli.parse_flags(__name__, Settings, wrong)

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from mer_jax.checkpoints.huggingface import checkpoint_facts, fetch
from mer_jax.data.check import overview
from mer_jax.data.clips import Dataset
from mer_jax.data.crops import faces_section
from mer_jax.data.votes import Votes, read_votes
from mer_jax.features.embeddings import Features
from mer_jax.features.inputs import Inputs, run_dataset
from mer_jax.features.outliers import without_outliers
from mer_jax.features.standardise import Standardiser
from mer_jax.fusion.cross_validation import CrossValidation, Networks
from mer_jax.fusion.data import FusionData, fusion_data
from mer_jax.fusion.ensemble import Shape, save_ensemble
from mer_jax.fusion.folds import Folds, run_folds
from mer_jax.fusion.trials import Table, run_table, single_streams
from mer_jax.preflight import preflight
from mer_jax.recognition.distance import FAMILIAR, Familiar
from mer_jax.report import results
from mer_jax.report.cautions import cautions
from mer_jax.report.clip_page import ClipInputs, write_clip_page
from mer_jax.report.clip_scoring import clip_scores
from mer_jax.report.formats import headline
from mer_jax.report.page import write_report
from mer_jax.report.stream_worth import stream_section
from mer_jax.report.submission import write_predictions, write_probabilities
from mer_jax.report.votes import table_section, vote_cautions, votes_section
from mer_jax.runtime.errors import DataError
from mer_jax.runtime.files import dump_json, load_json
from mer_jax.runtime.hosts import first_host_first, in_step, is_first_host, meet
from mer_jax.runtime.inventory import changes, take_inventory
from mer_jax.runtime.kept import (
    Damaged,
    changed_in,
    digest_of,
    digests_under,
    keep,
    listed_files,
    make_again,
    read_kept,
    usable,
)
from mer_jax.runtime.profiling import asked
from mer_jax.runtime.progress import progress
from mer_jax.runtime.run import Run, environment, load_settings, peak_memory_gib
from mer_jax.runtime.scalars import scalars_in
from mer_jax.runtime.settings import as_dict, read_settings
from mer_jax.runtime.terminal import harmless
from mer_jax.text.rankings import added_tokens, write_rankings
from mer_jax.text.tokenizer import Tokenizer
from mer_jax.text.transcripts import write_transcripts
from mer_jax.tuning.prompts import PromptTuning

ENSEMBLE = tuple(
    f"checkpoints/{name}"
    for name in ("ensemble", "ensemble.files.json", "ensemble.json", "standardiser.safetensors", FAMILIAR)
)
RESULTS = (
    *(
        "config.json",
        "dataset.json",
        "folds.csv",
        "transcripts.csv",
        "rankings.csv",
        "metrics.json",
        "predictions",
        "report",
    ),
    *ENSEMBLE,
    *("checkpoints/prompts", "checkpoints/prompts.files.json"),
)


def main() -> None:
    """The command."""
    join_hosts()
    config = CONFIG.value
    workdir = Path(WORKDIR.value or f"runs/{config.variant}")
    run = Run(workdir, read_settings(Settings, config) if config else load_settings(Settings, workdir))
    finished = workdir / "metrics.json"
    begun = finished.exists()
    if changed := in_step("results", lambda: changes(workdir), found=bool):
        for name in changed if begun else ():
            print(f"  {workdir / name}: not as the run wrote it: made again", file=sys.stderr)
        train(run)
    try:
        print(headline(load_json(finished), workdir / "report" / "index.html"))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{finished}: not the metrics of a run; remove it, and start the same command again") from error


def train(run: Run[Settings]) -> None:
    """All stages, from the data set to the report."""
    settings, workdir = run.settings, run.workdir
    with first_host_first("preflight"):
        opened = preflight(settings, workdir, settings.encoded)
    run.announce(
        [
            "data",
            *["transcripts"] * settings.transcribes,
            "faces",
            *["ranking"] * settings.reads_rankings,
            *settings.sources,
            "fusion",
            "report",
        ]
    )

    with run.stage("data"):
        dataset = run_dataset(settings, workdir, opened)
        folds = run_folds(dataset, settings.cv, settings.seed, workdir)
        votes = read_votes(settings.votes, dataset)
        said = votes.lines() if votes else ()
        lines = [*overview(dataset), *(f"warning: {caution}" for caution in settings.drawn), *said]
        print("\n".join(f"  {harmless(line)}" for line in lines), file=sys.stderr)
    curves = scalars_in(asked("tensorboard"))
    prompts = PromptTuning(settings.tune, settings, dataset.labels, folds.count, workdir, curves)
    labelled_clips = [dataset.clips[i] for i in folds.positions]
    tuned = cache(lambda: prompts.tune(labelled_clips, folds.labels, folds.fold_of))
    inputs = Inputs(dataset, settings, workdir, lambda: tuned().encoder)

    if settings.transcribes:
        with run.stage("transcripts"):
            write_transcripts(workdir / "transcripts.csv", inputs.transcripts)
    with run.stage("faces"):
        clips = inputs.clips
    if settings.reads_rankings:
        with run.stage("ranking"):
            rankings = inputs.rankings
            write_rankings(workdir / "rankings.csv", clips, rankings)
            readers = [each.source for each in settings.encoded_streams.values() if each.modality == "text"]
            tokenizer = Tokenizer(fetch(readers[0], weights=False)) if rankings.ranked else None
            tokens = added_tokens(rankings.ranked, tokenizer, settings.ranking.template)
    features: dict[str, Features] = {}
    for stream in settings.sources:
        with run.stage(stream):
            features[stream] = without_outliers(inputs.features(stream), stream)
            for line in features[stream].absences():
                print(f"  {harmless(line)}", file=sys.stderr)
    with run.stage("fusion"):
        fused = fuse(run, inputs, features, folds, votes)
        sections = fused.sections
        sections["cv"]["cautions"] = [*settings.drawn, *sections["cv"]["cautions"]]

    with run.stage("report"):
        video = tuned() if "video" in inputs.encoded else None
        ranked = results.ranking_section(clips, dataset.labels, rankings, tokens) if settings.reads_rankings else None
        metrics: Any = {
            **sections,
            "votes": sections.get("votes") and sections["votes"] | table_section(votes, settings.votes),
            "curves": sections["curves"] | {"tune": video.curves if video else None},
            "video": video.scores if video else None,
            "transcripts": inputs.transcripts.section(),
            "ranking": ranked,
            "faces": faces_section(clips),
            "problems": [vars(problem) for problem in inputs.problems(features)],
            "settings": flatten_dict(as_dict(settings), sep="."),
            "environment": environment(),
            "checkpoints": {
                name: checkpoint_facts(stream.source)
                for name, stream in settings.encoded_streams.items()
                if stream.modality in inputs.encoded
            },
            "run": run.begun,
        }
        if fused.clips and is_first_host():
            known = ClipInputs(dataset, clips, features, inputs.transcripts, inputs.rankings)
            page, fused_modalities = workdir / "report" / "clips.html", sections["dataset"]["modalities"]
            write_clip_page(known, fused.clips, fused_modalities, settings.extraction, page, settings.modality_of)
    metrics |= {"timing": run.timing, "device_busy": run.device_busy, "peak_memory_gib": peak_memory_gib()}
    write_report(metrics, workdir / "report" / "index.html")
    dump_json(workdir / "metrics.json", metrics)
    if is_first_host():
        take_inventory(workdir, RESULTS)
    meet("inventory")


def fuse(
    run: Run[Settings], inputs: Inputs, features: Mapping[str, Features], folds: Folds, votes: Votes | None = None
) -> "Fused":
    """Trains the fusion heads unless that is done, and writes the predictions."""
    settings, dataset, workdir = run.settings, inputs.dataset, run.workdir
    _, copy_of = inputs.copies
    standardise, modality_of = settings.fusion.standardise, settings.modality_of
    data, standardiser = fusion_data(dataset, features, folds, copy_of, standardise, settings.cv, modality_of, votes)
    for stream in features:
        if stream not in data.dims:
            print(f"  no labelled clip has {stream}: the run goes on without", file=sys.stderr)
    table = run_table(settings.fusion, settings.ablations, data.modalities)
    bare = None
    single_text = any(setting.name == "text" for setting in table.singles)
    if single_text and inputs.rankings.ranked and settings.ablations.without_ranking:
        readers = [name for name, each in settings.encoded_streams.items() if each.modality == "text"]
        bare_features = {**features, **{name: inputs.features(name, with_rankings=False) for name in readers}}
        bare, _ = fusion_data(dataset, bare_features, folds, copy_of, standardise, settings.cv, modality_of)

    path = workdir / "fusion.json"
    made = digest_of(
        *(data.digest, bare and bare.digest, dataset.name, dataset.labels, dataset.warnings, settings.flattering),
        *(settings.seed, settings.fusion, settings.ablations, settings.self_training, *settings.fusion.later),
    )
    fused = in_step("fusion", lambda: kept_fusion(path, made))
    if fused is None:
        familiar(dataset, {stream: features[stream] for stream in data.dims}).save(workdir / "checkpoints" / FAMILIAR)
        keep(path, train_fusion(run, inputs, folds, table, data, standardiser, bare), made)
        fused = in_step("fusion", lambda: read_kept(path, made, parse=Fused.from_json))
    write_candidates(dataset, fused.probs, workdir / "predictions")
    return fused


def familiar(dataset: Dataset, features: Mapping[str, Features]) -> Familiar:
    """What labelled and unlabelled clips are like, by which later ones are told that are unlike them."""
    clips = [*dataset.split("train"), *dataset.split("unlabeled")]
    embeddings = {stream: x.embeddings.take(np.array(clips), axis=-2) for stream, x in features.items()}
    return Familiar.fit(embeddings, {stream: x.present[clips] for stream, x in features.items()})


class Fused(NamedTuple):
    """What the fusion stage has come to, in `fusion.json`."""

    sections: dict[str, Any]  # of the metrics
    probs: dict[str, np.ndarray]  # [N, C], calibrated, of the clips of a split
    clips: dict[str, Any]  # see `clip_scores`; none of a run of before
    files: dict[str, str]  # the ensemble's, and their digests

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Fused":
        probs = {split: np.array(rows, np.float64) for split, rows in saved["probs"].items()}
        return cls({**saved["sections"]}, probs, {**saved.get("clips", {})}, listed_files(saved))


def kept_fusion(path: Path, made_of: str) -> Fused | None:
    """What an earlier start kept, if it is whole and the ensemble is still as it was."""
    fused = usable(path, made_of, parse=Fused.from_json)
    if fused and (changed := changed_in(path.parent, fused.files)):
        make_again(Damaged(f"{path.parent / changed[0]}: not as it was written"))
        return None
    return fused


def train_fusion(
    run: Run[Settings],
    inputs: Inputs,
    folds: Folds,
    table: Table,
    data: FusionData,
    standardiser: Standardiser,
    bare: FusionData | None,
) -> dict[str, Any]:
    """Trains the table of settings through all rounds, and keeps the ensemble of the run's own.

    bare: the data with text that no ranking is joined to; None where that is not asked for.

    Returns:
        What `Fused` is read from.
    """
    settings, dataset = run.settings, inputs.dataset
    self_training = settings.self_training if len(data.unlabelled_truth) else replace(settings.self_training, rounds=0)
    networks = Networks(data.dims, len(dataset.labels), settings.fusion, data.modality_of)
    fusion = CrossValidation(data, networks, settings.seed, [table.run, *table.ablations], self_training)

    streams = single_streams(settings.fusion, settings.ablations, data.modality_of)
    parts = fusion.train([*table.singles, *streams.values()]) if table.singles or streams else {}
    singles = {setting.name: parts[setting.name] for setting in table.singles}
    alone = {
        stream: parts[streams[stream].name] if stream in streams else singles[own]
        for stream, own in data.modality_of.items()
        if stream in streams or own in singles
    }
    bare_text = None
    if bare:
        bare_fusion = CrossValidation(bare, networks, settings.seed, [table.run, *table.ablations], self_training)
        bare_text = bare_fusion.train([singles["text"].setting])["text"]
    with progress("self-training", self_training.rounds + 1, "round") as bar:
        curves = scalars_in(asked("tensorboard"))
        rounds, final = fusion.self_train(run.workdir / "self_training", bar.update, table.run.name, curves)

    networks_alone = final[table.run.name]
    trained = fusion.with_votes(networks_alone)
    temperatures = for_new_clips = fusion.temperatures(networks_alone)  # which have no votes
    if trained.votes:
        temperatures = fusion.temperatures(trained)
    shape = Shape(
        dataset.labels,
        data.dims,
        settings.fusion.hidden,
        data.num_folds,
        settings.fusion.seeds,
        for_new_clips.tolist(),
        settings.fusion.standardise == "group" and any(clip.group for clip in dataset.clips),
        dict(data.usual_sizes),
        {stream: modality for stream, modality in data.modality_of.items() if stream != modality},
    )
    save_ensemble(run.workdir / "checkpoints", shape, trained.members.params, standardiser)
    meet("ensemble")
    of_folds = results.temperatures_of_others(fusion, trained)
    fused = results.fusion_sections(dataset, fusion, trained, rounds, temperatures, of_folds)
    predicted = fusion.held_out_logits(trained.honest.fitted).argmax(axis=-1)
    voted = votes_section(fusion, networks_alone, trained)
    said = [*cautions(dataset, folds, data.constant, shape.in_groups, predicted, data.shown), *vote_cautions(voted)]
    fused["cv"] |= {"cautions": [*settings.flattering, *said], "flattered": bool(settings.flattering)}
    sections = {
        **fused,
        "votes": voted,
        "curves": results.curves_section(trained, None),
        "ablations": results.ablation_sections(rounds, final),
        "streams": stream_section(fusion, trained, alone, dataset.labels),
        "single_modality": results.single_sections(singles, bare_text, bool(inputs.rankings.ranked)),
    }
    probs = {split: each.tolist() for split, each in fusion.predictions(trained, temperatures).items()}
    clips = clip_scores(fusion, trained, temperatures, of_folds)
    return {"sections": sections, "probs": probs, "clips": clips, "files": digests_under(run.workdir, ENSEMBLE)}


def write_candidates(dataset: Dataset, predictions: Mapping[str, np.ndarray], folder: Path) -> None:
    """Labels and probabilities [N, C] of the clips of some splits."""
    for split, probs in predictions.items():
        names = [dataset.clips[i].name for i in dataset.split(split)]
        if names:
            predicted = [dataset.labels[i] for i in probs.argmax(-1)]
            write_predictions(folder / f"{split}.csv", names, predicted)
            write_probabilities(folder / f"{split}_probs.csv", names, probs, dataset.labels)


if __name__ == "__main__":
    cli.run(main)
