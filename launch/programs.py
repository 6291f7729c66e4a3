"""The programs of a run at the paper's sizes, without any weights: functions, argument shapes and their places."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from transformers import CLIPConfig, HubertConfig

from mer_jax.checkpoints.huggingface import REPLICATED, Rule
from mer_jax.features.encoders import embed_images, embed_speech, embed_text, embed_video
from mer_jax.fusion.trainer import FoldTrainer
from mer_jax.fusion.trials import make_pool, make_runs
from mer_jax.models import CLIP, Baichuan, EmoVCLIP, Hubert
from mer_jax.models.baichuan_config import BaichuanConfig
from mer_jax.models.baichuan_weights import rules as baichuan_rules
from mer_jax.models.clip_weights import RULES as CLIP_RULES
from mer_jax.models.emovclip import Prompt
from mer_jax.models.hubert_weights import rules as hubert_rules
from mer_jax.models.preprocess import clip_pixels
from mer_jax.models.prompted_clip import in_parts
from mer_jax.tuning.batches import Batch
from mer_jax.tuning.trainer import Tuner

CROP = 128  # px of an aligned face
CLIP_FRAMES = 128  # of a clip: about 5 s
CLIP_SECONDS = 4.0
CLIP_TOKENS = 128
LABELLED, PSEUDO, TESTED = 5030, 600, 1006  # MER2024: labelled clips, room for pseudo-labels, clips of a fold
DIMS = {"speech": 2048, "image": 1536, "text": 10240, "video": 768}

# Any: transformers' fields are typed too loosely for a type checker.
CLIP_L14: Any = CLIPConfig(
    vision_config={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    text_config={"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    projection_dim=768,
)
HUBERT_LARGE = HubertConfig(
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    feat_extract_norm="layer",
    conv_bias=True,
    do_stable_layer_norm=True,
)
BAICHUAN_13B = BaichuanConfig(vocab_size=64_000)


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


def all_programs(config: Any, devices: np.ndarray) -> list[Program]:
    """The programs of a config on a slice."""
    encoders = config.encoders
    data = Mesh(devices.reshape(-1, 1), ("data", "model"))
    tensor_parallel = Mesh(devices.reshape(1, -1), ("data", "model"))
    one = Mesh(devices.reshape(-1)[:1].reshape(1, 1), ("data", "model"))
    return [
        clip_extraction(encoders.image, data),
        hubert_extraction(encoders.speech, data),
        emovclip_extraction(config, data),
        emovclip_step(config.tune, encoders.video, one),
        baichuan_forward(encoders.text, tensor_parallel),
        fusion_step(config, one),
    ]


def batch(mesh: Mesh, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """An array split over the mesh's data axis."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P("data")))


def placed(tree: Any, mesh: Mesh) -> Any:
    """Shapes of a pytree, with a copy on every device."""
    sharding = NamedSharding(mesh, REPLICATED)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def frozen(factory: Callable[[], nnx.Module], rules: Sequence[Rule], mesh: Mesh, prefix: str = "") -> Any:
    """A module's shapes as `load_pretrained` would place it in bfloat16."""
    rule_of = {f"{prefix}{target}": rule for rule in rules for target in rule.targets}

    def place(path: tuple[Any, ...], variable: Any) -> Any:
        rule = rule_of.get(".".join(map(str, path)))
        dtype = (rule.dtype or jnp.bfloat16) if rule else variable.dtype
        sharding = NamedSharding(mesh, rule.partition if rule else REPLICATED)
        return variable.replace(jax.ShapeDtypeStruct(variable.shape, dtype, sharding=sharding))

    graphdef, state = nnx.split(nnx.eval_shape(factory))
    return nnx.merge(graphdef, nnx.map_state(place, state))


def one_layer(layers: Any) -> Any:
    """Shapes of one layer of a stack."""

    def cut(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(x.sharding.mesh, P(*x.sharding.spec[1:]))
        return jax.ShapeDtypeStruct(x.shape[1:], x.dtype, sharding=sharding)

    return jax.tree.map(cut, layers)


def layer_flops(tokens: int, width: int, inner: int, matrices: int = 2, queries: int | None = None) -> float:
    """One transformer layer on one sequence; `matrices` of width x inner in the feed-forward.

    queries: the tokens that are needed from it, if not all; of the others there are keys and values.
    """
    queries = tokens if queries is None else queries
    linear = 2 * queries * (2 * width**2 + matrices * width * inner) + 2 * tokens * 2 * width**2
    return linear + 4 * queries * tokens * width


def vit_flops(config: Any, projection: int, tokens: int) -> float:
    """A CLIP image tower on one image; of the last layer only the class token is needed."""
    patches, width, inner = (config.image_size // config.patch_size) ** 2, config.hidden_size, config.intermediate_size
    layers = (config.num_hidden_layers - 1) * layer_flops(tokens, width, inner)
    layers += layer_flops(tokens, width, inner, queries=1)
    return 2 * patches * 3 * config.patch_size**2 * width + layers + 2 * width * projection


def hubert_flops(config: Any, samples: int) -> float:
    """HuBERT on one clip: matrix products and convolutions."""
    flops, frames, channels = 0.0, samples, 1
    for width, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
        flops += 2.0 * frames * kernel * channels * width
        channels = width
    width = config.hidden_size
    flops += 2 * frames * channels * width
    flops += 2 * frames * config.num_conv_pos_embeddings * width**2 / config.num_conv_pos_embedding_groups
    return flops + config.num_hidden_layers * layer_flops(frames, width, config.intermediate_size)


def clip_extraction(settings: Any, mesh: Mesh) -> Program:
    """Aligned faces -> pooled CLIP L/14 features."""
    vision, frames = CLIP_L14.vision_config, max(settings.buckets_frames)
    chunks = max(1, settings.batch_frames // frames)
    total, size, tokens = chunks * mesh.shape["data"], vision.image_size, (224 // 14) ** 2 + 1
    model = frozen(lambda: CLIP(CLIP_L14, rngs=nnx.Rngs(0)), CLIP_RULES, mesh)
    weights = batch(mesh, (total, size, CROP), jnp.float32)
    arguments = (
        model,
        batch(mesh, (total, frames, CROP, CROP, 3), jnp.uint8),
        batch(mesh, (total,), jnp.int32),
        weights,
        weights,
    )
    moment = batch(mesh, (total, size, size, 3), jnp.float32)
    hidden = batch(mesh, (total, tokens, vision.hidden_size), jnp.bfloat16)
    resize = 2 * 3 * CROP * size * (CROP + size)
    return Program(
        f"CLIP L/14 extraction, {chunks} x {frames} faces per device",
        lambda model, frames, lengths, rows, columns: embed_images(model, clip_pixels(frames, rows, columns), lengths),
        arguments,
        chunks * frames * (vit_flops(vision, CLIP_L14.projection_dim, tokens) + resize),
        total * frames / CLIP_FRAMES,
        "encoders.image.batch_frames",
        [  # one frame of each chunk at a time, each through all layers but the last, which is no part of their loop
            Loop(frames - 1, lambda model, x: model.encode_image(x), (model, moment)),
            Loop(
                frames * (vision.num_hidden_layers - 2),
                lambda layer, x: layer(x),
                (one_layer(model.vision.layers), hidden),
            ),
        ],
    )


def hubert_extraction(settings: Any, mesh: Mesh) -> Program:
    """Sound -> pooled HuBERT-large features."""
    config, seconds = HUBERT_LARGE, min(bucket for bucket in settings.buckets_seconds if bucket >= CLIP_SECONDS)
    samples = int(seconds * settings.sample_rate)
    clips = max(1, int(settings.batch_seconds / seconds))
    total = clips * mesh.shape["data"]
    model = frozen(lambda: Hubert(config, rngs=nnx.Rngs(0)), hubert_rules(config), mesh)
    per_clip = batch(mesh, (total,), jnp.float32)
    waveform, lengths = batch(mesh, (total, samples), jnp.int16), batch(mesh, (total,), jnp.int32)
    frames = int(model.feature_encoder.frame_count(jnp.int32(samples)))
    hidden = batch(mesh, (total, frames, config.hidden_size), jnp.bfloat16)
    mask = batch(mesh, (total, 1, 1, frames), jnp.bool_)
    body = Loop(
        config.num_hidden_layers - 1,
        lambda layer, x, mask: layer(x, mask),
        (one_layer(model.encoder.layers), hidden, mask),
    )
    return Program(
        f"HuBERT-large extraction, {clips} x {seconds:g} s per device",
        partial(embed_speech, keep_layers=settings.keep_layers),
        (model, waveform, lengths, per_clip, per_clip),
        clips * hubert_flops(config, samples),
        total,
        "encoders.speech.batch_seconds",
        [body],
    )


def baichuan_forward(settings: Any, mesh: Mesh) -> Program:
    """Tokens -> pooled Baichuan-13B features, one copy of the weights over the whole slice."""
    config, clips = BAICHUAN_13B, max(1, settings.batch_tokens // CLIP_TOKENS)
    model = frozen(lambda: Baichuan(config, rngs=nnx.Rngs(0)), baichuan_rules(config, lm_head=False), mesh)
    tokens, lengths = batch(mesh, (clips, CLIP_TOKENS), jnp.int32), batch(mesh, (clips,), jnp.int32)
    hidden = batch(mesh, (clips, CLIP_TOKENS, config.hidden_size), jnp.bfloat16)
    bias = batch(mesh, (1, config.num_attention_heads, CLIP_TOKENS, CLIP_TOKENS), jnp.float32)
    causal = batch(mesh, (1, 1, CLIP_TOKENS, CLIP_TOKENS), jnp.bool_)
    body = Loop(
        config.num_hidden_layers - 1,
        lambda layer, x, mask, bias: layer(x, mask, bias, None),
        (one_layer(model.layers), hidden, causal, bias),
    )
    flops = config.num_hidden_layers * layer_flops(CLIP_TOKENS, config.hidden_size, config.intermediate_size, 3)
    return Program(
        f"Baichuan-13B, {clips} x {CLIP_TOKENS} tokens, tensor parallel over {mesh.shape['model']}",
        partial(embed_text, keep_layers=settings.keep_layers),
        (model, tokens, lengths),
        clips * flops / mesh.shape["model"],
        clips,
        "encoders.text.batch_tokens, or raise encoders.text.model_parallel",
        [body],
    )


def words(texts: Sequence[str]) -> Mapping[str, Any]:
    """Stands in for CLIP's tokenizer: one id per word."""
    return {"input_ids": [[49406, *range(len(text.split())), 49407] for text in texts]}


def emovclip(settings: Any, mesh: Mesh) -> EmoVCLIP:
    """Shapes of EmoVCLIP L/14."""

    def factory() -> EmoVCLIP:
        clip = CLIP(CLIP_L14, rngs=nnx.Rngs(0))
        names = ("neutral", "anger", "happiness", "sadness", "worry", "surprise")
        prompts = (settings.num_prompts.vision, settings.num_prompts.text)
        depth = (settings.depth.vision, settings.depth.text)
        options = {"remat": settings.remat, "images_at_once": settings.images_at_once}
        return EmoVCLIP(clip, names, prompts, depth, tokenizer=words, **options, rngs=nnx.Rngs(0))

    return frozen(factory, CLIP_RULES, mesh, prefix="clip.")


def emovclip_extraction(config: Any, mesh: Mesh) -> Program:
    """Whole frames -> pooled EmoVCLIP L/14 features by each fold's prompts."""
    vision, video = CLIP_L14.vision_config, config.encoders.video
    frames, size = video.num_frames, vision.image_size
    clips = max(1, video.batch_frames // frames)
    total, sets = clips * mesh.shape["data"], config.cv.folds if config.tune.mode == "per_fold" else 1
    model = emovclip(config.tune, mesh)
    own = nnx.state(model, Prompt)
    prompts = placed(jax.tree.map(lambda x: jax.ShapeDtypeStruct((sets, *x.shape), x.dtype), own), mesh)
    pixels = batch(mesh, (total, frames, size, size, 3), jnp.float32)
    moment = batch(mesh, (total, size, size, 3), jnp.float32)
    tokens = (size // vision.patch_size) ** 2 + 1 + config.tune.num_prompts.vision
    hidden = batch(mesh, (total, tokens, vision.hidden_size), jnp.bfloat16)
    return Program(
        f"EmoVCLIP L/14 extraction, {clips} x {frames} frames per device, {sets} sets of prompts",
        embed_video,
        (model, prompts, pixels, batch(mesh, (total,), jnp.int32)),
        sets * clips * frames * vit_flops(vision, CLIP_L14.projection_dim, tokens),
        total,
        "encoders.video.batch_frames",
        [  # XLA counts one set, one frame, and one layer each of those with and without prompts
            Loop(sets * frames - 1, lambda model, x: model.encode_image(x), (model, moment)),
            Loop(
                sets * frames * (vision.num_hidden_layers - 4),
                lambda layer, x: layer(x),
                (one_layer(model.clip.vision.layers), hidden),
            ),
        ],
    )


def emovclip_step(settings: Any, video: Any, mesh: Mesh) -> Program:
    """One step on the prompts of L/14: 16 clips of 16 frames; of two folds one is trained on."""
    clips, frames, vision = 16, video.num_frames, CLIP_L14.vision_config
    size = vision.image_size
    model = emovclip(settings, mesh)
    tuner = Tuner(model, settings, num_folds=2, seed=0, steps_per_epoch=100)
    prompts = nnx.split(model, Prompt, ...)[1]
    state = placed(jax.eval_shape(tuner.optimizer.init, prompts), mesh)

    backbone = nnx.state(model, nnx.Not(Prompt))

    def arguments(clips: int) -> tuple:
        shape = (2, clips, frames)
        arrays: Any = (  # shapes in the places of arrays
            batch(mesh, (*shape, size, size, 3), jnp.float32),
            batch(mesh, shape, jnp.bool_),
            batch(mesh, shape[:2], jnp.int32),
            batch(mesh, shape[:2], jnp.bool_),
        )
        run = (prompts, state, batch(mesh, (1,), jnp.int32))
        return run, Batch(*arrays), batch(mesh, shape[:2], jnp.bool_), backbone

    held = settings.micro_batch or clips
    parts = -(-clips // held)
    tokens = (size // vision.patch_size) ** 2 + 1 + settings.num_prompts.vision
    layer = one_layer(model.clip.vision.layers)
    hidden = batch(mesh, (held * frames, tokens, vision.hidden_size), jnp.bfloat16)

    def both_ways(layer: Any, x: jax.Array, gradient: jax.Array) -> Any:
        output, backward = jax.vjp(lambda x: in_parts(layer, x, settings.images_at_once), x)
        return output, backward(gradient)

    def recomputed(layer: Any, x: jax.Array, gradient: jax.Array) -> Any:
        return jax.vjp(jax.checkpoint(lambda x: in_parts(layer, x, settings.images_at_once)), x)[1](gradient)

    repeats = parts * (vision.num_hidden_layers - 4)  # XLA counts the first and last layer, and one each of two loops
    layers = [Loop(repeats, both_ways, (layer, hidden, hidden))]
    if settings.remat:
        layers = [Loop(repeats, lambda layer, x: in_parts(layer, x, settings.images_at_once), (layer, hidden))]
        layers.append(Loop(repeats, recomputed, (layer, hidden, hidden)))
    width, inner = vision.hidden_size, vision.intermediate_size
    forward = partial(layer_flops, tokens, width, inner)
    # No gradient of weights: backward costs the linear layers once more, attention's two products twice each.
    whole = 2 * forward() + 4 * tokens**2 * width
    if settings.remat:
        whole += forward() - 2 * tokens * width * inner  # all but the layer's own output
    flops = (vision.num_hidden_layers - 1) * whole + 2 * forward(queries=1)
    return Program(
        f"EmoVCLIP L/14 training step, {parts} x {held} clips x {frames} frames",
        tuner._step,
        arguments(clips),
        clips * frames * flops,
        clips,
        "tune.micro_batch, or set tune.remat",
        [Loop(parts - 1, tuner._step, arguments(held)), *layers],
    )


def fusion_step(config: Any, mesh: Mesh) -> Program:
    """The fold trainer's share of one device. XLA counts one epoch of one step and one batch of validation."""
    fusion, classes = config.fusion, len(config.data.labels)
    trainer = FoldTrainer(DIMS, classes, fusion.hidden, fusion.batch_size, fusion.epochs, fusion.keep_one)
    fold_of = np.arange(LABELLED) % config.cv.folds
    features = {name: np.zeros((1, width), np.float32) for name, width in DIMS.items()}
    pool = make_pool(features, {name: np.ones(1, bool) for name in DIMS}, np.zeros(1, np.int32))
    room = LABELLED + PSEUDO

    def grow(x: jax.Array) -> jax.ShapeDtypeStruct:
        clips = max(x.ndim - 2, 0)
        return jax.ShapeDtypeStruct((*x.shape[:clips], room, *x.shape[clips + 1 :]), x.dtype)

    runs = make_runs(fold_of, jax.random.key(0), room=PSEUDO)
    hidden, widths = fusion.hidden, [*DIMS.values(), len(DIMS) * fusion.hidden]
    macs = sum(width * hidden + 2 * hidden**2 for width in widths) + hidden * (len(DIMS) + classes)
    first = sum(DIMS.values()) * hidden  # whose inputs need no gradient
    flops = config.cv.folds * (fusion.batch_size * (6 * macs - 2 * first) + 256 * 2 * macs)
    return Program(
        f"fusion, {config.cv.folds} folds on one device: one step and one batch of validation",
        jax.vmap(trainer._run, in_axes=(0, None, None)),
        (placed(runs, mesh), placed(jax.tree.map(grow, pool), mesh), placed(np.int32(0), mesh)),
        flops,
        config.cv.folds * fusion.batch_size,
        "fusion.hidden",
    )
