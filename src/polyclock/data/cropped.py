"""A data set whose pictures are cut to one shape, width to height, in their middle: no size stretches them then."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from .dense import camera_of
from .source import Around, Dataset, Facts

Size = tuple[int, int]


def ratio(text: str) -> Fraction:
    """ "16:9" or "832x480" -> width / height. Errors: ValueError for anything else."""
    parts = text.replace("x", ":").split(":")
    if len(parts) != 2 or not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(f"aspect={text!r} is no shape of a picture; write width:height, such as 16:9 or 832x480")
    return Fraction(int(parts[0]), int(parts[1]))


def cut(size: Size, aspect: Fraction) -> Size:
    """(H, W) -> the largest (h, w) inside it with w / h = `aspect`, to the nearest pixel."""
    height, width = size
    if width > height * aspect:
        return height, max(1, math.floor(height * aspect + Fraction(1, 2)))
    return max(1, math.floor(width / aspect + Fraction(1, 2))), width


@dataclass(frozen=True)
class Cropped(Around):
    """`dataset` with all maps (H, W, C) cut to `aspect`; joints and intrinsics are of the cut pictures.

    Read at a size, a picture is resized until it covers that size and cut there, so maps of one camera stay aligned.
    """

    dataset: Dataset
    aspect: Fraction
    _sizes: dict[tuple[int, str], Size] = field(default_factory=dict, compare=False, repr=False)

    @property
    def facts(self) -> Facts:
        facts = self.dataset.facts
        columns = dict(facts.columns)
        for key, shape in columns.items():
            if len(shape) == 3 and shape[0] is not None and shape[1] is not None:
                columns[key] = (*cut((shape[0], shape[1]), self.aspect), shape[2])
        return replace(facts, columns=columns)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.dataset.fingerprint} {self.aspect}".encode()).hexdigest()

    def fingerprint_of(self, key: str) -> str:
        """sha256 over all that the values of a column depend on."""
        return hashlib.sha256(f"{super().fingerprint_of(key)} {self.aspect}".encode()).hexdigest()

    def read(self, episode: int, key: str, frames: Sequence[int], size: Size | None = None) -> np.ndarray | str:
        """As the data set reads, cut. Errors: those of reading."""
        shape = self.dataset.facts.columns.get(key, ())
        kind = self.dense.get(key, {}).get("kind")
        if kind in ("skeleton", "intrinsics"):
            return self._moved(episode, key, kind, frames)
        if len(shape) != 3:
            return self.dataset.read(episode, key, frames, size)
        if size is None:
            whole = self.dataset.read(episode, key, frames)
            assert isinstance(whole, np.ndarray)
            return _middle(whole, cut((whole.shape[1], whole.shape[2]), self.aspect))
        stored = self._stored(episode, key)
        inner = cut(stored, self.aspect)
        cover = (round(size[0] * stored[0] / inner[0]), round(size[1] * stored[1] / inner[1]))
        whole = self.dataset.read(episode, key, frames, cover)
        assert isinstance(whole, np.ndarray)
        return _middle(whole, size)

    def column(self, key: str) -> Iterator[np.ndarray]:
        """One (length, *S, C) array per episode that has the column."""
        for e in self.episodes:
            if self.has(e.index, key):
                yield self.read(e.index, key, range(e.length))  # type: ignore[misc]

    def _stored(self, episode: int, key: str) -> Size:
        shape = self.dataset.facts.columns[key]
        if shape[0] is not None and shape[1] is not None:
            return shape[0], shape[1]
        if (episode, key) not in self._sizes:
            first = self.dataset.read(episode, key, [0])
            assert isinstance(first, np.ndarray)
            self._sizes[episode, key] = first.shape[1], first.shape[2]
        return self._sizes[episode, key]

    def _moved(self, episode: int, key: str, kind: str, frames: Sequence[int]) -> np.ndarray:
        """Joints or intrinsics in px of the cut picture; what lies outside of it is not seen."""
        values = self.dataset.read(episode, key, frames)
        assert isinstance(values, np.ndarray)
        camera = camera_of(key, self.dataset.facts.cameras)
        if camera is None:
            raise ValueError(f"{key}: the pictures that it is measured in are not in the data, so it cannot be cut")
        stored = self._stored(episode, camera)
        inner = cut(stored, self.aspect)
        top, left = (stored[0] - inner[0]) // 2, (stored[1] - inner[1]) // 2
        values = values.copy()
        if kind == "intrinsics":
            values[:, 0, 2] -= left
            values[:, 1, 2] -= top
            return values
        values[..., :2] -= (left, top)
        outside = (values[..., :2] < 0).any(-1) | (values[..., :2] >= inner[::-1]).any(-1)
        values[outside] = 0
        return values


def _middle(pictures: np.ndarray, size: Size) -> np.ndarray:
    """(n, H, W, C) -> (n, *size, C)."""
    top, left = (pictures.shape[1] - size[0]) // 2, (pictures.shape[2] - size[1]) // 2
    return np.ascontiguousarray(pictures[:, top : top + size[0], left : left + size[1]])
