"""Windows: a sample for every data frame of every episode, with each signal at its own rate around that frame.

Frame i of a signal lies start + i / rate seconds after the anchor a; its data frame is a + floor(fps (start + i / rate)
+ 1/2), in exact fractions. Beyond the ends of the episode the end frame is repeated and marked as not valid.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import accumulate

import numpy as np

from ..modality import Signal
from .latents import Latents
from .source import Ahead, Dataset, Sample, noted, rational


def offsets(signal: Signal, fps: float | Fraction) -> tuple[int, ...]:
    """(T',) data frames from the anchor to each frame of `signal`: the nearest, halves up, in exact arithmetic."""
    per_second = rational(fps)
    step = Fraction(1) if signal.rate is None else per_second / rational(signal.rate)
    begin = per_second * Fraction(signal.start).limit_denominator(1_000_000)
    return tuple(math.floor(begin + i * step + Fraction(1, 2)) for i in range(int(signal.shape[0] or 0)))


class Windows:
    """A source with one sample per anchor: data frames 0, stride, 2 stride, ... of each episode.

    `present` and `absent` are the names that the data set has and lacks. A signal is read with one call per window, and
    of its column the frames of the window alone; where `ahead` has a name, its numbers are read in place of frames. A
    text is the one at the anchor, and absent where that is empty.
    Errors (at construction): no signal is in the data, a key is a likely misspelling, or a shape does not agree.
    """

    def __init__(
        self,
        dataset: Dataset,
        signals: Mapping[str, Signal],
        stride: int = 1,
        ahead: Mapping[str, Latents] | None = None,
    ) -> None:
        if stride < 1:
            raise ValueError(f"stride={stride} must be at least 1")
        self.dataset = dataset
        self.signals = dict(signals)
        self.stride = stride
        self.ahead = dict(ahead or {})
        facts = dataset.facts
        columns = facts.columns
        self.present = tuple(n for n, s in self.signals.items() if s.key in columns)
        self.absent = tuple(n for n in self.signals if n not in self.present)
        _check_made(self.signals, dataset)
        _check(self.signals, self.absent, columns)
        self._offsets = {
            n: np.array(offsets(self.signals[n], facts.fps), np.int64)
            for n in self.present
            if self.signals[n].kind != "text"
        }
        counts = [-(-e.length // stride) for e in dataset.episodes]
        self._ends = list(accumulate(counts))

    def part(self, names: Iterable[str], episodes: Iterable[int] | None = None) -> Windows:
        """Windows of these signals alone, of these episodes (None: of all)."""
        names = set(names)
        dataset = self.dataset if episodes is None else self.dataset.only(episodes)
        signals = {n: s for n, s in self.signals.items() if n in names}
        return Windows(dataset, signals, self.stride, {n: kept for n, kept in self.ahead.items() if n in names})

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def anchor(self, i: int) -> tuple[int, int]:
        """(episode number, data frame) of sample i."""
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        place = bisect_right(self._ends, i)
        before = self._ends[place - 1] if place else 0
        return self.dataset.episodes[place].index, (i - before) * self.stride

    def __getitem__(self, i: int) -> Sample:
        episode, anchor = self.anchor(i)
        length = self.dataset.episodes[bisect_right(self._ends, i)].length
        values: dict[str, np.ndarray | str | Ahead] = {}
        valid: dict[str, np.ndarray] = {}
        for name in self.present:
            signal = self.signals[name]
            if not self.dataset.has(episode, signal.key):
                continue
            if signal.kind == "text":
                said = self.dataset.read(episode, signal.key, [anchor])
                if isinstance(said, str) and said:  # an empty text says nothing: it is absent
                    values[name] = said
                continue
            due = anchor + self._offsets[name]
            frames = np.clip(due, 0, length - 1)
            valid[name] = due == frames
            kept = self.ahead.get(name)
            values[name] = kept.window(episode, anchor, frames) if kept else self._read(episode, signal, frames)
        return Sample(values, valid, f"episode {episode}, frame {anchor}")

    def _read(self, episode: int, signal: Signal, frames: np.ndarray) -> np.ndarray:
        size = None
        if signal.kind == "video" and signal.shape[1] is not None and signal.shape[2] is not None:
            size = (signal.shape[1], signal.shape[2])
        value = self.dataset.read(episode, signal.key, frames.tolist(), size)
        assert isinstance(value, np.ndarray)
        return value if signal.kind == "video" else value.astype(np.float32, copy=False)


def _check(signals: Mapping[str, Signal], absent: tuple[str, ...], columns: Mapping[str, tuple]) -> None:
    have = ", ".join(columns)
    if signals and len(absent) == len(signals):
        asked = ", ".join(s.key for s in signals.values())
        raise ValueError(f"none of the signals asked for ({asked}) is in the data, which have: {have}")
    claimed = {s.key for s in signals.values()}
    for name in absent:
        for column in columns:
            if column not in claimed and misspelt(signals[name].key, column):
                raise ValueError(f"{name}: the data have no column {signals[name].key!r}. Did you mean {column!r}? "
                                 f"They have: {have}")  # fmt: skip
    for name, signal in signals.items():
        if name in absent:
            continue
        shape = columns[signal.key]
        if signal.kind == "text" or not shape:
            if (signal.kind == "text") != (not shape):
                raise ValueError(f"{name}: column {signal.key!r} does not hold {signal.kind}")
            continue
        want, here = (signal.shape[-1:], shape[-1:]) if signal.kind == "video" else (signal.shape[1:], shape)
        if len(want) != len(here) or any(
            w is not None and h is not None and w != h for w, h in zip(want, here, strict=True)
        ):
            raise ValueError(
                f"{name}: one frame of {signal.key!r} has shape {shape}, the model wants {signal.shape[1:]}"
            )


def _check_made(signals: Mapping[str, Signal], dataset: Dataset) -> None:
    """Errors: a column that was made by something else than the model was fitted to."""
    for name, signal in signals.items():
        by = noted(dataset).made_by(signal.key) if signal.made is not None else None
        if (
            signal.made is not None
            and signal.key in dataset.facts.columns
            and getattr(by, "digest", None) != signal.made
        ):
            raise ValueError(
                f"{name}: the model was fitted to a column that {signal.made} made, and {signal.key!r} here is "
                f"{'raw' if by is None else f'by {by.digest}'}; numbers of the two mean different things"
            )


def misspelt(key: str, column: str) -> bool:
    """Whether `key` is a likely slip for `column`: other case or separators, or one letter off in a word.

    Names that differ in a digit or in a word of one or two letters ("cam_1", "camera_b") are taken as meant.
    """
    if re.sub(r"[\W_]", "", key).lower() == re.sub(r"[\W_]", "", column).lower():
        return True
    a, b = re.split(r"[._/]", key), re.split(r"[._/]", column)
    if len(a) != len(b):
        return False
    apart = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    if len(apart) != 1:
        return False
    x, y = apart[0]
    return min(len(x), len(y)) > 3 and not re.search(r"\d", x + y) and _one_slip(x, y)


def _one_slip(x: str, y: str) -> bool:
    """One letter more, less, changed, or two neighbours swapped."""
    if len(x) > len(y):
        x, y = y, x
    if len(y) - len(x) > 1:
        return False
    i = next((i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), len(x))
    if len(x) < len(y):
        return x[i:] == y[i + 1 :]
    swapped = x[i + 1 : i + 2] + x[i : i + 1] == y[i : i + 2]
    return x[i + 1 :] == y[i + 1 :] or (swapped and x[i + 2 :] == y[i + 2 :])
