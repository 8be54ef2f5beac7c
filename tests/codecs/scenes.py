"""Synthetic dense maps with known numbers, and what a network or a video does to a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = (96, 96)
NOISE = 0.05  # of a picture in [-1, 1]


def blurred(x: Tensor) -> Tensor:
    """(B, T, H, W, C): the mean of 3 x 3 pixels."""
    flat = F.pad(x.flatten(0, 1).movedim(-1, 1), (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(flat, 3, 1).movedim(1, -1).reshape(x.shape)


def noisy(x: Tensor, seed: int = 0) -> Tensor:
    return x + NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def in_8_bits(x: Tensor) -> Tensor:
    return ((x + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def worn(x: Tensor) -> dict[str, Tensor]:
    """A picture in [-1, 1] as it is, through 8 bits, with noise, blurred, and both."""
    return {
        "clean": x,
        "8 bits": in_8_bits(x),
        "noise": noisy(x),
        "blur": blurred(x),
        "both": noisy(blurred(x), 1),
    }


def scene(frames: int = 2, count: int = 6) -> dict[str, Tensor]:
    """A wall behind `count` moving, turning balls: depth, flow, segmentation and surface, (2, frames, *SIZE, C) each.

    Depth lies between 1 and 4 m and is unknown in a corner; the longest flow is about 9 px; ball k has class and
    instance k and part 4 k, 4 k - 1, ... in four quarters, u and v across it.
    """
    dice = torch.Generator().manual_seed(5)
    height, width = SIZE
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    shape = (2, frames, height, width)
    depth = (3 + x / width).expand(shape).clone()
    flow = torch.zeros(*shape, 3)
    ids, surface = torch.zeros(shape, dtype=torch.int32), torch.zeros(*shape, 3)
    for k in range(1, count + 1):
        across, down, radius, near = (float(v) for v in torch.rand(4, generator=dice))
        speed = torch.randn(2, generator=dice) * 3
        spin = 0.1 * (2 * float(torch.rand(1, generator=dice)) - 1)
        radius, middle = 9 + 6 * radius, torch.tensor([15 + 66 * across, 15 + 66 * down])
        for t in range(frames):
            dx, dy = x - middle[0] - t * speed[0], y - middle[1] - t * speed[1]
            here = dx**2 + dy**2 < radius**2
            front = 1 + near + 0.2 * (dx**2 + dy**2) / radius**2
            depth[:, t][:, here] = front[here]
            moved = torch.stack([speed[0] - spin * dy, speed[1] + spin * dx, torch.zeros_like(dx)], -1)
            flow[:, t][:, here] = moved[here]
            ids[:, t][:, here] = k
            quarter = 4 * k - 2 * (dx > 0).int() - (dy > 0).int()
            chart = torch.stack([quarter.float(), (dx / radius + 1) / 2, (dy / radius + 1) / 2], -1)
            surface[:, t][:, here] = chart[here]
    depth[:, :, :8, :20] = 0
    return {
        "depth": depth[..., None],
        "flow": flow,
        "segmentation": torch.stack([ids, ids], -1),
        "surface": surface,
    }
