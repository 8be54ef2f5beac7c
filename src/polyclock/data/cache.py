"""Videos decoded once at the size that training wants, kept as plain arrays in memory or in a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import unknown
from ..modality import Signal
from .source import Around, Dataset, Episode, Facts

Size = tuple[int, int]
PIECE = 64  # frames decoded at a time, so that full-size pictures never pile up


class Cached(Around):
    """A data set whose videos are read from memory; everything else is passed on.

    `wanted` is the signals of a recipe, or {camera: (H, W)}. Pictures (uint8) and dense modalities (in their units)
    lie in one array per video and size, in `folder` as memory-mapped .npy files (named by the data set's fingerprint,
    written aside and renamed: an interrupted run leaves none that is half full), or in memory where `folder` is None.
    Errors: ValueError for a camera that the data do not have, and those of reading.
    """

    def __init__(
        self,
        dataset: Dataset,
        wanted: Mapping[str, Signal] | Mapping[str, Size],
        folder: str | Path | None = None,
        workers: int | None = None,
    ) -> None:
        self.dataset = dataset
        self._arrays: dict[tuple[str, Size], np.ndarray] = {}
        self._rows: dict[int, range] = {}  # of the arrays
        total = 0
        for e in dataset.episodes:
            self._rows[e.index] = range(total, total + e.length)
            total += e.length
        for key, size in _pairs(wanted, dataset.facts):
            one = self._one(key, size)
            if one is not None:
                shape = (total, *one.shape[1:])
                self._arrays[key, size] = self._open(
                    key, size, shape, one.dtype, folder, workers or os.cpu_count() or 1
                )

    def _one(self, key: str, size: Size) -> np.ndarray | None:
        """(1, H, W, C): the first frame there is, for what all have in common; None where no episode has any."""
        episode = next((e for e in self.dataset.episodes if e.length and self.dataset.has(e.index, key)), None)
        value = None if episode is None else self.dataset.read(episode.index, key, [0], size)
        return value if isinstance(value, np.ndarray) else None

    def _open(
        self, key: str, size: Size, shape: tuple[int, ...], dtype: np.dtype, folder: str | Path | None, workers: int
    ) -> np.ndarray:
        if folder is None:
            array = np.zeros(shape, dtype)
            self._fill(array, key, size, workers)
            return array
        name = hashlib.sha256(f"{self.dataset.fingerprint}/{key}/{size}".encode()).hexdigest()[:32]
        path = Path(folder) / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.parent):
            if not path.is_file():
                self._write(path, key, size, shape, dtype, workers)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(
                f"{path} holds {array.dtype} {array.shape}, expected {dtype} {shape}; remove it to decode anew"
            )
        return array

    def _write(self, path: Path, key: str, size: Size, shape: tuple[int, ...], dtype: np.dtype, workers: int) -> None:
        aside = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.part")
        try:
            array = np.lib.format.open_memmap(aside, mode="w+", dtype=dtype, shape=shape)
            if hasattr(os, "posix_fallocate"):  # a mapped page that finds no room ends the process without a word
                with open(aside, "r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, aside.stat().st_size)
            self._fill(array, key, size, workers)
            array.flush()
            with open(aside, "rb") as file:
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    def _fill(self, array: np.ndarray, key: str, size: Size, workers: int) -> None:
        episodes = [e for e in self.dataset.episodes if self.dataset.has(e.index, key)]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(partial(self._decode, array, key, size), episodes))

    def _decode(self, array: np.ndarray, key: str, size: Size, episode: Episode) -> None:
        first = self._rows[episode.index].start
        for begin in range(0, episode.length, PIECE):
            frames = range(begin, min(begin + PIECE, episode.length))
            array[first + begin : first + frames.stop] = self.dataset.read(episode.index, key, frames, size)

    def read(self, episode: int, key: str, frames: Sequence[int], size: Size | None = None) -> np.ndarray | str:
        """As the data set reads; (n, H, W, C) from memory for a video and size that were asked for."""
        array = None if size is None else self._arrays.get((key, (size[0], size[1])))
        rows = self._rows.get(episode)
        if array is None or rows is None or not self.dataset.has(episode, key):
            return self.dataset.read(episode, key, frames, size)
        at = np.asarray(frames, np.int64)
        bad = at[(at < 0) | (at >= len(rows))]
        if len(bad):
            raise ValueError(f"episode {episode}: frame {bad[0]} of {len(rows)}")
        return array[rows.start + at]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Of several processes one decodes, and the others find it done; without locks each decodes for itself."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have none
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _pairs(wanted: Mapping[str, Signal] | Mapping[str, Size], facts: Facts) -> list[tuple[str, Size]]:
    """(video, size) pairs, each once; signals that the data lack or that are no sized video are left out."""
    pairs: dict[tuple[str, Size], None] = {}
    for name, value in wanted.items():
        if isinstance(value, Signal):
            if value.kind != "video" or value.key not in facts.columns or None in value.shape[1:3]:
                continue
            pairs[value.key, (int(value.shape[1] or 0), int(value.shape[2] or 0))] = None
        elif name not in facts.cameras:
            raise unknown("camera", name, facts.cameras)
        else:
            pairs[name, (int(value[0]), int(value[1]))] = None
    return list(pairs)
