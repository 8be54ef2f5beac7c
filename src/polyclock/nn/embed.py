"""Values <-> tokens, and times -> vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..modality import widened


def patchify(x: Tensor, patch: tuple[int, ...]) -> Tensor:
    """(b, T, *S, C) -> (b, F, N, P * C): F token frames of N tokens, P the patch volume, channels fastest."""
    b, *sizes, c = x.shape
    grid = [n // p for n, p in zip(sizes, patch, strict=True)]
    k = len(grid)
    x = x.reshape(b, *[d for pair in zip(grid, patch, strict=True) for d in pair], c)
    x = x.permute(0, *range(1, 2 * k, 2), *range(2, 2 * k + 1, 2), 2 * k + 1)
    return x.reshape(b, grid[0], math.prod(grid[1:]), math.prod(patch) * c)


def unpatchify(y: Tensor, grid: tuple[int, ...], patch: tuple[int, ...]) -> Tensor:
    """(b, F, N, P * C) -> (b, T, *S, C): the inverse of `patchify`."""
    b, k = y.shape[0], len(grid)
    c = y.shape[-1] // math.prod(patch)
    y = y.reshape(b, *grid, *patch, c)
    y = y.permute(0, *[d for i in range(k) for d in (1 + i, 1 + k + i)], 2 * k + 1)
    return y.reshape(b, *[g * p for g, p in zip(grid, patch, strict=True)], c)


def sinusoid(t: Tensor, dim: int, scale: float = 1000.0, closed: bool = False, whole: bool = False) -> Tensor:
    """Times (...) in [0, 1] -> (..., dim): cos and sin of `scale` t at `dim / 2` frequencies from 1 to 1e-4, in float32
    or float64 as the times are.

    The last frequency is one short of 1e-4 (Ho et al. 2020, code), or with `closed` exactly that. With `whole` what is
    scaled is rounded: to the places of a table, which a division by its length and back would miss by a rounding.
    """
    count = dim // 2
    place = scale * widened(t)
    order = torch.arange(count, device=t.device, dtype=place.dtype)
    frequency = torch.exp(order * (-math.log(1e4) / (count - closed)))
    angle = (place.round() if whole else place)[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)


def scatter(values: Tensor, rows: Tensor, size: int) -> Tensor:
    """(b, ...) values of the samples `rows` (b,) -> (size, ...), zero for the others; itself when all are there."""
    if len(rows) == size:
        return values  # rows rise, so they are 0 .. size - 1
    return values.new_zeros(size, *values.shape[1:]).index_copy(0, rows, values)
