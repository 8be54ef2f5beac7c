"""Depth as the points that its pixels show, in the camera's coordinates: three small channels of geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .dense import Dense
from .depth import GAP, DepthPlane


@dataclass(frozen=True, kw_only=True)
class PointPlanes(Dense):
    """Depth (B, T, H, W, 1) m, 0 = unknown, <-> points (B, T, H, W, 3) in [-1, 1]: right, down, and near is 1.

    fovy              degrees from the picture's upper to its lower edge; the pinhole looks through its middle
    near, far, scale, gap  of the third channel, as of `DepthPlane`

    Right and down are metres, 1 at the picture's edge in the distance `far`; unknown depth is 0, 0, -1. Decoding reads
    the third channel, so it is as exact as `DepthPlane`: the other two follow from it and from the pixel's place.
    """

    kind: ClassVar[str] = "depth"
    parts: ClassVar[tuple[str, ...]] = ("depth",)
    near: float
    far: float
    fovy: float
    scale: Literal["linear", "inverse"] = "linear"
    gap: float = GAP

    def __post_init__(self) -> None:
        if not 0 < self.fovy < 180:
            raise ValueError(f"fovy={self.fovy} must lie between 0 and 180 degrees")
        self._plane  # noqa: B018  - its numbers are checked

    @property
    def _plane(self) -> DepthPlane:
        return DepthPlane(near=self.near, far=self.far, scale=self.scale, gap=self.gap)

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 1) m -> (B, T, H, W, 3) in [-1, 1]."""
        depth, (height, width) = self.values(raw), raw.shape[2:4]
        known = depth.isfinite() & (depth > 0)
        there = torch.where(known, depth, 0.0).clamp_max(self.far) / self.far
        across, down = ((torch.arange(n, device=raw.device) + 0.5) * 2 / n - 1 for n in (width, height))
        right = there * across[:, None]
        return torch.cat([right, there * down[:, None, None], self._plane.encode(raw)], -1)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, H, W, 1) m, 0 = unknown."""
        return self._plane.decode(self.picture(x)[..., 2:])

    def points(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> points in m in the camera's coordinates, right, down, ahead; 0 where unknown."""
        height, width = x.shape[2:4]
        reach = self.far * math.tan(math.radians(self.fovy) / 2)
        across, down = x[..., :1] * reach * width / height, x[..., 1:2] * reach
        return torch.cat([across, down, self.decode(x)], -1)
