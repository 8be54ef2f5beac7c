"""Clips whose motion is known: a smooth random texture that moves by whole or broken pixels."""

from __future__ import annotations

import numpy as np


def texture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(H, W, 3) float, waves of random directions, defined everywhere."""
    return field(*np.meshgrid(np.arange(size[1]), np.arange(size[0])), seed)


def field(x: np.ndarray, y: np.ndarray, seed: int = 0) -> np.ndarray:
    """The texture at any places x, y (H, W) -> (H, W, 3) in [0, 255]."""
    dice = np.random.default_rng(seed)
    waves = dice.uniform(-0.5, 0.5, (24, 2))
    phase, colour = dice.uniform(0, 2 * np.pi, 24), dice.uniform(0, 1, (24, 3))
    light = np.cos(x[..., None] * waves[:, 0] + y[..., None] * waves[:, 1] + phase)
    return 127.5 + 127.5 * np.tanh(light @ colour / 2)


def shifting(count: int, step: tuple[float, float], size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """(count, H, W, 3) uint8: the texture moves by `step` (u, v) px from frame to frame."""
    x, y = np.meshgrid(np.arange(size[1], dtype=float), np.arange(size[0], dtype=float))
    return np.stack([field(x - i * step[0], y - i * step[1]) for i in range(count)]).round().astype(np.uint8)
