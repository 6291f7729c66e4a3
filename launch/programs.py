"""The programs of a run at the paper's sizes, without any weights: functions, argument shapes and their places."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from benchmarks import work
from benchmarks.work import (
    BAICHUAN_13B,
    CLIP_L14,
    DINOV2_LARGE,
    DINOV2_SIDE,
    HUBERT_LARGE,
    MACBERT_LARGE,
    SIGLIP2_SO400M,
    WAVLM_LARGE,
    WHISPER_LARGE,
)
from launch.shapes import batch, copies, weights
from mer_jax.features.encoders import embed_images, embed_speech, embed_text, embed_video
from mer_jax.features.memory import images_at_once
from mer_jax.fusion.data import TrainingSet
from mer_jax.fusion.trainer import VALIDATION_BATCH, FoldTrainer
from mer_jax.fusion.trials import Setting, make_trials
from mer_jax.models import CLIP, Baichuan, Bert, Dinov2, EmoVCLIP, Hubert, Siglip, WavLM, Whisper
from mer_jax.models.baichuan_weights import rules as baichuan_rules
from mer_jax.models.bert_weights import RULES as BERT_RULES
from mer_jax.models.clip_weights import RULES as CLIP_RULES
from mer_jax.models.dinov2_weights import rules as dinov2_rules
from mer_jax.models.emovclip import Prompt
from mer_jax.models.hubert_weights import rules as hubert_rules
from mer_jax.models.preprocess import clip_pixels
from mer_jax.models.siglip_weights import RULES as SIGLIP_RULES
from mer_jax.models.wavlm_weights import rules as wavlm_rules
from mer_jax.models.whisper_weights import RULES as WHISPER_RULES
from mer_jax.settings import Settings
from mer_jax.tuning.batches import Batch
from mer_jax.tuning.trainer import Tuner


@dataclass(frozen=True)
class Program:
    """What is compiled.

    Args:
        flops: of the matrix products, counted by hand, of one device.
        clips: of the whole slice.
        knob: the config field to change when it does not fit.
        attentions: the least that it computes of whole sequences on a GPU; those of a backward pass are more.
        passes: of a loop whose length is an argument.
    """

    name: str
    function: Callable[..., Any]
    arguments: Sequence[Any]
    flops: float
    clips: float
    knob: str
    attentions: int = 0
    passes: int = 1


def all_programs(config: Settings, devices: np.ndarray, memory: float) -> dict[str, Callable[[], Program]]:
    """The programs of a config on devices of so many bytes, by name, each made when it is called."""
    data = Mesh(devices.reshape(-1, 1), ("data", "model"))
    one = Mesh(devices.reshape(-1)[:1].reshape(1, 1), ("data", "model"))
    return {
        "CLIP L/14 extraction": partial(clip_extraction, config, data),
        "DINOv2-large extraction": partial(dinov2_extraction, config, data),
        "SigLIP 2 so400m extraction": partial(siglip_extraction, config, data),
        "HuBERT-large extraction": partial(hubert_extraction, config, data),
        "WavLM-large extraction": partial(wavlm_extraction, config, data),
        "Whisper-large extraction": partial(whisper_extraction, config, data),
        "MacBERT-large extraction": partial(macbert_extraction, config, data),
        "EmoVCLIP L/14 extraction": partial(emovclip_extraction, config, data),
        "EmoVCLIP L/14 training step": partial(emovclip_step, config, one),
        "Baichuan-13B": partial(baichuan_forward, config, devices, memory),
        "fusion": partial(fusion_training, config, one),
    }


def clip_extraction(config: Settings, mesh: Mesh) -> Program:
    """Aligned faces -> pooled CLIP L/14 features."""
    model, vision = weights(lambda: CLIP(CLIP_L14, rngs=nnx.Rngs(0)), CLIP_RULES, mesh), CLIP_L14.vision_config
    flops, layers = work.vit_flops(CLIP_L14), vision.num_hidden_layers
    return face_extraction(config, mesh, "CLIP L/14", model, CLIP_L14, vision.image_size, flops, layers)


def dinov2_extraction(config: Settings, mesh: Mesh) -> Program:
    """Aligned faces -> pooled DINOv2-large features."""
    model = weights(lambda: Dinov2(DINOV2_LARGE, rngs=nnx.Rngs(0)), dinov2_rules(DINOV2_LARGE), mesh)
    flops, layers = work.dinov2_flops(DINOV2_LARGE), DINOV2_LARGE.num_hidden_layers
    return face_extraction(config, mesh, "DINOv2-large", model, DINOV2_LARGE, DINOV2_SIDE, flops, layers)


def siglip_extraction(config: Settings, mesh: Mesh) -> Program:
    """Aligned faces -> pooled features of SigLIP 2, so400m-patch14-384."""
    model = weights(lambda: Siglip(SIGLIP2_SO400M, rngs=nnx.Rngs(0)), SIGLIP_RULES, mesh)
    vision, flops = SIGLIP2_SO400M.vision_config, work.siglip_flops(SIGLIP2_SO400M)
    layers = vision.num_hidden_layers + 1  # and the head
    return face_extraction(config, mesh, "SigLIP 2 so400m", model, SIGLIP2_SO400M, vision.image_size, flops, layers)


def face_extraction(
    config: Settings, mesh: Mesh, name: str, model: Any, encoder: Any, size: int, flops: float, layers: int
) -> Program:
    """Of an image encoder, of that config, on images of so many pixels a side. flops: of one image."""
    settings, side = config.encoders.image, work.FACE_SIDE
    frames = max(settings.buckets_frames)
    chunks = max(1, images_at_once(encoder, size, settings.batch_frames) // frames)
    total = chunks * mesh.shape["data"]
    resizing = batch(mesh, (total, size, side), jnp.float32)
    faces, lengths = batch(mesh, (total, frames, side, side, 3), jnp.uint8), batch(mesh, (total,), jnp.int32)
    return Program(
        f"{name} extraction, {chunks} x {frames} faces per device",
        lambda model, faces, lengths, rows, columns: embed_images(model, clip_pixels(faces, rows, columns), lengths),
        (model, faces, lengths, resizing, resizing),
        chunks * frames * (flops + work.resize_flops(side, size)),
        total * frames / work.CLIP_FACES,
        "encoders.image.batch_frames",
        layers - 1,
    )


def hubert_extraction(config: Settings, mesh: Mesh) -> Program:
    """Sound -> pooled HuBERT-large features."""
    model = weights(lambda: Hubert(HUBERT_LARGE, rngs=nnx.Rngs(0)), hubert_rules(HUBERT_LARGE), mesh)
    return sound_extraction(config, mesh, "HuBERT-large", model, partial(work.hubert_flops, HUBERT_LARGE))


def wavlm_extraction(config: Settings, mesh: Mesh) -> Program:
    """Sound -> pooled WavLM-large features."""
    model = weights(lambda: WavLM(WAVLM_LARGE, rngs=nnx.Rngs(0)), wavlm_rules(WAVLM_LARGE), mesh)
    return sound_extraction(config, mesh, "WavLM-large", model, partial(work.wavlm_flops, WAVLM_LARGE))


def whisper_extraction(config: Settings, mesh: Mesh) -> Program:
    """Sound -> pooled features of Whisper-large-v3, which takes 30 s."""
    model = weights(lambda: Whisper(WHISPER_LARGE, rngs=nnx.Rngs(0)), WHISPER_RULES, mesh)
    flops, layers = work.whisper_flops(WHISPER_LARGE), WHISPER_LARGE.encoder_layers
    return sound_extraction(config, mesh, "Whisper-large", model, lambda samples: flops, work.WHISPER_SECONDS, layers)


def macbert_extraction(config: Settings, mesh: Mesh) -> Program:
    """Tokens -> pooled MacBERT-large features, without those of [CLS] and [SEP]."""
    settings, length = config.encoders.text, work.CLIP_TOKENS
    texts = max(1, settings.batch_tokens // length)
    total = texts * mesh.shape["data"]
    model = weights(lambda: Bert(MACBERT_LARGE, rngs=nnx.Rngs(0)), BERT_RULES, mesh)
    tokens, lengths = batch(mesh, (total, length), jnp.int32), batch(mesh, (total,), jnp.int32)
    return Program(
        f"MacBERT-large extraction, {texts} x {length} tokens per device",
        partial(embed_text, keep_layers=settings.keep_layers, prefix=1, suffix=1),
        (model, tokens, lengths),
        texts * work.bert_flops(MACBERT_LARGE, length),
        total,
        "encoders.text.batch_tokens",
        MACBERT_LARGE.num_hidden_layers,
    )


def sound_extraction(
    config: Settings,
    mesh: Mesh,
    name: str,
    model: Any,
    flops: Callable[[int], float],
    least: float = work.CLIP_SECONDS,
    layers: int = work.LARGE["num_hidden_layers"],
) -> Program:
    """Of a speech encoder. flops: of a clip of so many samples. least: seconds that it takes."""
    settings = config.encoders.speech
    seconds = min((bucket for bucket in settings.buckets_seconds if bucket >= least), default=least)
    samples = int(seconds * settings.sample_rate)
    clips = max(1, int(settings.batch_seconds / seconds))
    total = clips * mesh.shape["data"]
    per_clip = batch(mesh, (total,), jnp.float32)
    waveform, lengths = batch(mesh, (total, samples), jnp.int16), batch(mesh, (total,), jnp.int32)
    return Program(
        f"{name} extraction, {clips} x {seconds:g} s per device",
        partial(embed_speech, keep_layers=settings.keep_layers),
        (model, waveform, lengths, per_clip, per_clip),
        clips * flops(samples),
        total,
        "encoders.speech.batch_seconds",
        layers,
    )


def baichuan_forward(config: Settings, devices: np.ndarray, memory: float) -> Program:
    """Tokens -> pooled Baichuan-13B features.

    Each copy of the weights is shared by as many devices as the config says, but by no fewer than have twice the room.
    """
    settings, length = config.encoders.text, work.CLIP_TOKENS
    leaves = jax.tree.leaves(nnx.eval_shape(lambda: Baichuan(BAICHUAN_13B, rngs=nnx.Rngs(0))))
    room = 2 * sum(jnp.bfloat16.dtype.itemsize * leaf.size for leaf in leaves)
    enough = (n for n in range(1, devices.size) if devices.size % n == 0 and n * memory >= room)
    shared = max(settings.model_parallel, next(enough, devices.size))
    mesh = Mesh(devices.reshape(-1, shared), ("data", "model"))
    clips = max(1, settings.batch_tokens // length) * mesh.shape["data"]
    model = weights(lambda: Baichuan(BAICHUAN_13B, rngs=nnx.Rngs(0)), baichuan_rules(BAICHUAN_13B), mesh)
    tokens, lengths = batch(mesh, (clips, length), jnp.int32), batch(mesh, (clips,), jnp.int32)
    return Program(
        f"Baichuan-13B, {clips} x {length} tokens, model_parallel={shared}",
        partial(embed_text, keep_layers=settings.keep_layers),
        (model, tokens, lengths),
        clips * work.decoder_flops(BAICHUAN_13B, length) / mesh.size,
        clips,
        "encoders.text.batch_tokens, or raise encoders.text.model_parallel",
        BAICHUAN_13B.num_hidden_layers,
    )


def words(texts: Sequence[str]) -> Mapping[str, Any]:
    """Stands in for CLIP's tokenizer: one id per word."""
    return {"input_ids": [[49406, *range(len(text.split())), 49407] for text in texts]}


def emovclip(config: Settings, mesh: Mesh) -> EmoVCLIP:
    """Shapes of EmoVCLIP L/14."""
    settings = config.tune

    def factory() -> EmoVCLIP:
        return EmoVCLIP(
            CLIP(CLIP_L14, rngs=nnx.Rngs(0)),
            config.data.labels,
            (settings.num_prompts.vision, settings.num_prompts.text),
            (settings.depth.vision, settings.depth.text),
            tokenizer=words,
            remat=settings.remat,
            rngs=nnx.Rngs(0),
        )

    return weights(factory, CLIP_RULES, mesh, prefix="clip.")


def emovclip_extraction(config: Settings, mesh: Mesh) -> Program:
    """Whole frames -> pooled EmoVCLIP L/14 features by each fold's prompts."""
    video, size, frames = config.encoders.video, CLIP_L14.vision_config.image_size, config.encoders.video.num_frames
    clips = max(1, video.batch_frames // frames)
    total, sets = clips * mesh.shape["data"], config.cv.folds if config.tune.mode == "per_fold" else 1
    model = emovclip(config, mesh)
    one_set = nnx.state(model, Prompt)
    prompts = copies(jax.tree.map(lambda x: jax.ShapeDtypeStruct((sets, *x.shape), x.dtype), one_set), mesh)
    num_prompts = model.vision_prompts.shape[1]
    pixels = batch(mesh, (total, frames, size, size, 3), jnp.float32)
    return Program(
        f"EmoVCLIP L/14 extraction, {clips} x {frames} frames per device, {sets} sets of prompts",
        embed_video,
        (model, prompts, pixels, batch(mesh, (total,), jnp.int32)),
        sets * clips * frames * work.vit_flops(CLIP_L14, num_prompts),
        total,
        "encoders.video.batch_frames",
        sets * (CLIP_L14.vision_config.num_hidden_layers - 1),
    )


def emovclip_step(config: Settings, mesh: Mesh) -> Program:
    """One step on the prompts of L/14: of two folds, as many clips each as a batch has, one is trained on."""
    settings, frames = config.tune, config.encoders.video.num_frames
    clips = settings.batch_size
    held, depth = settings.micro_batch or clips, CLIP_L14.vision_config.num_hidden_layers
    parts = -(-clips // held)
    model = emovclip(config, mesh)
    tuner = Tuner(model, settings, num_folds=2, seed=0, steps_per_epoch=100)
    texts, length = model.token_ids.shape
    depths, counts, _ = zip(model.vision_prompts.shape, model.text_prompts.shape, strict=True)
    return Program(
        f"EmoVCLIP L/14 training step, {parts} x {held} clips x {frames} frames",
        tuner.training_step,
        step_arguments(tuner, model, clips, frames, mesh),
        work.prompt_step_flops(CLIP_L14, clips * frames, texts, length, depths, counts),
        clips,
        "tune.micro_batch, or set tune.remat",
        parts * (depth - 1),
    )


def step_arguments(tuner: Tuner, model: EmoVCLIP, clips: int, frames: int, mesh: Mesh) -> tuple[Any, ...]:
    """Of `Tuner.training_step`, with so many clips of either of two folds."""
    _, prompts, backbone = nnx.split(model, Prompt, ...)  # type: ignore[misc]
    optimizer = copies(jax.eval_shape(tuner.optimizer.init, prompts), mesh)
    shape, size = (2, clips, frames), CLIP_L14.vision_config.image_size
    videos = Batch(
        batch(mesh, (*shape, size, size, 3), jnp.float32),
        batch(mesh, shape, jnp.bool_),
        batch(mesh, shape[:2], jnp.int32),
        batch(mesh, shape[:2], jnp.bool_),
    )
    run = (prompts, optimizer, batch(mesh, (1,), jnp.int32))
    return run, videos, batch(mesh, shape[:2], jnp.bool_), backbone


def fusion_training(config: Settings, mesh: Mesh) -> Program:
    """All folds of one training, on one device."""
    fusion, folds, classes = config.fusion, config.cv.folds, len(config.data.labels)
    trainer = FoldTrainer(work.DIMS, classes, fusion)
    clips = work.LABELLED + work.PSEUDO_LABELLED
    array: Any = jax.ShapeDtypeStruct  # in the place of one
    training_set = TrainingSet(
        {name: array((1, clips, width), jnp.float32) for name, width in work.DIMS.items()},
        {name: array((clips,), jnp.bool_) for name in work.DIMS},
        array((clips,), jnp.int32),
        array((clips,), jnp.float32),
    )
    fold_of = np.arange(work.LABELLED) % folds
    setting = Setting.of("paper", fusion, tuple(work.DIMS))
    trials = make_trials(fold_of, jax.random.key(0), [setting], room=work.PSEUDO_LABELLED)
    steps = -(-trials.train.shape[1] // fusion.batch_size)
    validated = -(-trials.validation.shape[1] // VALIDATION_BATCH) * VALIDATION_BATCH
    a_step = fusion.batch_size * work.fusion_step_flops(work.DIMS, fusion.hidden, classes)
    validation = validated * work.fusion_flops(work.DIMS, fusion.hidden, classes)
    return Program(
        f"fusion, {folds} folds x {fusion.epochs} epochs on one device",
        jax.vmap(trainer.train_one, in_axes=(0, None, None)),
        copies((trials, training_set, np.int32(0)), mesh),
        folds * (fusion.epochs * (steps * a_step + validation) + validation),
        folds * fusion.epochs * steps * fusion.batch_size,
        "fusion.hidden",
        passes=steps,
    )
