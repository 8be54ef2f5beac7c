"""Pixels: uint8 video (or floats from 0 to 1) <-> float video in [-1, 1], x = raw / 127.5 - 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .codec import FrameByFrame


def to_unit(raw: Tensor) -> Tensor:
    """uint8, or floats in [0, 1], of any shape -> float32 in [0, 1]. Errors: ValueError for another dtype or range."""
    if raw.dtype == torch.uint8:
        return raw.float() / 255
    _check(raw)
    return raw.float()


def to_float(raw: Tensor) -> Tensor:
    """uint8, or floats in [0, 1], of any shape -> float32 in [-1, 1]. Errors: ValueError for another dtype or range."""
    if raw.dtype == torch.uint8:
        return raw.float() / 127.5 - 1
    _check(raw)
    return 2 * raw.float() - 1


def _check(raw: Tensor) -> None:
    if not raw.is_floating_point():
        raise ValueError(f"pixels must be uint8, 0 to 255, or floats from 0 to 1, got {raw.dtype}")
    low, high = (float(x) for x in raw.aminmax()) if raw.numel() else (0.0, 1.0)
    if low < 0 or high > 1:
        raise ValueError(f"pixels that are floats must lie between 0 and 1; these lie between {low:.3g} and {high:.3g}")


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
