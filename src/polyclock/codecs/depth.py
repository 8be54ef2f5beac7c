"""Depth as a picture (Spectral or grey) or as one plane of numbers, and metres back from either.

Closeness c is 1 at the near end of a range and 0 at the far end, c = (far - d) / (far - near), or the same of 1 / d
with scale="inverse". It is drawn as a colour; near is red in Spectral and white in grey, as usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..errors import unknown
from .colours import SPECTRAL, along, nearest_along, sharpened, table
from .dense import Dense

RANGES = ("fixed", "clip", "frame")
SCALES = ("linear", "inverse")
MAPS = ("spectral", "grey")
GAP = 0.125
LEAST = 0.05  # relative depth of the nearest point, where that of the farthest is 1; 0 means unknown


@dataclass(frozen=True, kw_only=True)
class DepthPlane(Dense):
    """Depth (B, T, H, W, 1) m, 0 = unknown, <-> one plane (B, T, H, W, 1) in [-1, 1]; near is 1.

    near, far  the range in m; what lies outside is moved to its ends
    scale      "linear" in depth, or "inverse": linear in 1 / depth, finer near by
    gap        share of [-1, 1] at its lower end that is kept for unknown depth, which is -1. Decoding calls unknown
               what lies below half the gap; with gap=0 unknown depth is drawn as far and nothing comes back unknown

    The inverse is exact inside the range, up to float32 rounding.
    """

    kind: ClassVar[str] = "depth"
    parts: ClassVar[tuple[str, ...]] = ("depth",)
    near: float
    far: float
    scale: Literal["linear", "inverse"] = "linear"
    gap: float = GAP

    def __post_init__(self) -> None:
        _check(self.near, self.far, self.scale, self.gap)

    @property
    def channels(self) -> int:
        return 1

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 1) m -> (B, T, H, W, 1) in [-1, 1]."""
        depth, known = _known(self.values(raw))
        return _to_grey(_closeness(depth, self.near, self.far, self.scale), known, self.gap)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 1) -> (B, T, H, W, 1) m, 0 = unknown."""
        close, known = _from_grey(self.picture(x), self.gap)
        return torch.where(known, _depth(close, self.near, self.far, self.scale), 0.0)


@dataclass(frozen=True, kw_only=True)
class DepthColor(Dense):
    """Depth (B, T, H, W, 1) m, 0 = unknown, <-> a picture (B, T, H, W, 3) in [-1, 1]; unknown is black.

    map        "spectral": near is dark red, far violet; "grey": near is white, far dark
    range      "fixed": near and far in m are given, and decoding gives metres. "clip" or "frame": they are the least
               and the greatest known depth of each clip or frame, as most published systems draw depth. Their scale
               is lost: decoding gives the relative depth, 0.05 at the near end to 1 at the far end. It is linear in
               depth or, with scale="inverse", its inverse is linear in 1 / depth; encoding it again gives the same
               picture. A measure must align it first, as `alignment` says
    scale      "linear" in depth, or "inverse": linear in 1 / depth (what monocular estimators give)
    gap        grey only: the share of the greys below that of the far end, so that unknown can be told from far (0.125
               by default); 0 is the published min-max grey, from which nothing comes back unknown

    Decoding takes the nearest colour of the curve; a pixel far from all of them, such as a mixture at a blurred edge,
    takes the smooth side that it belongs to. Exact inside the range up to rounding; a picture of 8 bits costs at most
    1 / 500 of the range in grey and in Spectral (tests/codecs/test_depth.py).
    """

    kind: ClassVar[str] = "depth"
    parts: ClassVar[tuple[str, ...]] = ("depth",)
    map: Literal["spectral", "grey"] = "spectral"
    range: Literal["fixed", "clip", "frame"] = "fixed"
    near: float | None = None
    far: float | None = None
    scale: Literal["linear", "inverse"] = "linear"
    gap: float | None = None

    def __post_init__(self) -> None:
        for what, word, options in (("map", self.map, MAPS), ("range", self.range, RANGES)):
            if word not in options:
                raise unknown(f"{what} of depth", word, options)
        fixed = self.range == "fixed"
        if (self.near is None or self.far is None) if fixed else (self.near, self.far) != (None, None):
            raise ValueError(
                f"range={self.range!r} with near={self.near}, far={self.far}; "
                f"possible: near and far in m with range='fixed', and neither with range='clip' or 'frame'"
            )
        if self.map != "grey" and self.gap is not None:
            raise ValueError(f"gap={self.gap} has no effect with map={self.map!r}, where unknown is black")
        near, far = 1.0 if self.near is None else self.near, 2.0 if self.far is None else self.far
        _check(near, far, self.scale, self._gap)

    @property
    def alignment(self) -> str:
        """What a measure must fit before it compares decoded with true depth: none, scale and shift, or inverse."""
        if self.range == "fixed":
            return "none"
        return "inverse" if self.scale == "inverse" else "scale and shift"

    @property
    def _gap(self) -> float:
        return GAP if self.gap is None else self.gap

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 1) m -> (B, T, H, W, 3) in [-1, 1]."""
        depth, known = _known(self.values(raw))
        near, far = self._range(depth, known)
        close = _closeness(depth, near, far, self.scale)
        if self.map == "grey":
            return _to_grey(close, known, self._gap).expand(*close.shape[:-1], 3).contiguous()
        colour = along(table(SPECTRAL, raw), 1 - close[..., 0])
        return torch.where(known, colour, -1.0)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, H, W, 1): m with a fixed range, else relative depth, 0.05 to 1; 0 = unknown."""
        x = self.picture(x)
        if self.map == "grey":
            close, known = _from_grey(x.mean(-1, keepdim=True), self._gap)
        else:
            close, known = _from_spectral(x)
        if self.range == "fixed":
            assert self.near is not None and self.far is not None
            near, far = self.near, self.far
        else:
            near, far = LEAST, 1.0
        depth = _depth(close, near, far, self.scale)
        return torch.where(known, depth, 0.0)

    def _range(self, depth: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        if self.near is not None and self.far is not None:
            return depth.new_tensor(self.near), depth.new_tensor(self.far)
        if not depth.numel():
            return depth.new_tensor(1.0), depth.new_tensor(2.0)
        over = (1, 2, 3, 4) if self.range == "clip" else (2, 3, 4)
        near = torch.where(known, depth, torch.inf).amin(over, keepdim=True)
        far = torch.where(known, depth, -torch.inf).amax(over, keepdim=True)
        some = torch.isfinite(near)
        return torch.where(some, near, 1.0), torch.where(some, far, 2.0)


def _check(near: float, far: float, scale: str, gap: float) -> None:
    if scale not in SCALES:
        raise unknown("scale of depth", scale, SCALES)
    if not 0 < near < far:
        raise ValueError(f"near={near}, far={far}; needed: 0 < near < far, in m")
    if not 0 <= gap < 1:
        raise ValueError(f"gap={gap} must lie in [0, 1)")


def _known(depth: Tensor) -> tuple[Tensor, Tensor]:
    """Depth with 1 m where it is unknown, and where it is known."""
    known = torch.isfinite(depth) & (depth > 0)
    return torch.where(known, depth, 1.0), known


def _closeness(depth: Tensor, near: float | Tensor, far: float | Tensor, scale: str) -> Tensor:
    """1 at `near`, 0 at `far`, cut outside; a range of no width is all near."""
    here, first, last = (1 / depth, 1 / far, 1 / near) if scale == "inverse" else (-depth, -far, -near)
    width = torch.as_tensor(last - first, device=depth.device)
    return torch.where(width > 0, (here - first) / width.clamp_min(1e-12), 1.0).clamp(0, 1)


def _depth(close: Tensor, near: float, far: float, scale: str) -> Tensor:
    return 1 / (1 / far + close * (1 / near - 1 / far)) if scale == "inverse" else far - close * (far - near)


def _to_grey(close: Tensor, known: Tensor, gap: float) -> Tensor:
    return torch.where(known, gap + (1 - gap) * close, 0.0) * 2 - 1


def _from_grey(x: Tensor, gap: float) -> tuple[Tensor, Tensor]:
    bright = ((x + 1) / 2).clamp(0, 1)
    return ((bright - gap) / (1 - gap)).clamp_min(0), bright >= gap / 2


def _from_spectral(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, H, W, 3) -> closeness and known, both (B, T, H, W, 1)."""
    curve = table(SPECTRAL, x)
    place, off = nearest_along(curve, x)
    black = (x + 1).norm(dim=-1)
    # Farther from the curve than noise of 0.1 a channel goes: a mixture of two colours.
    mixed = (off > 0.25) & (black > 0.25)
    if bool(mixed.any()):
        smooth = sharpened(x)
        place_of_smooth, off_of_smooth = nearest_along(curve, smooth)
        place = torch.where(mixed, place_of_smooth, place)
        off = torch.where(mixed, off_of_smooth, off)
        black = torch.where(mixed, (smooth + 1).norm(dim=-1), black)
    return (1 - place)[..., None], (off <= black)[..., None]
