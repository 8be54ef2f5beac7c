"""What all experts of optical flow share: which frames are paired, and which pixels cannot be seen in the other one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .expert import check_frames, noted

RELATIVE, ABSOLUTE = 0.01, 0.5  # of the forward-backward check (Sundaram et al. 2010): share of the lengths, and px^2


@dataclass(frozen=True, kw_only=True)
class Flow:
    """uint8 (T, H, W, 3) -> flow float32 (T, H, W, 3): u, v in px to frame i + steps, occluded 0 or 1.

    steps      frames that the flow spans; the last frames lead to the last one, and its own flow is 0
    occlusion  whether the flow back is taken too: where the two disagree, or the target lies outside, it is occluded
    """

    steps: int = 1
    occlusion: bool = True
    modality = "flow"
    batch = 1  # pairs at a time

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"flow over {self.steps} frames; possible: 1 or more")

    @property
    def note(self) -> dict[str, Any]:
        return noted("flow", steps=self.steps)

    @property
    def after(self) -> int:
        return self.steps

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        out = np.zeros((*check_frames(frames).shape[:3], 3), np.float32)
        last = len(frames) - 1
        for begin in range(0, last, max(1, self.batch)):
            at = np.arange(begin, min(begin + max(1, self.batch), last))
            first, second = frames[at], frames[np.minimum(at + self.steps, last)]
            out[at, ..., :2] = ahead = self.between(first, second)
            if self.occlusion:
                out[at, ..., 2] = [occluded(*both) for both in zip(ahead, self.between(second, first), strict=True)]
        return out

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Pictures uint8 (n, H, W, 3) -> flow float32 (n, H, W, 2) px from the first to the second."""
        raise NotImplementedError("between(first, second)")


def occluded(ahead: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Flow there and back (H, W, 2) px -> (H, W) bool: the two disagree, or the target lies outside of the picture."""
    height, width = ahead.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns + ahead[..., 0], rows + ahead[..., 1]
    outside = (x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5)
    there = sampled(back, x, y)
    off = np.square(ahead + there).sum(-1)
    return outside | (off > RELATIVE * (np.square(ahead).sum(-1) + np.square(there).sum(-1)) + ABSOLUTE)


def sampled(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(H, W, C) at places x, y (H', W') counted from the first pixel's centre, bilinear; beyond the edge the edge."""
    height, width = values.shape[:2]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left)[..., None], (y - top)[..., None]
    above = values[top, left] * (1 - across) + values[top, right] * across
    below = values[low, left] * (1 - across) + values[low, right] * across
    return above * (1 - down) + below * down
