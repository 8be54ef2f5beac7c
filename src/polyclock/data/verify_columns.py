"""Checking a data set of any format by reading all of it, column by column."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .formats.options import divide, make_options
from .formats.recordings import Recordings
from .listing import Problem
from .opening import find_store
from .source import Episode, UntidyData

PIECE = 64  # frames read at a time


def verify_columns(path: str | Path) -> list[Problem] | None:
    """Every fault: what the files themselves show, columns that cannot be read, and numbers that are not finite.

    None where no data set of named arrays lies at `path`. A rate that nobody says does not matter here.
    """
    root, given = divide(path)
    found = find_store(root)
    if found is None:
        return None
    options = make_options(given, found[0], str(root))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntidyData)  # told as notes
        try:
            store = found[1](root, options)
        except ValueError as error:
            return [Problem(root.name, None, None, str(error).replace(f"{root}/", ""))]
        return _verified(Recordings(store, replace(options, fps=options.fps or store.fps or 1.0)))


def _verified(dataset: Recordings) -> list[Problem]:
    store = dataset.store
    problems = [Problem(_short(path, store.root), e, frame, what) for path, e, frame, what in store.check()]
    problems += [Problem(store.root.name, None, None, note, note=True) for note in dataset.notes]
    for episode in dataset.episodes:
        file = _short(store.file(episode.index), store.root)
        known = (f"{dataset.name}, episode {episode.index}: ", f"{store.root}: ", f"{store.root}/")
        for key in dataset.facts.columns:
            fault = _fault(dataset, episode, key)
            if fault is not None:
                frame, what = fault
                problems.append(Problem(file, episode.index, frame, _without(what, known)))
    return sorted(problems, key=lambda p: (p.note, p.file, p.episode or 0, p.frame or 0))


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else path.name


def _without(text: str, parts: Iterable[str]) -> str:
    for part in parts:
        text = text.replace(part, "")
    return text


def _fault(dataset: Recordings, episode: Episode, key: str) -> tuple[int, str] | None:
    """(frame, what) of the first fault of a column in an episode; None where there is none, or no such column."""
    if not dataset.has(episode.index, key):
        return None
    for start in range(0, episode.length, PIECE):
        frames = range(start, min(start + PIECE, episode.length))
        what = _read(dataset, episode.index, key, frames)
        if what is not None:
            # A length or a name is wrong for all frames alike; of a damaged picture the first frame is wanted.
            single = ((frame, _read(dataset, episode.index, key, [frame])) for frame in frames)
            return next(((frame, one) for frame, one in single if one is not None), (start, what))
    return None


def _read(dataset: Recordings, episode: int, key: str, frames: Sequence[int]) -> str | None:
    """What is wrong with these frames of a column; None where nothing is."""
    try:
        rows = dataset.read(episode, key, frames)
    except ValueError as error:
        return str(error)
    if isinstance(rows, np.ndarray) and rows.dtype.kind == "f" and not np.isfinite(rows).all():
        return f"{key} holds NaN or Inf"
    return None
