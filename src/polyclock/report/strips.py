"""Clips as strips: all frames side by side in one picture inside the page, moved by the page's player."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np

from .markup import Markup, element

FRAMES, SIDE = 24, 160  # of a strip at most; longer clips lose frames, larger ones pixels
LOSSLESS = 60_000  # bytes up to which pixels are kept as they are


def strip(clip: np.ndarray, times: Sequence[float], label: str) -> Markup:
    """uint8 (T', H, W, 3 or 1), times (T',) in seconds -> a figure that the player moves.

    Numbers other than 8-bit pictures (depth, flow) are scaled to what the clip holds.
    """
    keep = np.unique(np.linspace(0, len(clip) - 1, min(len(clip), FRAMES)).round().astype(int))
    frames = [_small(frame) for frame in _pictures(clip[keep])]
    height, width = frames[0].shape[:2]
    picture = np.concatenate(frames, 1)
    image = element(
        "img",
        src=f"data:image/{_encoded(picture)}",
        alt=f"{label}: {len(keep)} frames",
        style=f"width:{100 * len(keep)}%",
        width=picture.shape[1],
        height=height,
    )
    shown = element("div", image, class_="window", style=f"aspect-ratio:{width}/{height}")
    when = " ".join(f"{times[i]:g}" for i in keep)
    return element("figure", shown, element("figcaption", label), class_="strip", data_times=when)


def _pictures(frames: np.ndarray) -> np.ndarray:
    """(T', H, W, C) of any numbers -> uint8 (T', H, W, 3)."""
    if frames.dtype != np.uint8:
        values = frames.astype(np.float64)
        seen = values[np.isfinite(values)]
        low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
        values = np.clip(np.nan_to_num(values, nan=low), low, high)
        frames = (255 * (values - low) / max(high - low, 1e-12)).round().astype(np.uint8)
    if frames.shape[-1] == 1:
        return np.repeat(frames, 3, -1)
    blank = np.zeros((*frames.shape[:-1], max(0, 3 - frames.shape[-1])), np.uint8)
    return np.concatenate([frames, blank], -1)[..., :3]


def _small(frame: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) of at most `SIDE` pixels to a side."""
    from PIL import Image

    side = max(frame.shape[:2])
    if side <= SIDE:
        return frame
    height, width = (max(1, round(n * SIDE / side)) for n in frame.shape[:2])
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))


def _encoded(picture: np.ndarray) -> str:
    """ "png;base64,..." or, where that would be large, "webp;base64,..."."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    out, kind = io.BytesIO(), "png"
    image.save(out, "png", optimize=True)
    if out.tell() > LOSSLESS:
        out, kind = io.BytesIO(), "webp"
        image.save(out, "webp", quality=82, method=6)
    return f"{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
