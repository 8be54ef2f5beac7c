"""Optical flow as a picture (colour wheel or HSV) or as two planes of numbers, and pixels of motion back; and which
frame of a pair its flow stands at."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import unknown
from .codec import Codec, Shape
from .colours import colour_to_hue, hue_to_colour
from .dense import Dense

RANGES = ("fixed", "diagonal", "clip", "frame")
FILLS = ("repeat_first", "repeat_last", "still")
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
    range  "fixed": `reach` px have the full colour, and decoding gives px; "diagonal": `reach` diagonals of the picture
           have it, so that it means the same at every resolution (Chefer et al. 2025, eq. 5: 0.15). "clip" or "frame":
           the longest flow of each has it; the scale is lost, decoding gives flow relative to that longest one
    reach  px with range="fixed", a share of the diagonal with range="diagonal", and only there
    turn   part of the circle that hues are turned by, with style="hsv": 0 draws motion to the right in red, 0.5 that to
           the left

    Flow longer than the reach keeps its direction and is cut to the reach. Occlusion is not drawn: decoding gives 0.
    Exact up to rounding (1e-5 of the reach); a picture of 8 bits costs about 1 / 250 of the reach. Mixing opposite
    directions, as blur does, gives grey, and grey is no flow, which is their mean.
    """

    kind: ClassVar[str] = "flow"
    parts: ClassVar[tuple[str, ...]] = PARTS
    style: Literal["wheel", "hsv"] = "wheel"
    range: Literal["fixed", "diagonal", "clip", "frame"] = "fixed"
    reach: float | None = None
    turn: float = 0.0

    def __post_init__(self) -> None:
        for what, word, options in (("style", self.style, STYLES), ("range", self.range, RANGES)):
            if word not in options:
                raise unknown(f"{what} of flow", word, options)
        absolute = self.range in ("fixed", "diagonal")
        if absolute != (self.reach is not None) or (self.reach is not None and self.reach <= 0):
            raise ValueError(
                f"range={self.range!r} with reach={self.reach}; "
                f"possible: reach above 0 px with range='fixed', reach above 0 of the diagonal with range='diagonal', "
                f"and none with range='clip' or 'frame'"
            )
        if self.turn and self.style != "hsv":
            raise ValueError(f"turn={self.turn} with style={self.style!r}; possible: style='hsv', or turn=0")

    @property
    def loses(self) -> tuple[str, ...]:
        return () if self.reach is not None else ("scale",)

    def _reach(self, like: Tensor) -> float:
        """Of flow or pictures (B, T, H, W, 3): px that have the full colour; 1 where the longest flow has it."""
        whole = math.hypot(*like.shape[2:4]) if self.range == "diagonal" else 1.0
        return whole * (self.reach or 1.0)

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 3) px -> (B, T, H, W, 3) in [-1, 1]."""
        flow = _finite(self.values(raw))
        length = flow.norm(dim=-1)
        if self.reach is not None:
            reach = length.new_tensor(self._reach(flow))
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
            colour = strength * hue_to_colour((torch.atan2(v, u) / (2 * math.pi) + self.turn) % 1)
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
            angle = (hue - self.turn) * 2 * math.pi
            direction = torch.stack([angle.cos(), angle.sin()], -1)
        return _with_occlusion(direction * strength[..., None] * self._reach(colour))


@dataclass(frozen=True, kw_only=True)
class FlowFrames:
    """Flow (B, T, ...) that stands at the first frame of its pair <-> the same where T - steps flows become T.

    fill   "repeat_first": a flow moves to the later frame of its pair, and the first one stands for what came before;
           so it suits a causal autoencoder, which sees frame 0 alone. "still": the same with nothing that moves there.
           "repeat_last": flows stay, and the last one stands for those that lead out of the clip
    steps  frames that a flow spans

    Exact but for the last `steps` flows, which lead out of the clip and come back as 0.
    """

    framewise: ClassVar[bool] = False
    fill: Literal["repeat_first", "repeat_last", "still"] = "repeat_first"
    steps: int = 1

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise unknown("fill of frames without a flow", self.fill, FILLS)
        if self.steps < 1:
            raise ValueError(f"steps={self.steps} must be at least 1 frame")

    def raw_shape(self, shape: Shape) -> Shape:
        return shape

    def covers(self, frame: int) -> range:
        return range(frame, frame + 1)

    def fit(self, arrays: Iterable[np.ndarray]) -> Codec:
        return self

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 3) px -> the same."""
        kept = raw[:, : -self.steps]
        if not kept.shape[1]:
            return torch.zeros_like(raw)
        if self.fill == "repeat_last":
            return torch.cat([kept, *[kept[:, -1:]] * self.steps], 1)
        first = kept[:, :1] if self.fill == "repeat_first" else torch.zeros_like(kept[:, :1])
        return torch.cat([*[first] * self.steps, kept], 1)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> the same, the last `steps` flows 0."""
        kept = x[:, : -self.steps] if self.fill == "repeat_last" else x[:, self.steps :]
        return torch.cat([kept, torch.zeros_like(x[:, : self.steps])], 1)


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
