"""Rotary positions from real numbers: any clock, any rate, any grid (Su et al. 2021, over three axes)."""

from __future__ import annotations

import torch
from torch import Tensor


def split_axes(pairs: int) -> tuple[int, int, int]:
    """How the pairs of a head are shared among time, height and width: the spatial axes get a third each."""
    third = pairs // 3
    return pairs - 2 * third, third, third


def angles(positions: Tensor, head: int, theta: float) -> Tensor:
    """Positions (L, 3) over (time, height, width) -> angles (L, head / 2)."""
    out = []
    for axis, pairs in enumerate(split_axes(head // 2)):
        frequency = theta ** (-torch.arange(pairs, device=positions.device) / max(1, pairs))
        out.append(positions[:, axis, None] * frequency)
    return torch.cat(out, -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, heads, L, head) turned pairwise by angles whose cos and sin are (L, head / 2)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)
