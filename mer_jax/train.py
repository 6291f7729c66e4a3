"""The main job: a data set in, emotions out, with a report of how well.

    python -m mer_jax.train --config=configs/semi.py [--workdir=DIR] [--config.cv.folds=5 ...]

Every stage keeps what it has done in the workdir; a second start goes on where the first one ended.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from mer_jax import results
from mer_jax.checkpoints.huggingface import fetch
from mer_jax.data.check import overview
from mer_jax.data.clips import Clip, Dataset, Problem
from mer_jax.data.corruptions import corrupted_copies
from mer_jax.fuse import Fusion, fusion_data, table_settings
from mer_jax.fusion.trained import Shape, save_ensemble
from mer_jax.report import headline, write_predictions, write_probabilities, write_report
from mer_jax.runtime import cli
from mer_jax.runtime.errors import UsageError
from mer_jax.runtime.files import dump_json, load_json
from mer_jax.runtime.progress import progress
from mer_jax.runtime.run import Run, environment, flatten, peak_memory_gib
from mer_jax.self_training import Options, PseudoLabels
from mer_jax.stages import (
    Features,
    absences,
    chosen_modalities,
    encode,
    faces_found,
    find_faces,
    labelled_folds,
    modality_features,
    rank_transcripts,
    run_dataset,
    write_rankings,
)
from mer_jax.text.annotators import Rankings, added_tokens
from mer_jax.text.tokenizer import Tokenizer
from mer_jax.tune import tune_prompts

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see configs/semi.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; default runs/<variant>.")


def main() -> None:
    """The command."""
    config = CONFIG.value
    if config is None and not WORKDIR.value:
        raise UsageError("--config is missing: try --config=configs/semi.py")
    workdir = Path(WORKDIR.value or f"runs/{config.variant}")
    finished = workdir / "metrics.json"
    if config is None and not finished.exists():
        raise UsageError(f"{workdir} holds no finished run: give --config as well")
    if config is not None:
        run = Run(workdir, config)
        if not finished.exists():
            train(run)
    print(headline(load_json(finished), workdir / "report" / "index.html"))


def train(run: Run) -> None:
    """All stages, from the data set to the report."""
    config, workdir = run.config, run.workdir
    wanted = chosen_modalities(config)
    reads_text = "text" in wanted and not config.data.get("text_feature")
    run.announce(["data", "faces", *["ranking"] * reads_text, *wanted, "fusion", "report"])

    with run.stage("data"):
        dataset = run_dataset(config, workdir)
        labels = dataset.labels
        labelled, truth, fold_of = labelled_folds(dataset, config, workdir)
        print("\n".join(f"  {line}" for line in overview(dataset)), file=sys.stderr)

    with run.stage("faces"):
        encoded = "image" in wanted and not config.data.get("image_feature")
        clips = find_faces(dataset.clips, workdir / "faces", config) if encoded else list(dataset.clips)
        copies, copy_of = corrupted_copies([clips[i] for i in labelled], config.corruptions.training, config.seed)

    rankings, tokens = Rankings.none(), {}
    if reads_text:
        with run.stage("ranking"):
            rankings = rank_transcripts(clips, labels, config.ranking)
            write_rankings(workdir / "rankings.csv", clips, rankings)
            tokenizer = Tokenizer(fetch(config.encoders.text.source, weights=False))
            tokens = added_tokens(rankings.ranked, tokenizer, config.ranking.template)
    features: dict[str, Features] = {}
    video = None
    for modality in wanted:
        with run.stage(modality):
            if modality == "video" and not config.data.get("video_feature"):
                video = tune_prompts(config, workdir, [clips[i] for i in labelled], labels, truth, fold_of)
                features[modality] = encode(config, workdir, [*clips, *copies], video.encoder)
            else:
                features[modality] = modality_features(config, workdir, [*clips, *copies], modality, rankings.ranked)

    with run.stage("fusion"):
        data, standardiser = fusion_data(dataset, features, truth, fold_of, copy_of, config.fusion.standardise)
        modalities = tuple(data.labelled.features)
        for modality in wanted:
            if modality not in modalities:
                print(f"  no labelled clip has {modality}: the run goes on without", file=sys.stderr)
        options = Options(**config.self_training)
        if not len(data.unlabelled_truth):
            options = replace(options, rounds=0)
        settings, alone = table_settings(modalities, config)
        fusion = Fusion(data, len(labels), config.fusion, options, config.seed, max(len(settings), len(alone)))
        nothing = PseudoLabels.none()
        singles = fusion.train(list(alone.values()), [nothing] * len(alone), 0) if alone else None
        unimodal = singles.unlabelled[: len(modalities)] if singles and options.agreement else None
        bare = None
        if "text" in alone and rankings.ranked and config.ablations.without_ranking:
            features |= {"text": modality_features(config, workdir, [*clips, *copies], "text", {})}
            bare_data, _ = fusion_data(dataset, features, truth, fold_of, copy_of, config.fusion.standardise)
            bare = fusion.on(bare_data).train([alone["text"]], [nothing], 0)
        with progress("self-training", options.rounds + 1, "round") as bar:
            rounds, final = fusion.self_train(settings, workdir / "rounds", unimodal, bar.update)
        shape = Shape(labels, fusion.dims, config.fusion.hidden, fusion.num_folds)
        save_ensemble(workdir / "checkpoints", shape, fusion.own(final).params, standardiser)
        for split, probs in (("unlabeled", final.unlabelled[0]), ("test", final.test[0])):
            names = [dataset.clips[i].name for i in dataset.split(split)]
            if names:
                predicted = [labels[i] for i in probs.argmax(-1)]
                write_predictions(workdir / "predictions" / f"{split}.csv", names, predicted)
                write_probabilities(workdir / "predictions" / f"{split}_probs.csv", names, probs, labels)

    with run.stage("report"):
        metrics: Any = {
            **results.collect(dataset, modalities, fusion, settings, rounds, final),
            "single_modality": results.single_sections(alone, singles, bare, bool(rankings.ranked)),
            "video": video.scores if video else None,
            "ranking": results.ranking_section(clips, labels, rankings, tokens),
            "faces": faces_found(clips),
            "problems": [vars(problem) for problem in sorted_problems(dataset, clips, features)],
            "settings": flatten(config.to_dict()),
            "environment": environment(),
        }
        metrics["curves"]["tune"] = video.curves if video else None
    metrics |= {"timing": run.timing, "peak_memory_gib": peak_memory_gib()}
    write_report(metrics, workdir / "report" / "index.html")
    dump_json(workdir / "metrics.json", metrics)


def sorted_problems(dataset: Dataset, clips: Sequence[Clip], features: Mapping[str, Features]) -> list[Problem]:
    """Everything that was skipped or degraded, by clip."""
    return sorted([*dataset.problems, *absences(clips, features)], key=lambda p: (p.name, p.modality or ""))


if __name__ == "__main__":
    cli.run(main)
