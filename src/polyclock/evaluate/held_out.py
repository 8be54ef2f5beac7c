"""The windows of held-out episodes that questions are asked about: whole ones only, each with its number and block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..data.cache import Cached
from ..data.collate import collate
from ..data.source import Dataset, Episode
from ..data.window import Windows, offsets
from ..dice import seed_of
from ..modality import Signal

APART = 2.0  # seconds between a window and the one whose actions stand in for its own


@dataclass(frozen=True)
class Place:
    """The window of data frame `frame` of an episode."""

    episode: int
    frame: int

    @property
    def number(self) -> int:
        """What the window's noise is drawn by: the same whatever else is evaluated."""
        return self.episode * 2**32 + self.frame


class HeldOut:
    """Every `stride`-th window of `episodes` in which all modalities lie inside the episode.

    `absent` are the names that the data lack. Conditions may reach back beyond an episode's start, as in training.
    Errors: ValueError for an episode that is not there, or where no window fits.
    """

    def __init__(
        self,
        dataset: Dataset,
        signals: Mapping[str, Signal],
        modalities: Sequence[str],
        episodes: Sequence[int],
        stride: int = 1,
    ) -> None:
        self.dataset = dataset.only(episodes)
        self.signals = dict(signals)
        self.fps = dataset.facts.fps
        windows = Windows(self.dataset, self.signals, stride)
        self.absent = windows.absent
        due = [offsets(signals[n], self.fps) for n in modalities if n in windows.present]
        self.first = min((min(o) for o in due), default=0)
        self.last = max((max(o) for o in due), default=0)
        self.places = tuple(p for e in self.dataset.episodes for p in self._places(e, windows.present, stride))
        if not self.places:
            longest = max(e.length for e in self.dataset.episodes)
            raise ValueError(
                f"no window fits: it spans {self.last - self.first + 1} data frames, and the longest of the held-out "
                f"episodes has {longest}"
            )

    def _places(self, episode: Episode, present: Sequence[str], stride: int) -> Iterator[Place]:
        if all(self.dataset.has(episode.index, self.signals[n].key) for n in present):
            for frame in range(0, episode.length, stride):
                if frame + self.first >= 0 and frame + self.last < episode.length:
                    yield Place(episode.index, frame)

    def block(self, place: Place) -> tuple[int, int]:
        """(episode, second): windows of one second of an episode are one block."""
        return place.episode, int(place.frame / self.fps)

    def batches(self, size: int, places: Sequence[Place] | None = None) -> Iterator[tuple[list[Place], Batch, Dataset]]:
        """(places, raw batch, data to read baselines from), at most `size` windows of one episode at a time.

        An episode's cameras are decoded once.
        """
        places = self.places if places is None else places
        for episode in dict.fromkeys(p.episode for p in places):
            mine = [p for p in places if p.episode == episode]
            data = self.dataset.only([episode])
            data = data if isinstance(data, Cached) else Cached(data, self.signals)
            windows = Windows(data, self.signals)
            for begin in range(0, len(mine), size):
                part = mine[begin : begin + size]
                samples = [windows[p.frame] for p in part]
                yield part, collate(samples, range(len(part)), self.signals), data

    def strangers(self, seed: int) -> dict[Place, Place]:
        """For each place another of the same episode at least `APART` seconds away; places without one are left out."""
        found = {}
        for episode in dict.fromkeys(p.episode for p in self.places):
            mine = [p for p in self.places if p.episode == episode]
            for place in mine:
                far = [p for p in mine if abs(p.frame - place.frame) >= APART * self.fps]
                if far:
                    pick = seed_of(seed, "stranger", place.episode, place.frame) % len(far)
                    found[place] = far[pick]
        return found

    def numbers(self, name: str, places: Sequence[Place]) -> Tensor:
        """(B, T', *S', C') float32: the values of one vector signal at each place."""
        signal = self.signals[name]
        due = np.array(offsets(signal, self.fps))
        rows = [self.dataset.read(p.episode, signal.key, (p.frame + due).tolist()) for p in places]
        return torch.from_numpy(np.stack([np.asarray(r, np.float32) for r in rows]))
