"""Dense modalities as pictures that a person can read, in the colours of the codecs: depth, flow, masks, skeletons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..codecs.codec import Codec
from ..codecs.colours import TAB20, VIRIDIS, along, table
from ..codecs.depth import DepthColor
from ..codecs.flow import FlowColor
from ..codecs.pixels import to_uint8
from ..codecs.skeleton import MOST, SkeletonPicture

GOLDEN = 0.61803398875  # steps of this part of the colour circle never come close to each other soon


def ramp(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1], any shape -> uint8 (*shape, 3): viridis, whose brightness alone tells the order."""
    places = torch.from_numpy(np.asarray(values, np.float32))
    return to_uint8(along(table(VIRIDIS), places)).numpy()


def labels(ids: np.ndarray) -> np.ndarray:
    """Whole numbers, any shape -> uint8 (*shape, 3): one colour each, 0 is black, 1 to 20 are tab20."""
    hue = np.asarray(ids)[..., None] * GOLDEN % 1
    turned = (hue * 6 + np.array([0, 4, 2])) % 6
    pure = np.clip(np.abs(turned - 3) - 1, 0, 1)
    further = ((0.25 + 0.75 * pure) * 255).round()
    listed = np.array([(0, 0, 0), *TAB20])
    return np.where(np.asarray(ids)[..., None] < len(listed), listed[np.minimum(ids, len(TAB20))], further).astype(
        np.uint8
    )


def paint(kind: str, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Values of a dense video (n, H, W, C), in units -> uint8 (n, H, W, 3), and what the colours mean."""
    if kind == "depth":
        return _depth(values)
    if kind == "flow":
        return _flow(values)
    if kind == "segmentation":
        instance, label = values[..., 0], values[..., 1]
        ids = instance if (instance > 0).any() else label
        return labels(ids), f"one colour for each {'instance' if ids is instance else 'class'}"
    assert kind == "surface", kind
    part = labels(values[..., 0].astype(int)).astype(np.float32)
    shade = 0.4 + 0.3 * values[..., 1:2] + 0.3 * values[..., 2:3]
    return (part * shade).round().astype(np.uint8), "colour = part, brightness = u + v"


def skeletons(points: np.ndarray, side: int, limbs: Sequence[tuple[int, int]] = ()) -> np.ndarray:
    """Joints (n, K, 3) = x, y in px of a square of `side` px, visibility -> drawn, uint8 (n, side, side, 3)."""
    count = points.shape[1]
    colours = () if count <= MOST else tuple(tuple(c) for c in labels(np.arange(1, count + 1)).tolist())
    codec = SkeletonPicture(
        size=(side, side), joints=count, limbs=tuple(limbs), colours=colours, radius=side / 60, width=side / 160
    )
    return _through(codec, points)


def _through(codec: Codec, values: np.ndarray) -> np.ndarray:
    """(n, ...) drawn by a codec whose latents are pictures: uint8 (n, H, W, 3)."""
    return to_uint8(codec.encode(torch.from_numpy(np.ascontiguousarray(values, np.float32))[None])[0]).numpy()


def _depth(depth: np.ndarray) -> tuple[np.ndarray, str]:
    known = depth[np.isfinite(depth) & (depth > 0)]
    if not len(known):
        return np.zeros((*depth.shape[:-1], 3), np.uint8), "unknown everywhere"
    near, far = (float(v) for v in np.percentile(known, [2, 98]))
    picture = _through(DepthColor(near=near, far=max(far, near * 1.001)), depth)
    return picture, f"red = {near:.2f} m, violet = {far:.2f} m, black = unknown"


def _flow(flow: np.ndarray) -> tuple[np.ndarray, str]:
    most = max(float(np.percentile(np.hypot(flow[..., 0], flow[..., 1]), 99)), 1e-6)
    picture = _through(FlowColor(reach=most), flow)
    shade = np.where(flow[..., 2:] > 0.5, 0.6, 1.0)
    return (picture * shade).round().astype(np.uint8), f"full colour = {most:.1f} px, darker = occluded"
