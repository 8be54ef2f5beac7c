"""Optical flow as a picture (colour wheel or HSV) or as two planes of numbers, and pixels of motion back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..errors import unknown
from .colours import colour_to_hue, hue_to_colour
from .dense import Dense

RANGES = ("fixed", "clip", "frame")
STYLES = ("wheel", "hsv")
PARTS = ("u", "v", "occluded")
# Middlebury's wheel (Baker et al. 2007): steps from red to yellow, to green, cyan, blue, magenta, and back to red.
STEPS = (15, 6, 4, 11, 13, 6)


@dataclass(frozen=True, kw_only=True)
class FlowPlanes(Dense):
    """Flow (B, T, H, W, 3) = u, v px, occluded <-> two planes (B, T, H, W, 2) in [-1, 1].

    reach  px that become 1; a larger u or v is cut to it
    knee   px; None: linear. Else sign(u) log(1 + |u| / knee) / log(1 + reach / knee): about linear up to `knee` and
           ever coarser beyond, so that small motion is not lost in a long reach

    Exact within the reach up to float32 rounding. Occlusion is not coded: decoding gives 0.
    """

    kind: ClassVar[str] = "flow"
    parts: ClassVar[tuple[str, ...]] = PARTS
    reach: float
    knee: float | None = None

    def __post_init__(self) -> None:
        if self.reach <= 0 or (self.knee is not None and self.knee <= 0):
            raise ValueError(f"reach={self.reach}, knee={self.knee}; both are px above 0 (knee may be None)")

    @property
    def channels(self) -> int:
        return 2

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 3) px -> (B, T, H, W, 2) in [-1, 1]."""
        flow = _finite(self.values(raw))
        if self.knee is not None:
            flow = flow.sign() * (flow.abs() / self.knee).log1p() * (self.reach / math.log1p(self.reach / self.knee))
        return (flow / self.reach).clamp(-1, 1)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 2) -> (B, T, H, W, 3) = u, v px, 0."""
        flow = self.picture(x).clamp(-1, 1)
        if self.knee is None:
            flow = flow * self.reach
        else:
            flow = flow.sign() * (flow.abs() * math.log1p(self.reach / self.knee)).expm1() * self.knee
        return _with_occlusion(flow)


@dataclass(frozen=True, kw_only=True)
class FlowColor(Dense):
    """Flow (B, T, H, W, 3) = u, v px, occluded <-> a picture (B, T, H, W, 3) in [-1, 1].

    style  "wheel": Middlebury's colour wheel, still is white; "hsv": hue = direction, value = length, still is black
    range  "fixed": `reach` px have the full colour, and decoding gives px. "clip" or "frame": the longest flow of each
           clip or frame has it; the scale is lost, decoding gives flow relative to that longest one
    reach  px; with range="fixed", and only there

    Flow longer than the reach keeps its direction and is cut to the reach. Occlusion is not drawn: decoding gives 0.
    Exact up to rounding (1e-5 of the reach); a picture of 8 bits costs about 1 / 250 of the reach. Mixing opposite
    directions, as blur does, gives grey, and grey is no flow, which is their mean.
    """

    kind: ClassVar[str] = "flow"
    parts: ClassVar[tuple[str, ...]] = PARTS
    style: Literal["wheel", "hsv"] = "wheel"
    range: Literal["fixed", "clip", "frame"] = "fixed"
    reach: float | None = None

    def __post_init__(self) -> None:
        for what, word, options in (("style", self.style, STYLES), ("range", self.range, RANGES)):
            if word not in options:
                raise unknown(f"{what} of flow", word, options)
        if (self.range == "fixed") != (self.reach is not None) or (self.reach is not None and self.reach <= 0):
            raise ValueError(
                f"range={self.range!r} with reach={self.reach}; "
                f"possible: reach above 0 px with range='fixed', and none with range='clip' or 'frame'"
            )

    @property
    def loses(self) -> tuple[str, ...]:
        return () if self.range == "fixed" else ("scale",)

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 3) px -> (B, T, H, W, 3) in [-1, 1]."""
        flow = _finite(self.values(raw))
        length = flow.norm(dim=-1)
        if self.reach is not None:
            reach = length.new_tensor(self.reach)
        elif length.numel():
            reach = length.amax((1, 2, 3) if self.range == "clip" else (2, 3), keepdim=True).clamp_min(1e-9)
        else:
            reach = length.new_ones(())
        strength = (length / reach).clamp_max(1)[..., None]
        u, v = flow.unbind(-1)
        if self.style == "wheel":
            # differs from the published code: beyond the reach the colour stays, there it is darkened by a quarter.
            colour = 1 - strength * (1 - hue_to_colour(_wheel_to_hue(torch.atan2(-v, -u) / (2 * math.pi) + 0.5)))
        else:
            colour = strength * hue_to_colour(torch.atan2(v, u) / (2 * math.pi))
        return colour * 2 - 1

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, H, W, 3) = u, v, 0: px with a fixed range, else parts of the longest flow."""
        colour = (self.picture(x) + 1) / 2
        if self.style == "wheel":
            # What is missing from white is the strength times what is missing from the pure colour.
            hue, strength = colour_to_hue((1 - colour).clamp(0, 1))
            angle = _hue_to_wheel((hue + 0.5) % 1) * 2 * math.pi
            direction = torch.stack([angle.cos(), angle.sin()], -1)
        else:
            hue, strength = colour_to_hue(colour.clamp(0, 1))
            direction = torch.stack([(hue * 2 * math.pi).cos(), (hue * 2 * math.pi).sin()], -1)
        return _with_occlusion(direction * strength[..., None] * (self.reach or 1.0))


def _ends(like: Tensor) -> Tensor:
    """(7,) the places on the wheel, in steps, where the pure and the mixed colours stand; red is first and last."""
    return torch.tensor([0, *STEPS], device=like.device).cumsum(0).to(like.dtype)


def _wheel_to_hue(turn: Tensor) -> Tensor:
    """A place on the wheel in [0, 1] -> hue. The published code spreads the circle over all steps but the last."""
    ends = _ends(turn)
    at = turn.clamp(0, 1) * (ends[-1] - 1)
    sixth = torch.bucketize(at, ends[1:-1], right=True)
    return (sixth + (at - ends[sixth]) / (ends[sixth + 1] - ends[sixth])) / 6


def _hue_to_wheel(hue: Tensor) -> Tensor:
    """Hue in [0, 1) -> place on the wheel in [0, 1]; the step that the published wheel leaves out joins its ends."""
    ends = _ends(hue)
    sixth = (hue * 6).long().clamp(0, 5)
    at = ends[sixth] + (hue * 6 - sixth) * (ends[sixth + 1] - ends[sixth])
    return (at / (ends[-1] - 1)).clamp_max(1)


def _finite(flow: Tensor) -> Tensor:
    """(..., 2) u, v; no motion where either is not finite, which a data set calls occluded."""
    uv = flow[..., :2]
    return torch.where(torch.isfinite(uv).all(-1, keepdim=True), uv, 0.0)


def _with_occlusion(flow: Tensor) -> Tensor:
    return torch.cat([flow, torch.zeros_like(flow[..., :1])], -1)
