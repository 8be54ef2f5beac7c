"""Absolute <-> relative actions: within a chunk as a codec, or against the robot's state as two functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import unknown
from .codec import FrameByFrame
from .rotation import spans

MODES = ("first", "delta")
Axes = tuple[int, int] | tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Relative(FrameByFrame):
    """Frames of a chunk as differences; frame 0 stays absolute, so that the chunk can be put together again.

    mode     "first": x_t - x_0; "delta": x_t - x_{t-1}
    axes     (start, stop) of the dimensions, or several in rising order; None: all. The others stay as they are
    horizon  T, the frames of a chunk; only needed where a codec behind this one in a `Chain` is fitted: it then sees
             every chunk of T frames of each episode

    The inverse is exact up to float32 rounding: the error is at most T * 1.2e-7 of the largest number of the chunk.
    Frame 0 shares its dimension's scale with differences that may be far smaller; actions relative to the robot's
    state (`to_relative`) do not have this trouble. Plain subtraction: for rotations, use it on small angles only.
    """

    framewise: ClassVar[bool] = False
    mode: Literal["first", "delta"] = "first"
    axes: Axes | None = None
    horizon: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("mode", self.mode, MODES)
        if self.axes is not None:
            object.__setattr__(self, "axes", spans(self.axes))
        if self.horizon is not None and self.horizon < 1:
            raise ValueError(f"horizon={self.horizon} must be at least 1 frame")

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, C) absolute -> (B, T, C) float32, frames 1 .. T - 1 relative."""
        x = raw.float()
        before = x[:, :1] if self.mode == "first" else x[:, :-1]
        moved = torch.cat([x[:, :1], x[:, 1:] - before], 1)
        return torch.where(_chosen(x, self.axes), moved, x)

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C) float32, absolute."""
        x = x.float()
        whole = torch.cat([x[:, :1], x[:, 1:] + x[:, :1]], 1) if self.mode == "first" else x.cumsum(1)
        return torch.where(_chosen(x, self.axes), whole, x)

    def windows(self, array: np.ndarray) -> np.ndarray:
        """An episode (n, C) -> its chunks (n - T + 1, T, C); one shorter than T is filled up with its last frame."""
        if self.horizon is None:
            raise ValueError("Relative needs horizon=T, the frames of a chunk, where a codec behind it is to be fitted")
        lack = self.horizon - len(array)
        if lack > 0:
            array = np.concatenate([array, np.repeat(array[-1:], lack, 0)])
        return np.moveaxis(np.lib.stride_tricks.sliding_window_view(array, self.horizon, 0), -1, 1)


def to_relative(action: Tensor, state: Tensor, axes: Axes | None = None) -> Tensor:
    """Absolute actions (..., T, C) and the state (..., C) at the chunk's start -> actions less the state, (..., T, C).

    Only the dimensions of `axes`, (start, stop) or several of them, are changed; None: all. Action and state must
    mean the same thing in each of them. Errors: ValueError where the last sizes differ.
    """
    return torch.where(_chosen(action, axes), action - _beside(action, state), action)


def to_absolute(action: Tensor, state: Tensor, axes: Axes | None = None) -> Tensor:
    """The inverse of `to_relative`, up to rounding: relative actions (..., T, C) and the state (..., C) -> absolute."""
    return torch.where(_chosen(action, axes), action + _beside(action, state), action)


def _beside(action: Tensor, state: Tensor) -> Tensor:
    if state.shape[-1] != action.shape[-1]:
        raise ValueError(f"action has {action.shape[-1]} dimensions and state {state.shape[-1]}; they must agree")
    return state[..., None, :]


def _chosen(values: Tensor, axes: Sequence | None) -> Tensor:
    """(C,) bool: the dimensions that `axes` names."""
    size = values.shape[-1]
    chosen = torch.full((size,), axes is None, device=values.device)
    for start, stop in () if axes is None else spans(axes):
        if stop > size:
            raise ValueError(f"axes {start}:{stop} do not fit in values with {size} dimensions")
        chosen[start:stop] = True
    return chosen
