"""What the training data alone would answer: their spread, their mean, and what lies at their most similar picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..data.source import Dataset
from ..data.window import offsets
from ..modality import Signal
from .held_out import HeldOut, Place
from .kinds import DENSE, NUMBERS, PICTURE, camera_of
from .questions import Question

AVERAGED = 1000  # training frames, spread evenly, that a mean map is taken over
AT_ONCE = 32  # of these are read together
SEARCHED = 4000  # training pictures, spread evenly, among which the nearest is sought
SIDE = 16  # pixels to a side of the pictures that are compared


@dataclass(frozen=True)
class Spread:
    """Mean (C,) and population standard deviation (C,), float32, of a column; std is 0 where it never moves."""

    mean: Tensor
    std: Tensor


def spread_of(training: Dataset, key: str) -> Spread:
    """Statistics over all frames of all episodes of `training`. Errors: ValueError where it has no such column."""
    arrays = [np.asarray(a, np.float64) for a in training.column(key)]
    if not arrays:
        raise ValueError(f"the training episodes have no column {key!r}, which gives errors their unit")
    rows = np.concatenate([a.reshape(-1, a.shape[-1]) for a in arrays])
    mean, std = rows.mean(0), rows.std(0)
    # What is left of a constant after rounding is no spread.
    std[std <= np.maximum(1e-6 * np.abs(mean), 1e-12)] = 0.0
    return Spread(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


class Reference:
    """The training episodes, asked what they know; each thing is read when it is first needed."""

    def __init__(self, training: Dataset, held: HeldOut, kinds: Mapping[str, str], names: Sequence[str]) -> None:
        self.training, self.held, self.kinds = training, held, kinds
        self.signals: Mapping[str, Signal] = held.signals
        here = [n for n in names if n not in held.absent and kinds.get(n) == NUMBERS]
        vectors = [n for n in here if self.signals[n].kind == "vector"]
        self.spreads = {n: spread_of(training, self.signals[n].key) for n in vectors}
        self._means: dict[str, np.ndarray] = {}
        self._galleries: dict[tuple[str, tuple[tuple[int, int], ...]], Gallery | None] = {}

    def mean_map(self, name: str) -> np.ndarray | None:
        """(*S', C'): the map, or the picture, that the training frames have on average; None where they lack it."""
        signal = self.signals[name]
        if name not in self._means:
            frames = list(self._frames((signal.key,), AVERAGED))
            if not frames:
                return None
            maps = (each for episode, due in frames for each in self._maps(episode, signal, due))
            self._means[name] = AVERAGES[self.kinds[name]](maps)
        return self._means[name]

    def nearest(self, name: str, question: Question, places: Sequence[Place], data: Dataset) -> np.ndarray | None:
        """(B, T', *S', C') of a dense signal: what the training data hold at the picture most like the one given.

        For each frame that is asked for the given picture nearest in time is looked up among the training pictures of
        that camera; the map that lies as far behind the picture found as the frame behind the one given is the answer.
        None where no picture is given or the training data lack picture or map.
        """
        signal, seen = self.signals[name], self._seen(name, question)
        if seen is None:
            return None
        key, shown = seen
        gallery = self._gallery(key, signal.key)
        if gallery is None:
            return None
        wanted = offsets(signal, self.held.fps)
        beside = [min(shown, key=lambda s, o=o: (abs(s - o), s)) for o in wanted]
        lengths = {e.index: e.length for e in data.episodes}
        return np.stack([
            self._found(signal, gallery, _small(data, p, key, beside, lengths[p.episode]), wanted, beside)
            for p in places
        ])  # fmt: skip

    def _found(
        self, signal: Signal, gallery: Gallery, pictures: np.ndarray, wanted: Sequence[int], beside: Sequence[int]
    ) -> np.ndarray:
        """(T', *S', C') at the training frames nearest to pictures (T', N), each moved on by wanted - beside."""
        rows = []
        for i in range(len(wanted)):
            episode, frame = gallery.nearest(pictures[i])
            due = min(max(frame + wanted[i] - beside[i], 0), self._lengths[episode] - 1)
            rows.append(self._read(episode, signal, [due]))
        return np.concatenate(rows)

    def seen(self, question: Question) -> bool:
        """Whether a question is given a picture."""
        return any(self.kinds.get(n) == PICTURE for n in (*question.given, *question.conditions))

    def _seen(self, name: str, question: Question) -> tuple[str, list[int]] | None:
        """(column, data frames from the anchor) of the pictures that a question gives, its own camera's first."""
        found: dict[str, list[int]] = {}
        for given in (*question.given, *question.conditions):
            signal = self.signals[given]
            if self.kinds.get(given) == PICTURE:
                due = offsets(signal, self.held.fps)
                # Of what is also wanted only the first frames are given.
                found.setdefault(signal.key, []).extend(due[: question.wanted.get(given, len(due))])
        own = camera_of(self.signals[name].key)
        keys = sorted((k for k in found if found[k]), key=lambda k: camera_of(k) != own)
        return (keys[0], found[keys[0]]) if keys else None

    def _gallery(self, key: str, map_key: str) -> Gallery | None:
        """Pictures of the episodes that have the map too; None where there are none."""
        frames = list(self._frames((key, map_key), SEARCHED))
        where = tuple((episode, frame) for episode, due in frames for frame in due)
        if (key, where) not in self._galleries:  # of all maps that the same episodes have there is one
            pictures = [_flat(self.training.read(episode, key, due, (SIDE, SIDE))) for episode, due in frames]
            self._galleries[key, where] = Gallery(np.concatenate(pictures), where) if where else None
        return self._galleries[key, where]

    def _maps(self, episode: int, signal: Signal, frames: Sequence[int]) -> Iterator[np.ndarray]:
        """(*S', C') float32 of each frame, of which a few are in memory."""
        for start in range(0, len(frames), AT_ONCE):
            yield from self._read(episode, signal, frames[start : start + AT_ONCE]).astype(np.float32)

    def _read(self, episode: int, signal: Signal, frames: Sequence[int]) -> np.ndarray:
        height, width = signal.shape[1:3] if signal.kind == "video" else (None, None)
        size = None if height is None or width is None else (height, width)
        return np.asarray(self.training.read(episode, signal.key, frames, size))

    def _frames(self, keys: Sequence[str], count: int) -> Iterator[tuple[int, list[int]]]:
        """(episode, frames): at most `count` of the training frames that have all the columns, spread evenly."""
        episodes = [e for e in self.training.episodes if all(self.training.has(e.index, key) for key in keys)]
        total = sum(e.length for e in episodes)
        chosen = min(count, total)
        rows = (2 * np.arange(chosen) + 1) * total // max(1, 2 * chosen)  # of all the episodes laid end to end
        first = 0
        for e in episodes:
            begin, end = np.searchsorted(rows, (first, first + e.length))
            if end > begin:
                yield e.index, (rows[begin:end] - first).tolist()
            first += e.length

    @cached_property
    def _lengths(self) -> dict[int, int]:
        return {e.index: e.length for e in self.training.episodes}


class Gallery:
    """Small training pictures (n, N) float32 and where they come from: (episode, frame) each."""

    def __init__(self, pictures: np.ndarray, where: Sequence[tuple[int, int]]) -> None:
        self.pictures, self.where = pictures, where
        self._squares = np.square(pictures).sum(1)

    def nearest(self, picture: np.ndarray) -> tuple[int, int]:
        """The place of the picture with the smallest mean squared difference to picture (N,)."""
        return self.where[int(np.argmin(self._squares - 2 * self.pictures @ picture))]


def _small(data: Dataset, place: Place, key: str, due: Sequence[int], length: int) -> np.ndarray:
    """(T', N): the pictures `due` data frames from a place, small; beyond an episode's ends the end picture."""
    frames = np.clip(place.frame + np.array(due), 0, length - 1).tolist()
    return _flat(data.read(place.episode, key, frames, (SIDE, SIDE)))


def _flat(pictures: object) -> np.ndarray:
    values = np.asarray(pictures, np.float32) / 255
    return values.reshape(len(values), -1)


def _mean_picture(maps: Iterable[np.ndarray]) -> np.ndarray:
    """(H, W, 3) each -> the mean level at each pixel, whole."""
    total, count = 0.0, 0
    for each in maps:
        total, count = total + each.astype(np.float64), count + 1
    return np.round(total / count)


def _mean_depth(maps: Iterable[np.ndarray]) -> np.ndarray:
    """(H, W, 1) each -> the mean of what is known at each pixel; 0, unknown, where it never is."""
    total, known = 0.0, 0
    for each in maps:
        total, known = total + each.astype(np.float64), known + (each > 0)
    return total / np.maximum(known, 1)


def _mean_flow(maps: Iterable[np.ndarray]) -> np.ndarray:
    """(H, W, 3) each -> the mean motion at each pixel, occluded nowhere."""
    total, count = np.zeros(()), 0
    for each in maps:
        total, count = total + each[..., :2].astype(np.float64), count + 1
    return np.concatenate([total / count, np.zeros_like(total[..., :1])], -1).astype(np.float32)


def _add(sums: dict[float, np.ndarray], ids: np.ndarray, values: np.ndarray | float = 1.0) -> None:
    """Add values (H, W, ...) to the sums of what stands at each pixel of ids (H, W)."""
    for number in np.unique(ids).tolist():
        here = np.where((ids == number).reshape(*ids.shape, *[1] * (np.ndim(values) - 2)), values, 0.0)
        sums[number] = sums[number] + here if number in sums else here


def _usual(counts: Mapping[float, np.ndarray]) -> np.ndarray:
    """How often each number stands at each pixel (H, W) -> the most frequent one, the smallest of equals."""
    numbers = sorted(counts)
    return np.array(numbers)[np.stack([counts[n] for n in numbers]).argmax(0)]


def _mean_labels(maps: Iterable[np.ndarray]) -> np.ndarray:
    """(H, W, 2) each -> the most frequent instance and class of each pixel."""
    counts: tuple[dict[float, np.ndarray], ...] = ({}, {})
    for each in maps:
        for i, mine in enumerate(counts):
            _add(mine, each[..., i])
    return np.stack([_usual(mine) for mine in counts], -1).astype(np.int32)


def _mean_surface(maps: Iterable[np.ndarray]) -> np.ndarray:
    """(H, W, 3) each -> the most frequent part of each pixel, with its mean u and v there."""
    counts: dict[float, np.ndarray] = {}
    sums: dict[float, np.ndarray] = {}
    for each in maps:
        _add(counts, each[..., 0])
        _add(sums, each[..., 0], each[..., 1:].astype(np.float64))
    part = _usual(counts)[..., None]
    where = sum(np.where(part == n, sums[n] / np.maximum(counts[n], 1)[..., None], 0.0) for n in counts)
    return np.concatenate([part, where], -1)


def _mean_skeleton(maps: Iterable[np.ndarray]) -> np.ndarray:
    """(K, 3) each -> the mean place of each joint where it is visible, visible if it mostly is."""
    total, seen, count = 0.0, 0, 0
    for each in maps:
        visible = each[..., 2:] > 0
        total, seen = total + np.where(visible, each[..., :2].astype(np.float64), 0.0), seen + visible
        count += 1
    return np.concatenate([total / np.maximum(seen, 1), seen / count >= 0.5], -1)


AVERAGES = {
    PICTURE: _mean_picture,
    "depth": _mean_depth,
    "flow": _mean_flow,
    "segmentation": _mean_labels,
    "surface": _mean_surface,
    "skeleton": _mean_skeleton,
}
assert set(AVERAGES) == {PICTURE, *DENSE}
