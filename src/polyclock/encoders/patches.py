"""Patches as they are: for conditions that join a stream by channel concatenation (`route="fuse:STREAM"`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..codecs.codec import Shape


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Raw frames (b, T', H, W, C) -> (b, T' * N, P * C) with patches over (H, W); uint8 becomes [-1, 1], floats stay.

    `channels` is C. A projection to the model's width follows, so this is channel concatenation with the stream.
    """

    patch: tuple[int, int]
    channels: int = 3

    @property
    def width(self) -> int:
        return math.prod(self.patch) * self.channels

    @property
    def length(self) -> int | None:
        return None

    def build(self, shape: Shape) -> nn.Module:
        return PatchReader(self.patch, shape)


class PatchReader(nn.Module):
    """Cuts frames into patches."""

    def __init__(self, patch: tuple[int, int], shape: Shape) -> None:
        """Errors: ValueError for an unknown size, or one that the patches do not divide."""
        super().__init__()
        if len(shape) != 4 or None in shape[:3]:
            raise ValueError(f"Patches needs a known shape (frames, height, width, channels), got {shape}")
        frames, height, width = (int(n or 0) for n in shape[:3])
        if height % patch[0] or width % patch[1]:
            raise ValueError(f"patches of {patch} do not divide images of {height} x {width}")
        self.patch = patch
        self.length = frames * (height // patch[0]) * (width // patch[1])

    def forward(self, values: Tensor) -> Tensor:
        """(b, T', H, W, C) -> (b, T' * N, P * C)."""
        if values.dtype == torch.uint8:
            values = values.float() / 127.5 - 1
        b, t, height, width, c = values.shape
        p, q = self.patch
        x = values.reshape(b, t, height // p, p, width // q, q, c).permute(0, 1, 2, 4, 3, 5, 6)
        return x.reshape(b, t * (height // p) * (width // q), p * q * c)
