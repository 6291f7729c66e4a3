"""The MER2024-SEMI system: four modalities, five folds, ten rounds of self-training.

    python -m mer_jax.train --config=configs/semi.py                        the bundled sample
    python -m mer_jax.train --config=configs/semi.py:mer2024,root=DIR      also mer2025, mer2026
    python -m mer_jax.train --config=configs/semi.py:processed,root=DIR    what the challenge's baseline makes of them
    python -m mer_jax.train --config=configs/semi.py:prepared,root=DIR     what mer_jax.prepare has made of any of these
    python -m mer_jax.train --config=configs/semi.py:folder,root=DIR       any folder with clips.csv

Arguments of every variant but the sample: `encoders=paper` (the default for the challenges) takes the paper's
encoders from the hub, `encoders=bundled` (the default for folders) the small ones that come with the package.
"""

from typing import Any

from ml_collections import ConfigDict

from mer_jax.runtime.errors import UsageError

LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
CHALLENGES = ("mer2024", "mer2025", "mer2026")
READY_MADE = {
    "modalities": "",  # "+"-joined; empty: all that the folder can give
    "speech_feature": "",
    "image_feature": "",
    "text_feature": "",
    "video_feature": "",
}
FOLDER_ARGUMENTS = {
    "label_column": "label",
    "split_column": "split",
    "group_column": "group",
    "text_column": "text",
    "file_column": "file",
    **READY_MADE,
}


def get_config(argument: str = "sample") -> ConfigDict:
    """The config of a variant `name[,key=value...]`; unknown names and keys are errors that list the known."""
    variant, arguments = parse(argument)
    encoders = bundled_encoders() if arguments.pop("encoders", "bundled") == "bundled" else paper_encoders()
    config = ConfigDict(
        {
            "seed": 0,
            "variant": variant,
            "data": {"labels": LABELS, **arguments},
            "encoders": encoders,
            "ranking": {
                "annotator": "lexicon",  # or "openai", "local"; "none": transcripts alone
                "template": "zh-1",  # how a ranking and its transcript are joined; see mer_jax/text/templates.py
                "cache": "",  # folder of the answers; empty: rankings in $MER_JAX_CACHE or ~/.cache/mer_jax
                "openai": {  # any server of chat completions; its key comes from $OPENAI_API_KEY alone
                    "base_url": "",  # empty: $OPENAI_BASE_URL, or OpenAI
                    "model": "gpt-4o-mini",
                    "prompt": "zh-1",  # see mer_jax/text/prompts.py
                    "max_tokens": 200,  # of a reply
                    "concurrency": 32,  # requests under way at any time
                    "timeout_s": 60.0,
                    "attempts": 6,  # of a request that the server fails
                    "max_requests": 0,  # over all starts with this cache; 0: any number
                    "max_cost": 0.0,  # likewise, in the currency of the prices
                    "input_price": 0.15,  # per million tokens
                    "output_price": 0.60,
                },
                "local": local_annotator(encoders),
            },
            "extraction": {
                "shard_clips": 1024,  # features written at a time, for each copy of an encoder's weights
                "workers": 0,  # processes that decode; 0: one per core
                "time_limit": 60.0,  # seconds that a clip may take to decode, and one more for each MiB of its file
                "most_face_frames": 4096,  # of a longer clip every second, third, ... frame is searched for faces
            },
            "corruptions": {
                "training": {**corruption(), "copies": 1},  # of each labelled clip, to train beside it; see tune, too
                "evaluation": corruption(),  # of the test clips themselves
            },
            "prepare": {  # what mer_jax.prepare keeps of a clip, beside its sound
                "shard_clips": 256,
                "frames": 48,  # an odd multiple of num_frames holds just the frames that inference takes
                "frame_side": 256,  # px of a frame's shorter side; 0: as it is
                "jpeg_quality": 95,
            },
            "cv": {"folds": 5},
            "tune": {
                "mode": "per_fold",  # or "all_labelled": prompts that have seen the validation clips
                "num_prompts": {"vision": 4, "text": 4},  # tokens per layer of a tower
                "depth": {"vision": 12, "text": 12},  # layers with prompts of their own; 0: plain CLIP
                "class_prompts": "en-1",  # or "zh-1"; see mer_jax/text/class_prompts.py
                "batch_size": 16,
                "micro_batch": 1,  # clips whose activations a device holds at a time; 0: all of a step, of all its sets
                "images_at_once": 8,  # frames in a layer at a time, what fits on a TPU's chip; 0: all of a micro-batch
                "epochs": 20,
                "warmup_epochs": 5,
                "learning_rate": 4e-4,
                "weight_decay": 1e-3,
                "label_smoothing": 0.1,
                "remat": False,  # True: recompute each layer in the backward pass, for still less memory
            },
            "fusion": {
                "hidden": 128,
                "dropout": 0.3,
                "modality_dropout": 0.3,
                "keep_one": True,
                "standardise": True,  # False: raw features, as in the paper
                "learning_rate": 3e-4,
                "l2": 1e-5,
                "label_smoothing": 0.0,
                "batch_size": 64,
                "epochs": 30,
            },
            "self_training": {
                "rounds": 10,
                "k": 10,
                "relabel": False,
                "cumulative": True,
                "min_confidence": 0.0,
                "agreement": False,
            },
            "ablations": {  # trained beside the run, to compare with
                "modality_dropouts": (0.0, 0.15, 0.3, 0.5),
                "without_video": True,
                "single_modalities": True,
                "without_ranking": True,  # text alone once more, from the bare transcripts
            },
        }
    )
    if variant == "sample":
        config.data.update({"labelled": 400, "unlabelled": 800, "test": 300})
        config.ablations.update({"modality_dropouts": (0.0,), "without_video": False})
    if encoders["image"]["source"].startswith("bundled/"):
        config.tune.update(
            {
                "depth": {"vision": 4, "text": 4},
                "epochs": 4,
                "warmup_epochs": 1,
                "batch_size": 10,
                "micro_batch": 0,
                "images_at_once": 0,
                "learning_rate": 5e-3,
            }
        )
        config.fusion.update({"hidden": 64, "learning_rate": 1e-3})
    return config


def parse(argument: str) -> tuple[str, dict[str, str]]:
    """Splits "folder,root=DIR,..." into the variant's name and all its arguments."""
    variant, *pairs = argument.split(",")
    if variant == "sample":
        known = {}
    elif variant in CHALLENGES or variant == "prepared":
        known = {"root": None, "encoders": "paper"}
    elif variant == "processed":
        known = {"root": None, "encoders": "paper", **READY_MADE}
    elif variant == "folder":
        known = {"root": None, "encoders": "bundled", **FOLDER_ARGUMENTS}
    else:
        raise UsageError(
            f"unknown variant {variant!r}; known: sample, {', '.join(CHALLENGES)}, processed, prepared, folder"
        )
    given: dict[str, str] = dict(pair.partition("=")[::2] for pair in pairs)
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise UsageError(f"unknown argument {unknown[0]!r} of variant {variant!r}; known: {', '.join(known) or 'none'}")
    arguments: dict[str, Any] = {**known, **given}
    if "root" in arguments and not arguments["root"]:
        raise UsageError(f"variant {variant!r} needs its folder: configs/semi.py:{variant},root=DIR")
    if arguments.get("encoders", "bundled") not in ("bundled", "paper"):
        raise UsageError(f"encoders={arguments['encoders']!r}; known: bundled, paper")
    return variant, arguments


def local_annotator(encoders: dict) -> dict:
    """The language model that ranks without a server: the bundled one where the encoders are bundled."""
    if encoders["text"]["source"].startswith("bundled/"):
        return {
            "source": "bundled/baichuan",
            "template": "zh-1",  # the order in which it was trained: label, then transcript
            "dtype": "float32",
            "buckets_tokens": (32, 64, 256),
            "batch_tokens": 4096,
        }
    return {
        "source": "Qwen/Qwen2.5-7B-Instruct",
        "template": "zh-ask-1",
        "dtype": "bfloat16",
        "buckets_tokens": (64, 128, 512),
        "batch_tokens": 16384,
    }


def corruption() -> dict:
    """What happens to inputs, as in MER-NOISE; with probability 0, nothing."""
    return {
        "probability": 0.0,  # that a clip, or a copy of one, is corrupted at all
        "snr_db": (5.0, 10.0),  # range of the noise added to the sound; (): none
        "blur": 0.0,  # standard deviation as a share of a frame's shorter side
        "downsample": 1.0,  # factor by which frames are shrunk and enlarged again
        "drop": "",  # "+"-joined modalities that a corrupted clip may lose
        "drop_probability": 0.5,
    }


def paper_encoders() -> dict:
    """The paper's encoders, from the hub, in bfloat16."""
    clip = "openai/clip-vit-large-patch14"
    return {
        "speech": {
            "source": "TencentGameMate/chinese-hubert-large",
            "dtype": "bfloat16",
            "sample_rate": 16_000,
            "chunk_seconds": 10.0,
            "keep_layers": 4,
            "buckets_seconds": (1.605, 2.085, 3.045, 4.005, 5.125, 6.085, 7.045, 8.485),  # 8n frames, a TPU's tiles
            "batch_seconds": 65.0,  # of a device's batch, padding included; what fits on the chip
        },
        "image": {
            "source": clip,
            "dtype": "bfloat16",
            "buckets_frames": (8,),  # longer clips go in chunks, so little is padding
            "batch_frames": 80,
        },
        "text": {
            "source": "baichuan-inc/Baichuan-13B-Base",
            "dtype": "bfloat16",
            "keep_layers": 4,
            "buckets_tokens": (48, 64, 80, 96, 128, 192, 256, 512),
            "batch_tokens": 8192,
            "model_parallel": 1,  # devices that share one copy; 13B wants 8 of 16 GB
        },
        "video": {"source": clip, "dtype": "bfloat16", "num_frames": 16, "batch_frames": 160},
    }


def bundled_encoders() -> dict:
    """The small encoders that come with the package, in float32."""
    return {
        "speech": {
            "source": "bundled/hubert",
            "dtype": "float32",
            "sample_rate": 16_000,
            "chunk_seconds": 10.0,
            "keep_layers": 4,
            "buckets_seconds": (1.5, 2.0, 3.1, 4.0, 6.0),
            "batch_seconds": 60.0,
        },
        "image": {
            "source": "bundled/clip",
            "dtype": "float32",
            "buckets_frames": (12, 16, 26),
            "batch_frames": 512,
        },
        "text": {
            "source": "bundled/baichuan",
            "dtype": "float32",
            "keep_layers": 4,
            "buckets_tokens": (48, 64, 256),
            "batch_tokens": 4096,
            "model_parallel": 1,
        },
        "video": {"source": "bundled/clip", "dtype": "float32", "num_frames": 4, "batch_frames": 256},
    }
