"""MTCNN in torch, as a reference and as the benchmark's peer: facenet-pytorch's nets and stages, dynamic shapes.

Each pyramid level goes through P-Net by itself, all boxes above the thresholds go on, suppression is a plain loop.
Weights are the bundled ones. Crops are bilinear at the boxes' own corners, not rounded to pixels.
"""

import numpy as np
import torch
import torch.nn.functional as F

from mer_jax.data.detect import load_mtcnn
from mer_jax.models.face_cascade import THRESHOLDS, pyramid


def tensor(param, device):
    return torch.from_numpy(np.array(param[...])).to(device)


def pool(x, window):
    """Caffe's and facenet-pytorch's pooling: a last, partial window counts."""
    return F.max_pool2d(x, window, 2, ceil_mode=True)


def flatten(x):
    return x.permute(0, 2, 3, 1).flatten(1)


class TorchMTCNN:
    """The three networks and the cascade, on uint8 RGB frames [T, H, W, 3]."""

    def __init__(self, device="cpu"):
        model, self.device = load_mtcnn(), device
        self.weights = {}
        for net in ("pnet", "rnet", "onet"):
            for name, layer in vars(getattr(model, net)).items():
                if hasattr(layer, "slope"):
                    self.weights[net, name] = (tensor(layer.slope, device),)
                elif hasattr(layer, "kernel"):
                    kernel = tensor(layer.kernel, device)
                    kernel = (kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T).contiguous()
                    self.weights[net, name] = (kernel, tensor(layer.bias, device))

    def conv(self, net, i, x):
        return F.prelu(F.conv2d(x, *self.weights[net, f"conv{i}"]), *self.weights[net, f"prelu{i}"])

    def dense(self, net, x, prelu):
        return F.prelu(F.linear(x, *self.weights[net, "dense"]), *self.weights[net, prelu])

    def heads(self, net, x, *names):
        return [F.linear(x, *self.weights[net, name]) for name in names]

    def pnet(self, x):
        x = pool(self.conv("pnet", 1, x), 2)
        x = self.conv("pnet", 3, self.conv("pnet", 2, x))
        face, box = (F.conv2d(x, *self.weights["pnet", name]) for name in ("face", "box"))
        return face.softmax(1)[:, 1], box.permute(0, 2, 3, 1)

    def rnet(self, x):
        x = pool(self.conv("rnet", 1, x), 3)
        x = pool(self.conv("rnet", 2, x), 3)
        x = self.dense("rnet", flatten(self.conv("rnet", 3, x)), "prelu4")
        face, box = self.heads("rnet", x, "face", "box")
        return face.softmax(1)[:, 1], box

    def onet(self, x):
        x = pool(self.conv("onet", 1, x), 3)
        x = pool(self.conv("onet", 2, x), 3)
        x = pool(self.conv("onet", 3, x), 2)
        x = self.dense("onet", flatten(self.conv("onet", 4, x)), "prelu5")
        face, box, landmarks = self.heads("onet", x, "face", "box", "landmarks")
        return face.softmax(1)[:, 1], box, landmarks

    @torch.inference_mode()
    def detect(self, frames):
        """Per frame: boxes [n, 4], scores [n], landmarks [n, 5, 2]; pixel i covers [i, i + 1)."""
        pixels = (torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float() - 127.5) / 128
        return [self.refine(pixels[i], proposals) for i, proposals in enumerate(self.propose(pixels))]

    def propose(self, pixels):
        """P-Net on every level: per frame boxes [n, 4] and scores [n]."""
        count, _, height, width = pixels.shape
        found = [[] for _ in range(count)]
        sizes = pyramid(height, width)
        largest = F.interpolate(pixels, sizes[0], mode="bilinear", antialias=True)
        for h, w in sizes:
            scores, offsets = self.pnet(F.interpolate(largest, (h, w), mode="bilinear", antialias=True))
            scale = torch.tensor([width / w, height / h] * 2, device=self.device)
            for i in range(count):
                row, column = torch.nonzero(scores[i] > THRESHOLDS[0], as_tuple=True)
                corner = 2 * torch.stack([column, row], 1)
                boxes = (torch.cat([corner, corner + 12], 1) + 12 * offsets[i, row, column]) * scale
                found[i].append(suppress(boxes, scores[i, row, column], 0.5))
        return [tuple(map(torch.cat, zip(*levels, strict=True))) for levels in found]

    def refine(self, frame, proposals):
        """R-Net and O-Net on one frame's boxes."""
        boxes, scores = suppress(*proposals, 0.7)
        for size, net, threshold in ((24, self.rnet, THRESHOLDS[1]), (48, self.onet, THRESHOLDS[2])):
            boxes = square(boxes)
            scores, offsets, *marks = net(crop(frame, boxes, size))
            kept = scores > threshold
            boxes, scores, offsets = boxes[kept], scores[kept], offsets[kept]
            extent = boxes[:, 2:] - boxes[:, :2]
            if marks:
                places = marks[0][kept].reshape(-1, 2, 5).transpose(1, 2)
                landmarks = boxes[:, None, :2] + places * extent[:, None]
            boxes = boxes + offsets * torch.cat([extent, extent], 1)
            if not marks:
                boxes, scores = suppress(boxes, scores, 0.7)
        order = keep(boxes, scores, 0.7, of_smaller=True)
        return tuple(x[order].cpu().numpy() for x in (boxes, scores, landmarks))


def square(boxes):
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) / 2
    return torch.cat([centre - half, centre + half], 1)


def crop(frame, boxes, size):
    """[3, H, W], [n, 4] -> [n, 3, size, size]; mid-grey outside."""
    steps = (torch.arange(size, device=frame.device) + 0.5) / size
    corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    points = corner[:, None] + extent[:, None] * steps[:, None]  # [n, size, 2]
    points = 2 * points / torch.tensor([frame.shape[2], frame.shape[1]], device=frame.device) - 1
    x, y = points[..., 0], points[..., 1]
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)  # [n, size, size, 2]
    crops = F.grid_sample(frame[None], grid.reshape(1, -1, size, 2), align_corners=False)
    return crops.reshape(3, -1, size, size).transpose(0, 1)


def suppress(boxes, scores, threshold):
    order = keep(boxes, scores, threshold)
    return boxes[order], scores[order]


def keep(boxes, scores, threshold, of_smaller=False):
    """Greedy non-maximum suppression, on the host: positions of the survivors, best first."""
    device, boxes, scores = boxes.device, boxes.cpu(), scores.cpu()
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    waiting, kept = scores.argsort(descending=True, stable=True), []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        top_left = torch.maximum(boxes[best, :2], boxes[waiting, :2])
        shared = (torch.minimum(boxes[best, 2:], boxes[waiting, 2:]) - top_left).clamp(min=0).prod(1)
        smaller = torch.minimum(areas[best], areas[waiting])
        whole = smaller if of_smaller else areas[best] + areas[waiting] - shared
        waiting = waiting[shared <= threshold * whole]
    return torch.tensor(kept, dtype=torch.long, device=device)
