"""Pixels: uint8 video <-> float video in [-1, 1], x = raw / 127.5 - 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .codec import FrameByFrame


def to_float(raw: Tensor) -> Tensor:
    """uint8 of any shape -> float32 in [-1, 1]. Errors: ValueError for another dtype."""
    if raw.dtype != torch.uint8:
        raise ValueError(f"pixels must be uint8, 0 to 255, got {raw.dtype}")
    return raw.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Floats of any shape -> uint8: rounded, and clamped outside [-1, 1]."""
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Pixels(FrameByFrame):
    """uint8 (B, T, H, W, C) <-> float32 (B, T, H, W, C) in [-1, 1]. Exact on uint8; decode rounds and clamps."""

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """uint8 (B, T, H, W, C) -> float32 (B, T, H, W, C) in [-1, 1]. Errors: ValueError for another dtype."""
        return to_float(raw)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, C) -> uint8 (B, T, H, W, C)."""
        return to_uint8(x)
