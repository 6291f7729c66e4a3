"""Of `tests.published`, the checkpoints that further streams are made of."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import tokenizers

from tests.published_parts import Shapes, clip_tower, draw, linear, never_read, norm, write_json
from tests.torch_writer import save_torch

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def conv(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def wavlm_large(folder: Path) -> None:
    """microsoft/wavlm-large: HuBERT-large's names and those of the gates; a torch file alone."""
    width, channels, layers, taps, groups, kernels = 32, 8, 24, 128, 16, [10, 3, 3, 3, 3, 2, 2]
    write_json(
        folder,
        config={
            **{"architectures": ["WavLMModel"], "conv_bias": False, "conv_dim": [channels] * 7, "conv_kernel": kernels},
            **{"conv_stride": [5, 2, 2, 2, 2, 2, 2], "do_stable_layer_norm": True, "feat_extract_activation": "gelu"},
            **{
                "feat_extract_norm": "layer",
                "hidden_act": "gelu",
                "hidden_size": width,
                "intermediate_size": 2 * width,
            },
            **{"layer_norm_eps": 1e-05, "max_bucket_distance": 800, "model_type": "wavlm", "num_attention_heads": 4},
            **{"num_buckets": 320, "num_conv_pos_embedding_groups": groups, "num_conv_pos_embeddings": taps},
            **{"num_feat_extract_layers": 7, "num_hidden_layers": layers, "torch_dtype": "float32", "vocab_size": 32},
        },
        preprocessor_config={
            **{"do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1},
            **{"padding_side": "right", "padding_value": 0.0, "return_attention_mask": True, "sampling_rate": 16000},
        },
    )
    positions = "encoder.pos_conv_embed.conv"
    shapes: Shapes = {"masked_spec_embed": (width,), f"{positions}.bias": (width,)}
    shapes |= {f"{positions}.weight_g": (1, 1, taps), f"{positions}.weight_v": (width, width // groups, taps)}
    shapes |= norm("feature_projection.layer_norm", channels) | norm("encoder.layer_norm", width)
    shapes |= linear("feature_projection.projection", width, channels)
    shapes |= {"encoder.layers.0.attention.rel_attn_embed.weight": (320, 4)}
    for index, kernel in enumerate(kernels):
        layer = f"feature_extractor.conv_layers.{index}"
        shapes |= {f"{layer}.conv.weight": (channels, channels if index else 1, kernel)}
        shapes |= norm(f"{layer}.layer_norm", channels)
    for index in range(layers):
        layer = f"encoder.layers.{index}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{layer}.attention.{name}", width, width)
        shapes |= linear(f"{layer}.attention.gru_rel_pos_linear", 8, width // 4)
        shapes |= {f"{layer}.attention.gru_rel_pos_const": (1, 4, 1, 1)}
        shapes |= norm(f"{layer}.layer_norm", width) | norm(f"{layer}.final_layer_norm", width)
        shapes |= linear(f"{layer}.feed_forward.intermediate_dense", 2 * width, width)
        shapes |= linear(f"{layer}.feed_forward.output_dense", width, 2 * width)
    save_torch(folder / "pytorch_model.bin", draw(shapes))
    never_read(folder, "README.md")


def bert(prefix: str, width: int, layers: int, vocabulary: int, positions: int, types: int) -> Shapes:
    """A BERT's or RoBERTa's tensors, without heads."""
    embeddings = f"{prefix}.embeddings"
    sizes = {"word_embeddings": vocabulary, "position_embeddings": positions, "token_type_embeddings": types}
    shapes: Shapes = {f"{embeddings}.{name}.weight": (size, width) for name, size in sizes.items()}
    shapes |= norm(f"{embeddings}.LayerNorm", width)
    for index in range(layers):
        layer = f"{prefix}.encoder.layer.{index}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear(f"{layer}.attention.{name}", width, width)
        shapes |= norm(f"{layer}.attention.output.LayerNorm", width) | norm(f"{layer}.output.LayerNorm", width)
        shapes |= linear(f"{layer}.intermediate.dense", 2 * width, width)
        shapes |= linear(f"{layer}.output.dense", width, 2 * width)
    return shapes


CHARACTERS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"我走了你来"]
BERT_CONFIG: dict[str, Any] = {
    **{"attention_probs_dropout_prob": 0.1, "directionality": "bidi", "hidden_act": "gelu", "hidden_dropout_prob": 0.1},
    **{"initializer_range": 0.02, "layer_norm_eps": 1e-12, "model_type": "bert", "num_attention_heads": 4},
    **{"pad_token_id": 0, "pooler_num_attention_heads": 12, "pooler_type": "first_token_transform"},
    **{"position_embedding_type": "absolute", "max_position_embeddings": 512, "type_vocab_size": 2},
}


def chinese_bert(folder: Path, layers: int, torch_names: bool = True) -> None:
    """A Chinese BERT with the heads of pretraining, and the files of its words.

    torch_names: of norms, and not TensorFlow's.
    """
    width, vocabulary = 32, len(CHARACTERS)
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    write_json(
        folder,
        config=BERT_CONFIG | sizes | {"architectures": ["BertForMaskedLM"], "vocab_size": vocabulary},
        tokenizer_config={"do_lower_case": True, "model_max_length": 512},
    )
    (folder / "vocab.txt").write_text("\n".join(CHARACTERS) + "\n", "utf-8")
    never_read(folder, "README.md", "flax_model.msgpack", "tf_model.h5")
    head = "cls.predictions"
    shapes = bert("bert", width, layers, vocabulary, 512, 2) | linear("bert.pooler.dense", width, width)
    shapes |= {f"{head}.bias": (vocabulary,), f"{head}.decoder.weight": (vocabulary, width)}
    shapes |= linear(f"{head}.transform.dense", width, width) | norm(f"{head}.transform.LayerNorm", width)
    shapes |= linear("cls.seq_relationship", 2, width)
    tensors = draw(shapes)
    if torch_names:
        tensors["bert.embeddings.position_ids"] = np.arange(512)[None]
        save_torch(folder / "pytorch_model.bin", tensors)
        return
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, name in old.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    never_read(folder, "pytorch_model.bin")


def macbert_large(folder: Path) -> None:
    """hfl/chinese-macbert-large, and so chinese-roberta-wwm-ext: a torch file; a tokenizer beside the vocabulary."""
    chinese_bert(folder, layers=24)
    pieces = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    pieces.save(str(folder / "tokenizer.json"))
    write_json(folder, added_tokens={}, special_tokens_map={"cls_token": "[CLS]", "sep_token": "[SEP]"})


def bert_chinese(folder: Path) -> None:
    """google-bert/bert-base-chinese: safetensors with TensorFlow's names of norms; a vocabulary alone."""
    chinese_bert(folder, layers=12, torch_names=False)


def roberta_base(folder: Path) -> None:
    """FacebookAI/roberta-base: safetensors, `roberta.` before the names, two positions that no token has."""
    width, layers = 32, 12
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.add_special_tokens(special)
    names = {"max_position_embeddings": 514, "model_type": "roberta", "type_vocab_size": 1, "vocab_size": len(vocab)}
    names |= {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers, "pad_token_id": 1}
    names |= {"architectures": ["RobertaForMaskedLM"], "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-05}
    write_json(folder, config=BERT_CONFIG | names, tokenizer_config={"model_max_length": 512}, vocab=vocab)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    never_read(folder, "README.md", "dict.txt.gz", "flax_model.msgpack", "pytorch_model.bin", "rust_model.ot")
    shapes = bert("roberta", width, layers, len(vocab), 514, 1) | {"lm_head.bias": (len(vocab),)}
    shapes |= linear("lm_head.dense", width, width) | norm("lm_head.layer_norm", width)
    tensors = draw(shapes) | {"roberta.embeddings.position_ids": np.arange(514)[None]}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def dinov2_large(folder: Path) -> None:
    """facebook/dinov2-large: trained on images of 518 px, here 70, and read at those of its preprocessing."""
    width, layers, patch, image = 32, 24, 14, 70
    write_json(
        folder,
        config={
            **{"apply_layernorm": True, "architectures": ["Dinov2Model"], "hidden_act": "gelu", "hidden_size": width},
            **{"drop_path_rate": 0.0, "image_size": image, "layer_norm_eps": 1e-06, "layerscale_value": 1.0},
            **{"mlp_ratio": 4, "model_type": "dinov2", "num_attention_heads": 4, "num_channels": 3},
            **{"num_hidden_layers": layers, "patch_size": patch, "qkv_bias": True, "torch_dtype": "float32"},
            **{"out_features": [f"stage{layers}"], "out_indices": [layers], "use_swiglu_ffn": False},
            "stage_names": ["stem", *(f"stage{layer}" for layer in range(1, layers + 1))],
        },
        preprocessor_config={
            **{"crop_size": {"height": 42, "width": 42}, "do_center_crop": True, "do_convert_rgb": True},
            **{
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "image_processor_type": "BitImageProcessor",
            },
            **{"resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 48}, **IMAGENET},
        },
    )
    shapes: Shapes = {"embeddings.cls_token": (1, 1, width), "embeddings.mask_token": (1, width)}
    shapes |= {"embeddings.position_embeddings": (1, 26, width)}
    shapes |= conv("embeddings.patch_embeddings.projection", width, 3, patch, patch) | norm("layernorm", width)
    for index in range(layers):
        layer = f"encoder.layer.{index}"
        for name in ("attention.query", "attention.key", "attention.value", "output.dense"):
            shapes |= linear(f"{layer}.attention.{name}", width, width)
        shapes |= norm(f"{layer}.norm1", width) | norm(f"{layer}.norm2", width)
        shapes |= {f"{layer}.layer_scale{half}.lambda1": (width,) for half in (1, 2)}
        shapes |= linear(f"{layer}.mlp.fc1", 4 * width, width) | linear(f"{layer}.mlp.fc2", width, 4 * width)
    safetensors.numpy.save_file(draw(shapes), folder / "model.safetensors", {"format": "pt"})
    never_read(folder, "README.md", "pytorch_model.bin")


def whisper_large(folder: Path) -> None:
    """openai/whisper-large-v3: half precision, beside the same in float32 under names of its own."""
    width, layers, bins, vocabulary = 16, 32, 128, 50
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    write_json(
        folder,
        config={
            **{"activation_function": "gelu", "architectures": ["WhisperForConditionalGeneration"], **heads},
            **{"begin_suppress_tokens": [2, 3], "bos_token_id": 4, "d_model": width, "decoder_ffn_dim": 2 * width},
            **{"decoder_layers": layers, "decoder_start_token_id": 5, "encoder_ffn_dim": 2 * width},
            **{"encoder_layers": layers, "eos_token_id": 4, "is_encoder_decoder": True, "max_source_positions": 1500},
            **{"max_target_positions": 448, "model_type": "whisper", "num_hidden_layers": layers, "num_mel_bins": bins},
            **{"pad_token_id": 4, "scale_embedding": False, "torch_dtype": "float16", "vocab_size": vocabulary},
        },
        preprocessor_config={
            **{"chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": bins},
            **{"hop_length": 160, "n_fft": 400, "n_samples": 480000, "nb_max_frames": 3000, "padding_side": "right"},
            **{"padding_value": 0.0, "processor_class": "WhisperProcessor", "return_attention_mask": False},
        },
        generation_config={"alignment_heads": [[7, 0]], "eos_token_id": 4},
        tokenizer_config={"tokenizer_class": "WhisperTokenizer"},
    )
    never_read(folder, "README.md", "flax_model.msgpack", "pytorch_model.bin")
    wide = draw({"model.encoder.conv1.bias": (3,)})  # of another shape, should it be read
    safetensors.numpy.save_file(wide, folder / "model.fp32-00001-of-00002.safetensors")
    encoder, decoder = "model.encoder", "model.decoder"
    shapes = conv(f"{encoder}.conv1", width, bins, 3) | conv(f"{encoder}.conv2", width, width, 3)
    shapes |= {f"{encoder}.embed_positions.weight": (1500, width), f"{decoder}.embed_positions.weight": (448, width)}
    shapes |= {f"{decoder}.embed_tokens.weight": (vocabulary, width)}
    for tower, attentions in ((encoder, ["self_attn"]), (decoder, ["self_attn", "encoder_attn"])):
        shapes |= norm(f"{tower}.layer_norm", width)
        for index in range(layers):
            layer = f"{tower}.layers.{index}"
            for attention in attentions:
                for name in ("q_proj", "v_proj", "out_proj"):
                    shapes |= linear(f"{layer}.{attention}.{name}", width, width)
                shapes |= {f"{layer}.{attention}.k_proj.weight": (width, width)}
                shapes |= norm(f"{layer}.{attention}_layer_norm", width)
            shapes |= linear(f"{layer}.fc1", 2 * width, width) | linear(f"{layer}.fc2", width, 2 * width)
            shapes |= norm(f"{layer}.final_layer_norm", width)
    safetensors.numpy.save_file(draw(shapes, np.float16), folder / "model.safetensors", {"format": "pt"})


def siglip2(folder: Path) -> None:
    """google/siglip2-so400m-patch14-384: pixels are left over beside patches, as of 384; 27 layers in both towers."""
    width, layers, patch, image, vocabulary = 32, 27, 14, 47, 60
    tower = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 4}
    tower |= {"num_hidden_layers": layers}
    write_json(
        folder,
        config={
            **{"architectures": ["SiglipModel"], "initializer_factor": 1.0, "model_type": "siglip"},
            "text_config": tower
            | {"model_type": "siglip_text_model", "projection_size": width, "vocab_size": vocabulary},
            **{"torch_dtype": "float32", "transformers_version": "4.49.0.dev0"},
            "vision_config": tower | {"image_size": image, "model_type": "siglip_vision_model", "patch_size": patch},
        },
        preprocessor_config={
            **{"do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True},
            **{"image_mean": [0.5] * 3, "image_processor_type": "SiglipImageProcessor", "image_std": [0.5] * 3},
            **{"processor_class": "SiglipProcessor", "resample": 2, "rescale_factor": 0.00392156862745098},
            "size": {"height": image, "width": image},
        },
        tokenizer_config={"tokenizer_class": "GemmaTokenizer"},
    )
    never_read(folder, "README.md")
    text, vision = "text_model", "vision_model"
    shapes: Shapes = {"logit_bias": (1,), "logit_scale": (1,)}
    shapes |= {f"{text}.embeddings.token_embedding.weight": (vocabulary, width)}
    shapes |= {f"{text}.embeddings.position_embedding.weight": (64, width)}
    shapes |= clip_tower(text, layers, width) | norm(f"{text}.final_layer_norm", width)
    shapes |= linear(f"{text}.head", width, width) | clip_tower(vision, layers, width)
    shapes |= conv(f"{vision}.embeddings.patch_embedding", width, 3, patch, patch)
    shapes |= {f"{vision}.embeddings.position_embedding.weight": ((image // patch) ** 2, width)}
    shapes |= norm(f"{vision}.post_layernorm", width) | norm(f"{vision}.head.layernorm", width)
    head = f"{vision}.head.attention"
    shapes |= {f"{vision}.head.probe": (1, 1, width), f"{head}.in_proj_weight": (3 * width, width)}
    shapes |= {f"{head}.in_proj_bias": (3 * width,)} | linear(f"{head}.out_proj", width, width)
    shapes |= linear(f"{vision}.head.mlp.fc1", 4 * width, width) | linear(f"{vision}.head.mlp.fc2", width, 4 * width)
    safetensors.numpy.save_file(draw(shapes), folder / "model.safetensors", {"format": "pt"})


STREAMS: Mapping[str, Callable[[Path], None]] = {
    "microsoft/wavlm-large": wavlm_large,
    "openai/whisper-large-v3": whisper_large,
    "facebook/dinov2-large": dinov2_large,
    "google/siglip2-so400m-patch14-384": siglip2,
    "hfl/chinese-macbert-large": macbert_large,
    "google-bert/bert-base-chinese": bert_chinese,
    "FacebookAI/roberta-base": roberta_base,
}
