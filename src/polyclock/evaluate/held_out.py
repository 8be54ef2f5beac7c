"""The windows of held-out episodes that questions are asked about: whole ones only, each with its number and block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..data.cache import Cached
from ..data.collate import collate
from ..data.source import Dataset, Episode, noted
from ..data.window import Windows, offsets
from ..dice import seed_of
from ..modality import Signal
from ..views import View
from .dense import MOVING
from .kinds import camera_of
from .viewed import middle, viewed

APART = 2.0  # seconds between a window and the one whose values stand in for its own, in one episode
MANY = 10  # episodes; with as many, a block is a whole episode


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
    """Every `stride`-th window of `episodes` in which all modalities lie inside the episode; at most `count` of them.

    `absent` are the names that the data lack. Conditions may reach back beyond an episode's start, as in training.
    Where there are few episodes a block is a stretch of `seconds`: one, or as long as a window where that is longer.
    Pictures of a column in `views` are as these show them, which is the size that `signals` must ask for.
    Errors: ValueError for an episode that is not there, or where no window fits or has all columns.
    """

    def __init__(
        self,
        dataset: Dataset,
        signals: Mapping[str, Signal],
        modalities: Sequence[str],
        episodes: Sequence[int],
        stride: int = 1,
        count: int | None = None,
        views: Mapping[str, View] | None = None,
    ) -> None:
        self.views = dict(views or {})
        self.dataset = viewed(dataset.only(episodes), self.views)
        self.signals = dict(signals)
        self.fps = dataset.facts.fps
        self._windows = Windows(self.dataset, self.signals)
        self._some: dict[tuple[str, ...], Windows] = {}
        self._first = dict(
            zip(
                (e.index for e in self.dataset.episodes),
                accumulate((e.length for e in self.dataset.episodes), initial=0),
                strict=False,
            )
        )
        self.absent = self._windows.absent
        due = [offsets(signals[n], self.fps) for n in modalities if n in self._windows.present]
        self.first = min((min(o) for o in due), default=0)
        self.last = max((max(o) for o in due), default=0)
        self.places = spread(self.fitting(stride), count)
        if not self.places:
            whole = [e for e in self.dataset.episodes if not self._lacking(e)]
            if not whole:
                lacking = dict.fromkeys(key for e in self.dataset.episodes for key in self._lacking(e))
                raise ValueError(f"every held-out episode lacks one of the columns {', '.join(lacking)}")
            longest = max(e.length for e in whole)
            raise ValueError(
                f"no window fits: it spans {self.last - self.first + 1} data frames, and the longest of the held-out "
                f"episodes has {longest}"
            )
        self.by_episode = len({p.episode for p in self.places}) >= MANY
        # Windows that share frames belong together.
        self.seconds = max(1.0, (self.last - self.first + 1) / self.fps)

    def fitting(self, stride: int, more: int = 0) -> tuple[Place, ...]:
        """Every `stride`-th place whose window, and `more` data frames behind it, lie inside the episode."""
        return tuple(p for e in self.dataset.episodes for p in self._places(e, stride, more))

    def _places(self, episode: Episode, stride: int, more: int) -> Iterator[Place]:
        texts = [self.signals[n].key for n in self._windows.present if self.signals[n].kind == "text"]
        if not self._lacking(episode):
            for frame in range(0, episode.length, stride):
                inside = frame + self.first >= 0 and frame + self.last + more < episode.length
                if inside and all(self.dataset.read(episode.index, text, [frame]) for text in texts):
                    yield Place(episode.index, frame)

    def _lacking(self, episode: Episode) -> list[str]:
        """The columns that an episode lacks, of those that the data have."""
        keys = dict.fromkeys(self.signals[n].key for n in self._windows.present)
        return [key for key in keys if not self.dataset.has(episode.index, key)]

    def block(self, place: Place) -> tuple[int, int]:
        """What windows that belong together share: (episode, 0), or where there are few episodes (episode, number).

        The number is that of the stretch of `seconds` in which a window is anchored.
        """
        return place.episode, 0 if self.by_episode else int(place.frame / self.fps / self.seconds)

    def batches(self, size: int, places: Sequence[Place] | None = None) -> Iterator[tuple[list[Place], Batch, Dataset]]:
        """(places, raw batch, data to read baselines from), at most `size` windows at a time.

        Where windows lie close, an episode's cameras are decoded once and a batch is of one episode.
        """
        places = self.places if places is None else places
        mine = {e: [p for p in places if p.episode == e] for e in dict.fromkeys(p.episode for p in places)}
        if not self._close(mine):
            for begin in range(0, len(places), size):
                part = list(places[begin : begin + size])
                yield part, self.gather(part), self.dataset
            return
        for episode, its in mine.items():
            data = self.dataset.only([episode])
            data = data if isinstance(data, Cached) else Cached(data, self.signals)
            windows = Windows(data, self.signals)
            for begin in range(0, len(its), size):
                part = its[begin : begin + size]
                samples = [windows[p.frame] for p in part]
                yield part, collate(samples, range(len(part)), self.signals), data

    def _close(self, mine: Mapping[int, Sequence[Place]]) -> bool:
        """Whether the windows need more frames of a video than there are."""
        videos = [int(s.shape[0] or 0) for s in self.signals.values() if s.kind == "video"]
        lengths = {e.index: e.length for e in self.dataset.episodes}
        return max(videos, default=0) * sum(map(len, mine.values())) > sum(lengths[e] for e in mine)

    def gather(self, places: Sequence[Place], names: Iterable[str] | None = None) -> Batch:
        """The raw batch of any places, read one by one; with `names` these signals alone."""
        chosen = tuple(n for n in self.signals if n in self._windows.present and (names is None or n in names))
        signals = {n: self.signals[n] for n in chosen}
        if chosen not in self._some:
            self._some[chosen] = Windows(self.dataset, signals)
        samples = [self._some[chosen][self._first[p.episode] + p.frame] for p in places]
        return collate(samples, range(len(places)), self.signals if names is None else signals)

    def strangers(self, seed: int, places: Sequence[Place] | None = None) -> dict[Place, Place]:
        """For each place one of another episode; in a single episode one at least `APART` seconds away.

        Places without one are left out.
        """
        places = self.places if places is None else places
        others = {e: [p for p in places if p.episode != e] for e in {p.episode for p in places}}
        found = {}
        for place in places:
            far = others[place.episode] or [p for p in places if abs(p.frame - place.frame) >= APART * self.fps]
            if far:
                found[place] = far[seed_of(seed, "stranger", place.episode, place.frame) % len(far)]
        return found

    def moving(self, name: str, places: Sequence[Place], data: Dataset) -> Tensor | None:
        """(B, T', H, W) bool: the pixels of a map or picture that truly move; None where its camera has no flow."""
        flow = self.beside("flow", name, places, data)
        return None if flow is None else flow[..., :2].norm(dim=-1) > MOVING

    def beside(self, kind: str, name: str, places: Sequence[Place], data: Dataset) -> Tensor | None:
        """(B, T', H, W, C): the data's map of a kind of a picture's or map's own frames, as large as it is.

        None where its camera has no such column. Flow is that which leads onward, in px of the signal's own size.
        """
        signal = self.signals[name]
        if len(signal.shape) != 4 or None in signal.shape[1:3]:
            return None
        notes = noted(data).dense
        keys = [k for k, note in notes.items() if note["kind"] == kind and note.get("steps", 1) > 0]
        key = next((k for k in keys if camera_of(k) == camera_of(signal.key)), None)
        if key is None or not all(data.has(p.episode, key) for p in places):
            return None
        size, due = (int(signal.shape[1] or 0), int(signal.shape[2] or 0)), np.array(offsets(signal, self.fps))
        view = self.views.get(signal.key)
        if view is not None and view.seen:
            size = view.resize or view.size
        maps = [np.asarray(data.read(p.episode, key, (p.frame + due).tolist(), size)) for p in places]
        if view is not None:
            maps = [middle(one, view) for one in maps]
        return torch.from_numpy(np.stack(maps))


def spread(places: Sequence[Place], count: int | None) -> tuple[Place, ...]:
    """At most `count` of the places, spread evenly; None: all."""
    if count is None or len(places) <= count:
        return tuple(places)
    return tuple(places[(2 * i + 1) * len(places) // (2 * count)] for i in range(count))
