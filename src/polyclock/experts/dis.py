"""Optical flow without any weights: dense inverse search (Kroeger et al. 2016) as OpenCV has it, with occlusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..errors import missing, unknown
from .expert import check_frames, fingerprint, noted

LEAST = 12  # px to a side
PRESETS = ("ultrafast", "fast", "medium")
RELATIVE, ABSOLUTE = 0.01, 0.5  # of the forward-backward check (Sundaram et al. 2010): share of the lengths, and px^2


@dataclass(frozen=True, kw_only=True)
class Dis:
    """uint8 (T, H, W, 3) -> flow float32 (T, H, W, 3): u, v in px to frame i + steps, occluded 0 or 1.

    preset     of OpenCV: ultrafast, fast or medium
    steps      frames that the flow spans; the last frames lead to the last one, and its own flow is 0
    occlusion  whether the flow back is taken too: where the two disagree, or the target lies outside, it is occluded
    """

    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    steps: int = 1
    occlusion: bool = True
    modality = "flow"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise unknown("preset of dense inverse search", self.preset, PRESETS)
        if self.steps < 1:
            raise ValueError(f"flow over {self.steps} frames; possible: 1 or more")

    @property
    def note(self) -> dict[str, Any]:
        return noted("flow", steps=self.steps)

    @property
    def after(self) -> int:
        return self.steps

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        if min(check_frames(frames).shape[1:3]) < LEAST:
            raise ValueError(
                f"frames of {frames.shape[1]} x {frames.shape[2]} px; this search needs at least {LEAST} px"
            )
        try:
            import cv2
        except ImportError:
            raise missing("opencv-python-headless", "experts") from None
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        search = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{self.preset.upper()}"))
        out = np.zeros((*frames.shape[:3], 3), np.float32)
        for i, now in enumerate(grey[:-1]):
            then = grey[min(i + self.steps, len(grey) - 1)]
            out[i, ..., :2] = search.calc(now, then, None)
            if self.occlusion:
                out[i, ..., 2] = occluded(out[i, ..., :2], search.calc(then, now, None))
        return out


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
