"""Clips as strips: all frames side by side in one picture inside the page, moved by the page's player."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np

from .markup import Markup, element

FRAMES, SIDE = 32, 192  # of a strip at most; longer clips lose frames, larger ones pixels
LOSSLESS = 24_000  # bytes up to which pixels are kept as they are
TRIED = 400_000  # numbers; of larger pictures that is not even tried


def strip(clip: np.ndarray, times: Sequence[float], label: str, about: str = "", sharp: bool = False) -> Markup:
    """uint8 (n, H, W, 3), times (n,) in seconds -> a figure that the player moves.

    label is read below it; about says to those who do not see it what the clip shows; sharp keeps the edges of pixels.
    """
    keep = np.unique(np.linspace(0, len(clip) - 1, min(len(clip), FRAMES)).round().astype(int))
    frames = [_small(frame) for frame in clip[keep]]
    height, width = frames[0].shape[:2]
    image = element(
        "img",
        src=f"data:image/{picture(np.concatenate(frames, 1))}",
        alt=f"{about or label}: {len(keep)} frames",
        style=f"width:{100 * len(keep)}%",
        width=width * len(keep),
        height=height,
        class_="sharp" if sharp else None,
    )
    shown = element("div", image, class_="window", style=f"aspect-ratio:{width}/{height}")
    when = " ".join(f"{times[i]:g}" for i in keep)
    return element("figure", shown, element("figcaption", label), class_="strip", data_times=when)


def picture(pixels: np.ndarray) -> str:
    """uint8 (H, W, 3) -> "webp;base64,...": without loss where that is small."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    out = io.BytesIO()
    if pixels.size <= TRIED:
        image.save(out, "webp", lossless=True, quality=60, method=4)
    if not 0 < out.tell() <= LOSSLESS:
        out = io.BytesIO()
        image.save(out, "webp", quality=80, method=4)
    return f"webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def _small(frame: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) of at most `SIDE` pixels to a side."""
    from PIL import Image

    side = max(frame.shape[:2])
    if side <= SIDE:
        return frame
    height, width = (max(1, round(n * SIDE / side)) for n in frame.shape[:2])
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))
