"""Surface maps (part, u, v) as pictures in the manner of DensePose or as five planes, and back from either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import unknown
from .colours import VIRIDIS, along, classified, nearest_along, sharpened, table
from .dense import Dense

STYLES = ("iuv", "viridis", "digits")
PARTS = ("part", "u", "v")
CLEAN = 0.12  # levels, rms over 3 x 3 pixels: a picture that is nearer to whole levels than this is taken as it is


@dataclass(frozen=True, kw_only=True)
class SurfaceColor(Dense):
    """Surface (B, T, H, W, 3) = part, u, v <-> a picture (B, T, H, W, 3) in [-1, 1].

    style  "iuv": the three channels are part / parts, u and v (DensePose's own image, its part index spread over the
           whole range); "viridis": the part alone as a colour, as DensePose is usually shown; "digits": the part alone
           as the three digits of `SurfacePlanes`, which are as robust as these. With the last two u and v are lost and
           come back as 0
    count  the largest part id, 24 for people; part 0 is background

    Exact up to rounding, also from 8 bits. The 25 levels lie close together: where a picture is not clean, decoding
    averages along edges first, and still noise of 0.05 costs parts (tests/codecs/test_surface.py has the numbers).
    `SurfacePlanes` and digits are far more robust where colours need not be as published.
    """

    kind: ClassVar[str] = "surface"
    parts: ClassVar[tuple[str, ...]] = PARTS
    style: Literal["iuv", "viridis", "digits"] = "iuv"
    count: int = 24

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise unknown("style of a surface", self.style, STYLES)
        _check_count(self.count)

    @property
    def loses(self) -> tuple[str, ...]:
        return () if self.style == "iuv" else ("uv",)

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, H, W, 3) in [-1, 1]. Errors: ValueError for a part above `count`."""
        values = self.values(raw)
        part = _parts(values, self.count)
        if self.style == "digits":
            return _digits(self.count, raw)[part.long()]
        level = part / self.count
        if self.style == "viridis":
            return along(table(VIRIDIS, raw), level)
        return torch.cat([level[..., None], values[..., 1:].clamp(0, 1)], -1) * 2 - 1

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, H, W, 3) float32 = part, u, v."""
        x = self.picture(x)
        if self.style == "digits":
            return _with_uv(classified(_digits(self.count, x), x).float(), torch.zeros_like(x[..., 1:]))
        level = self._level(x)
        off = (level - level.round()).square()
        noisy = _mean_around(off).sqrt() > CLEAN
        if bool(noisy.any()):
            level = torch.where(noisy, self._level(sharpened(sharpened(x))), level)
        part = level.round().clamp(0, self.count)
        uv = torch.zeros_like(x[..., 1:]) if self.style == "viridis" else ((x[..., 1:] + 1) / 2).clamp(0, 1)
        return _with_uv(part, uv)

    def _level(self, x: Tensor) -> Tensor:
        """The part as a real number, (B, T, H, W)."""
        if self.style == "viridis":
            return nearest_along(table(VIRIDIS, x), x)[0] * self.count
        return (x[..., 0] + 1) / 2 * self.count


@dataclass(frozen=True, kw_only=True)
class SurfacePlanes(Dense):
    """Surface (B, T, H, W, 3) = part, u, v <-> five planes (B, T, H, W, 5) in [-1, 1]: three for the part, u, v.

    The part is written as three digits, so that its codes lie far apart: at most 26 parts have digits -1, 0 and 1.
    count  the largest part id; part 0 is background

    Exact up to rounding. Decoding takes the nearest code; a pixel between two of them the side it belongs to.
    """

    kind: ClassVar[str] = "surface"
    parts: ClassVar[tuple[str, ...]] = PARTS
    count: int = 24

    def __post_init__(self) -> None:
        _check_count(self.count)

    @property
    def channels(self) -> int:
        return 5

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, H, W, 5) in [-1, 1]. Errors: ValueError for a part above `count`."""
        values = self.values(raw)
        code = _digits(self.count, raw)[_parts(values, self.count).long()]
        return torch.cat([code, values[..., 1:].clamp(0, 1) * 2 - 1], -1)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 5) -> (B, T, H, W, 3) float32 = part, u, v."""
        x = self.picture(x)
        part = classified(_digits(self.count, x), x[..., :3])
        return _with_uv(part.float(), ((x[..., 3:] + 1) / 2).clamp(0, 1))


def _digits(count: int, like: Tensor) -> Tensor:
    """(count + 1, 3): the digits of each part, spread over [-1, 1]."""
    base = 2
    while base**3 <= count:
        base += 1
    numbers = torch.arange(count + 1, device=like.device)
    digits = torch.stack([numbers // base**2, numbers // base % base, numbers % base], -1)
    return digits.float() * (2 / (base - 1)) - 1


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count={count} must be at least 1 part")


def _parts(values: Tensor, count: int) -> Tensor:
    part = values[..., 0].round()
    if part.numel() and (int(part.amax()) > count or int(part.amin()) < 0):
        wrong = int(part.amax()) if int(part.amax()) > count else int(part.amin())
        raise ValueError(f"surface part {wrong} has no code; possible: 0 to {count} (a larger count has more)")
    return part


def _with_uv(part: Tensor, uv: Tensor) -> Tensor:
    """Background has no u and v."""
    return torch.cat([part[..., None], torch.where(part[..., None] > 0, uv, 0.0)], -1)


def _mean_around(values: Tensor) -> Tensor:
    """(B, T, H, W) -> the mean over 3 x 3 pixels, fewer at the border."""
    return F.avg_pool2d(values.flatten(0, 1)[:, None], 3, 1, 1, count_include_pad=False)[:, 0].view_as(values)
