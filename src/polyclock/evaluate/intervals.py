"""How sure a mean is: block bootstrap for windows that overlap in time, Wilson's interval for shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

RESAMPLES = 10_000


# Contributions of windows, summed over them (..., k) -> the number that they make together (...).
Pool = Callable[[np.ndarray], np.ndarray]


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


def average(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 2) of values and of ones -> their mean (...)."""
    return sums[..., 0] / sums[..., 1]


def pooled(values: np.ndarray, pool: Pool | None = None) -> float:
    """The mean of values (n,), or `pool` of the sum of contributions (n, k)."""
    parts, pool = _parts(values, pool)
    return float(pool(parts.sum(0)))


def block_interval(
    values: np.ndarray,
    blocks: Sequence[Hashable],
    *,
    pool: Pool | None = None,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Mean of values (n,) and its interval when values of one block (n,) belong together.

    Blocks are drawn with replacement; the statistic is the mean over the windows drawn. With `pool` values are (n, k),
    what each window contributes, and the statistic is `pool` of the sum over the windows drawn. The percentiles are
    those of Hesterberg (2015, "expanded percentile"): widened from the normal's to Student's t and by sqrt(k / (k - 1))
    for k blocks, without which ten blocks cover 90 % and not 95 %.
    Errors: ValueError for no values, or one that is not finite.
    """
    parts, pool = _parts(values, pool)
    return _interval(parts, blocks, pool, seed, level, resamples)


def paired_interval(
    first: np.ndarray,
    second: np.ndarray,
    blocks: Sequence[Hashable],
    *,
    pool: Pool | None = None,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """first - second of two ways to answer the same windows, each as `block_interval` takes it, drawn together."""
    (a, pool), (b, _) = _parts(first, pool), _parts(second, pool)
    if a.shape != b.shape:
        raise ValueError(f"pairs need values of one shape, got {a.shape} and {b.shape}")
    half, one = a.shape[1], pool
    both = np.concatenate([a, b], 1)
    return _interval(both, blocks, lambda s: one(s[..., :half]) - one(s[..., half:]), seed, level, resamples)


def _parts(values: np.ndarray, pool: Pool | None) -> tuple[np.ndarray, Pool]:
    """(n, k) contributions and what pools them."""
    values = np.asarray(values, np.float64)
    if values.ndim != (1 if pool is None else 2) or not len(values):
        raise ValueError(f"an interval needs values (n,), or (n, k) to pool; got {values.shape}")
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
    if len(bad):
        raise ValueError(f"value {int(bad[0])} of {len(values)} is not finite")
    return (np.stack([values, np.ones_like(values)], 1), average) if pool is None else (values, pool)


def _interval(
    parts: np.ndarray, blocks: Sequence[Hashable], pool: Pool, seed: int, level: float, resamples: int
) -> Interval:
    if len(parts) != len(blocks):
        raise ValueError(f"an interval needs one block for each value, got {len(parts)} and {len(blocks)} blocks")
    number = {block: i for i, block in enumerate(dict.fromkeys(blocks))}
    k = len(number)
    sums = np.zeros((k, parts.shape[1]))
    np.add.at(sums, [number[block] for block in blocks], parts)
    mean = float(pool(sums.sum(0)))
    if k < 2:
        return Interval(mean=mean, low=None, high=None, n_windows=len(parts), n_blocks=k)
    drawn = pool(_draws(k, seed, resamples) @ sums)
    drawn = drawn[np.isfinite(drawn)]  # a resample may hold nothing of what is pooled
    if not len(drawn):
        return Interval(mean=mean, low=None, high=None, n_windows=len(parts), n_blocks=k)
    tail = _normal_cdf(-math.sqrt(k / (k - 1)) * student_t(0.5 + level / 2, k - 1))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    # With few blocks no resample may reach the mean of all of them exactly; the interval always holds it.
    return Interval(mean=mean, low=float(min(low, mean)), high=float(max(high, mean)), n_windows=len(parts), n_blocks=k)


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
