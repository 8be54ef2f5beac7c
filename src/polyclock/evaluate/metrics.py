"""Errors of predictions, one number per window: of numbers (actions, states) and of pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import missing

# A window whose pictures are reproduced exactly has this many decibels, not infinitely many.
MOST_DECIBELS = 100.0
KERNEL = 11  # pixels to a side of the Gaussian window of SSIM


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
    """uint8 (B, T, H, W, C) twice -> (B,) structural similarity, mean over frames.

    The window is 11 x 11 (sigma 1.5) as published; for pictures of fewer than 11 pixels to a side it is the largest
    odd one that fits. Errors: ImportError where torchmetrics is not installed.
    """
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError:
        raise missing("torchmetrics", "eval") from None
    _check(predicted, true)
    size, frames = true.shape[0], true.shape[1]
    # Channels first is what torchmetrics wants; float64 keeps variances of flat regions from going negative.
    x, y = ((v.flatten(0, 1).movedim(-1, 1).double() / 255).contiguous() for v in (predicted, true))
    kernel = min(KERNEL, (min(true.shape[2:4]) - 1) // 2 * 2 + 1)
    each = structural_similarity_index_measure(
        x, y, data_range=1.0, gaussian_kernel=kernel == KERNEL, kernel_size=kernel, reduction="none"
    )
    assert isinstance(each, Tensor)
    return each.view(size, frames).mean(1)


def is_picture(values: Tensor) -> bool:
    """Whether values (B, T, H, W, C) are 8-bit pictures, as against depth, flow and other planes of numbers."""
    return values.ndim == 5 and values.dtype == torch.uint8


def _check(predicted: Tensor, true: Tensor) -> None:
    for name, value in (("predicted", predicted), ("true", true)):
        if not is_picture(value):
            raise ValueError(f"{name} must be uint8 (B, T, H, W, C), got {value.dtype} {tuple(value.shape)}")
    if predicted.shape != true.shape:
        raise ValueError(f"predicted has shape {tuple(predicted.shape)}, true {tuple(true.shape)}")
