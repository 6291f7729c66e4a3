"""EmoVCLIP in torch: transformers' CLIP with the prompts inserted. The reference of the tests and the benchmark."""

import numpy as np
import torch


def layers(tower, x, prompts, start, mask=None):
    """x [B, T, D] through a tower's layers; tokens from `start` on make way for each layer's prompts [depth, K, D]."""
    depth, count, _ = prompts.shape
    for index, layer in enumerate(tower.encoder.layers):
        if 0 < index < depth:
            own = prompts[index].expand(len(x), -1, -1)
            x = torch.cat([x[:, :start], own, x[:, start + count :]], dim=1)
        x = layer(x, mask)
    return x


def encode_image(model, pixels, prompts):
    """[B, H, W, 3], of numpy or torch -> [B, P]; the prompts come last, without position."""
    tower = model.vision_model
    x = tower.embeddings(torch.as_tensor(pixels).permute(0, 3, 1, 2))
    start = x.shape[1]
    x = tower.pre_layrnorm(torch.cat([x, prompts[0].expand(len(x), -1, -1)], dim=1))
    return model.visual_projection(tower.post_layernorm(layers(tower, x, prompts, start)[:, 0]))


def encode_text(model, ids, prompts):
    """Lists of ids -> [C, P]; each text is [SOS] prompts class [EOS], then padding."""
    tower, count = model.text_model, prompts.shape[1]
    device = prompts.device
    ends = torch.tensor([len(row) + count - 1 for row in ids], device=device)
    length = int(ends.max()) + 1
    padded = torch.tensor([row + row[-1:] * (length - count - len(row)) for row in ids], device=device)
    words = tower.embeddings.token_embedding(padded)
    x = torch.cat([words[:, :1], prompts[0].expand(len(ids), -1, -1), words[:, 1:]], dim=1)
    x = x + tower.embeddings.position_embedding.weight[:length]
    causal = torch.full((1, 1, length, length), -torch.inf, dtype=x.dtype, device=device).triu(1)
    x = layers(tower, x, prompts, 1, causal)
    return model.text_projection(tower.final_layer_norm(x[torch.arange(len(ids), device=device), ends]))


def logits(model, frames: np.ndarray | torch.Tensor, ids, vision_prompts, text_prompts):
    """frames [B, T, H, W, 3], class texts as lists of ids -> [B, C]."""
    video = encode_image(model, frames.reshape(-1, *frames.shape[2:]), vision_prompts)
    video = video.reshape(*frames.shape[:2], -1).mean(dim=1)
    classes = encode_text(model, ids, text_prompts)
    video, classes = (x / x.norm(dim=-1, keepdim=True) for x in (video, classes))
    return model.logit_scale.exp() * video @ classes.T
