"""The programs of a run at the paper's sizes, without any weights: functions, argument shapes and their places.

XLA counts the body of a loop once. What a program's loops do beyond that stands in `Program.loops`; how often they run
follows from the models and the settings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from benchmarks import work
from benchmarks.work import BAICHUAN_13B, CLIP_L14, HUBERT_LARGE
from launch.shapes import batch, copies, one_layer, weights
from mer_jax.features.encoders import embed_images, embed_speech, embed_text, embed_video
from mer_jax.fusion.data import TrainingSet
from mer_jax.fusion.trainer import VALIDATION_BATCH, FoldTrainer
from mer_jax.fusion.trials import Setting, make_trials
from mer_jax.models import CLIP, Baichuan, EmoVCLIP, Hubert
from mer_jax.models.baichuan_weights import rules as baichuan_rules
from mer_jax.models.clip_weights import RULES as CLIP_RULES
from mer_jax.models.emovclip import Prompt
from mer_jax.models.hubert_weights import rules as hubert_rules
from mer_jax.models.preprocess import clip_pixels
from mer_jax.models.prompted_clip import in_parts
from mer_jax.settings import Settings
from mer_jax.tuning.batches import Batch
from mer_jax.tuning.trainer import Tuner


@dataclass(frozen=True)
class Loop:
    """The body of a loop, which XLA counts once, and how often more it runs."""

    repeats: int
    function: Callable[..., Any]
    arguments: Sequence[Any]


@dataclass(frozen=True)
class Program:
    """What is compiled. flops: of the matrix products, counted by hand, of one device. clips: of the whole slice."""

    name: str
    function: Callable[..., Any]
    arguments: Sequence[Any]
    flops: float
    clips: float
    knob: str  # the config field to change when it does not fit
    loops: Sequence[Loop] = field(default_factory=tuple)


def all_programs(config: Settings, devices: np.ndarray) -> list[Program]:
    """The programs of a config on a slice."""
    data = Mesh(devices.reshape(-1, 1), ("data", "model"))
    tensor_parallel = Mesh(devices.reshape(1, -1), ("data", "model"))
    one = Mesh(devices.reshape(-1)[:1].reshape(1, 1), ("data", "model"))
    return [
        clip_extraction(config, data),
        hubert_extraction(config, data),
        emovclip_extraction(config, data),
        emovclip_step(config, one),
        baichuan_forward(config, tensor_parallel),
        fusion_step(config, one),
    ]


def depth_of(layers: Any) -> int:
    """How many layers a stack has."""
    return len(jax.tree.leaves(layers)[0])


def uncounted_layers(layers: Any, prompts: Any = None) -> int:
    """How many layers of a CLIP tower XLA does not count: all but one pass of each loop, and the last layer.

    `run_layers` has one loop, over all layers but the last. Prompts [depth, K, D] make it two: over the layers whose
    prompts the next layer replaces, but for the first one, which stands alone; and over the others.
    """
    before_last, depth = depth_of(layers) - 1, depth_of(prompts) if prompts is not None and prompts.size else 0
    loops = (depth - 2, before_last - (depth - 1)) if depth > 1 else (before_last,)
    return sum(passes - 1 for passes in loops if passes)


def clip_extraction(config: Settings, mesh: Mesh) -> Program:
    """Aligned faces -> pooled CLIP L/14 features."""
    settings, vision, side = config.encoders.image, CLIP_L14.vision_config, work.FACE_SIDE
    frames = max(settings.buckets_frames)
    chunks = max(1, settings.batch_frames // frames)
    total, size = chunks * mesh.shape["data"], vision.image_size
    model = weights(lambda: CLIP(CLIP_L14, rngs=nnx.Rngs(0)), CLIP_RULES, mesh)
    resizing = batch(mesh, (total, size, side), jnp.float32)
    faces, lengths = batch(mesh, (total, frames, side, side, 3), jnp.uint8), batch(mesh, (total,), jnp.int32)
    moment = batch(mesh, (total, size, size, 3), jnp.float32)
    hidden = batch(mesh, (total, work.vit_tokens(CLIP_L14), vision.hidden_size), jnp.bfloat16)
    layers = model.vision.layers
    return Program(
        f"CLIP L/14 extraction, {chunks} x {frames} faces per device",
        lambda model, faces, lengths, rows, columns: embed_images(model, clip_pixels(faces, rows, columns), lengths),
        (model, faces, lengths, resizing, resizing),
        chunks * frames * (work.vit_flops(CLIP_L14) + work.resize_flops(side, size)),
        total * frames / work.CLIP_FACES,
        "encoders.image.batch_frames",
        [  # one frame of each chunk at a time, each through the layers
            Loop(frames - 1, lambda model, x: model.encode_image(x), (model, moment)),
            Loop(frames * uncounted_layers(layers), lambda layer, x: layer(x), (one_layer(layers), hidden)),
        ],
    )


def hubert_extraction(config: Settings, mesh: Mesh) -> Program:
    """Sound -> pooled HuBERT-large features."""
    settings = config.encoders.speech
    seconds = min(bucket for bucket in settings.buckets_seconds if bucket >= work.CLIP_SECONDS)
    samples = int(seconds * settings.sample_rate)
    clips = max(1, int(settings.batch_seconds / seconds))
    total = clips * mesh.shape["data"]
    model = weights(lambda: Hubert(HUBERT_LARGE, rngs=nnx.Rngs(0)), hubert_rules(HUBERT_LARGE), mesh)
    per_clip = batch(mesh, (total,), jnp.float32)
    waveform, lengths = batch(mesh, (total, samples), jnp.int16), batch(mesh, (total,), jnp.int32)
    frames = int(model.feature_encoder.frame_count(jnp.int32(samples)))
    hidden = batch(mesh, (total, frames, HUBERT_LARGE.hidden_size), jnp.bfloat16)
    layers = model.encoder.layers
    return Program(
        f"HuBERT-large extraction, {clips} x {seconds:g} s per device",
        partial(embed_speech, keep_layers=settings.keep_layers),
        (model, waveform, lengths, per_clip, per_clip),
        clips * work.hubert_flops(HUBERT_LARGE, samples),
        total,
        "encoders.speech.batch_seconds",
        [Loop(depth_of(layers) - 1, lambda layer, x, frames: layer(x, frames), (one_layer(layers), hidden, lengths))],
    )


def baichuan_forward(config: Settings, mesh: Mesh) -> Program:
    """Tokens -> pooled Baichuan-13B features, one copy of the weights over the whole slice."""
    settings, length = config.encoders.text, work.CLIP_TOKENS
    clips = max(1, settings.batch_tokens // length)
    model = weights(lambda: Baichuan(BAICHUAN_13B, rngs=nnx.Rngs(0)), baichuan_rules(BAICHUAN_13B), mesh)
    tokens, lengths = batch(mesh, (clips, length), jnp.int32), batch(mesh, (clips,), jnp.int32)
    hidden = batch(mesh, (clips, length, BAICHUAN_13B.hidden_size), jnp.bfloat16)
    bias = batch(mesh, (1, BAICHUAN_13B.num_attention_heads, length, length), jnp.float32)
    body = Loop(
        depth_of(model.layers) - 1, lambda layer, x, bias: layer(x, bias, None), (one_layer(model.layers), hidden, bias)
    )
    return Program(
        f"Baichuan-13B, {clips} x {length} tokens, tensor parallel over {mesh.shape['model']}",
        partial(embed_text, keep_layers=settings.keep_layers),
        (model, tokens, lengths),
        clips * work.decoder_flops(BAICHUAN_13B, length) / mesh.shape["model"],
        clips,
        "encoders.text.batch_tokens, or raise encoders.text.model_parallel",
        [body],
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
            images_at_once=settings.images_at_once,
            rngs=nnx.Rngs(0),
        )

    return weights(factory, CLIP_RULES, mesh, prefix="clip.")


def emovclip_extraction(config: Settings, mesh: Mesh) -> Program:
    """Whole frames -> pooled EmoVCLIP L/14 features by each fold's prompts."""
    video, size, width = config.encoders.video, CLIP_L14.vision_config.image_size, CLIP_L14.vision_config.hidden_size
    frames = video.num_frames
    clips = max(1, video.batch_frames // frames)
    total, sets = clips * mesh.shape["data"], config.cv.folds if config.tune.mode == "per_fold" else 1
    model = emovclip(config, mesh)
    one_set = nnx.state(model, Prompt)
    prompts = copies(jax.tree.map(lambda x: jax.ShapeDtypeStruct((sets, *x.shape), x.dtype), one_set), mesh)
    num_prompts = model.vision_prompts.shape[1]
    pixels = batch(mesh, (total, frames, size, size, 3), jnp.float32)
    moment = batch(mesh, (total, size, size, 3), jnp.float32)
    hidden = batch(mesh, (total, work.vit_tokens(CLIP_L14, num_prompts), width), jnp.bfloat16)
    layers = model.clip.vision.layers
    repeats = sets * frames * uncounted_layers(layers, model.vision_prompts)
    return Program(
        f"EmoVCLIP L/14 extraction, {clips} x {frames} frames per device, {sets} sets of prompts",
        embed_video,
        (model, prompts, pixels, batch(mesh, (total,), jnp.int32)),
        sets * clips * frames * work.vit_flops(CLIP_L14, num_prompts),
        total,
        "encoders.video.batch_frames",
        [  # one set after the other, one frame of each clip at a time, each through the layers
            Loop(sets * frames - 1, lambda model, x: model.encode_image(x), (model, moment)),
            Loop(repeats, lambda layer, x: layer(x), (one_layer(layers), hidden)),
        ],
    )


def emovclip_step(config: Settings, mesh: Mesh) -> Program:
    """One step on the prompts of L/14: of two folds, as many clips each as a batch has, one is trained on."""
    settings, frames = config.tune, config.encoders.video.num_frames
    clips = settings.batch_size
    held = settings.micro_batch or clips
    parts = -(-clips // held)
    model = emovclip(config, mesh)
    tuner = Tuner(model, settings, num_folds=2, seed=0, steps_per_epoch=100)
    texts, length = model.token_ids.shape
    depths, counts, _ = zip(model.vision_prompts.shape, model.text_prompts.shape, strict=True)
    tokens = work.vit_tokens(CLIP_L14, counts[0])
    hidden = batch(mesh, (held * frames, tokens, CLIP_L14.vision_config.hidden_size), jnp.bfloat16)
    layers = model.clip.vision.layers
    repeats = parts * uncounted_layers(layers, model.vision_prompts)
    apply = partial(in_parts, size=settings.images_at_once)
    return Program(
        f"EmoVCLIP L/14 training step, {parts} x {held} clips x {frames} frames",
        tuner.training_step,
        step_arguments(tuner, model, clips, frames, mesh),
        work.prompt_step_flops(CLIP_L14, clips * frames, texts, length, depths, counts),
        clips,
        "tune.micro_batch, or set tune.remat",
        [
            Loop(parts - 1, tuner.training_step, step_arguments(tuner, model, held, frames, mesh)),
            *both_ways(repeats, one_layer(layers), hidden, apply, settings.remat),
        ],
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


def both_ways(repeats: int, layer: Any, hidden: Any, apply: Callable[..., jax.Array], remat: bool) -> list[Loop]:
    """Loops of a training step over frozen layers: forward and, to the inputs alone, backward.

    Args:
        repeats: of the layer.
        layer: shapes of its weights.
        hidden: shape of its input, and of the gradient of its output.
        apply: (layer, x) -> x.
        remat: the backward loop computes the layer again.
    """

    def forward_and_backward(layer: Any, x: jax.Array, gradient: jax.Array) -> Any:
        output, backward = jax.vjp(partial(apply, layer), x)
        return output, backward(gradient)

    def recompute_and_backward(layer: Any, x: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(jax.checkpoint(partial(apply, layer)), x)[1](gradient)

    if not remat:
        return [Loop(repeats, forward_and_backward, (layer, hidden, hidden))]
    return [Loop(repeats, apply, (layer, hidden)), Loop(repeats, recompute_and_backward, (layer, hidden, hidden))]


def fusion_step(config: Settings, mesh: Mesh) -> Program:
    """The fold trainer's share of one device. XLA counts one epoch of one step, and one batch of validation twice.

    The second is of the final network, after the epochs.
    """
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
    flops = fusion.batch_size * work.fusion_step_flops(work.DIMS, fusion.hidden, classes)
    flops += 2 * VALIDATION_BATCH * work.fusion_flops(work.DIMS, fusion.hidden, classes)
    return Program(
        f"fusion, {folds} folds on one device: one step and two batches of validation",
        jax.vmap(trainer.train_one, in_axes=(0, None, None)),
        copies((trials, training_set, np.int32(0)), mesh),
        folds * flops,
        folds * fusion.batch_size,
        "fusion.hidden",
    )
