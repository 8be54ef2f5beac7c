"""Errors of predictions, one number per window: of numbers (actions, states) and of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# A window whose pictures are reproduced exactly has this many decibels, not infinitely many.
MOST_DECIBELS = 100.0
KERNEL, SIGMA = 11, 1.5  # pixels to a side of the Gaussian window of SSIM, and its standard deviation


def scaled_error(predicted: Tensor, true: Tensor, scale: Tensor) -> Tensor:
    """(B, T, C) twice, scale (C,) -> (B,) mean of |predicted - true| / scale; dimensions of scale 0 are left out.

    Errors: ValueError where every scale is 0.
    """
    used = scale > 0
    if not bool(used.any()):
        raise ValueError(f"all {len(scale)} dimensions are constant in the training data, so no error has a unit")
    return ((predicted.double() - true.double()).abs()[..., used] / scale.double()[used]).flatten(1).mean(1)


def rmse(predicted: Tensor, true: Tensor) -> Tensor:
    """(B, T, ..., C) twice -> (B,) root of the mean squared difference, in units of the data."""
    return (predicted.double() - true.double()).square().flatten(1).mean(1).sqrt()


def mse(predicted: Tensor, true: Tensor) -> Tensor:
    """uint8 (B, T, H, W, C) twice -> (B,) mean squared difference of pixels in [0, 1]."""
    _check(predicted, true)
    return ((predicted.double() - true.double()) / 255).square().flatten(1).mean(1)


def mse_moving(predicted: Tensor, true: Tensor, moving: Tensor) -> Tensor:
    """uint8 (B, T, H, W, C) twice, moving (B, T, H, W) bool -> (B,) `mse` of pixels that move; NaN where none does."""
    _check(predicted, true)
    each = ((predicted.double() - true.double()) / 255).square().mean(-1)
    return (each * moving).flatten(1).sum(1) / moving.flatten(1).sum(1)


def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """uint8 (B, T, H, W, C) twice -> (B,) peak signal-to-noise ratio of the whole clip in dB, at most 100."""
    return (-10 * mse(predicted, true).clamp_min(1e-30).log10()).clamp_max(MOST_DECIBELS)


def ssim(predicted: Tensor, true: Tensor) -> Tensor:
    """uint8 (B, T, H, W, C) twice -> (B,) structural similarity (Wang et al. 2004), mean over frames.

    The window is 11 x 11 (sigma 1.5) as published; for pictures of fewer than 11 pixels to a side it is the largest
    odd one that fits, and all of its pixels weigh the same. Beyond an edge stands its mirror image.
    """
    _check(predicted, true)
    kernel = min(KERNEL, (min(true.shape[2:4]) - 1) // 2 * 2 + 1)
    place = torch.arange(kernel, dtype=torch.float64, device=true.device) - kernel // 2
    weight = torch.exp(-((place / SIGMA) ** 2) / 2) if kernel == KERNEL else torch.ones_like(place)
    weights: list[float] = (weight / weight.sum()).tolist()
    # float64 keeps variances of flat regions from going negative.
    x, y = (v.movedim(-1, 2).double() / 255 for v in (predicted, true))
    x_mean, y_mean, x_square, y_square, product = (_blurred(v, weights) for v in (x, y, x * x, y * y, x * y))
    spread = (x_square - x_mean**2).clamp_min(0) + (y_square - y_mean**2).clamp_min(0)
    alike = 2 * (product - x_mean * y_mean)
    small, smaller = 0.03**2, 0.01**2
    each = (2 * x_mean * y_mean + smaller) * (alike + small)
    return (each / ((x_mean**2 + y_mean**2 + smaller) * (spread + small))).flatten(1).mean(1)


def _blurred(x: Tensor, weights: Sequence[float]) -> Tensor:
    """(..., H, W) -> its mean in a window around each pixel, by the same weights along both axes, one at a time."""
    reach = len(weights) // 2
    if reach:
        x = F.pad(x.flatten(0, -4), (reach,) * 4, mode="reflect").unflatten(0, x.shape[:-3])
    for axis in (-1, -2):
        length = x.shape[axis] - 2 * reach
        out = weights[0] * x.narrow(axis, 0, length)
        for i, w in enumerate(weights[1:], 1):
            out.add_(x.narrow(axis, i, length), alpha=w)
        x = out
    return x


def is_picture(values: Tensor) -> bool:
    """Whether values (B, T, H, W, C) are 8-bit pictures, as against depth, flow and other planes of numbers."""
    return values.ndim == 5 and values.dtype == torch.uint8


def _check(predicted: Tensor, true: Tensor) -> None:
    for name, value in (("predicted", predicted), ("true", true)):
        if not is_picture(value):
            raise ValueError(f"{name} must be uint8 (B, T, H, W, C), got {value.dtype} {tuple(value.shape)}")
    if predicted.shape != true.shape:
        raise ValueError(f"predicted has shape {tuple(predicted.shape)}, true {tuple(true.shape)}")
