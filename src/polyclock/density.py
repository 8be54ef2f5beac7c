"""Densities of training times: how a uniform number becomes a time, and the atoms at the two ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Uniform:
    """t uniform in (0, 1), then t <- s t / (1 + (s - 1) t) with s = `shift` (s > 1 favours noise)."""

    shift: float = 1.0

    def __call__(self, u: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) -> times, same shape."""
        return shifted(u, self.shift)


@dataclass(frozen=True)
class LogitNormal:
    """t = sigmoid(n), n ~ N(mean, std) (Esser et al. 2024), then shifted as in `Uniform`."""

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0

    def __call__(self, u: Tensor) -> Tensor:
        normal = torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))
        return shifted(torch.sigmoid(self.mean + self.std * normal), self.shift)


@dataclass(frozen=True)
class Places:
    """t uniform over 1 / count, 2 / count, .. 1: the noisy places of a table (`path.Discrete`)."""

    count: int

    def __call__(self, u: Tensor) -> Tensor:
        return ((u * self.count).floor().clamp_max(self.count - 1) + 1) / self.count


Density = Uniform | LogitNormal | Places


def shifted(t: Tensor, shift: float) -> Tensor:
    """t <- s t / (1 + (s - 1) t): fixes 0 and 1, moves what lies between towards noise for s > 1. Errors: s <= 0."""
    if shift <= 0:
        raise ValueError(f"shift={shift} of times must be above 0")
    return shift * t / (1 + (shift - 1) * t)


def with_ends(u: Tensor, density: Density, ends: float) -> tuple[Tensor, Tensor]:
    """Uniform numbers -> times, with atoms of weight `ends` at exactly 0 and at exactly 1, and what is learnt.

    An atom is a time that a query states, so nothing is learnt there; what the density draws is, unless it is data.
    """
    t = density(((u - ends) / max(1e-9, 1 - 2 * ends)).clamp(0, 1))
    low, high = u < ends, u >= 1 - ends
    t = torch.where(low, 0.0, torch.where(high, 1.0, t))
    return t, (t > 0) & ~high
