"""The checkpoints that presets and streams name, at tiny sizes: the published tensors, files and configs.

    python -m tests.published FOLDER       # FOLDER/openai/clip-vit-large-patch14, ...; `python -m tests.hub` serves it

What makes them tiny is widths, vocabularies and images; layers, kernels and patches are as published. Numbers are drawn
by numpy. The files that nobody needs (other frameworks', code) are there too, and must not be read.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors.numpy
import tokenizers

from mer_jax.checkpoints.sources import ASSETS
from tests.published_parts import Shapes, clip_tower, draw, linear, never_read, norm, write_json
from tests.published_streams import STREAMS
from tests.torch_writer import save_torch

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
CLIP_VOCABULARY, BAICHUAN_VOCABULARY = 741, 1280  # of the bundled tokenizers


def clip(folder: Path, patch: int, vision_layers: int) -> dict[str, np.ndarray]:
    """Everything but the weights of an OpenAI CLIP, whose tensors it returns."""
    image, width, text_width, projection, tokens = 3 * patch, 48, 32, 24, 77
    text = {"hidden_size": text_width, "intermediate_size": 4 * text_width, "num_attention_heads": 4}
    text |= {"num_hidden_layers": 12, "projection_dim": projection}
    vision = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 4, "patch_size": patch}
    vision |= {"num_hidden_layers": vision_layers, "projection_dim": projection}
    common = {"attention_dropout": 0.0, "dropout": 0.0, "hidden_act": "quick_gelu", "initializer_factor": 1.0}
    common |= {"initializer_range": 0.02, "layer_norm_eps": 1e-05, "torch_dtype": None, "is_decoder": False}
    of_text = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "model_type": "clip_text_model"}
    of_text |= {"max_position_embeddings": tokens, "vocab_size": CLIP_VOCABULARY}
    of_vision = {"bos_token_id": None, "eos_token_id": None, "model_type": "clip_vision_model", "image_size": image}
    write_json(
        folder,
        config={
            "architectures": ["CLIPModel"],
            "initializer_factor": 1.0,
            "logit_scale_init_value": 2.6592,
            "model_type": "clip",
            "projection_dim": projection,
            "text_config": common | of_text | text,
            # What this lacks becomes the class's default, above all the ids, which no tiny vocabulary has.
            "text_config_dict": text | of_text,
            "torch_dtype": "float32",
            "transformers_version": None,
            "vision_config": common | of_vision | vision,
            "vision_config_dict": vision | {"image_size": image},
        },
        preprocessor_config={
            **{"crop_size": image, "do_center_crop": True, "do_normalize": True, "do_resize": True},
            **{"feature_extractor_type": "CLIPFeatureExtractor", "image_mean": MEAN, "image_std": STD},
            **{"resample": 3, "size": image},
        },
        special_tokens_map=dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
        | {"bos_token": "<|startoftext|>"},
        tokenizer_config={"model_max_length": tokens, "tokenizer_class": "CLIPTokenizer", "errors": "replace"},
    )
    for name in ("merges.txt", "tokenizer.json", "vocab.json"):
        shutil.copyfile(ASSETS / "clip" / name, folder / name)
    never_read(folder, "README.md", "flax_model.msgpack", "tf_model.h5")
    patches = (image // patch) ** 2 + 1
    shapes: Shapes = {
        "logit_scale": (),
        "text_model.embeddings.position_embedding.weight": (tokens, text_width),
        "text_model.embeddings.token_embedding.weight": (CLIP_VOCABULARY, text_width),
        **clip_tower("text_model", 12, text_width),
        **norm("text_model.final_layer_norm", text_width),
        "text_projection.weight": (projection, text_width),
        "vision_model.embeddings.class_embedding": (width,),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, patch, patch),
        "vision_model.embeddings.position_embedding.weight": (patches, width),
        **clip_tower("vision_model", vision_layers, width),
        **norm("vision_model.post_layernorm", width),
        **norm("vision_model.pre_layrnorm", width),
        "visual_projection.weight": (projection, width),
    }
    positions = {
        "text_model.embeddings.position_ids": np.arange(tokens)[None],
        "vision_model.embeddings.position_ids": np.arange(patches)[None],
    }
    return draw(shapes) | positions


def clip_large(folder: Path) -> None:
    """openai/clip-vit-large-patch14: safetensors, beside the same in torch's and others' formats."""
    tensors = clip(folder, patch=14, vision_layers=24)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    never_read(folder, "pytorch_model.bin")


def clip_base(folder: Path) -> None:
    """openai/clip-vit-base-patch16: a torch file alone."""
    save_torch(folder / "pytorch_model.bin", clip(folder, patch=16, vision_layers=12))


def hubert(folder: Path, layers: int, large: bool, legacy: bool = False) -> None:
    """A HuBERT of two kinds: `large` normalises each frame first, base one channel at a time and afterwards."""
    width, channels, taps, groups = 64, 16, 128, 16
    write_json(
        folder,
        config={
            **{"activation_dropout": 0.1, "apply_spec_augment": True, "architectures": ["HubertModel"]},
            **{"attention_dropout": 0.1, "bos_token_id": 1, "classifier_proj_size": 256, "conv_bias": False},
            **{"conv_dim": [channels] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]},
            **{"ctc_loss_reduction": "sum", "ctc_zero_infinity": False, "do_stable_layer_norm": large},
            **{"eos_token_id": 2, "feat_extract_activation": "gelu", "feat_extract_dropout": 0.0},
            **{"feat_extract_norm": "layer" if large else "group", "feat_proj_dropout": 0.1, "final_dropout": 0.1},
            **{"gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout": 0.1, "hidden_size": width},
            **{"initializer_range": 0.02, "intermediate_size": 4 * width, "layer_norm_eps": 1e-05, "layerdrop": 0.1},
            **{"mask_feature_length": 10, "mask_feature_prob": 0.0, "mask_time_length": 10, "mask_time_prob": 0.05},
            **{"model_type": "hubert", "num_attention_heads": 4, "num_conv_pos_embedding_groups": groups},
            **{"num_conv_pos_embeddings": taps, "num_feat_extract_layers": 7, "num_hidden_layers": layers},
            **{"pad_token_id": 0, "torch_dtype": "float32", "transformers_version": "4.10.0", "vocab_size": 32},
        },
        preprocessor_config={
            **{"do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1},
            **{"padding_side": "right", "padding_value": 0, "return_attention_mask": large, "sampling_rate": 16000},
        },
    )
    shapes: Shapes = {"masked_spec_embed": (width,)}
    for layer, taps_of_layer in enumerate([10, 3, 3, 3, 3, 2, 2]):
        prefix = f"feature_extractor.conv_layers.{layer}"
        shapes[f"{prefix}.conv.weight"] = (channels, channels if layer else 1, taps_of_layer)
        shapes |= norm(f"{prefix}.layer_norm", channels) if large or not layer else {}
    shapes |= norm("feature_projection.layer_norm", channels)
    shapes |= linear("feature_projection.projection", width, channels)
    positions = "encoder.pos_conv_embed.conv"
    shapes |= {f"{positions}.bias": (width,), f"{positions}.weight_g": (1, 1, taps)}
    shapes |= {f"{positions}.weight_v": (width, width // groups, taps)} | norm("encoder.layer_norm", width)
    for layer in range(layers):
        prefix = f"encoder.layers.{layer}"
        for projection in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= linear(f"{prefix}.attention.{projection}", width, width)
        shapes |= norm(f"{prefix}.layer_norm", width)
        shapes |= linear(f"{prefix}.feed_forward.intermediate_dense", 4 * width, width)
        shapes |= linear(f"{prefix}.feed_forward.output_dense", width, 4 * width)
        shapes |= norm(f"{prefix}.final_layer_norm", width)
    save_torch(folder / "pytorch_model.bin", draw(shapes), legacy)
    never_read(folder, "README.md")


def chinese_hubert_large(folder: Path) -> None:
    """TencentGameMate/chinese-hubert-large: a torch file alone, beside fairseq's."""
    hubert(folder, layers=24, large=True)
    never_read(folder, "chinese-hubert-large-fairseq-ckpt.pt")


def chinese_hubert_base(folder: Path) -> None:
    """TencentGameMate/chinese-hubert-base, here in the layout of before torch 1.6."""
    hubert(folder, layers=12, large=False, legacy=True)
    never_read(folder, "chinese-hubert-base-fairseq-ckpt.pt")


def hubert_base(folder: Path) -> None:
    """facebook/hubert-base-ls960."""
    hubert(folder, layers=12, large=False)
    never_read(folder, "tf_model.h5")


def baichuan(folder: Path, **fields: Any) -> None:
    """A Baichuan 13B: 283 tensors of ten kinds in three torch files with an index; ALiBi, so no `inv_freq`."""
    width, inner, layers, vocabulary = 40, 72, 40, BAICHUAN_VOCABULARY
    token = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": True}
    code = ("configuration_baichuan", "modeling_baichuan", "tokenization_baichuan")
    write_json(
        folder,
        config={
            **{"_from_model_config": True, "architectures": ["BaichuanForCausalLM"], "bos_token_id": 1},
            "auto_map": {
                "AutoConfig": f"{code[0]}.BaichuanConfig",
                "AutoModelForCausalLM": f"{code[1]}.BaichuanForCausalLM",
            },
            **{"eos_token_id": 2, "gradient_checkpointing": [False], "hidden_act": "silu", "hidden_size": width},
            **{"initializer_range": 0.02, "intermediate_size": inner, "model_max_length": 4096},
            **{"model_type": "baichuan", "num_attention_heads": 5, "num_hidden_layers": layers, "pad_token_id": 0},
            **{"rms_norm_eps": 1e-06, "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
            **{"transformers_version": "4.29.2", "use_cache": True, "vocab_size": vocabulary, **fields},
        },
        generation_config={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "transformers_version": "4.29.2"},
        special_tokens_map={f"{name}_token": {"content": f"<{name}>"} for name in ("bos", "eos", "unk", "pad")},
        tokenizer_config={
            **{"add_bos_token": False, "add_eos_token": False, "model_max_length": 4096, "sp_model_kwargs": {}},
            "auto_map": {"AutoTokenizer": [f"{code[2]}.BaichuanTokenizer", None]},
            **{"bos_token": token | {"content": "<s>"}, "eos_token": token | {"content": "</s>"}},
            **{"clean_up_tokenization_spaces": False, "tokenizer_class": "BaichuanTokenizer"},
        },
    )
    shutil.copyfile(ASSETS / "baichuan" / "tokenizer.model", folder / "tokenizer.model")
    never_read(folder, *(f"{name}.py" for name in (*code, "quantizer", "generation_utils")), "README.md")
    shapes: Shapes = {"model.embed_tokens.weight": (vocabulary, width)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.self_attn.W_pack.weight": (3 * width, width),
            f"{prefix}.self_attn.o_proj.weight": (width, width),
            f"{prefix}.mlp.gate_proj.weight": (inner, width),
            f"{prefix}.mlp.down_proj.weight": (width, inner),
            f"{prefix}.mlp.up_proj.weight": (inner, width),
            f"{prefix}.input_layernorm.weight": (width,),
            f"{prefix}.post_attention_layernorm.weight": (width,),
        }
    shapes |= {"model.norm.weight": (width,), "lm_head.weight": (vocabulary, width)}
    tensors = draw(shapes, ml_dtypes.bfloat16)
    weight_map: dict[str, str] = {}
    for shard in range(3):
        file = f"pytorch_model-{shard + 1:05}-of-00003.bin"
        part = dict(list(tensors.items())[shard * 95 : (shard + 1) * 95])
        save_torch(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2), "utf-8")


def baichuan_2(folder: Path) -> None:
    """baichuan-inc/Baichuan2-13B-Base: the same with a normalised head, which `z_loss_weight` gives away."""
    baichuan(folder, z_loss_weight=0, tokenizer_class="BaichuanTokenizer")


def qwen(folder: Path) -> None:
    """Qwen/Qwen2.5-1.5B: safetensors, biases on queries, keys and values, and no head: it is the embedding."""
    width, inner, layers, heads, groups, vocabulary = 48, 80, 28, 12, 2, 320
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.normalizer = tokenizers.normalizers.NFC()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: index for index, character in enumerate(alphabet)}
    tokenizer.model = tokenizers.models.BPE(vocab=vocab, merges=[])
    tokenizer.add_special_tokens([tokenizers.AddedToken("<|endoftext|>", special=True, normalized=False)])
    write_json(
        folder,
        config={
            **{"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": len(vocab)},
            **{"eos_token_id": len(vocab), "hidden_act": "silu", "hidden_size": width, "initializer_range": 0.02},
            **{"intermediate_size": inner, "max_position_embeddings": 131072, "max_window_layers": layers},
            **{"model_type": "qwen2", "num_attention_heads": heads, "num_hidden_layers": layers},
            **{"num_key_value_heads": groups, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0},
            **{"sliding_window": 131072, "tie_word_embeddings": True, "torch_dtype": "bfloat16"},
            **{"transformers_version": "4.40.1", "use_cache": True, "use_mrope": False, "use_sliding_window": False},
            "vocab_size": vocabulary,
        },
        generation_config={"bos_token_id": len(vocab), "do_sample": False, "eos_token_id": len(vocab)},
        tokenizer_config={
            **{"add_bos_token": False, "add_prefix_space": False, "bos_token": None, "eos_token": "<|endoftext|>"},
            **{"model_max_length": 32768, "pad_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer"},
        },
        vocab=vocab,
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    never_read(folder, "README.md", "LICENSE")
    shared = groups * width // heads
    shapes: Shapes = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        shapes |= linear(f"{prefix}.self_attn.q_proj", width, width)
        shapes |= linear(f"{prefix}.self_attn.k_proj", shared, width)
        shapes |= linear(f"{prefix}.self_attn.v_proj", shared, width)
        shapes |= {
            f"{prefix}.self_attn.o_proj.weight": (width, width),
            f"{prefix}.mlp.gate_proj.weight": (inner, width),
            f"{prefix}.mlp.up_proj.weight": (inner, width),
            f"{prefix}.mlp.down_proj.weight": (width, inner),
            f"{prefix}.input_layernorm.weight": (width,),
            f"{prefix}.post_attention_layernorm.weight": (width,),
        }
    safetensors.numpy.save_file(draw(shapes, ml_dtypes.bfloat16), folder / "model.safetensors", {"format": "pt"})


PUBLISHED: Mapping[str, Callable[[Path], None]] = {
    "openai/clip-vit-large-patch14": clip_large,
    "openai/clip-vit-base-patch16": clip_base,
    "TencentGameMate/chinese-hubert-large": chinese_hubert_large,
    "TencentGameMate/chinese-hubert-base": chinese_hubert_base,
    "facebook/hubert-base-ls960": hubert_base,
    "baichuan-inc/Baichuan-13B-Base": baichuan,
    "baichuan-inc/Baichuan2-13B-Base": baichuan_2,
    "Qwen/Qwen2.5-1.5B": qwen,
    **STREAMS,
}


def publish(folder: Path, *names: str) -> None:
    """Writes checkpoints, by default all, as `folder/user/name`."""
    for name in names or PUBLISHED:
        (folder / name).mkdir(parents=True)
        PUBLISHED[name](folder / name)


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
