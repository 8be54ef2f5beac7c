"""Frames as published networks take them: resized, in [0, 1] or as levels, normalised by the numbers they bring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MODES = {2: "bilinear", 3: "bicubic"}  # PIL's numbers, which preprocessor_config.json holds


def batches(frames: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """(T, H, W, 3) in pieces of at most `size` frames."""
    for begin in range(0, len(frames), max(1, size)):
        yield frames[begin : begin + max(1, size)]


def prepared(frames: np.ndarray, size: tuple[int, int], said: Mapping[str, Any], device: str) -> Tensor:
    """uint8 (n, H, W, 3) -> float (n, 3, h, w) of `size` (h, w), with the numbers of preprocessor_config.json.

    Resized with antialiasing and rounded to whole levels, as image processors do on 8-bit pictures.
    """
    x = torch.from_numpy(np.ascontiguousarray(frames)).to(device).movedim(-1, 1).float()
    if x.shape[-2:] != tuple(size):
        mode = MODES.get(int(said.get("resample", 3)), "bicubic")
        x = F.interpolate(x, size, mode=mode, antialias=True, align_corners=False).clamp(0, 255).round()
    if said.get("do_rescale", True):
        x = x * float(said.get("rescale_factor", 1 / 255))
    if not said.get("do_normalize", True):
        return x
    mean, std = (x.new_tensor(said.get(n, d)) for n, d in zip(("image_mean", "image_std"), IMAGENET, strict=True))
    return (x - mean[:, None, None]) / std[:, None, None]


def to_multiple(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The nearest size of which each side is a multiple, at least one."""
    height, width = (max(multiple, round(n / multiple) * multiple) for n in size)
    return height, width


def wanted_size(said: Mapping[str, Any], size: tuple[int, int], default: int, multiple: int) -> tuple[int, int]:
    """The size (h, w) that pictures of `size` are resized to: what "size" says, each side a multiple.

    With "keep_aspect_ratio" both sides are scaled by that of the two factors which changes less.
    """
    asked = said.get("size", {"height": default, "width": default})
    asked = {"shortest_edge": asked} if isinstance(asked, int) else asked
    if "height" in asked:
        down, across = asked["height"] / size[0], asked["width"] / size[1]
        if said.get("keep_aspect_ratio"):
            down = across = down if abs(1 - down) <= abs(1 - across) else across
    else:
        down = across = asked.get("shortest_edge", default) / min(size)
        if "longest_edge" in asked:
            down = across = min(down, asked["longest_edge"] / max(size))
    return to_multiple((down * size[0], across * size[1]), multiple)
