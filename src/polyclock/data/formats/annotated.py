"""A data set with what experts said about it: the columns of the source, and beside them those of the annotations."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...codecs.codec import Codec, Shape
from ...errors import unknown
from .. import annotation, dense, projections
from ..files import rows_of
from ..source import Around, Dataset, Facts, UntidyData, noted
from ..video import pictures_of, read_frames
from .options import Options

OPTIONS = ("kept",)
KEPT = ("all", "yes", "whole")


def open_annotated(root: Path, options: Options, opened: Callable[[str], Dataset]) -> Dataset:
    """Open a folder of annotations together with its source; `opened` opens a data set.

    The option kept=yes leaves out the clips that a filter marked, kept=whole those too for which an expert has no
    answer. Errors: ValueError where the source is not there.
    """
    said = annotation.load(root)
    source = annotation.source_of(root, said)
    try:
        dataset = opened(source)
    except ValueError as error:
        raise ValueError(f"{root} annotates {source}, which cannot be opened: {error}") from None
    found = Annotated(root, said, dataset)
    if options.kept is None or options.kept == "all":
        return found
    if options.kept not in KEPT:
        raise unknown("value of the option kept:", options.kept, KEPT)
    kept = [e.index for e in found.episodes if not found.why(e.index)]
    if options.kept == "whole":
        kept = [e for e in kept if all(found.has(e, column) for column in found.columns)]
    if not kept:
        raise ValueError(f"{root}: kept={options.kept} left none of {len(found.episodes)} clips")
    return found.only(kept)


class Annotated(Around):
    """`dataset` and further columns of it. Where an expert failed, or has not been yet, the column is absent."""

    def __init__(self, root: Path, said: dict[str, Any], dataset: Dataset) -> None:
        self.root, self.dataset = root, dataset
        self._whole: Annotated | None = None
        self.columns: dict[str, dict[str, Any]] = said["columns"]
        made = {name: entry["made"] for name, entry in (said["columns"] | said["filters"]).items()}
        records = annotation.latest(root, annotation.RECORDS, made)
        here = {e.index for e in dataset.episodes}
        fresh, marks = {}, {e: noted(dataset).mark(e) for e in {e for e, _ in records} & here}
        for (episode, name), record in records.items():
            if episode in here and record["source"] == marks[episode]:
                fresh[episode, name] = record
        self._records: dict[tuple[int, str], dict[str, Any]] = fresh
        stale = len(records) - len(fresh)
        if stale:
            warnings.warn(
                f"{root.name}: {stale} of {len(records)} annotations are of episodes that are no longer as they were; "
                "they are left out until `polyclock annotate` makes them anew.",
                UntidyData,
                stacklevel=4,
            )

    def _around(self, dataset: Dataset) -> Annotated:
        other = super()._around(dataset)
        other.__dict__.pop("_lengths", None)
        other._whole = self.whole
        return other

    @property
    def whole(self) -> Annotated:
        """All clips that the folder annotates."""
        return self if self._whole is None else self._whole

    @property
    def latents(self) -> Path | None:
        """The folder of what frozen codecs said of the columns, where `polyclock annotate --for` made one."""
        folder = self.root / annotation.LATENTS
        return folder if folder.is_dir() else None

    def fingerprint_of(self, key: str) -> str:
        """sha256 over all that the values of a column depend on: its expert, and of the source its camera."""
        if key not in self.columns:
            return super().fingerprint_of(key)
        entry = self.columns[key]
        said = json.dumps([super().fingerprint_of(entry["camera"]), entry["made"]])
        return hashlib.sha256(said.encode()).hexdigest()

    def why(self, episode: int) -> str:
        """Why filters would leave an episode out; "" where it is kept."""
        return "; ".join(self._whys.get(episode, ()))

    @cached_property
    def _whys(self) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for (episode, _), record in sorted(self._records.items()):
            if record.get("why"):
                found.setdefault(episode, []).append(record["why"])
        return found

    @cached_property
    def _lengths(self) -> dict[int, int]:
        return {e.index: e.length for e in self.episodes}

    @property
    def facts(self) -> Facts:
        facts = self.dataset.facts
        return replace(facts, columns={**facts.columns, **self._shapes})

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for (_, name), record in self._records.items():
            if name not in self.columns:
                continue
            shape = tuple(record["shape"])
            old = shapes.get(name, shape)
            shapes[name] = tuple(a if a == b else None for a, b in zip(old, shape, strict=True))
        return shapes

    @property
    def dense(self) -> dict[str, dict[str, Any]]:
        """What is noted of the dense modalities, the source's own among them."""
        notes = {name: entry["note"] for name, entry in self.columns.items() if entry["note"]["kind"] in dense.KINDS}
        return super().dense | notes

    def made_by(self, key: str) -> Codec | None:
        """The projection that made a column of features; None: it is raw."""
        name = self.columns[key]["note"].get("projection") if key in self.columns else None
        return super().made_by(key) if name is None else projections.load(self.root, name)

    @property
    def fingerprint(self) -> str:
        rows = sorted((e, n, r["made"], r.get("why", "")) for (e, n), r in self._records.items())
        return hashlib.sha256(json.dumps([self.dataset.fingerprint, rows]).encode()).hexdigest()

    def has(self, episode: int, key: str) -> bool:
        """Whether this episode has this column."""
        return (episode, key) in self._records if key in self.columns else self.dataset.has(episode, key)

    def column(self, key: str) -> Iterator[np.ndarray]:
        """One (length, *S, C) array per episode that has the column."""
        if key not in self.columns:
            yield from self.dataset.column(key)
            return
        for e in self.episodes:
            if self.has(e.index, key):
                yield self.read(e.index, key, range(e.length))  # type: ignore[misc]

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        """As the source reads; annotations in the units of `data.dense`, features float32 (n, h, w, C).

        Errors: ValueError naming file and episode where they cannot be read, or are not as long as the episode.
        """
        if key not in self.columns:
            return self.dataset.read(episode, key, frames, size)
        length = self._lengths.get(episode, 0)
        bad = [int(f) for f in frames if not 0 <= f < length]
        if bad:
            raise ValueError(f"{self.root.name}, episode {episode}: frame {bad[0]} of {length}")
        if not self.has(episode, key):
            raise unknown(f"column of {self.root.name}, episode {episode}:", key, self.facts.columns)
        path = self.root / self._records[episode, key]["file"]
        try:
            if self.columns[key]["note"]["kind"] in dense.PLANES:
                return self._planes(path, key, frames, size, length)
            return _rows(path, frames, size, length)
        except ValueError as error:
            raise ValueError(f"{self.root.name}, episode {episode}: {error}") from None

    def _planes(
        self, path: Path, key: str, frames: Sequence[int], size: tuple[int, int] | None, length: int
    ) -> np.ndarray:
        note, pictures = self.columns[key]["note"], pictures_of(path)
        if len(pictures) != length:
            raise ValueError(f"{path} holds {len(pictures)} frames, the episode {length}")
        stored = read_frames(path, frames, size=size)
        shrink = (stored.shape[1] / pictures.height, stored.shape[2] / pictures.width)
        return dense.decode(note["kind"], stored, note.get("scale"), shrink)


def _rows(path: Path, frames: Sequence[int], size: tuple[int, int] | None, length: int) -> np.ndarray:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if len(rows) != length:
        raise ValueError(f"{path} holds {len(rows)} frames, the episode {length}")
    if size is not None and rows.ndim == 4 and rows.shape[1:3] != tuple(size):
        made = f"{rows.shape[1]} x {rows.shape[2]}"
        raise ValueError(f"{path} holds features on a grid of {made}; asked for {size[0]} x {size[1]}")
    return rows_of(rows, np.asarray(frames, np.int64)).astype(np.float32)
