"""Augmentations of a latent batch, drawn sample by sample; training applies them, validation and sampling do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .batch import Batch
from .dice import Dice


class Augmentation(Protocol):
    """(latent batch, dice) -> latent batch, a function of the two alone."""

    def __call__(self, batch: Batch, dice: Dice) -> Batch: ...

    def check(self, names: Mapping[str, object]) -> None:
        """Errors: ValueError for a name that the recipe does not have."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Pictures and maps `of` a sample move together by up to `pixels` up, down, left or right; edges are repeated.

    All of them show one view, (b, T, H, W, C) with one H and W, so what lay on one pixel stays on one pixel. Values
    that are measured in pixels (flow) do not change under a shift; those that name a place (keypoints) belong to a
    codec that draws them as a map.
    """

    of: tuple[str, ...]
    pixels: int

    def __post_init__(self) -> None:
        if self.pixels < 1 or not self.of:
            raise ValueError(f"Shift(of={self.of}, pixels={self.pixels}): at least one name and one pixel are needed")

    def check(self, names: Mapping[str, object]) -> None:
        """Errors: ValueError for a name that the recipe does not have."""
        for name in self.of:
            if name not in names:
                raise ValueError(f"Shift moves {name!r}, which the recipe does not have; it has {', '.join(names)}")

    def __call__(self, batch: Batch, dice: Dice) -> Batch:
        """Errors: ValueError where what shall move together differs in height or width."""
        sizes = {n: tuple(batch.tensor(n).shape[2:4]) for n in self.of if len(batch.rows[n])}
        if len(set(sizes.values())) > 1 or any(batch.tensor(n).ndim != 5 for n in sizes):
            raise ValueError(f"what a Shift moves together must be pictures of one size, not {sizes}")
        throw = (dice.uniform("shift", 2) * (2 * self.pixels + 1)).long() - self.pixels  # (B, 2)
        moved = {n: shifted(batch.tensor(n), throw[batch.rows[n]]) for n in sizes}
        return replace(batch, values={**batch.values, **moved})


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """x (b, T, H, W, C) with sample j moved by[j] = (down, right) pixels; edges are repeated."""
    b, _, height, width, _ = x.shape
    rows = (torch.arange(height, device=x.device) - by[:, :1]).clamp(0, height - 1)  # (b, H)
    columns = (torch.arange(width, device=x.device) - by[:, 1:]).clamp(0, width - 1)  # (b, W)
    samples = torch.arange(b, device=x.device)[:, None, None]
    # Indices on both sides of the frames put (b, H, W) first: frames go back to their place.
    return x[samples, :, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
