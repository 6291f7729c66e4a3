import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from transformers import CLIPModel

from mer_jax.models.clip import CLIP
from mer_jax.models.emovclip import EmoVCLIP, Prompt
from mer_jax.runtime.errors import UsageError
from tests.models.test_clip import EOS, assert_close, encode_image, encode_text, write_clip
from tests.oracle import load_torch

BOS = 48
CLASSES = ("neutral", "anger", "great happiness")
LABELS = np.array([2, 0])
CONTEXT = {"a": 3, "photo": 4, "of": 5}
WORDS = CONTEXT | {"neutral.": 6, "anger.": 7, "great": 8, "happiness.": 9}


def tokenizer(texts):
    return {"input_ids": [[BOS, *(WORDS[word] for word in text.split()), EOS] for text in texts]}


def make(clip, **kwargs):
    """With prompts as large as tokens, so that each of them matters."""
    kwargs = {"num_prompts": 4, "depth": 3} | kwargs
    model = EmoVCLIP(clip, CLASSES, tokenizer=tokenizer, rngs=nnx.Rngs(1), **kwargs)
    rng = np.random.default_rng(2)
    for prompts in (model.vision_prompts, model.text_prompts):
        prompts[...] = jnp.asarray(rng.normal(size=prompts.shape), jnp.float32)
    return model


def videos(batch=2, time=3):
    return np.random.default_rng(0).normal(size=(batch, time, 32, 32, 3)).astype(np.float32)


def torch_values(folder, model):
    """Logits of `videos()` and the gradients of their loss."""
    import torch

    from tests.models import torch_emovclip

    prompts = [torch.tensor(np.asarray(p[...]), requires_grad=True) for p in (model.vision_prompts, model.text_prompts)]
    ids = tokenizer([f"{name}." for name in CLASSES])["input_ids"]
    logits = torch_emovclip.logits(load_torch(CLIPModel, folder), videos(), ids, *prompts)
    torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS)).backward()
    return {"logits": logits.detach(), "vision_prompts": prompts[0].grad, "text_prompts": prompts[1].grad}


@pytest.fixture(scope="module")
def pair(oracle, tmp_path_factory):
    """A checkpoint's folder, and our CLIP from it."""
    folder = write_clip(oracle, tmp_path_factory.mktemp("clip"))
    return folder, CLIP.from_pretrained(folder, dtype=jnp.float32)


@pytest.mark.parametrize(
    ("name", "num_prompts", "depth"), [("deep", 4, 3), ("shallow", 4, 1), ("part", 2, 2), ("pairs", (5, 1), (4, 2))]
)
def test_logits_match_torch(oracle, pair, name, num_prompts, depth):
    folder, clip = pair
    model = make(clip, num_prompts=num_prompts, depth=depth)
    expected = oracle(f"emovclip/{name}", lambda: torch_values(folder, model))
    assert_close(jax.jit(lambda model, x: model(x))(model, videos()), expected["logits"], 1e-4)


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()


def loss(prompts, frozen, graphdef, frames, labels):
    return cross_entropy(nnx.merge(graphdef, prompts, frozen)(frames), labels)


@pytest.mark.parametrize("options", [{}, {"remat": True}])
def test_gradients_match_torch(oracle, pair, options):
    folder, clip = pair
    model = make(clip, **options)
    graphdef, prompts, frozen = nnx.split(model, Prompt, ...)
    grads = jax.jit(jax.grad(loss), static_argnums=2)(prompts, frozen, graphdef, videos(), LABELS)
    expected = oracle("emovclip/deep", lambda: torch_values(folder, model))
    for name in ("vision_prompts", "text_prompts"):
        assert_close(grads[name][...], expected[name], 1e-4)
        assert np.abs(expected[name]).max(axis=(1, 2)).min() > 0  # every layer's prompts count


def test_prompts_are_the_only_trainable_variables(pair):
    _, clip = pair
    _, prompts, frozen = nnx.split(make(clip), Prompt, ...)
    shapes = {".".join(path): variable.shape for path, variable in nnx.to_flat_state(prompts)}
    assert shapes == {"vision_prompts": (3, 4, 48), "text_prompts": (3, 4, 32)}
    assert not any(isinstance(variable, Prompt) for _, variable in nnx.to_flat_state(frozen))
    assert len(jax.tree.leaves(frozen)) == len(jax.tree.leaves(clip)) + 1  # and the token ids


@pytest.mark.parametrize("remat", [False, True])
def test_remat_reaches_the_layers(pair, remat):
    model = make(pair[1], remat=remat)
    for program in (
        jax.make_jaxpr(EmoVCLIP.encode_video)(model, videos()),
        jax.make_jaxpr(EmoVCLIP.class_features)(model),
    ):
        assert ("policy=None" in str(program)) == remat


def test_five_sets_of_prompts_share_one_backbone(pair):
    _, clip = pair
    graphdef, prompts, frozen = nnx.split(make(clip), Prompt, ...)
    folds = jax.tree.map(lambda x: x * jnp.arange(1.0, 6.0).reshape(5, 1, 1, 1), prompts)
    frames, labels = np.stack([videos()] * 5), np.stack([LABELS] * 5)
    frames[3] += 1
    step = jax.value_and_grad(loss)
    together = jax.jit(jax.vmap(step, in_axes=(0, None, None, 0, 0)), static_argnums=2)
    losses, grads = together(folds, frozen, graphdef, frames, labels)
    fold = jax.tree.map(lambda x: x[3], folds)
    alone, grad = jax.jit(step, static_argnums=2)(fold, frozen, graphdef, frames[3], labels[3])
    assert_close(losses[3], alone, 1e-5)
    jax.tree.map(lambda x, y: assert_close(x[3], y, 1e-4), grads, grad)
    assert len(np.unique(losses)) == 5


def flops(function, *args):
    """Of the program that JAX hands to XLA, in which nothing has been optimised away yet."""
    return jax.jit(function, static_argnums=2).lower(*args).cost_analysis()["flops"]


def training_everything(prompts, frozen, graphdef, *batch):
    whole = jax.value_and_grad(lambda both: loss(*both, graphdef, *batch), allow_int=True)
    return whole((prompts, frozen))


@pytest.mark.parametrize(("remat", "limit"), [(False, 2.5), (True, 3.0)])
def test_no_weight_gradients_are_computed(pair, remat, limit):
    graphdef, prompts, frozen = nnx.split(make(pair[1], remat=remat), Prompt, ...)
    args = (prompts, frozen, graphdef, videos(), LABELS)
    forward = flops(loss, *args)
    assert flops(jax.value_and_grad(loss), *args) < limit * forward < flops(training_everything, *args)


def test_plain_clip_bit_for_bit_without_prompts(pair):
    _, clip = pair
    pixels = videos(batch=1, time=4)[0]
    expected = encode_image(clip, pixels)
    texts = tokenizer([f"a photo of a {name}." for name in CLASSES])["input_ids"]
    classes = np.concatenate([encode_text(clip, jnp.array([ids])) for ids in texts])
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    for num_prompts, depth in ((0, 3), (4, 0)):
        model = EmoVCLIP(clip, CLASSES, num_prompts, depth, tokenizer=tokenizer, rngs=nnx.Rngs(0))
        one_frame_clips = jax.jit(EmoVCLIP.encode_video)(model, pixels[:, None])
        np.testing.assert_array_equal(one_frame_clips, expected)
        assert_close(
            jax.jit(EmoVCLIP.class_features)(model), classes / np.linalg.norm(classes, axis=1, keepdims=True), 1e-5
        )


def test_class_texts_end_with_their_padding(pair):
    ids = make(pair[1]).token_ids[...]
    np.testing.assert_array_equal(ids, [[BOS, 6, EOS, EOS], [BOS, 7, EOS, EOS], [BOS, 8, 9, EOS]])


def test_initial_prompts(pair):
    _, clip = pair
    model = EmoVCLIP(clip, CLASSES, 4, 3, tokenizer=tokenizer, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(model.text_prompts[0], clip.text.token_embedding[jnp.array([3, 4, 5, 3])])
    fewer = EmoVCLIP(clip, CLASSES, 2, 3, tokenizer=tokenizer, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(fewer.text_prompts[0], clip.text.token_embedding[jnp.array([3, 4])])
    more = EmoVCLIP(clip, CLASSES, 5, 3, tokenizer=tokenizer, rngs=nnx.Rngs(0))
    for random in (model.text_prompts[1:], *(p[...] for p in (model.vision_prompts, more.text_prompts))):
        assert np.std(random) == pytest.approx(0.02, rel=0.15)
    other = EmoVCLIP(clip, CLASSES, 4, 3, tokenizer=tokenizer, rngs=nnx.Rngs(1))
    assert not np.allclose(model.vision_prompts[...], other.vision_prompts[...])


def test_padding_frames_do_not_count(pair):
    _, clip = pair
    model = make(clip)
    frames = videos()
    mask = np.array([[True, True, False], [True, True, True]])
    encode = jax.jit(EmoVCLIP.encode_video)
    padded = frames.copy()
    padded[0, 2] = 1e3
    features = encode(model, padded, mask)
    assert_close(features[0], encode(model, frames[:, :2])[0], 1e-5)
    assert_close(features[1], encode(model, frames)[1], 1e-5)


def test_class_features_are_what_the_whole_model_uses(pair):
    _, clip = pair
    model = make(clip)
    classes = jax.jit(EmoVCLIP.class_features)(model)
    np.testing.assert_allclose(np.linalg.norm(classes, axis=1), 1, rtol=1e-6)
    video = jax.jit(EmoVCLIP.encode_video)(model, videos())
    assert_close(model.logits(video, classes), jax.jit(lambda m, x: m(x))(model, videos()), 1e-5)


def test_bfloat16_backbone_keeps_float32_prompts_and_logits(oracle, pair):
    folder, _ = pair
    model = make(CLIP.from_pretrained(folder))
    assert model.vision_prompts.dtype == model.text_prompts.dtype == jnp.float32
    logits = jax.jit(lambda model, x: model(x))(model, videos())
    assert logits.dtype == jnp.float32
    expected = oracle("emovclip/deep", lambda: torch_values(folder, model))
    assert_close(logits, expected["logits"], 0.05)


def test_what_does_not_fit_is_named(pair):
    _, clip = pair
    with pytest.raises(UsageError, match="depth=4, but the text tower has 3 layers"):
        make(clip, depth=4)
    with pytest.raises(UsageError, match="depth=12, but the vision tower has 4 layers"):
        EmoVCLIP(clip, CLASSES, tokenizer=tokenizer, rngs=nnx.Rngs(0))
    with pytest.raises(UsageError, match="17 tokens, but CLIP takes 16"):
        make(clip, num_prompts=13)
