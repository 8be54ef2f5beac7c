"""Published colour tables, and the two directions of a colour map: numbers to colours and the nearest place back.

Colours are RGB in [-1, 1], the range in which a network sees pictures; the tables are typed in 0 .. 255.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PIECE = 8192  # pixels
Colour = tuple[int, int, int]
Colours = tuple[Colour, ...]

# ColorBrewer's Spectral (colorbrewer2.org, 11 classes), as matplotlib interpolates it: dark red first, violet last.
SPECTRAL: Colours = (
    *((158, 1, 66), (213, 62, 79), (244, 109, 67), (253, 174, 97), (254, 224, 139), (255, 255, 191)),
    *((230, 245, 152), (171, 221, 164), (102, 194, 165), (50, 136, 189), (94, 79, 162)),
)
# Every 15th colour of matplotlib's viridis (CC0); straight lines between them stay within 5 / 255 of the table.
VIRIDIS: Colours = (
    *((68, 1, 84), (72, 23, 105), (71, 42, 122), (67, 61, 132), (61, 78, 138), (53, 94, 141), (46, 109, 142)),
    *((41, 123, 142), (35, 137, 142), (31, 151, 139), (33, 165, 133), (46, 179, 124), (70, 192, 111)),
    *((101, 203, 94), (137, 213, 72), (176, 221, 47), (216, 226, 25), (253, 231, 37)),
)
# The categorical colours that matplotlib calls tab10 (Tableau 10): blue, orange, green, red, purple, ...
TAB10: Colours = (
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
)
# tab20: the same ten, then their light relatives.
TAB20: Colours = (
    *TAB10,
    *((174, 199, 232), (255, 187, 120), (152, 223, 138), (255, 152, 150), (197, 176, 213)),
    *((196, 156, 148), (247, 182, 210), (199, 199, 199), (219, 219, 141), (158, 218, 229)),
)
# OpenPose's 18 body colours: the hues in steps of 20 degrees.
OPENPOSE: Colours = (
    *((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0)),
    *((0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255)),
    *((170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85)),
)


def table(colours: Colours, like: Tensor | None = None) -> Tensor:
    """n colours of 0 .. 255 -> (n, 3) float32 in [-1, 1], on the device of `like`."""
    return torch.tensor(colours, dtype=torch.float32, device=None if like is None else like.device) / 127.5 - 1


def along(curve: Tensor, place: Tensor) -> Tensor:
    """Colours (n, C) joined by straight lines, places (...) in [0, 1] -> (..., C)."""
    at = place.clamp(0, 1) * (len(curve) - 1)
    low = at.long().clamp_max(len(curve) - 2)
    return torch.lerp(curve[low], curve[low + 1], (at - low)[..., None])


def nearest_along(curve: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """(n, C) and pixels (..., C) -> the place (...) in [0, 1] of the nearest point of the curve, and the distance."""
    # In pieces that stay in the processor's cache, which is faster.
    parts = [_nearest_along(curve, piece) for piece in x.reshape(-1, x.shape[-1]).split(PIECE)]
    place, off = (torch.cat(values) for values in zip(*parts, strict=True))
    return place.reshape(x.shape[:-1]), off.reshape(x.shape[:-1])


def _nearest_along(curve: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """(n, C) and (m, C) -> place and distance (m,)."""
    start, step = curve[:-1], curve[1:] - curve[:-1]
    size = step.square().sum(1)
    forward = x @ step.T - (start * step).sum(1)
    part = (forward / size).clamp(0, 1)
    off = x.square().sum(1, keepdim=True) - 2 * x @ start.T + start.square().sum(1)
    off = off - part * (2 * forward - part * size)
    least, segment = off.min(1)
    place = (segment + part.gather(1, segment[:, None])[:, 0]) / len(step)
    return place, least.clamp_min(0).sqrt()


def separation(colours: Tensor) -> float:
    """Distance between the two colours of (n, C) that lie closest together."""
    apart = torch.cdist(colours, colours)
    return float((apart + torch.eye(len(colours), device=apart.device) * 1e9).min())


def sharpened(x: Tensor) -> Tensor:
    """(B, T, H, W, C) -> the same: noise averaged away, edges kept (Kuwahara et al. 1976).

    Each pixel becomes the mean of that one of the four 3 x 3 squares with it in a corner whose values differ least. A
    blurred edge becomes a step again, since one of the squares lies on either side of it.
    """
    size = x.shape
    flat = x.flatten(0, 1).movedim(-1, 1)
    wide = F.pad(flat, (2, 2, 2, 2), mode="replicate")
    mean = F.avg_pool2d(wide, 3, 1)
    spread = (F.avg_pool2d(wide.square(), 3, 1) - mean.square()).sum(1)
    height, width = size[2], size[3]
    corners = [(slice(i, i + height), slice(j, j + width)) for i in (0, 2) for j in (0, 2)]
    best = torch.stack([spread[:, i, j] for i, j in corners]).argmin(0)
    out = mean[:, :, corners[0][0], corners[0][1]]
    for number, (i, j) in enumerate(corners[1:], 1):
        out = torch.where((best == number)[:, None], mean[:, :, i, j], out)
    return out.movedim(1, -1).reshape(size)


def hue_to_colour(hue: Tensor) -> Tensor:
    """Hue (...) as a part of the circle, red = 0, green = 1/3 -> pure colours (..., 3) in [0, 1]."""
    turned = (hue[..., None] * 6 + torch.tensor([0.0, 4.0, 2.0], device=hue.device)) % 6
    return ((turned - 3).abs() - 1).clamp(0, 1)


def colour_to_hue(colour: Tensor) -> tuple[Tensor, Tensor]:
    """(..., 3) in any scale -> hue (...) as a part of the circle, and the strength (...): largest minus least part."""
    red, green, blue = colour.unbind(-1)
    most, strongest = colour.max(-1)
    strength = most - colour.amin(-1)
    safe = strength.clamp_min(1e-9)
    sixths = torch.stack([(green - blue) / safe, (blue - red) / safe + 2, (red - green) / safe + 4], -1)
    return sixths.gather(-1, strongest[..., None])[..., 0] / 6 % 1, strength


def classified(codes: Tensor, x: Tensor) -> Tensor:
    """(n, C), n > 1, and a picture (B, T, H, W, C) -> the number (B, T, H, W) of each pixel's code.

    A pixel is clear where its nearest code is at less than a third of the distance to the second. One that is not, as
    at a blurred edge, takes the best of the codes of clear pixels beside it: a mixture of two is never a third. Where
    none is beside it, it takes the side that it belongs to (`sharpened`).
    """
    off = _squares(codes, x)
    least, best = off.topk(2, -1, largest=False)
    number, clear = best[..., 0], least[..., 0] * 9 < least[..., 1]
    if bool(clear.all()):
        return number
    marks = (F.one_hot(number, len(codes)) * clear[..., None]).float().flatten(0, 1).movedim(-1, 1)
    beside = F.max_pool2d(marks, 3, 1, 1).movedim(1, -1).reshape(off.shape) > 0
    local = torch.where(beside, off, torch.inf).argmin(-1)
    alone = _squares(codes, sharpened(x)).argmin(-1)
    return torch.where(clear, number, torch.where(beside.any(-1), local, alone))


def _squares(codes: Tensor, x: Tensor) -> Tensor:
    """(n, C) and pixels (..., C) -> squared distances (..., n)."""
    return x.square().sum(-1, keepdim=True) - 2 * x @ codes.T + codes.square().sum(1)
