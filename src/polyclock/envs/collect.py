"""Collecting a data set from a world: candidates are tried, episodes are made by worker processes and written in order.

Which episodes there will be is settled first, from the settings alone; episode k is a function of the settings and k.
So the number of workers does not matter, and a run that was killed goes on behind the last episode it finished.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from ..data.encode import VideoCodec
from ..data.files import write_json
from ..data.formats.lerobot_writer import LeRobotWriter

CRF = 10  # finer than recordings of cameras: whoever acts on what it learnt here sees the picture itself

NOTE = Path("meta") / "collect.json"
PATIENCE = 20  # candidates tried for each episode that is wanted, on average, before the world is given up
Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True, order=True)
class Unit:
    """One candidate for an episode: of which line (a task, a kind of scene), and its number in that line."""

    line: str
    number: int


class Maker(Protocol):
    """What lives in a worker process and makes episodes."""

    def worth(self, unit: Unit) -> bool:
        """Whether this candidate becomes an episode; cheap, nothing is rendered."""

    def make(self, unit: Unit) -> tuple[Columns, str]:
        """The columns of the episode, {feature: (n, ...)}, and its sentence."""


class Source(Protocol):
    """A world to collect from, as plain settings that travel to worker processes.

    lines     episodes are taken from these in turn
    episodes  wanted of each line
    fps       frames a second
    """

    lines: tuple[str, ...]
    episodes: int
    fps: float

    def settings(self) -> dict[str, Any]:
        """What the data depend on, as JSON can hold it; all but the number of episodes."""

    def features(self) -> dict[str, Any]:
        """The columns, as a writer takes them."""

    def open(self) -> Maker:
        """What makes the episodes; called once in each worker."""


@dataclass(frozen=True)
class Told:
    """What whoever watches is told: `stage` "choose" or "make", done of total, and a line where there is one to say."""

    stage: str
    done: int
    total: int
    line: str = ""


@dataclass(frozen=True)
class Collected:
    """What lies in the folder now: episodes there, of which `new` were made by this call, and refused candidates."""

    folder: Path
    episodes: int
    frames: int
    new: int
    refused: tuple[Unit, ...] = field(default=())


def collect(
    source: Source, out: str | Path, *, workers: int | None = None, told: Callable[[Told], None] = lambda _: None
) -> Collected:
    """Bring the data set in `out` to `source.episodes` episodes of each line; what is there already stays.

    workers  processes; the data do not depend on it. None: one for each core, at most 8

    Errors: ValueError where `out` holds something else or was collected with other settings; OSError where the disk is
    full, with the finished episodes left readable.
    """
    out = Path(out)
    count = min(len(os.sched_getaffinity(0)), 8) if workers is None else workers
    if count < 1 or source.episodes < 1:
        raise ValueError(f"workers {workers}, episodes {source.episodes}: at least 1 of each")
    wanted = source.episodes * len(source.lines)
    note = check_note(out, source)
    features = begun_with(out, source.features(), lambda line: told(Told("make", 0, wanted, line)))
    with _pool(source, count) as pool, _disk(out):
        if len(note.get("episodes", ())) < wanted:
            note = _chosen(source, pool, told)
        units = [Unit(*pair) for pair in note["episodes"][:wanted]]
        with LeRobotWriter(out, fps=source.fps, features=features, video_codec=VideoCodec(crf=CRF)) as writer:
            check_note(out, source)  # another call may have collected here until this one had the writer's lock
            write_json(out / NOTE, note)
            before = writer.episodes
            told(Told("make", before, wanted))
            # One more than there are workers, so that none waits while an episode is written.
            for done, (columns, sentence) in enumerate(_results(pool, _make, units[before:], count + 1), before + 1):
                writer.add_episode({key: columns[key] for key in features}, sentence)
                told(Told("make", done, wanted))
            frames = writer.info["total_frames"]
    refused = tuple(Unit(*pair) for pair in note["refused"])
    return Collected(out, wanted, frames, wanted - before, refused)


def begun_with(out: Path, features: dict[str, Any], told: Callable[[str], None]) -> dict[str, Any]:
    """The columns that `out` was begun with: it goes on without those that the world has learnt to write since."""
    info = out / "meta" / "info.json"
    there = json.loads(info.read_text(encoding="utf-8"))["features"] if info.is_file() else features
    new = [key for key in features if key not in there]
    if new:
        told(f"{out} was begun without {', '.join(new)} and goes on so")
    return {key: entry for key, entry in features.items() if key not in new}


def check_note(out: Path, source: Source) -> dict[str, Any]:
    """What an earlier call noted in `out`, {} for a new folder. Errors: ValueError where it does not fit."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; possible: an empty or a new folder")
    info = out / "meta" / "info.json"
    if (out / NOTE).is_file():
        note = json.loads((out / NOTE).read_text(encoding="utf-8"))
        old, new = note["settings"], json.loads(json.dumps(source.settings()))
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                raise ValueError(
                    f"{out} was collected with {name} = {_shown(old.get(name))}, not {_shown(new.get(name))}; "
                    "possible: the same settings, or a new folder"
                )
        there = json.loads(info.read_text(encoding="utf-8"))["total_episodes"]
        wanted = source.episodes * len(source.lines)
        if there > wanted:
            raise ValueError(f"{out} holds {there} episodes already; asked for {wanted}")
        return note
    if not info.is_file() and out.is_dir() and any(path.name != "meta" for path in out.iterdir()):
        raise ValueError(f"{out} holds something else; possible: an empty or a new folder")
    if info.is_file() and json.loads(info.read_text(encoding="utf-8")).get("total_episodes"):
        raise ValueError(f"{out} holds a data set that was not collected by this command; possible: a new folder")
    return {}


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _chosen(source: Source, pool: Executor, told: Callable[[Told], None]) -> dict[str, Any]:
    """Try candidates of each line in order until there are enough: the note for the folder."""
    kept: dict[str, list[Unit]] = {line: [] for line in source.lines}
    refused: list[Unit] = []
    wanted = source.episodes * len(source.lines)
    for line in source.lines:
        number = 0
        while len(kept[line]) < source.episodes:
            if number > PATIENCE * source.episodes + PATIENCE:
                raise ValueError(
                    f"{line}: {len(kept[line])} of {number} candidates were good; {source.episodes} wanted"
                )
            batch = [Unit(line, n) for n in range(number, number + source.episodes - len(kept[line]))]
            number += len(batch)
            for unit, good in zip(batch, _results(pool, _worth, batch, len(batch)), strict=True):
                (kept[line] if good else refused).append(unit)
                text = "" if good else f"{line}: the expert failed from start {unit.number}; the next one was taken"
                told(Told("choose", sum(map(len, kept.values())), wanted, text))
    order = [kept[line][k] for k in range(source.episodes) for line in source.lines]
    return {
        "settings": source.settings(),
        "episodes": [[unit.line, unit.number] for unit in order],
        "refused": [[unit.line, unit.number] for unit in refused],
    }


# Processes.

_maker: Maker | None = None  # of this worker


def _begin(source: Source) -> None:
    """In a worker: it ends when its parent is gone."""
    global _maker
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    _maker = source.open()


def _worth(unit: Unit) -> bool:
    assert _maker is not None
    return _maker.worth(unit)


def _make(unit: Unit) -> tuple[Columns, str]:
    assert _maker is not None
    return _maker.make(unit)


@contextmanager
def _pool(source: Source, workers: int) -> Iterator[Executor]:
    # Spawned, not forked: what the renderer and the video encoder hold cannot be shared with a copy of the process.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(source,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _results(pool: Executor, function: Callable, units: Sequence[Unit], ahead: int) -> Iterator[Any]:
    """`function` of each unit, in order, at most `ahead` begun before they are asked for."""
    rest = iter(units)
    begun: list[Future] = []
    try:
        begun += _begun(pool, function, islice(rest, ahead))
        while begun:
            result = begun.pop(0).result()
            begun += _begun(pool, function, islice(rest, 1))
            yield result
    except BrokenProcessPool:
        raise OSError(
            "a worker process was ended from outside; was there enough memory? the same command goes on"
        ) from None
    except (ValueError, ImportError, OSError) as error:
        raise type(error)(str(error)) from error


def _begun(pool: Executor, function: Callable, units: Iterable[Unit]) -> list[Future]:
    resource_tracker.ensure_running()  # its own start, which comes with the first process, would unblock the signal
    # A worker is started here and inherits what is blocked: Ctrl-C reaches the whole group, and the parent alone acts.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return [pool.submit(function, unit) for unit in units]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _disk(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        with suppress(OSError, ValueError), LeRobotWriter(out):
            pass  # opening it takes away what the unfinished episode left
        raise OSError(
            f"no space left for {out}; its finished episodes are whole, and the same command goes on"
        ) from error
