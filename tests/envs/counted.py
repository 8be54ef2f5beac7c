"""A world without a simulator: episode k of a line is a pattern that only (line, k) fixes; some candidates are bad."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyclock.data import dense
from polyclock.dice import seed_of
from polyclock.envs.collect import Unit

BAD = {Unit("red", 1), Unit("red", 2), Unit("blue", 0)}


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Settings of the toy; `deadly` names a candidate that ends its worker."""

    lines: tuple[str, ...] = ("red", "blue")
    episodes: int = 2
    fps: float = 10.0
    shade: int = 0
    hopeless: bool = False
    deadly: int | None = None

    def settings(self) -> dict[str, Any]:
        return {"lines": self.lines, "shade": self.shade}

    def features(self) -> dict[str, Any]:
        return {
            "observation.images.eye": {"dtype": "video", "shape": (16, 16, 3), "names": None},
            "observation.depth.eye": dense.feature("depth", (16, 16)),
            "action": {"dtype": "float32", "shape": (2,), "names": None},
        }

    def open(self) -> Counter:
        return Counter(self)


class Counter:
    def __init__(self, source: Counted) -> None:
        self.source = source

    def worth(self, unit: Unit) -> bool:
        return not self.source.hopeless and unit not in BAD

    def make(self, unit: Unit) -> tuple[dict[str, np.ndarray], str]:
        if unit.number == self.source.deadly:
            os._exit(9)
        dice = np.random.default_rng(seed_of(unit.line, unit.number, self.source.shade))
        count = 3 + unit.number
        columns = {
            "observation.images.eye": dice.integers(0, 255, (count, 16, 16, 3), dtype=np.uint8),
            "observation.depth.eye": dice.uniform(0.5, 2, (count, 16, 16, 1)).astype(np.float32),
            "action": np.full((count, 2), unit.number, np.float32),
        }
        return columns, f"the {unit.line} one"
