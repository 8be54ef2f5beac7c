"""How sure a mean is: block bootstrap for windows that overlap in time, Wilson's interval for shares."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over windows with its 95 % interval; low and high are None where one block says nothing of the spread."""

    mean: float
    low: float | None
    high: float | None
    n_windows: int
    n_blocks: int

    def plain(self) -> dict[str, float | int | None]:
        """As a dict that JSON can hold."""
        return asdict(self)


def block_interval(
    values: np.ndarray,
    blocks: Sequence[Hashable],
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean of values (n,) and its interval when values of one block (n,) belong together.

    Blocks are drawn with replacement; the statistic is the mean over the windows drawn. For differences pass paired
    differences. The percentiles are those of Hesterberg (2015, "expanded percentile"): widened from the normal's to
    Student's t and by sqrt(k / (k - 1)) for k blocks, without which ten blocks cover 90 % and not 95 %.
    Errors: ValueError for no values, or one that is not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or len(values) != len(blocks):
        raise ValueError(f"an interval needs one block for each value, got {values.shape} and {len(blocks)} blocks")
    if not np.isfinite(values).all():
        raise ValueError(f"value {int(np.flatnonzero(~np.isfinite(values))[0])} of {len(values)} is not finite")
    number = {block: i for i, block in enumerate(dict.fromkeys(blocks))}
    place = np.array([number[block] for block in blocks])
    sums, counts = np.bincount(place, values), np.bincount(place).astype(np.float64)
    k, mean = len(sums), float(values.mean())
    if k < 2:
        return Interval(mean=mean, low=None, high=None, n_windows=len(values), n_blocks=k)
    drawn = _draws(k, seed, resamples)
    means = (drawn @ sums) / (drawn @ counts)
    tail = _normal_cdf(-math.sqrt(k / (k - 1)) * student_t(0.5 + level / 2, k - 1))
    low, high = np.quantile(means, [tail, 1 - tail])
    # With few blocks no resample may reach the mean of all of them exactly; the interval always holds it.
    return Interval(
        mean=mean, low=float(min(low, mean)), high=float(max(high, mean)), n_windows=len(values), n_blocks=k
    )


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share. Errors: ValueError for counts that are no share."""
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no share")
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@lru_cache(maxsize=8)
def _draws(blocks: int, seed: int, resamples: int) -> np.ndarray:
    """(resamples, blocks) float64: how often each block is drawn; the same for every measure of the same windows."""
    even = np.full(blocks, 1 / blocks)
    return np.random.default_rng(seed).multinomial(blocks, even, size=resamples).astype(np.float64)


@lru_cache(maxsize=64)
def student_t(level: float, degrees: int) -> float:
    """The quantile of Student's t, by summing its density on a grid: t = sqrt(degrees) tan(angle)."""
    if degrees < 1 or not 0.5 <= level < 1:
        raise ValueError(f"the t quantile of level {level} with {degrees} degrees of freedom")
    angle = np.linspace(0, math.pi / 2, 20_001)
    density = np.cos(angle) ** (degrees - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    found = float(np.interp(2 * level - 1, area / area[-1], angle))
    return math.sqrt(degrees) * math.tan(found)


def _normal_cdf(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))
