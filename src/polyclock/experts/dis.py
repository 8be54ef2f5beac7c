"""Optical flow without any weights: dense inverse search (Kroeger et al. 2016) as OpenCV has it, with occlusion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ..errors import missing, unknown
from .expert import fingerprint
from .flow import Flow

LEAST = 12  # px to a side
PRESETS = ("ultrafast", "fast", "medium")
# Rows that a picture needs which is wider than high: OpenCV 5.0 chooses scales by the width alone, and for a flatter
# picture it reads beyond the end of its memory.
ROWS = {"ultrafast": 32, "fast": 32, "medium": 16}


@dataclass(frozen=True, kw_only=True)
class Dis(Flow):
    """uint8 (T, H, W, 3) -> flow float32 (T, H, W, 3): u, v in px to frame i + steps, occluded 0 or 1.

    preset     of OpenCV: ultrafast, fast or medium
    steps, occlusion  as of `Flow`
    """

    preset: Literal["ultrafast", "fast", "medium"] = "medium"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset not in PRESETS:
            raise unknown("preset of dense inverse search", self.preset, PRESETS)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    @cached_property
    def _search(self) -> Any:
        cv2 = opencv()
        return cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{self.preset.upper()}"))

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Pictures uint8 (n, H, W, 3) -> flow float32 (n, H, W, 2) px. Errors: ValueError for pictures too small."""
        height, width = first.shape[1:3]
        if min(height, width) < LEAST:
            raise ValueError(f"frames of {height} x {width} px; this search needs at least {LEAST} px")
        cv2 = opencv()
        below = ((0, max(0, min(ROWS[self.preset], width) - height)), (0, 0))

        def grey(picture: np.ndarray) -> np.ndarray:
            return np.pad(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), below, mode="edge")

        pairs = zip(first, second, strict=True)
        return np.stack([self._search.calc(grey(a), grey(b), None)[:height] for a, b in pairs])


def opencv() -> Any:
    """The module cv2. Errors: ImportError that says how to install it."""
    try:
        import cv2
    except ImportError:
        raise missing("opencv-python-headless", "experts") from None
    return cv2
