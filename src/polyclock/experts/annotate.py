"""Asking experts about each episode of a data set: what is done is skipped, what fails is set aside with the reason."""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data import annotation as store
from ..data.source import Dataset, Episode, noted
from ..errors import unknown
from .expert import Expert, Filter, settings
from .projected import fit_to

PIECE = 64  # frames handed to an expert at a time, where it need not see the whole clip
HELD = 2**30  # bytes of pictures of a clip that is decoded once for all experts, at most
WHOLE = 4 * 2**30  # bytes of pictures of a clip that is handed over whole, at most
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What whoever watches is told: frames done of total, and a line where there is one to say."""

    done: int
    total: int
    line: str = ""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What was done: episodes and frames that experts were asked about, episodes skipped as done, failures, seconds.

    kept, left: episodes of this shard that the filters keep and mark; failed counts what is in quarantine now.
    """

    folder: Path
    episodes: int
    frames: int
    skipped: int
    failed: int
    kept: int
    left: int
    seconds: float
    names: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class Task:
    """One column or filter that is to be made: its name, its camera, its expert, and the fingerprint of all that."""

    name: str
    camera: str
    expert: Expert | Filter
    made: str

    @property
    def marks(self) -> bool:
        """Whether it is a filter."""
        return self.expert.modality == "clip"

    @property
    def after(self) -> int | None:
        return None if self.marks else getattr(self.expert, "after", None)


def annotate(
    dataset: Dataset,
    source: str,
    out: str | Path,
    experts: Mapping[str, Expert | Filter],
    *,
    cameras: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    shard: tuple[int, int] = (0, 1),
    limit: int | None = None,
    retry: bool = False,
    told: Callable[[Told], None] = lambda _: None,
) -> Summary:
    """Ask `experts`, {name: expert}, about each episode of `dataset`, which `source` names, into the folder `out`.

    cameras  whose frames are shown [all of observation.images, or "video"]
    size     (H, W) at which frames are shown, and maps stored; None: as the pictures are
    shard    (i, n): the episodes i, i + n, i + 2 n, ... alone
    limit    this many episodes of the shard at most
    retry    ask again where it failed before

    Errors: ValueError where `out` holds something else, a camera or a place for a column is not there; ImportError for
    a package that an expert needs; OSError where the disk is full.
    """
    out, begun = Path(out), time.monotonic()
    cameras = tuple(cameras or default_cameras(dataset))
    _tasks(dataset, experts, cameras, size)  # what is wrong with them is said before any work begins
    store.note(out, source, {}, {})
    tasks = _tasks(dataset, fit_to(dataset, out, experts, cameras, size), cameras, size)
    _note(out, source, tasks)
    name = f"{shard[0]}-of-{shard[1]}"
    records = store.Log(out / store.RECORDS / f"{name}.jsonl", f"shard {shard[0]}/{shard[1]} of {out}")
    quarantine = store.Log(out / store.QUARANTINE / f"{name}.jsonl", f"shard {shard[0]}/{shard[1]} of {out}")
    try:
        work = _Work(dataset, out, tasks, size, records, quarantine)
        mine = list(dataset.episodes)[shard[0] :: shard[1]][:limit]
        left = [(e, todo) for e in mine if (todo := work.todo(e, retry))]
        total, done = sum(e.length for e, _ in left), 0
        told(Told(done=0, total=total))
        for episode, todo in left:
            lines = work.ask(episode, todo)
            done += episode.length
            told(Told(done=done, total=total, line="\n".join(lines)))
        failed, marked = work.failures(mine), work.marked(mine)
    finally:
        records.close()
        quarantine.close()
    kept = len(mine) - len(marked)
    return Summary(
        folder=out, episodes=len(left), frames=done, skipped=len(mine) - len(left), failed=failed, kept=kept,
        left=len(marked), seconds=time.monotonic() - begun, names=tuple(dict.fromkeys(experts)),
    )  # fmt: skip


def default_cameras(dataset: Dataset) -> tuple[str, ...]:
    """Those of `observation.images`, or "video" of a table of clips, whose other videos are modalities."""
    cameras = dataset.facts.cameras
    return ("video",) if "video" in cameras else tuple(cameras)


def _tasks(
    dataset: Dataset, experts: Mapping[str, Expert | Filter], cameras: Sequence[str], size: tuple[int, int] | None
) -> list[Task]:
    facts, tasks = dataset.facts, []
    for camera in cameras:
        if camera not in facts.cameras:
            raise unknown("camera", camera, facts.cameras)
        shape = facts.columns.get(camera, ())
        for name, expert in experts.items():
            known = {"rate": facts.fps, "side": min(shape[:2]) if len(shape) == 3 and None not in shape else None}
            bound = _bound(expert, known)
            said = [bound.fingerprint, camera, size]
            made = hashlib.sha256(repr(said).encode()).hexdigest()
            column = store.column_name(camera, name)
            if column in facts.columns:
                raise ValueError(
                    f"the data have a column {column!r} already; possible: another name, NAME={name}, or a source "
                    f"without it, PATH?hide={column}"
                )
            tasks.append(Task(name=column, camera=camera, expert=bound, made=made))
    return tasks


def _bound(expert: Any, known: Mapping[str, Any]) -> Any:
    """The expert with what the data set says in fields that were left open."""
    open_ones = {f.name for f in fields(expert) if f.name in known and getattr(expert, f.name) is None}
    return replace(expert, **{name: known[name] for name in open_ones}) if open_ones else expert


def _note(out: Path, source: str, tasks: Sequence[Task]) -> None:
    columns, filters = {}, {}
    for task in tasks:
        plain = {"is": type(task.expert).__name__} | settings(task.expert)
        entry = {"camera": task.camera, "expert": plain, "made": task.made}
        if task.marks:
            filters[task.name] = entry
        else:
            columns[task.name] = entry | {"note": task.expert.note}  # type: ignore[union-attr]
    store.note(out, source, columns, filters)


class _Work:
    """What is to be done in one shard, and the doing of it."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        tasks: Sequence[Task],
        size: tuple[int, int] | None,
        records: store.Log,
        quarantine: store.Log,
    ) -> None:
        self.dataset, self.out, self.tasks, self.size = dataset, out, tasks, size
        self.records, self.quarantine = records, quarantine
        made = {task.name: task.made for task in tasks}
        self.done = store.latest(out, store.RECORDS, made)
        self.failed = store.latest(out, store.QUARANTINE, made)
        self._marks: dict[int, str] = {}
        self._held: tuple[int, str, np.ndarray] | None = None  # the clip that was decoded last

    def mark(self, episode: Episode) -> str:
        if episode.index not in self._marks:
            self._marks[episode.index] = noted(self.dataset).mark(episode.index)
        return self._marks[episode.index]

    def _is(self, table: Mapping[tuple[int, str], Any], episode: Episode, task: Task) -> bool:
        found = table.get((episode.index, task.name))
        return found is not None and found["source"] == self.mark(episode)

    def todo(self, episode: Episode, retry: bool) -> list[Task]:
        """What is neither done nor in quarantine; of a camera that the episode has not, nothing."""
        out = [t for t in self.tasks if self.dataset.has(episode.index, t.camera)]
        out = [t for t in out if not self._is(self.done, episode, t)]
        return out if retry else [t for t in out if not self._is(self.failed, episode, t)]

    def failures(self, episodes: Sequence[Episode]) -> int:
        """How many answers are lacking now because they failed."""
        pairs = [(e, t) for e in episodes for t in self.tasks]
        return sum(self._is(self.failed, e, t) and not self._is(self.done, e, t) for e, t in pairs)

    def marked(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Episodes that a filter would leave out."""
        return [e for e in episodes if any(self.done.get((e.index, t.name), {}).get("why") for t in self.tasks)]

    def ask(self, episode: Episode, tasks: Sequence[Task]) -> list[str]:
        """Ask about one episode; a sentence for each task that failed."""
        lines = []
        for task in tasks:
            base = {"episode": episode.index, "name": task.name, "made": task.made, "source": self.mark(episode)}
            begun = time.monotonic()
            try:
                found = self._answer(episode, task)
            except ImportError:
                raise
            except Exception as error:  # whatever an expert stumbles over concerns this clip alone
                if getattr(error, "errno", None) in FULL:
                    raise OSError(
                        f"no space left for {self.out}; what is finished is whole, and the same command goes on"
                    ) from error
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                self.failed[episode.index, task.name] = base
                self.quarantine.add(base | {"why": reason})
                lines.append(f"episode {episode.index}, {task.name}: {reason}")
                continue
            record = base | found | {"seconds": round(time.monotonic() - begun, 3)}
            self.done[episode.index, task.name] = record
            self.records.add(record)
        return lines

    def _answer(self, episode: Episode, task: Task) -> dict[str, Any]:
        """What the record says, after the file has its place."""
        if task.marks:
            asked: Any = task.expert
            if getattr(asked, "side", 0) is None:  # clips of many sizes: each has its own
                asked = replace(asked, side=min(self._stored(episode, task.camera)))
            values = asked(next(self._pieces(episode, task))[0])
            numbers = dict(zip(asked.names, np.round(values.astype(float), 6).tolist(), strict=True))
            return {"values": numbers, "why": asked.why(values)}
        note = task.expert.note  # type: ignore[union-attr]
        answer = store.Answer(self.out, task.name, episode.index, note, self.dataset.facts.fps)
        try:
            for frames, count in self._pieces(episode, task):
                values = task.expert(frames)[:count]
                if len(values) != count:
                    raise ValueError(f"the expert answered for {len(values)} of {count} frames")
                answer.add(self._in_own_pixels(note["kind"], values, frames.shape[1:3], episode, task.camera))
            return answer.finish()
        except BaseException:
            answer.discard()
            raise

    def _pieces(self, episode: Episode, task: Task) -> Iterator[tuple[np.ndarray, int]]:
        """(frames uint8 (n, H, W, 3), how many of them are answered for): the others are only to be seen."""
        if not episode.length:
            raise ValueError("the episode has no frames")
        step = PIECE if task.after is not None else episode.length
        if task.after is None:
            self._check_size(episode, task.camera)
        for begin in range(0, episode.length, step):
            end = min(begin + step, episode.length)
            seen = range(begin, min(end + (task.after or 0), episode.length))
            frames = self._frames(episode, task.camera, seen)
            yield np.repeat(frames, 3, -1) if frames.shape[-1] == 1 else frames, end - begin

    def _frames(self, episode: Episode, camera: str, seen: range) -> np.ndarray:
        """(n, H, W, C) of one camera; of a clip that is not too large all are decoded, once for all experts."""
        if self._bytes(episode, camera) > HELD:
            found = self.dataset.read(episode.index, camera, seen, self.size)
            assert isinstance(found, np.ndarray)
            return found
        if self._held is None or self._held[:2] != (episode.index, camera):
            whole = self.dataset.read(episode.index, camera, range(episode.length), self.size)
            assert isinstance(whole, np.ndarray)
            self._held = (episode.index, camera, whole)
        return self._held[2][seen.start : seen.stop]

    def _bytes(self, episode: Episode, camera: str) -> int:
        height, width = self.size or self._stored(episode, camera)
        return episode.length * height * width * 3

    def _check_size(self, episode: Episode, camera: str) -> None:
        much = self._bytes(episode, camera)
        if much > WHOLE:
            raise ValueError(
                f"the expert must see all {episode.length} frames at once, {much / 2**30:.1f} GiB; possible: "
                f"{WHOLE / 2**30:.0f} GiB, with a smaller --size"
            )

    def _stored(self, episode: Episode, camera: str) -> tuple[int, int]:
        shape = self.dataset.facts.columns.get(camera, ())
        if len(shape) == 3 and shape[0] is not None and shape[1] is not None:
            return shape[0], shape[1]
        first = self.dataset.read(episode.index, camera, [0])
        assert isinstance(first, np.ndarray)
        return first.shape[1], first.shape[2]

    def _in_own_pixels(
        self, kind: str, values: np.ndarray, shown: tuple[int, int], episode: Episode, camera: str
    ) -> np.ndarray:
        """Joints in px of the stored picture, whatever size they were found at, as data sets have them."""
        if kind != "skeleton" or self.size is None:
            return values
        stored = self._stored(episode, camera)
        scale = np.array([stored[1] / shown[1], stored[0] / shown[0], 1], np.float32)
        return values * scale
