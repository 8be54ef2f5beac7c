"""Scaling of the last axis to about [-1, 1] by fitted statistics: x = (raw - offset) / scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .codec import FrameByFrame

# A range below these carries no signal in float32: relative to the values' size, and in the data's own unit.
RELATIVE, ABSOLUTE = 1e-6, 1e-12
HELD = 64 * 2**20  # numbers that quantiles are taken of at most, 256 MiB: a million rows of up to 67 dimensions


@dataclass(frozen=True, kw_only=True)
class Identity(FrameByFrame):
    """Raw is latent. Exact. Numbers become float32; uint8 pixels stay as they are, for an encoder that scales them."""

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, *S, C) -> the same."""
        return raw if raw.dtype == torch.uint8 else raw.float()

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, *S, C) -> the same."""
        return x


class Affine(FrameByFrame):
    """x = (raw - offset) / scale on the last axis; subclasses say what the two are.

    The inverse is exact up to float32 rounding: |decode(encode(raw)) - raw| <= 1e-6 * (|raw| + |offset|). A dimension
    that is constant in the data has scale 1: it maps to 0 and comes back exactly.
    """

    statistics: ClassVar[tuple[str, str]]  # names of the two tensor fields

    def __post_init__(self) -> None:
        for name in self.statistics:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, torch.as_tensor(value, dtype=torch.float32).reshape(-1))

    def __repr__(self) -> str:
        shown = []
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if f.name in self.statistics:
                shown.append(f"{f.name}={'None' if value is None else f'<{len(value)}>'}")
            else:
                shown.append(f"{f.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def offset_scale(self) -> tuple[Tensor, Tensor]:
        """(C,) and (C,) float32, scale > 0. Errors: ValueError where the codec is not fitted."""
        raise NotImplementedError("offset_scale() -> (Tensor, Tensor)")

    def _fitted(self) -> tuple[Tensor, Tensor]:
        first, second = (getattr(self, name) for name in self.statistics)
        if first is None or second is None:
            raise ValueError(f"{self!r} is not fitted; call fit(arrays), or recipe.fit(dataset), first")
        if first.shape != second.shape:
            raise ValueError(f"{self!r}: both statistics must have one number for each dimension")
        return first, second

    def _parts(self, values: Tensor) -> tuple[Tensor, Tensor]:
        offset, scale = self.offset_scale()
        if values.shape[-1] != len(offset):
            raise ValueError(f"{self!r} is fitted to {len(offset)} dimensions, got values with {values.shape[-1]}")
        return offset.to(values.device), scale.to(values.device)

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw (B, T, *S, C) in the data's units -> (B, T, *S, C) float32 of about [-1, 1]."""
        offset, scale = self._parts(raw)
        return (raw.float() - offset) / scale

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, *S, C) -> (B, T, *S, C) float32 in the data's units."""
        offset, scale = self._parts(x)
        return x.float() * scale + offset


def _span(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Ends (C,), (C,) of [-1, 1] in data units -> offset and scale, with scale 1 where there is no range."""
    half = high / 2 - low / 2
    size = torch.maximum(low.abs(), high.abs())
    flat = half * 2 <= (RELATIVE * size).clamp_min(ABSOLUTE)
    return low + half, torch.where(flat, torch.ones_like(half), half)


@dataclass(frozen=True, kw_only=True, repr=False)
class MinMax(Affine):
    """The least value of each dimension becomes -1, the greatest 1. low, high (C,), in the data's units."""

    statistics: ClassVar[tuple[str, str]] = ("low", "high")
    low: Tensor | None = field(default=None, compare=False)
    high: Tensor | None = field(default=None, compare=False)

    def offset_scale(self) -> tuple[Tensor, Tensor]:
        return _span(*self._fitted())

    def fit(self, arrays: Iterable[np.ndarray]) -> MinMax:
        """Least and greatest over all of `arrays`, each (n, *S, C), in one pass. Errors: ValueError for NaN or Inf."""
        low = high = None
        for rows in _rows(arrays):
            a, b = rows.min(0), rows.max(0)
            low = a if low is None else np.minimum(low, a)
            high = b if high is None else np.maximum(high, b)
        return replace(self, low=_tensor(low), high=_tensor(high))


@dataclass(frozen=True, kw_only=True, repr=False)
class MeanStd(Affine):
    """Mean 0 and standard deviation 1 in each dimension. mean, std (C,), in the data's units."""

    statistics: ClassVar[tuple[str, str]] = ("mean", "std")
    mean: Tensor | None = field(default=None, compare=False)
    std: Tensor | None = field(default=None, compare=False)

    def offset_scale(self) -> tuple[Tensor, Tensor]:
        mean, std = self._fitted()
        flat = std <= (RELATIVE * mean.abs()).clamp_min(ABSOLUTE)
        return mean, torch.where(flat, torch.ones_like(std), std)

    def fit(self, arrays: Iterable[np.ndarray]) -> MeanStd:
        """Mean and population standard deviation over all of `arrays`, each (n, *S, C), in one pass (Chan et al. 1983).

        Errors: ValueError for NaN or Inf.
        """
        count = 0
        mean = spread = np.zeros(0)
        for rows in _rows(arrays):
            n, m = len(rows), rows.mean(0)
            s = np.square(rows - m).sum(0)
            if not count:
                count, mean, spread = n, m, s
                continue
            total = count + n
            spread = spread + s + np.square(m - mean) * (count * n / total)
            mean = mean + (m - mean) * (n / total)
            count = total
        return replace(self, mean=_tensor(mean), std=_tensor(np.sqrt(spread / count)))


@dataclass(frozen=True, kw_only=True, repr=False)
class Quantile(Affine):
    """Quantile `q[0]` of each dimension becomes -1, `q[1]` becomes 1; a few outliers do not squeeze the rest.

    low, high  (C,) the two quantiles, in the data's units
    clip       latents are cut to [-clip, clip]; None: nothing is cut, and the inverse is exact
    limit      quantiles are exact up to this many rows of C numbers, and up to `HELD` numbers in all; beyond either, of
               a uniform sample of so many rows, drawn with a fixed seed

    A dimension whose quantiles coincide though it is not constant (a gripper that rarely opens) uses its least and
    greatest value instead.
    """

    q: tuple[float, float] = (0.01, 0.99)
    clip: float | None = None
    limit: int = 1_000_000
    statistics: ClassVar[tuple[str, str]] = ("low", "high")
    low: Tensor | None = field(default=None, compare=False)
    high: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", tuple(self.q))
        super().__post_init__()
        if len(self.q) != 2 or not 0 <= self.q[0] < self.q[1] <= 1:
            raise ValueError(f"q={self.q} must be two rising numbers in [0, 1]")
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"clip={self.clip} must be positive, or None")
        if self.limit < 1:
            raise ValueError(f"limit={self.limit} must be at least 1 row")

    def offset_scale(self) -> tuple[Tensor, Tensor]:
        return _span(*self._fitted())

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw (B, T, *S, C) in the data's units -> (B, T, *S, C) float32, mostly in [-1, 1]."""
        x = super().encode(raw)
        return x if self.clip is None else x.clamp(-self.clip, self.clip)

    def fit(self, arrays: Iterable[np.ndarray]) -> Quantile:
        """Quantiles over all of `arrays`, each (n, *S, C), in one pass. Errors: ValueError for NaN or Inf."""
        rng = np.random.default_rng(0)
        kept: list[np.ndarray] = []
        keys: list[np.ndarray] = []
        held = limit = 0
        least = most = None
        for rows in _rows(arrays):
            a, b = rows.min(0), rows.max(0)
            least = a if least is None else np.minimum(least, a)
            most = b if most is None else np.maximum(most, b)
            kept.append(rows.astype(np.float32))
            keys.append(rng.random(len(rows)))
            held += len(rows)
            limit = min(self.limit, max(1, HELD // rows.shape[1]))
            if held > 2 * limit:
                kept, keys = _thin(kept, keys, limit)
                held = limit
        if held > limit:
            kept, keys = _thin(kept, keys, limit)
        low, high = _quantiles(np.concatenate(kept), self.q)
        same = high - low <= np.maximum(RELATIVE * np.maximum(abs(low), abs(high)), ABSOLUTE)
        assert least is not None and most is not None
        return replace(self, low=_tensor(np.where(same, least, low)), high=_tensor(np.where(same, most, high)))


def _quantiles(rows: np.ndarray, q: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """(n, C) float32 -> two (C,) float64; few dimensions at a time, as their copies in float64 are large."""
    blocks = [np.quantile(rows[:, i : i + 16].astype(np.float64), q, axis=0) for i in range(0, rows.shape[1], 16)]
    low, high = np.concatenate(blocks, 1)
    return low, high


def _thin(kept: list[np.ndarray], keys: list[np.ndarray], limit: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The `limit` rows with the smallest keys: a uniform sample without replacement, whenever it is taken."""
    key = np.concatenate(keys)
    best = np.zeros(len(key), bool)
    best[np.argpartition(key, limit - 1)[:limit]] = True
    parts = np.split(best, np.cumsum([len(rows) for rows in kept])[:-1])
    return [rows[part] for rows, part in zip(kept, parts, strict=True)], [key[best]]


def check_finite(array: np.ndarray, number: int) -> None:
    """Errors: ValueError that names the first dimension and frame of an (n, *S, C) array that is NaN or Inf."""
    finite = np.isfinite(array)
    if not finite.all():
        bad = np.argwhere(~finite)[0]
        value = array[tuple(bad)]
        raise ValueError(f"dimension {bad[-1]} is {value} in frame {bad[0]} of array (episode) number {number}")


def _rows(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Each (n, *S, C) array as (n * S, C) float64, checked."""
    width, found = None, False
    for i, array in enumerate(arrays):
        array = np.asarray(array)
        if array.ndim < 2:
            raise ValueError(f"array {i} to fit has shape {array.shape}; expected (frames, ..., dimensions)")
        if width is not None and array.shape[-1] != width:
            raise ValueError(f"array {i} to fit has {array.shape[-1]} dimensions, those before it {width}")
        width = array.shape[-1]
        rows = array.reshape(-1, width).astype(np.float64)
        if not len(rows):
            continue
        check_finite(array, i)
        if np.abs(rows).max() > np.finfo(np.float32).max:
            raise ValueError(f"array {i} to fit holds a number too large for float32")
        found = True
        yield rows
    if not found:
        raise ValueError(f"nothing to fit: {'no array was given' if width is None else 'the arrays hold no frame'}")


def _tensor(values: np.ndarray | None) -> Tensor:
    assert values is not None, "_rows yields at least once or raises"
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
