"""One data set class for the formats that keep episodes as named arrays; what lies in a file is a `Store`'s to know."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from av.video.reformatter import VideoReformatter

from ...codecs.codec import Shape
from ...errors import unknown
from ..source import Episode, Facts, UntidyData, rational
from ..subsets import Subsets, chosen
from ..video import resized
from .options import Options, Part

PICTURES = "observation.images."
RENAMED = {
    **dict.fromkeys(("action", "actions"), "action"),
    **dict.fromkeys(("reward", "rewards"), "next.reward"),
    **dict.fromkeys(("done", "dones"), "next.done"),
}


class Store(Protocol):
    """Episodes as they lie in files. Arrays are asked for by column; threads may ask at once.

    format   for people; root: what paths in messages are relative to; fps: what the files say, or None
    columns  shape of one frame, None where it varies; cameras: those of them that are uint8 pictures (H, W, C)
    digest   sha256 over metadata, file names and sizes; notes: what is untidy
    """

    format: str
    root: Path
    fps: float | None
    episodes: tuple[Episode, ...]
    columns: dict[str, Shape]
    cameras: tuple[str, ...]
    digest: str
    notes: list[str]

    def file(self, episode: int) -> Path:
        """Where an episode lies."""
        ...

    def has(self, episode: int, key: str) -> bool: ...

    def rows(self, episode: int, key: str, frames: np.ndarray) -> np.ndarray:
        """(n, *S) of frames in rising order, each once; ValueError naming the file where they cannot be read."""
        ...

    def sentence(self, episode: int, frame: int) -> str: ...

    def check(self) -> Iterator[tuple[Path, int | None, int | None, str]]:
        """(file, episode, frame, what) of faults that reading all columns does not show."""
        ...


class Recordings(Subsets):
    """A store with its user's options as a data set: rate, pictures turned over, vectors put together, a sentence."""

    def __init__(self, store: Store, options: Options) -> None:
        self.store, self.options = store, options
        self.name = store.root.name
        fps = options.fps or store.fps
        if fps is None:
            raise ValueError(
                f"{store.root}: the files do not say how many frames there are in a second; say it: "
                f"open_dataset(path, fps=10) or PATH?fps=10"
            )
        self.fps = float(rational(fps))
        self.episodes = store.episodes
        if options.task is not None:
            said = next((e for e in store.episodes if e.tasks), None)
            if said is not None:
                raise ValueError(
                    f"{store.root}: option task is for data without sentences, and episode {said.index} has "
                    f"{said.tasks[0]!r}"
                )
            self.episodes = tuple(replace(e, tasks=(options.task,)) for e in store.episodes)
        self._numbers = {e.index: e for e in self.episodes}
        self.flipped = self._flipped(options.flip or ())
        self._vectors: dict[str, tuple[tuple[str, Part], ...]] = {}
        self._shapes: dict[str, Shape] = dict(store.columns)
        for key, parts in (("observation.state", options.state), ("action", options.action)):
            if parts:
                self._vectors[key] = tuple((self._stored(p.column), p) for p in parts)
        self._shapes.update({key: self._width(parts) for key, parts in self._vectors.items()})
        if any(e.tasks for e in self.episodes):
            self._shapes["task"] = ()
        self.notes = list(store.notes)
        if options.fps and store.fps and abs(options.fps - store.fps) > 1e-6:
            self.notes.append(f"{options.fps:g} frames per second, as asked; the files say {store.fps:g}")
        for note in self.notes:
            warnings.warn(f"{self.name}: {note}.", UntidyData, stacklevel=4)

    def _flipped(self, names: Sequence[str]) -> frozenset[str]:
        if names == ("none",):
            return frozenset()
        if names == ("all",):
            return frozenset(self.store.cameras)
        short = {c: c.removeprefix(PICTURES) for c in self.store.cameras}
        found = {c for c, tail in short.items() if c in names or tail in names}
        for name in names:
            if not any(name in (c, short[c]) for c in found):
                raise unknown(f"camera to flip in {self.store.root}:", name, (*short.values(), "all", "none"))
        return frozenset(found)

    def _stored(self, name: str) -> str:
        """The stored column of this name; "observation." may be left out."""
        for key in (name, f"observation.{name}"):
            if key in self.store.columns:
                return key
        short = [key.removeprefix("observation.") for key in self.store.columns]
        raise unknown(f"column of {self.store.root}:", name, short)

    def _width(self, parts: tuple[tuple[str, Part], ...]) -> Shape:
        total: int | None = 0
        for key, part in parts:
            shape = self.store.columns[key]
            width = None if None in shape else part.of(np.zeros((1, *(n or 0 for n in shape)), np.float32)).shape[1]
            total = None if total is None or width is None else total + width
        return (total,)

    @cached_property
    def facts(self) -> Facts:
        return Facts(
            fps=self.fps,
            cameras=self.store.cameras,
            tasks=tuple(dict.fromkeys(t for e in self.episodes for t in e.tasks)),
            columns=dict(self._shapes),
        )

    @property
    def format(self) -> str:
        """What it lies in, for people."""
        return self.store.format

    @property
    def opened_with(self) -> dict[str, Any]:
        """The options that were given, by name."""
        return self.options.said()

    @cached_property
    def fingerprint(self) -> str:
        """Also over the options, which change what is read."""
        said = json.dumps(self.options.said(), sort_keys=True)
        digest = hashlib.sha256(f"{self.format}\n{self.store.digest}\n{said}\n".encode())
        if len(self.episodes) < len(self._numbers):
            digest.update(repr([e.index for e in self.episodes]).encode())
        return digest.hexdigest()

    def _episode(self, index: int) -> Episode:
        if index not in self._numbers:
            chosen(self.episodes, [index], keep=True)
        return self._numbers[index]

    def has(self, episode: int, key: str) -> bool:
        """Whether this episode has this column."""
        if key == "task":
            return bool(self._episode(episode).tasks)
        if key in self._vectors:
            return all(self.store.has(episode, stored) for stored, _ in self._vectors[key])
        return key in self._shapes and self.store.has(episode, key)

    def column(self, key: str) -> Iterator[np.ndarray]:
        """One (length, *S, C) array per episode that has the column."""
        for e in self.episodes:
            if self.has(e.index, key):
                value = self.read(e.index, key, range(e.length))
                assert isinstance(value, np.ndarray)
                yield value

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        """Frames of one column, (n, H, W, C) uint8 pictures or (n, *S) numbers, floating ones as float32.

        The key "task" gives the sentence at the first of `frames`. Errors: ValueError naming data set, episode, file
        and frame where they cannot be read.
        """
        length = self._episode(episode).length
        bad = [int(f) for f in frames if not 0 <= f < length]
        if bad:
            raise ValueError(f"{self.name}, episode {episode}: frame {bad[0]} of {length}")
        if not self.has(episode, key):
            raise unknown(f"column of {self.name}, episode {episode}:", key, self._shapes)
        if key == "task" and self.options.task is not None:
            return self.options.task
        try:
            if key == "task":
                return self.store.sentence(episode, int(frames[0]) if len(frames) else 0)
            order, back = np.unique(np.asarray(frames, np.int64), return_inverse=True)
            found = self._rows(episode, key, order, size)
        except ValueError as error:
            raise ValueError(f"{self.name}, episode {episode}: {error}") from None
        return found if len(order) == len(back) and (np.diff(back) > 0).all() else found[back]

    def _rows(self, episode: int, key: str, frames: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
        if key in self._vectors:
            parts = [part.of(self.store.rows(episode, stored, frames)) for stored, part in self._vectors[key]]
            return np.concatenate(parts, -1)
        rows = self.store.rows(episode, key, frames)
        if key in self.flipped:
            rows = rows[:, ::-1]
        if size is not None and rows.ndim == 4 and rows.shape[1:3] != tuple(size):
            rows = fitted(rows, size)
        return np.ascontiguousarray(rows, np.float32 if rows.dtype.kind == "f" else rows.dtype)


def fitted(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(n, H, W, C) -> (n, *size, C): colour and gray averaged over area as in videos, else the nearest pixel."""
    scaler = VideoReformatter()
    made = [resized(picture, size, scaler) for picture in pictures]
    return np.stack(made) if made else np.empty((0, *size, pictures.shape[-1]), pictures.dtype)


def named(key: str, picture: bool) -> str:
    """The column of a stored name: "agentview_rgb" -> "observation.images.agentview_rgb", "actions" -> "action"."""
    name = key.replace("/", ".")
    if picture:
        return PICTURES + name
    return RENAMED.get(name) or (name if name.startswith("action") else f"observation.{name}")


def is_picture(shape: Sequence[int | None], dtype: Any) -> bool:
    """Whether frames of this shape are uint8 pictures (H, W, 1 or 3)."""
    return np.dtype(dtype) == np.uint8 and len(shape) == 3 and shape[2] in (1, 3)


def merged(shapes: Iterable[Mapping[str, Shape]], where: str) -> dict[str, Shape]:
    """One table of many; None where sizes differ. Errors: ValueError where a column has other numbers of dimensions."""
    out: dict[str, Shape] = {}
    for table in shapes:
        for key, shape in table.items():
            old = out.get(key, shape)
            if len(old) != len(shape):
                raise ValueError(f"{where}: frames of {key} have shape {shape} here and {old} there")
            out[key] = tuple(a if a == b else None for a, b in zip(old, shape, strict=True))
    return out
