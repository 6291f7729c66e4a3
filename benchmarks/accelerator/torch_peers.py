"""The same parts in torch: `python -m benchmarks.accelerator.torch_peers PART SIZE SECONDS`.

transformers' models in bfloat16 with scaled dot-product attention (flash where it takes the arrays), batch sizes tuned
as ours are; then, at the best of them, the same through torch.compile. Fusion is the challenge baseline's loop, faces
are facenet-pytorch's stages. A part yields a line for each batch size.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.accelerator.measure import Line, Work, asked, by_size, emit, one_line
from benchmarks.accelerator.sizes import (
    CLASS_NAMES,
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
from benchmarks.fusion_peer import PlainLoop, take
from benchmarks.work import FOLDS, LABELLED
from tests.models import torch_emovclip

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Make = Callable[[Callable[..., Any], Any], Work]  # (what compiles a function, batch size) -> the work


def wait(_: Any) -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def frozen(model_class: Any, config: Any) -> Any:
    """A model with random weights, made where it is used, in bfloat16."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(DEVICE):
            return model_class._from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


def plain_and_compiled(sizes: Sequence[Any], make: Make, end: float) -> Iterator[Line]:
    """Each batch size without compilation, and the best one with it where there is a card."""
    plain = []
    for line in by_size(sizes, partial(make, lambda function: function), wait, end, how="eager"):
        plain.append(line)
        yield line
    rates = {line["batch"]: line["rate"] for line in plain if "rate" in line}
    if rates and DEVICE == "cuda":
        best = max(rates, key=lambda size: rates[size])
        yield from by_size([best], partial(make, torch.compile), wait, end, how="compiled")


def pooled(states: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
    """Mean and variance over time of [B, T, C], in float32; real: [B, T] bool."""
    x = states.float()
    if real is None:
        return torch.cat([x.mean(1), x.var(1, correction=0)], dim=-1)
    count = real.sum(1, keepdim=True).clamp(min=1)
    mean = (x * real[..., None]).sum(1) / count
    variance = ((x - mean[:, None]).square() * real[..., None]).sum(1) / count
    return torch.cat([mean, variance], dim=-1)


def last_states(out: Any) -> torch.Tensor:
    """Sum of the last hidden states."""
    return torch.stack([*out.hidden_states[-LAYERS:-1], out.last_hidden_state]).float().sum(0)


@torch.inference_mode()
def clip(sizes: Sizes, end: float) -> Iterator[Line]:
    """Frames/s."""
    model, side = frozen(transformers.CLIPModel, sizes.clip), sizes.clip.vision_config.image_size

    def make(compile: Callable[..., Any], frames: int) -> Work:
        pixels = torch.randn(frames, 3, side, side, device=DEVICE, dtype=torch.bfloat16)
        encode = compile(lambda x: pooled(model.get_image_features(x).pooler_output.unflatten(0, (-1, KEPT_FRAMES))))
        return Work(lambda: encode(pixels), frames)

    yield from plain_and_compiled(sizes.frames, make, end)


def by_length(clips: Sequence[np.ndarray], seconds: float) -> Iterator[list[np.ndarray]]:
    """Batches of clips of about one length, which take so many seconds with their padding."""
    batch: list[np.ndarray] = []
    for each in sorted(clips, key=len):
        if batch and len(each) * (len(batch) + 1) > seconds * RATE:
            yield batch
            batch = []
        batch.append(each)
    yield batch


@torch.inference_mode()
def hubert(sizes: Sizes, end: float) -> Iterator[Line]:
    """Seconds of sound/s, from the host, in padded batches of clips sorted by length."""
    model, clips = frozen(transformers.HubertModel, sizes.hubert), sounds(sizes.sounds, sizes.longest)

    def features(waveform: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        mask = torch.arange(waveform.shape[1], device=DEVICE) < lengths[:, None]
        x = torch.where(mask, waveform.float() / 32768 * 5.7, 0).to(torch.bfloat16)
        states = last_states(model(x, attention_mask=mask.long(), output_hidden_states=True))
        frames = model._get_feat_extract_output_lengths(lengths)
        return pooled(states, torch.arange(states.shape[1], device=DEVICE) < frames[:, None])

    def make(compile: Callable[..., Any], seconds: float) -> Work:
        encode = compile(features, dynamic=True) if compile is torch.compile else features

        def call() -> list[torch.Tensor]:
            out = []
            for batch in by_length(clips, seconds):
                waveform = np.zeros((len(batch), len(batch[-1])), np.int16)
                for row, each in zip(waveform, batch, strict=True):
                    row[: len(each)] = each
                lengths = torch.tensor([len(each) for each in batch]).to(DEVICE, non_blocking=True)
                out.append(encode(torch.from_numpy(waveform).to(DEVICE, non_blocking=True), lengths))
            return out

        return Work(call, sum(map(len, clips)) / RATE)

    yield from plain_and_compiled(sizes.batch_seconds, make, end)


@torch.inference_mode()
def decoder(sizes: Sizes, end: float) -> Iterator[Line]:
    """Prompts/s."""
    model = frozen(transformers.LlamaModel, sizes.llama)

    def make(compile: Callable[..., Any], prompts: int) -> Work:
        tokens = torch.randint(sizes.llama.vocab_size, (prompts, sizes.tokens), device=DEVICE)
        run = partial(model, use_cache=False, output_hidden_states=True)
        encode = compile(lambda tokens: pooled(last_states(run(tokens))))
        return Work(lambda: encode(tokens), prompts)

    yield from plain_and_compiled(sizes.prompts, make, end)


def emovclip(sizes: Sizes, end: float) -> Iterator[Line]:
    """Frames/s of training steps on the prompts."""
    model, side = frozen(transformers.CLIPModel, sizes.clip), sizes.clip.vision_config.image_size
    ids = letters([f"{name}." for name in CLASS_NAMES])["input_ids"]
    shapes = [(sizes.step_depth, 4, tower.hidden_size) for tower in (sizes.clip.vision_config, sizes.clip.text_config)]
    prompts = [(0.02 * torch.randn(shape, device=DEVICE)).requires_grad_() for shape in shapes]
    optimizer = torch.optim.AdamW(prompts, lr=4e-4, betas=(0.9, 0.98), weight_decay=1e-3)
    frames = torch.randn(sizes.step_clips, sizes.step_frames, side, side, 3, device=DEVICE, dtype=torch.bfloat16)
    labels = torch.arange(sizes.step_clips, device=DEVICE) % len(CLASS_NAMES)

    def loss_of(frames: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        video = frames.flatten(0, 1)
        halves = [prompt.to(torch.bfloat16) for prompt in prompts]
        features = torch_emovclip.encode_image(model, video, halves[0]).unflatten(0, frames.shape[:2]).mean(1)
        classes = torch_emovclip.encode_text(model, ids, halves[1])
        a, b = (x.float() / x.float().norm(dim=-1, keepdim=True) for x in (features, classes))
        logits = model.logit_scale.exp().float() * a @ b.T
        return torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)

    def make(compile: Callable[..., Any], micro_batch: int) -> Work:
        part_loss = compile(loss_of)

        def step() -> None:
            optimizer.zero_grad()
            for part, own in zip(frames.split(micro_batch), labels.split(micro_batch), strict=True):
                (part_loss(part, own) * len(part) / len(frames)).backward()
            optimizer.step()

        return Work(step, sizes.step_clips * sizes.step_frames)

    yield from plain_and_compiled(sizes.micro_batches, make, end)


def faces(sizes: Sizes, end: float) -> Iterator[Line]:
    """Faces/s, from frames on the host."""
    from tests.models.torch_mtcnn import TorchMTCNN  # reads our weights by JAX

    detector = TorchMTCNN(DEVICE)

    def make(count: int) -> Work:
        frames = pictures(count)
        found = sum(len(scores) for _, scores, _ in detector.detect(frames))
        return Work(lambda: detector.detect(frames), found)

    yield from by_size(sizes.pictures, make, wait, end, how="eager")


def baseline(dims: Any, clips: int) -> PlainLoop:
    """On random clips and five folds."""
    return PlainLoop(random_clips(dims, clips), random_labels(clips), np.arange(clips) % FOLDS, DEVICE)


def folds(sizes: Sizes, end: float) -> Iterator[Line]:
    """Epochs of a fold/s, all candidates scored in each."""
    loop = baseline(sizes.dims, sizes.clips)
    unlabelled = {
        name: torch.from_numpy(x).to(DEVICE) for name, x in random_clips(sizes.dims, sizes.candidates).items()
    }

    def call() -> None:
        loop.epoch()
        loop.score(take(unlabelled, slice(start, start + 256)) for start in range(0, sizes.candidates, 256))

    yield from by_size([64], lambda _: Work(call, 1), wait, end, how="the baseline's loop")


def sweep(sizes: Sizes, end: float) -> Iterator[Line]:
    """Epochs of a fold/s, one setting after the other."""
    loop = baseline(SWEEP_DIMS if sizes.clips == LABELLED else sizes.dims, sizes.sweep_clips)
    yield from by_size([64], lambda _: Work(loop.epoch, 1), wait, end, how="the baseline's loop")


PARTS: dict[str, Callable[[Sizes, float], Iterator[Line]]] = {
    part.__name__: part for part in (clip, hubert, decoder, emovclip, faces, folds, sweep)
}


def lines(part: str, sizes: Sizes, end: float) -> Iterator[Line]:
    """Of one part; an error is a line."""
    try:
        yield from PARTS[part](sizes, end)
    except Exception as error:
        yield {"failed": one_line(error)}


def main() -> None:
    """One part, in a process of its own."""
    torch.set_float32_matmul_precision("high")  # as JAX has it by default
    part, small, end = asked()
    emit(lines(part, small_sizes() if small else Sizes(), end))


if __name__ == "__main__":
    main()
