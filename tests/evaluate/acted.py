"""A tiny world with every truth: before a patterned wall a red square moves to the right, and a blue disc stays."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SIDE, FRAMES, SPEED = 32, 4, 2


def wall() -> np.ndarray:
    """(SIDE, SIDE, 3) float in [0, 1]: grey noise, smooth over two pixels."""
    noise = np.random.default_rng(0).uniform(0.35, 0.5, (SIDE // 2, SIDE // 2))
    return np.repeat(np.kron(noise, np.ones((2, 2)))[..., None], 3, 2)


def masks(left: int) -> tuple[np.ndarray, np.ndarray]:
    """(SIDE, SIDE) bool twice: the square with its left side at `left`, and the disc."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    square = (rows >= 8) & (rows < 15) & (columns >= left) & (columns < left + 7)
    return square, (rows - 23) ** 2 + (columns - 22) ** 2 <= 12


@lru_cache
def clip(start: int = 4) -> dict[str, Tensor]:
    """One sample: video, depth, flow, segmentation (1, FRAMES, SIDE, SIDE, C), as a data set gives them.

    Each point of the square keeps its shade of red. Flow leads to the next frame; what it will cover is occluded.
    """
    shades = np.random.default_rng(1).uniform(0.6, 1.0, (7, 7))
    video, depth, flow, labels = [], [], [], []
    for t in range(FRAMES):
        square, disc = masks(start + SPEED * t)
        after, _ = masks(start + SPEED * (t + 1))
        picture = wall()
        picture[square] = np.stack([shades.ravel(), 0.1 * shades.ravel(), 0.1 * shades.ravel()], -1)
        picture[disc] = (0.1, 0.1, 0.9)
        video.append((picture * 255).round().astype(np.uint8))
        depth.append(np.where(square, 1.0, np.where(disc, 2.0, 3.0))[..., None].astype(np.float32))
        hidden = after & ~square
        flow.append(np.stack([SPEED * square, 0 * square, hidden], -1).astype(np.float32))
        labels.append(np.stack([np.where(square, 1, np.where(disc, 2, 0))] * 2, -1).astype(np.int32))
    parts = {"video": video, "depth": depth, "flow": flow, "segmentation": labels}
    return {name: torch.from_numpy(np.stack(frames))[None] for name, frames in parts.items()}
