"""Features and corrupted copies -> what fusion trains on, validates and scores."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from mer_jax.data.clips import Clip, Dataset
from mer_jax.features.embeddings import Features
from mer_jax.fusion.data import Embeddings, fill_slots, fusion_data, gather, make_training_set
from mer_jax.fusion.folds import Folds, FoldSettings, make_folds
from mer_jax.runtime.errors import DataError

LABELLED = 12
CLIPS = [Clip(f"c{i}", "train", label="ab"[i % 2]) for i in range(LABELLED)]
CLIPS += [Clip(f"{split}{i}", split) for split in ("unlabeled", "test") for i in range(4)]
DATASET = Dataset("toy", ("a", "b"), tuple(CLIPS), {"unlabeled1": "b", "test0": "a", "test3": "b"})
LABELS = np.arange(LABELLED) % 2
FOLDS = Folds(np.arange(LABELLED), LABELS, make_folds(LABELS, 3, 0))
COPY_OF = np.array([0, 0, 5, 7])


def features(scale=1.0, dropped=()):
    """Random ones of the clips, then of the copies; `scale` of the first two copies, `dropped` of the copies."""
    rows = np.random.default_rng(0).normal(size=(len(CLIPS) + len(COPY_OF), 6)).astype(np.float32)
    rows[len(CLIPS) : len(CLIPS) + 2] *= scale
    present = np.ones(len(rows), bool)
    present[3] = False  # a labelled clip without anything
    present[[len(CLIPS) + i for i in dropped]] = False
    return {"speech": Features(rows * present[:, None], present, {})}


def data(copy_of=COPY_OF, **changes):
    return fusion_data(DATASET, features(**changes), FOLDS, copy_of, standardise="all")


def test_copies_keep_to_their_originals_and_those_without_a_modality_are_left_out():
    whole, _ = data()
    np.testing.assert_array_equal(whole.copy_of, [0, 0, 4, 6])  # the fourth labelled clip is gone
    assert whole.training.features["speech"].shape == (LABELLED - 1 + 4, 6)
    np.testing.assert_array_equal(whole.training.features["speech"][: LABELLED - 1], whole.labelled.features["speech"])
    np.testing.assert_array_equal(data(dropped=(1, 2))[0].copy_of, [0, 6])
    orphaned, _ = data(np.array([0, 3, 5, 7]))  # so is the second copy, though it has something
    np.testing.assert_array_equal(orphaned.copy_of, [0, 4, 6])
    np.testing.assert_array_equal(
        orphaned.training.features["speech"][LABELLED - 1 :], whole.training.features["speech"][[11, 13, 14]]
    )


def test_labelled_and_unlabelled_clips_alone_say_what_is_standard():
    rows = features()["speech"]
    _, standardiser = data()
    fitted = rows.embeddings[: LABELLED + 4][rows.present[: LABELLED + 4]].astype(np.float64)
    np.testing.assert_allclose(standardiser.mean["speech"], fitted.mean(0), atol=1e-6)
    np.testing.assert_allclose(standardiser.scale["speech"], 1 / fitted.std(0), rtol=1e-5)
    rows.embeddings[LABELLED + 4 :] += 100  # test clips and copies
    _, again = fusion_data(DATASET, {"speech": rows}, FOLDS, COPY_OF, standardise="all")
    for name in ("mean", "scale"):
        np.testing.assert_array_equal(getattr(again, name)["speech"], getattr(standardiser, name)["speech"])


def test_raw_features_stay_as_they_are():
    raw, _ = fusion_data(DATASET, features(), FOLDS, COPY_OF, standardise="none")
    np.testing.assert_array_equal(raw.test.features["speech"], features()["speech"].embeddings[LABELLED + 4 : -4])


@pytest.mark.parametrize("standardise", ["none", "all"])
def test_features_that_never_change_are_known_however_they_are_standardised(standardise):
    rows = features()["speech"]
    rows.embeddings[: LABELLED + 4, :3] = 2
    own, _ = fusion_data(DATASET, {"speech": rows}, FOLDS, COPY_OF, standardise)
    assert own.constant == {"speech": 0.5}


def test_within_groups_copies_follow_their_originals_and_have_no_say():
    """Two speakers; of the unlabelled and the test clips some have none."""
    speaker = [["ann", "bob", None][i % 3 if i >= LABELLED else i % 2] for i in range(len(CLIPS))]
    clips = tuple(replace(clip, group=group) for clip, group in zip(CLIPS, speaker, strict=True))
    dataset = replace(DATASET, clips=clips)
    within, _ = fusion_data(dataset, features(), FOLDS, COPY_OF, "group")
    louder, _ = fusion_data(dataset, features(scale=5.0), FOLDS, COPY_OF, "group")
    plain, _ = fusion_data(dataset, features(), FOLDS, COPY_OF, "all")
    for split in ("labelled", "unlabelled", "test"):
        np.testing.assert_array_equal(
            getattr(louder, split).features["speech"], getattr(within, split).features["speech"]
        )
    alone = np.array([group is None for group in speaker[LABELLED : LABELLED + 4]])
    own, other = (each.unlabelled.features["speech"] for each in (within, plain))
    np.testing.assert_array_equal((own == other).all(axis=1), alone)
    z = np.concatenate([each.features["speech"] for each in (within.labelled, within.unlabelled, within.test)])
    group = np.array(speaker)[np.delete(np.arange(len(CLIPS)), 3)]
    assert (np.abs(z[group == "ann"].mean(0)) < 0.2).all()
    assert within.groups.labelled[0] == within.groups.unlabelled[0] != within.groups.unlabelled[2]
    np.testing.assert_array_equal(within.strangers[:, 2], True)  # the third has no group
    held = within.held_out[:, within.groups.labelled == within.groups.unlabelled[0]].any(axis=1)
    np.testing.assert_array_equal(within.strangers[:, 0], ~held)


def test_splits_labels_and_truth():
    whole, _ = data()
    left = np.delete(np.arange(LABELLED), 3)
    np.testing.assert_array_equal(whole.labels, LABELS[left])
    np.testing.assert_array_equal(whole.fold_of, FOLDS.fold_of[left])
    np.testing.assert_array_equal(whole.unlabelled_truth, [-1, 1, -1, -1])
    np.testing.assert_array_equal(whole.test_truth, [0, -1, -1, 1])
    assert (whole.modalities, whole.dims, whole.num_folds) == (("speech",), {"speech": 6}, 3)


def test_a_modality_that_no_labelled_clip_has_is_left_out():
    both = features()
    present = np.zeros(len(CLIPS) + 4, bool)
    present[LABELLED:] = True
    both["text"] = Features(np.ones((len(present), 2), np.float32), present, {})
    assert fusion_data(DATASET, both, FOLDS, COPY_OF, standardise="all")[0].modalities == ("speech",)


def test_nothing_to_train_on_is_an_error():
    rows = features()["speech"]
    alone = FOLDS.fold_of == 1
    some = Features(rows.embeddings, rows.present & ~np.append(alone, np.zeros(len(rows.present) - LABELLED, bool)), {})
    with pytest.raises(DataError, match="toy: no labelled clip of fold 1 has any modality"):
        fusion_data(DATASET, {"speech": some}, FOLDS, COPY_OF, standardise="all")
    none = Features(rows.embeddings, np.zeros(len(rows.present), bool), {})
    with pytest.raises(DataError, match="no labelled clip has any of speech"):
        fusion_data(DATASET, {"speech": none}, FOLDS, COPY_OF, standardise="all")


def test_only_hides_the_other_modalities():
    clips = Embeddings({"speech": np.ones((2, 3))}, {"speech": np.array([True, False]), "text": np.ones(2, bool)})
    assert {name: x.tolist() for name, x in clips.only(["speech"]).present.items()} == {
        "speech": [True, False],
        "text": [False, False],
    }


def test_slots_behind_the_clips_and_what_a_trial_gathers():
    """Speech is one for all folds, video a row for each; the trial of fold 1 sees video alone."""
    speech, video = np.arange(6.0).reshape(3, 2), np.arange(12.0).reshape(2, 3, 2)
    clips = Embeddings({"speech": speech, "video": video}, {name: np.array([1, 0, 1], bool) for name in "sv"})
    present = {"speech": np.array([True, False, True]), "video": np.array([True, True, False])}
    training_set = make_training_set(clips.features, present, np.array([1, 0, 1]), slots=2)
    assert training_set.features["speech"].shape == (1, 5, 2) and training_set.features["video"].shape == (2, 5, 2)
    pseudo = Embeddings(
        {"speech": np.full((1, 2), 7.0), "video": np.full((2, 1, 2), 8.0)},
        {"speech": np.ones(1, bool), "video": np.ones(1, bool)},
    )
    filled = fill_slots(training_set, 2, pseudo, np.array([1]), weight=0.25)
    np.testing.assert_array_equal(filled.labels, [1, 0, 1, 1, 0])
    np.testing.assert_array_equal(filled.weights, [1, 1, 1, 0.25, 0])
    np.testing.assert_array_equal(filled.features["speech"][0], [*speech, [7, 7], [0, 0]])
    sees = {"speech": jnp.array(False), "video": jnp.array(True)}
    embeddings, seen = gather(filled, jnp.array([3, 0]), jnp.int32(1), sees)
    np.testing.assert_array_equal(embeddings["video"], [[8, 8], video[1, 0]])
    np.testing.assert_array_equal(embeddings["speech"], [[7, 7], speech[0]])
    assert seen["video"].tolist() == [True, True] and seen["speech"].tolist() == [False, False]


def limited(candidates, own=None):
    clips = [replace(clip, modalities=own if clip.split == "train" else candidates) for clip in CLIPS]
    return replace(DATASET, clips=tuple(clips))


@pytest.mark.parametrize(
    ("candidates", "asked", "expected"),
    [
        (None, "", ()),
        (("text",), "", ("text",)),
        (("text",), "all", ()),
        (None, "speech", ("speech",)),
        (("speech", "text"), "", ()),
    ],
)
def test_held_out_clips_show_what_counts_for_the_candidates_unless_the_settings_say_otherwise(
    candidates, asked, expected
):
    rows = features()["speech"]
    two = {"speech": rows, "text": rows}
    own, _ = fusion_data(limited(candidates), two, FOLDS, COPY_OF, "all", FoldSettings(shown=asked))
    assert own.limited_to == expected and own.shown == (expected or ("speech", "text"))
    same, _ = fusion_data(DATASET, two, FOLDS, COPY_OF, "all")
    assert (own.digest == same.digest) == (candidates is None and not expected)


def test_candidates_of_which_nothing_can_be_learned_are_refused():
    with pytest.raises(DataError, match=r"predicted \(video\) no labelled clip has any; these have speech"):
        fusion_data(limited(("video",)), features(), FOLDS, COPY_OF, "all")
