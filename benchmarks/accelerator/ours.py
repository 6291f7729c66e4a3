"""The parts in JAX: `python -m benchmarks.accelerator.ours PART SIZE SECONDS`.

Each is first compared with float32 on the host: its first line says whether it is `right`, and by what error. Then
there is a line for each batch size.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import work
from benchmarks.accelerator.measure import Line, Work, asked, by_size, emit, one_line, timed
from benchmarks.accelerator.sizes import (
    BATCH,
    CLASS_NAMES,
    HIDDEN,
    KEPT_FRAMES,
    LAYERS,
    RATE,
    SWEEP_DIMS,
    Sizes,
    letters,
    pictures,
    random_clips,
    random_labels,
    small_sizes,
    sounds,
)
from benchmarks.fusion_ours import Ours, random_settings
from mer_jax.data.detect import load_mtcnn
from mer_jax.features.encoder_settings import SpeechSettings
from mer_jax.features.encoders import Encoder, embed_images, embed_speech, embed_text
from mer_jax.features.extraction import dispatch
from mer_jax.features.readers import Chunk
from mer_jax.models import CLIP, Baichuan, EmoVCLIP, Hubert
from mer_jax.models.face_cascade import cascade
from mer_jax.runtime.devices import frozen_program
from mer_jax.tuning.batches import Batch
from mer_jax.tuning.trainer import Tuner
from mer_jax.tuning.tune_settings import TuneSettings

BFLOAT16_ERROR = 0.05
"""Of features in bfloat16 against float32, the norm of the difference over the norm. One rounding is up to 0.004, and a
network of 24 layers has some hundred of them: 0.01 is usual, and what is wrong, such as a mask, is 0.1 or more."""
GRADIENT_ERROR = 0.2  # of gradients, which have come through twice as many layers, and are sums of what cancels
TIMES = 10  # calls of a plain product in one measurement
FLOAT32_ERROR = 0.02  # of losses in float32, whose products an NVIDIA GPU computes with 10 bits by default


def random_weights(factory: Callable[[], nnx.Module], dtype: Any = jnp.bfloat16) -> Any:
    """A module with weights as transformers draws them: normal, 0.02; norms 1, biases 0. Never held in float32."""

    @jax.jit
    def draw(key: jax.Array) -> Any:
        state = nnx.split(nnx.eval_shape(factory))[1]
        count = iter(range(10**6))

        def leaf(path: tuple[Any, ...], variable: Any) -> Any:
            name = str(path[-1])
            if name == "logit_scale":
                value = jnp.full(variable.shape, np.log(1 / 0.07), jnp.float32)
            elif name in ("scale", "weight_g"):
                value = jnp.ones(variable.shape, dtype)
            elif name == "bias":
                value = jnp.zeros(variable.shape, dtype)
            else:
                value = 0.02 * jax.random.normal(jax.random.fold_in(key, next(count)), variable.shape, dtype)
            return variable.replace(value)

        return nnx.map_state(leaf, state)

    graphdef = nnx.split(nnx.eval_shape(factory))[0]
    return nnx.merge(graphdef, draw(jax.random.key(0)))


def in_float32(tree: Any) -> Any:
    """A copy on the host's processor, with its numbers in float32."""
    host = jax.devices("cpu")[0]

    def copy(x: Any) -> Any:
        wide = np.asarray(x, np.float32) if jnp.issubdtype(x.dtype, jnp.floating) else np.asarray(x)
        return jax.device_put(wide, host)

    return jax.tree.map(copy, tree)


def compared(name: str, ours: Any, exact: Any, bound: float) -> Line:
    """The line on correctness. ours, exact: arrays of one shape, on the card and in float32 on the host."""
    a, b = (np.asarray(x, np.float64).ravel() for x in (ours, exact))
    error = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    return {"parity": f"{name} {error:.1e} <= {bound:g}", "error": error, "right": bool(error <= bound)}


def parity(function: Callable[..., Any], model: Any, *arrays: Any) -> Line:
    """Compares a function of a model and arrays, the first of whose results are features, with float32."""
    ours = jax.jit(function)(model, *arrays)[0]
    with jax.default_device(jax.devices("cpu")[0]):
        exact = jax.jit(function)(in_float32(model), *in_float32(arrays))[0]
    return compared("bfloat16", ours, exact, BFLOAT16_ERROR)


def size_of(tree: Any) -> float:
    """Bytes."""
    return float(sum(x.nbytes for x in jax.tree.leaves(tree)))


def products(sizes: Sizes, end: float) -> Iterator[Line]:
    """What the card gives: matrix products of bfloat16, of float32 by default and whole, and memory bandwidth."""
    device = jax.devices()[0]
    yield {"card": device.device_kind, "platform": device.platform, "jax": jax.__version__}
    rows = sizes.product
    for name, dtype, precision in (
        ("bfloat16", jnp.bfloat16, None),
        ("float32, by default", jnp.float32, None),
        ("float32, whole", jnp.float32, "highest"),
    ):
        a, b = (jax.random.normal(jax.random.key(i), (rows, rows), dtype) for i in range(2))
        product = jax.jit(partial(jnp.matmul, precision=precision))
        line = timed(partial(again, product, a, b), jax.block_until_ready)
        yield {"peak": name, **line, "flops/s": 2.0 * TIMES * rows**3 / line["seconds"]}
    x = jnp.zeros(sizes.copied // 4, jnp.float32)
    line = timed(partial(again, jax.jit(lambda x: x + 1), x), jax.block_until_ready)
    yield {"peak": "memory", **line, "bytes/s": 2.0 * TIMES * x.nbytes / line["seconds"]}


def again(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Calls it `TIMES` times, so that what a call costs the host hides behind the one before."""
    for _ in range(TIMES):
        out = function(*arrays)
    return out


def clip(sizes: Sizes, end: float) -> Iterator[Line]:
    """Normalised frames of faces, eight a chunk -> pooled CLIP features, frames/s."""
    model = random_weights(lambda: CLIP(sizes.clip, rngs=nnx.Rngs(0)))
    program, side = jax.jit(embed_images), sizes.clip.vision_config.image_size

    def arrays(chunks: int, frames: int) -> tuple[jax.Array, jax.Array]:
        pixels = jax.random.normal(jax.random.key(1), (chunks, frames, side, side, 3))
        return pixels, jnp.full(chunks, frames, jnp.int32)

    yield parity(embed_images, model, *arrays(1, 2))

    def make(frames: int) -> Work:
        inputs = arrays(frames // KEPT_FRAMES, KEPT_FRAMES)
        moved = size_of(model.vision) + size_of(inputs)
        return Work(lambda: program(model, *inputs), frames, frames * work.vit_flops(sizes.clip), moved)

    yield from by_size(sizes.frames, make, jax.block_until_ready, end)


def hubert(sizes: Sizes, end: float) -> Iterator[Line]:
    """Sound from the host, in length buckets as extraction makes them -> pooled HuBERT features, seconds of sound/s."""
    model = random_weights(lambda: Hubert(sizes.hubert, rngs=nnx.Rngs(0)))
    embed = partial(embed_speech, keep_layers=LAYERS if sizes.hubert.num_hidden_layers > LAYERS else 1)
    clips, settings = sounds(sizes.sounds, sizes.longest), SpeechSettings()
    side = (np.float32(0), np.float32(5.7))  # what normalises these
    first = clips[0][: 2 * RATE]
    padded = jnp.asarray(np.pad(first, (0, RATE // 10))[None])
    yield parity(embed, model, padded, jnp.array([len(first)], jnp.int32), *(jnp.array([x]) for x in side))

    program = frozen_program(model, embed)
    contents = [[Chunk(clip, side)] for clip in clips]
    seconds = sum(map(len, clips)) / RATE
    flops = sum(work.hubert_flops(sizes.hubert, len(clip)) for clip in clips)
    buckets = tuple(
        int(RATE * bucket) for bucket in (*settings.buckets_seconds, sizes.longest) if bucket <= sizes.longest
    )

    def make(batch_seconds: float) -> Work:
        encoder = Encoder("speech", None, "", lambda: program, buckets, int(RATE * batch_seconds))

        def embed_all(contents: Sequence[list[Chunk]]) -> Any:
            return jax.block_until_ready(dispatch(contents, encoder, program, lambda count: None).batches)

        start = time.perf_counter()
        with ThreadPoolExecutor() as threads:  # a program for each bucket: compiled side by side
            list(threads.map(lambda bucket: embed_all([[Chunk(np.zeros(bucket, np.int16), side)]]), buckets))
        compilation = time.perf_counter() - start
        return Work(lambda: embed_all(contents), seconds, flops, size_of(model) + 2 * RATE * seconds, compilation)

    yield from by_size(sizes.batch_seconds, make, jax.block_until_ready, end)


def decoder(sizes: Sizes, end: float) -> Iterator[Line]:
    """Prompts -> pooled states of a LLaMA-shaped decoder's last layers, prompts/s."""
    embed = partial(embed_text, keep_layers=min(LAYERS, sizes.parity_layers))

    def arrays(prompts: int) -> tuple[jax.Array, jax.Array]:
        shape = (prompts, sizes.tokens)
        tokens = jax.random.randint(jax.random.key(1), shape, 0, sizes.llama.vocab_size, jnp.int32)
        return tokens, jnp.full(prompts, sizes.tokens, jnp.int32)

    few = type(sizes.llama).from_dict(sizes.llama.to_dict() | {"num_hidden_layers": sizes.parity_layers})
    yield parity(embed, random_weights(lambda: Baichuan(few, rngs=nnx.Rngs(0))), *arrays(2))

    model, program = random_weights(lambda: Baichuan(sizes.llama, rngs=nnx.Rngs(0))), jax.jit(embed)

    def make(prompts: int) -> Work:
        inputs = arrays(prompts)
        flops = prompts * work.decoder_flops(sizes.llama, sizes.tokens)
        return Work(lambda: program(model, *inputs), prompts, flops, size_of(model.layers))

    yield from by_size(sizes.prompts, make, jax.block_until_ready, end)


class PromptStep:
    """A step on EmoVCLIP's prompts, which goes on from the last one; on the card, or on the host."""

    def __init__(self, clip: CLIP, sizes: Sizes, clips: int, micro_batch: int, on_host: bool = False):
        depth, side = sizes.step_depth, sizes.clip.vision_config.image_size

        def build(key: jax.Array) -> EmoVCLIP:
            return EmoVCLIP(clip, CLASS_NAMES, depth=depth, tokenizer=letters, rngs=nnx.Rngs(key))

        settings = TuneSettings(mode="all_labelled", epochs=100, warmup_epochs=0, micro_batch=micro_batch)
        self.tuner = Tuner(build(jax.random.key(0)), settings, num_folds=1, seed=0, steps_per_epoch=1)
        state = self.tuner.init(build)
        self.prompts, self.optimizer = state.prompts, state.optimizer
        one_by_one = jax.jit(jax.vmap(self.tuner.training_step, in_axes=(0, None, None, None)))
        self.step = one_by_one if on_host else self.tuner.step
        shape = (1, clips, sizes.step_frames)
        pixels = jax.random.normal(jax.random.key(1), (*shape, side, side, 3))
        labels = jnp.arange(clips)[None] % len(CLASS_NAMES)
        self.batch = Batch(pixels, jnp.ones(shape, bool), labels.astype(jnp.int32), jnp.ones(shape[:2], bool))

    @property
    def gradients(self) -> np.ndarray:
        """Adam's mean of all of them, in one row."""
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(self.optimizer[0].mu)])

    def __call__(self) -> jax.Array:
        """The loss [1] before the step."""
        run = (self.prompts, self.optimizer, self.tuner.train_folds)
        flips = jnp.zeros(self.batch.labels.shape, bool)
        self.prompts, self.optimizer, loss = self.step(run, self.batch, flips, self.tuner.backbone)
        return loss


def emovclip(sizes: Sizes, end: float) -> Iterator[Line]:
    """Training steps on the prompts, frames/s; what a step leaves in Adam's moments must be what float32 leaves."""
    clip = random_weights(lambda: CLIP(sizes.clip, rngs=nnx.Rngs(0)))
    few = replace(sizes, step_frames=2)
    step = PromptStep(clip, few, 1, 1)
    step()
    with jax.default_device(jax.devices("cpu")[0]):
        exact = PromptStep(in_float32(clip), few, 1, 1, on_host=True)
        exact()
    yield compared("gradients in bfloat16", step.gradients, exact.gradients, GRADIENT_ERROR)

    images, depth = sizes.step_clips * sizes.step_frames, (sizes.step_depth,) * 2
    ids = letters([f"{name}." for name in CLASS_NAMES])["input_ids"]
    flops = work.prompt_step_flops(sizes.clip, images, len(CLASS_NAMES), max(map(len, ids)), depth)

    def make(micro_batch: int) -> Work:
        return Work(PromptStep(clip, sizes, sizes.step_clips, micro_batch), images, flops, size_of(clip))

    yield from by_size(sizes.micro_batches, make, jax.block_until_ready, end)


def faces(sizes: Sizes, end: float) -> Iterator[Line]:
    """Frames with a face each -> faces found by the MTCNN cascade, faces/s."""
    search = jax.jit(partial(cascade, load_mtcnn()))
    few = pictures(4), np.zeros(4, np.int32)
    _, scores, landmarks = map(np.asarray, search(*few))
    with jax.default_device(jax.devices("cpu")[0]):
        exact = [np.asarray(x) for x in jax.jit(partial(cascade, load_mtcnn()))(*few)]
    same = np.array_equal(scores > 0, exact[1] > 0)
    most = float(np.abs(landmarks - exact[2])[exact[1] > 0].max()) if same and (exact[1] > 0).any() else np.inf
    yield {"parity": f"landmarks within {most:.2f} <= 0.5 px", "error": most, "right": most <= 0.5}

    def make(count: int) -> Work:
        frames, first = jnp.asarray(pictures(count)), jnp.zeros(count, jnp.int32)
        faces = float((search(frames, first)[1] > 0).sum())
        return Work(lambda: search(frames, first), faces, 0.0, float(frames.nbytes))

    yield from by_size(sizes.pictures, make, jax.block_until_ready, end)


def trainer(dims: Any, clips: int, epochs: int) -> Ours:
    """On random clips and five folds."""
    return Ours(random_clips(dims, clips), random_labels(clips), np.arange(clips) % work.FOLDS, epochs)


def first_losses(dims: Any) -> Line:
    """Compares the losses of two epochs on few clips with the host's."""
    few = lambda: trainer(dims, 160, 2)  # noqa: E731
    ours = few()
    losses = ours.fit([ours.setting()])[0].train_loss
    with jax.default_device(jax.devices("cpu")[0]):
        exact = few()
        exact.trainer = type(exact.trainer)(dims, work.CLASSES, exact.settings, jax.devices("cpu")[:1])
        exact_losses = exact.fit([exact.setting()])[0].train_loss
    return compared("losses", losses, exact_losses, FLOAT32_ERROR)


def fold_bytes(dims: Any, clips: int, trials: int, epochs: int) -> float:
    """The least that training moves: features of every batch, and of every step weights, gradient and both moments."""
    widths = [*dims.values(), len(dims) * HIDDEN]
    weights = 4.0 * sum(width * HIDDEN + 2 * HIDDEN**2 for width in widths)
    trained = clips * (1 - 1 / work.FOLDS)
    return epochs * trials * (trained * 4.0 * sum(dims.values()) + -(-trained // BATCH) * 7 * weights)


def folds(sizes: Sizes, end: float) -> Iterator[Line]:
    """Five folds through all epochs, then all candidates predicted: trainings of a fold/s."""
    yield first_losses(sizes.dims)
    unlabelled = random_clips(sizes.dims, sizes.candidates)
    present = {name: np.ones(sizes.candidates, bool) for name in sizes.dims}
    flops = work.fusion_step_flops(sizes.dims, HIDDEN) * sizes.clips * (1 - 1 / work.FOLDS)

    def make(epochs: int) -> Work:
        ours = trainer(sizes.dims, sizes.clips, epochs)
        call = lambda: ours.scorer(ours.train([ours.setting()]), unlabelled, present).logits  # noqa: E731
        moved = fold_bytes(sizes.dims, sizes.clips, work.FOLDS, epochs)
        return Work(call, work.FOLDS * epochs, flops * work.FOLDS * epochs, moved)

    yield from by_size([sizes.epochs], make, jax.block_until_ready, end)


def sweep(sizes: Sizes, end: float) -> Iterator[Line]:
    """Settings x five folds side by side: epochs of a fold/s."""
    dims = SWEEP_DIMS if sizes.clips == work.LABELLED else sizes.dims
    yield first_losses(dims)
    flops = work.fusion_step_flops(dims, HIDDEN) * sizes.sweep_clips * (1 - 1 / work.FOLDS)

    def make(epochs: int) -> Work:
        ours = trainer(dims, sizes.sweep_clips, epochs)
        settings = random_settings(ours, sizes.sweep_settings)
        trials = len(settings) * work.FOLDS
        moved = fold_bytes(dims, sizes.sweep_clips, trials, epochs)
        return Work(lambda: ours.train(settings), trials * epochs, flops * trials * epochs, moved)

    yield from by_size([sizes.sweep_epochs], make, jax.block_until_ready, end)


PARTS: dict[str, Callable[[Sizes, float], Iterator[Line]]] = {
    part.__name__: part for part in (products, clip, hubert, decoder, emovclip, faces, folds, sweep)
}


def lines(part: str, sizes: Sizes, end: float) -> Iterator[Line]:
    """Of one part; what is wrong on the card is not timed, and an error is a line."""
    try:
        for line in PARTS[part](sizes, end):
            yield line
            if not line.get("right", True):
                return
    except Exception as error:
        yield {"failed": one_line(error)}


def main(arguments: Sequence[Any] = ()) -> None:
    """One part, in a process of its own."""
    part, small, end = asked()
    emit(lines(part, small_sizes() if small else Sizes(), end))


if __name__ == "__main__":
    main()
