"""Statistics of columns and videos as LeRobot defines them: min, max, mean, std, count and five quantiles.

Quantiles come from histograms of 5,000 bins between min and max; those of a data set are the means of the episodes'
quantiles, weighted by count. Both are LeRobot's definitions, kept so that policies trained there read the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
NAMES = ("min", "max", "mean", "std", "count", *QUANTILES)
BINS = 5000
SIDE = 150  # pixels: a larger picture is thinned to about this size first

Statistics = dict[str, np.ndarray]


def of_column(array: np.ndarray) -> Statistics:
    """Statistics of n rows: (n,) -> (1,); (n, ..., k) -> (k,), over rows and all but the last dimension. count is n."""
    flat = array.reshape(-1, 1) if array.ndim == 1 else array.reshape(-1, array.shape[-1])
    found = {"min": flat.min(0), "max": flat.max(0), "mean": flat.mean(0, dtype=np.float64)}
    found["std"] = flat.std(0, dtype=np.float64)
    found["count"] = np.array([len(array)])
    numbers = flat.astype(np.uint8) if flat.dtype == bool else flat
    per_dimension = [_quantiles(column, np.ones(len(column))) for column in numbers.T]
    for i, name in enumerate(QUANTILES):
        found[name] = np.array([q[i] for q in per_dimension]) if len(flat) > 1 else found["mean"].copy()
    return found


class PixelCounts:
    """Statistics of a video as it goes by: how often each value of each channel occurred.

    `levels` is 256 for 8-bit and 65536 for 16-bit pixels; results are scaled to [0, 1] and have shape (C, 1, 1).
    """

    def __init__(self, channels: int, levels: int) -> None:
        self._counts = np.zeros((channels, levels), np.int64)
        self._frames = 0

    def add(self, frame: np.ndarray) -> None:
        """Count one frame (H, W, C), unsigned integers."""
        height, width = frame.shape[:2]
        step = int((width if width > height else height) / SIDE) if max(height, width) >= 2 * SIDE else 1
        for counts, plane in zip(self._counts, np.moveaxis(frame[::step, ::step], -1, 0), strict=True):
            counts += np.bincount(plane.ravel(), minlength=len(counts))
        self._frames += 1

    def result(self) -> Statistics:
        """(C, 1, 1) each, in [0, 1]; count (1,) is the number of frames."""
        rows = [self._channel(counts) for counts in self._counts]
        scale = self._counts.shape[1] - 1
        found = {name: np.array([row[name] for row in rows]).reshape(-1, 1, 1) / scale for name in rows[0]}
        found["count"] = np.array([self._frames])
        return {name: found[name] for name in NAMES}

    @staticmethod
    def _channel(counts: np.ndarray) -> dict[str, float]:
        values = np.flatnonzero(counts)
        weights = counts[values]
        mean = np.average(values, weights=weights)
        std = np.sqrt(np.average((values - mean) ** 2, weights=weights))
        row = {"min": values[0], "max": values[-1], "mean": mean, "std": std}
        return row | dict(zip(QUANTILES, _quantiles(values, weights), strict=True))


def aggregate(parts: Iterable[dict[str, Statistics]]) -> dict[str, Statistics]:
    """Statistics of several episodes (or data sets) together; `parts` are {feature: statistics}."""
    gathered: dict[str, list[Statistics]] = {}
    for part in parts:
        for key, found in part.items():
            gathered.setdefault(key, []).append(found)
    return {key: _join(found) for key, found in gathered.items()}


def _join(parts: list[Statistics]) -> Statistics:
    counts = np.stack([p["count"] for p in parts])
    total = counts.sum(0)
    weights = counts.reshape(len(parts), *[1] * parts[0]["mean"].ndim)
    mean = (np.stack([p["mean"] for p in parts]) * weights).sum(0) / total
    spread = np.stack([p["std"] ** 2 + (p["mean"] - mean) ** 2 for p in parts])
    joined = {
        "min": np.stack([p["min"] for p in parts]).min(0),
        "max": np.stack([p["max"] for p in parts]).max(0),
        "mean": mean,
        "std": np.sqrt((spread * weights).sum(0) / total),
        "count": total,
    }
    for name in QUANTILES:
        if all(name in p for p in parts):
            joined[name] = (np.stack([p[name] for p in parts]) * weights).sum(0) / total
    return joined


def _quantiles(values: np.ndarray, weights: np.ndarray) -> list[float]:
    low, high = values.min(), values.max()
    edges = np.linspace(low - 1e-10, high + 1e-10, BINS + 1)
    histogram, _ = np.histogram(values, bins=edges, weights=weights)
    reached = np.cumsum(histogram)
    return [_quantile(q * weights.sum(), reached, histogram, edges) for q in QUANTILES.values()]


def _quantile(target: float, reached: np.ndarray, histogram: np.ndarray, edges: np.ndarray) -> float:
    i = int(np.searchsorted(reached, target))
    if i == 0:
        return float(edges[0])
    if i >= len(reached):
        return float(edges[-1])
    if not histogram[i]:
        return float(edges[i])
    fraction = (target - reached[i - 1]) / histogram[i]
    return float(edges[i] + fraction * (edges[i + 1] - edges[i]))
