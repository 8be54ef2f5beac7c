"""Dense modalities as pictures that a person can read: depth, flow, segmentation, surface maps, skeletons."""

from __future__ import annotations

import numpy as np

# Dark to bright through blue, green and yellow: brightness alone tells the order, also in print.
RAMP = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], np.float32)
GOLDEN = 0.61803398875  # steps of this part of the colour circle never come close to each other soon


def ramp(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1], any shape -> uint8 (*shape, 3)."""
    place = np.clip(values, 0, 1) * (len(RAMP) - 1)
    low = np.minimum(place.astype(int), len(RAMP) - 2)
    part = (place - low)[..., None]
    return (RAMP[low] * (1 - part) + RAMP[low + 1] * part).round().astype(np.uint8)


def wheel(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Hue as a part of the circle, saturation and value in [0, 1] -> uint8 (*shape, 3)."""
    turned = (hue[..., None] * 6 + np.array([0, 4, 2])) % 6
    pure = np.clip(np.abs(turned - 3) - 1, 0, 1)
    return ((1 - saturation[..., None] * (1 - pure)) * value[..., None] * 255).round().astype(np.uint8)


def labels(ids: np.ndarray) -> np.ndarray:
    """Whole numbers, any shape -> uint8 (*shape, 3): one colour each, 0 is black."""
    return wheel(ids * GOLDEN % 1, np.full(ids.shape, 0.75), (ids > 0).astype(np.float32))


def paint(kind: str, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Values of a dense video (n, H, W, C), in units -> uint8 (n, H, W, 3), and what the colours mean."""
    if kind == "depth":
        return _depth(values[..., 0])
    if kind == "flow":
        return _flow(values)
    if kind == "segmentation":
        return labels(
            np.where(values[..., 1] > 0, values[..., 0] + 7 * values[..., 1], values[..., 0])
        ), "one colour each"
    assert kind == "surface", kind
    part = labels(values[..., 0]).astype(np.float32)
    shade = 0.4 + 0.3 * values[..., 1:2] + 0.3 * values[..., 2:3]
    return (part * shade).round().astype(np.uint8), "colour = part, brightness = u + v"


def _depth(depth: np.ndarray) -> tuple[np.ndarray, str]:
    known = depth > 0
    if not known.any():
        return np.zeros((*depth.shape, 3), np.uint8), "unknown everywhere"
    near, far = np.percentile(depth[known], [2, 98])
    picture = ramp((far - depth) / max(far - near, 1e-9))
    picture[~known] = 0
    return picture, f"bright = {near:.2f} m, dark = {far:.2f} m, black = unknown"


def _flow(flow: np.ndarray) -> tuple[np.ndarray, str]:
    length = np.hypot(flow[..., 0], flow[..., 1])
    most = max(float(np.percentile(length, 99)), 1e-6)
    hue = np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)
    value = np.where(flow[..., 2] > 0.5, 0.6, 1.0)
    return wheel(hue, np.clip(length / most, 0, 1), value), f"full colour = {most:.1f} px, grey = occluded"
