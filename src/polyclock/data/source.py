"""Where samples come from: what a data set is and what a source is, and what data sets of all formats share."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from ..codecs.codec import Codec, Shape

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".m4v", ".gif")
TABLE_SUFFIXES = (".csv", ".jsonl")


class UntidyData(UserWarning):
    """Something in a data set is not as its metadata say, and how it was taken; the data can be used."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a data set holds, seen in the files and not only declared.

    fps         data frames per second
    cameras     video columns
    tasks       sentences of the episodes that are here
    columns     shape of one frame of each column: (*S, C), None where it varies; () for a text, such as "task"
    """

    fps: float
    cameras: tuple[str, ...]
    tasks: tuple[str, ...]
    columns: dict[str, Shape]

    @property
    def action_dim(self) -> int | None:
        """Numbers in an `action`; None where there is none."""
        return self._numbers("action")

    @property
    def state_dim(self) -> int | None:
        """Numbers in an `observation.state`; None where there is none."""
        return self._numbers("observation.state")

    def _numbers(self, key: str) -> int | None:
        sizes = [n for n in self.columns.get(key, ()) if n is not None]
        return math.prod(sizes) if sizes and len(sizes) == len(self.columns[key]) else None


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One recording: its number in the data set, its length in data frames, its sentences."""

    index: int
    length: int
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ahead:
    """What a frozen network said of V looks at a signal, in place of its raw values: numbers (V, T, *S, K)."""

    numbers: np.ndarray


@dataclass(frozen=True)
class Sample:
    """One training sample; a name that the data lack is absent.

    values[name]  (T', *S, C) uint8 (video) or float32 (vector), or a str, or `Ahead`
    valid[name]   (T',) bool: False for frames that only pad the end of an episode
    where         which episode and frame this is, for messages
    """

    values: dict[str, np.ndarray | str | Ahead]
    valid: dict[str, np.ndarray] = field(default_factory=dict)
    where: str = ""


class Dataset(Protocol):
    """Episodes of aligned columns. `read` may be called from several threads at once.

    This is all that a data set must have. What it may have is in `Noted`, and is asked for by `noted(dataset)`.
    """

    @property
    def facts(self) -> Facts: ...

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """In rising index; gaps are allowed."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 over metadata, file names and sizes, and the choice of episodes."""
        ...

    def has(self, episode: int, key: str) -> bool:
        """Whether this episode has this column."""
        ...

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        """(n, *S, C) of the data frames asked for, in their order; videos at `size` (H, W).

        Of a text a str, what is said at the first of the frames; "" where nothing is.
        """
        ...

    def column(self, key: str) -> Iterator[np.ndarray]:
        """One (length, *S, C) array per episode that has the column."""
        ...

    def only(self, indices: Iterable[int]) -> Dataset:
        """The same data set with these episodes alone."""
        ...

    def without(self, indices: Iterable[int]) -> Dataset:
        """The same data set without these episodes."""
        ...


class Noted(Dataset):
    """A data set and all that it may say of itself beyond what it must; what it does not say is as it is here."""

    @property
    def format(self) -> str:
        """What it lies in, for people."""
        return "videos"

    @property
    def opened_with(self) -> dict[str, Any]:
        """The options that it was opened with, by name."""
        return {}

    @property
    def number_names(self) -> dict[str, list]:
        """{column: what its numbers are called}, where the data say that."""
        return {}

    @property
    def dense(self) -> dict[str, dict[str, Any]]:
        """{column: kind, unit, scale, classes, ...} of the dense modalities, as `data.dense.notes` reads them."""
        return {}

    @property
    def latents(self) -> Path | None:
        """The folder of what frozen codecs said of the columns, where it lies beside the data."""
        return None

    @property
    def whole(self) -> Dataset:
        """The data set that this one is a part of, where filters left only a part; else itself."""
        return self

    def made_by(self, key: str) -> Codec | None:
        """The codec that made a column before it was stored; None: it is raw."""
        return None

    def fingerprint_of(self, key: str) -> str:
        """sha256 over all that the values of a column depend on: those of other columns may change without it."""
        return self.fingerprint

    def mark(self, episode: int) -> str:
        """What tells whether an episode is still the one that was annotated."""
        return self.fingerprint


PARTS = tuple(name for name in vars(Noted) if not name.startswith("_"))  # what a data set need not have


class Source(Protocol):
    """Anything that gives samples by number. A source may also have `draw(epoch, i)`, which the loader prefers."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Sample: ...


def rational(rate: float | Fraction) -> Fraction:
    """A rate in 1/s as an exact fraction; 29.97, 23.976, ... are read as the NTSC rates n * 1000 / 1001.

    Errors: ValueError for a rate that is not positive and finite.
    """
    if isinstance(rate, Fraction):
        value = rate
    elif not np.isfinite(rate) or rate <= 0:
        raise ValueError(f"a rate of {rate} frames per second; it must be positive and finite")
    else:
        value = Fraction(rate).limit_denominator(1_000_000)
        ntsc = Fraction(round(rate * 1.001) * 1000, 1001)
        if value.denominator != 1 and abs(rate - float(ntsc)) < 0.005:
            value = ntsc
    if value <= 0:
        raise ValueError(f"a rate of {rate} frames per second; it must be positive")
    return value


class Around(Noted):
    """A data set around another, `dataset`, of which it passes on all that it does not say itself; `only` and `without`
    are those around its parts."""

    dataset: Dataset

    @property
    def facts(self) -> Facts:
        return self.dataset.facts

    @property
    def episodes(self) -> tuple[Episode, ...]:
        return self.dataset.episodes

    @property
    def fingerprint(self) -> str:
        return self.dataset.fingerprint

    def has(self, episode: int, key: str) -> bool:
        """Whether this episode has this column."""
        return self.dataset.has(episode, key)

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        """As the data set reads."""
        return self.dataset.read(episode, key, frames, size)

    def column(self, key: str) -> Iterator[np.ndarray]:
        """One (length, *S, C) array per episode that has the column."""
        return self.dataset.column(key)

    def only(self, indices: Iterable[int]) -> Self:
        """These episodes alone."""
        return self._around(self.dataset.only(indices))

    def without(self, indices: Iterable[int]) -> Self:
        """All but these episodes."""
        return self._around(self.dataset.without(indices))

    def _around(self, dataset: Dataset) -> Self:
        other = copy.copy(self)
        object.__setattr__(other, "dataset", dataset)  # some are frozen
        return other

    @property
    def format(self) -> str:
        return noted(self.dataset).format

    @property
    def opened_with(self) -> dict[str, Any]:
        return noted(self.dataset).opened_with

    @property
    def number_names(self) -> dict[str, list]:
        return noted(self.dataset).number_names

    @property
    def dense(self) -> dict[str, dict[str, Any]]:
        return noted(self.dataset).dense

    @property
    def latents(self) -> Path | None:
        return noted(self.dataset).latents

    @property
    def whole(self) -> Dataset:
        """That around all of the data set of which `dataset` is a part."""
        near = noted(self.dataset)
        inner = near.whole
        return self if inner is near else self._around(inner)

    def made_by(self, key: str) -> Codec | None:
        """The codec that made a column before it was stored; None: it is raw."""
        return noted(self.dataset).made_by(key)

    def fingerprint_of(self, key: str) -> str:
        """sha256 over all that the values of a column depend on."""
        return noted(self.dataset).fingerprint_of(key)

    def mark(self, episode: int) -> str:
        """What tells whether an episode is still the one that was annotated: what this changes, options say."""
        return noted(self.dataset).mark(episode)


class Foreign(Around):
    """A data set that someone else wrote, with those of `PARTS` that it has, and what `Noted` says of the others."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset


def _part(name: str) -> property:
    def part(self: Foreign) -> Any:
        found = getattr(self.dataset, name, None)
        return vars(Noted)[name].__get__(self) if found is None else found

    return property(part)


for _name in PARTS:
    setattr(Foreign, _name, _part(_name))


def noted(dataset: object) -> Noted:
    """The data set itself where it has all that one may say of itself, else one around it that has."""
    return dataset if isinstance(dataset, Noted) else Foreign(dataset)


def spans(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 7] -> "0-2, 7"; at most eight spans are written out."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    text = [str(a) if a == b else f"{a}-{b}" for a, b in parts[:8]]
    return ", ".join(text + (["..."] if len(parts) > 8 else [])) or "none"


def numbers(text: str) -> list[int]:
    """Episodes by name: "3,7-9,20-30:5" -> [3, 7, 8, 9, 20, 25, 30]. Errors: `ValueError` for anything else."""
    found: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+)(?::(\d+))?)?\s*", piece)
        if not match:
            raise ValueError(f"{text!r} does not name episodes; possible: 3 or 3,7-9 or 0-99:5, every fifth of these")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or last - first > 1_000_000 or not step:
            raise ValueError(f"the episodes {piece.strip()!r} are no rising span; possible: 3 or 3,7-9 or 0-99:5")
        found += range(first, last + 1, step)
    return found


def load_json(path: Path) -> dict:
    """One JSON object; ValueError naming the file otherwise."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


def load_jsonl(path: Path) -> list[dict]:
    """One JSON object a line; ValueError naming file and line otherwise."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a text may hold other marks that end lines
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}, is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}, is not a JSON object")
        rows.append(row)
    return rows
