"""A world to evaluate policies in: `World("metaworld/drawer-open", num_envs=4).evaluate(policy, episodes=50)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..envs import open_env as open_known
from ..envs import starts as known_starts
from ..envs.world import Env, Start
from ..evaluate.paired import Sequential, Verdict, discordant
from .actor import Actor
from .crew import play_all
from .episode import Job, Station
from .ledger import Ledger, Row, start_hash
from .outcome import Outcome

CAMERA = "corner2"  # filmed where a policy looks at nothing


@dataclass(frozen=True)
class World:
    """One task or several, from their published starts.

    tasks     such as "metaworld/drawer-open", or several of them
    num_envs  episodes at a time, each in a process of its own with its own copy of the policy; 0: in this process
    cameras   that the world brings; None: those that the policy looks at
    size      pixels of a picture before the policy resizes it to its own: take the size at which the training data were
              drawn ("collect" draws 128), since a scene drawn smaller and one made smaller are two pictures
    variation of the looks, drawn from each start: "light", "background" or "clutter"; None: the world as it was made.
              What happens to the same actions is the same, so that ledgers with and without it are pairs
    open_env  (name, cameras=..., size=...) -> `Env`, with variation=... where there is one; starts: (name, split,
              count, first) -> its starts

    What holds exactly: an episode is a function of (policy, its seed, task, number of the start). A policy is asked
    about one episode at a time, on one thread, with noise drawn by (seed, task, start, call), so a row of the ledger is
    the same to the bit, times apart, whatever `num_envs`, the number of episodes and what else was evaluated. What
    holds up to rounding only: other processors, another version of torch or of the simulator, CPU against GPU. A
    difference in an action's last bit can, rarely, turn an episode that was close.
    """

    tasks: str | Sequence[str]
    num_envs: int = 1
    cameras: Sequence[str] | None = None
    size: int | tuple[int, int] = 128
    variation: str | None = None
    open_env: Callable[..., Env] = field(default=open_known, repr=False)
    starts: Callable[..., Sequence[Start]] = field(default=known_starts, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", (self.tasks,) if isinstance(self.tasks, str) else tuple(self.tasks))
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ValueError(f"tasks {', '.join(self.tasks) or 'none'}: each once, at least one")
        if self.num_envs < 0:
            raise ValueError(f"num_envs={self.num_envs} must be 0 (in this process) or more")
        if self.variation and "variation" not in inspect.signature(self.open_env).parameters:
            raise ValueError(f"{', '.join(self.tasks)}: this world has no variations; asked for {self.variation}")

    def evaluate(
        self,
        policy: Actor,
        episodes: int = 50,
        *,
        ledger: str | Path | None = None,
        clips: str | Path | None = None,
        filmed: int = 8,
        enough: Sequential | None = None,
        against: Iterable[Row] | None = None,
        report: Callable[[Row], None] | None = None,
    ) -> Outcome:
        """Play the first `episodes` evaluation starts of every task; success is the task done at any step.

        ledger    a file that gets a line as each episode ends. Episodes that stand in it are not played again
        clips     a folder for films of the first `filmed` episodes of each task, as they are played
        enough    ends a task as soon as this test is decided: about its share of successes, or, with the rows of
                  another ledger in `against`, about who solves more of the starts that one of the two solves alone.
                  Where it ends depends on the order of the starts alone, not on the order in which episodes end
        report    called with each row as its episode ends

        A world that raises ends its episode as a failure with `error` in the row. An exception of the policy is raised.
        Errors: ValueError for what cannot be played; OSError where a process died or the disk is full.
        """
        if against is not None and enough is None:
            raise ValueError("against=... has a say in when a task ends: it needs enough=Sequential()")
        plan = dict(self._jobs(task, episodes, clips, filmed) for task in self.tasks)
        if len(plan) != len(self.tasks):
            raise ValueError(f"{', '.join(self.tasks)}: two of these are the same task")
        about = {**policy.describe(), "size": _plain_size(self.size), "cameras": list(self._seen(policy))}
        if self.variation:
            about["variation"] = self.variation
        station = Station(policy, self._open, self._seen(policy), self.size)
        with Ledger(ledger, about) as book:
            race = _Race(plan, book.rows, enough, against)
            with closing(play_all(race.take, station, self.num_envs)) as played:
                for _, row in played:
                    book.add(row)
                    race.add(book.rows[-1])
                    if report:
                        report(book.rows[-1])
            order = {task: place for place, task in enumerate(plan)}
            counted = {task: race.prefix(task) for task in plan}
            # Episodes that were under way when their task was decided would depend on the number of processes.
            kept = race.old | {(row["task"], row["number"]) for rows in counted.values() for row in rows}
            book.settle(
                order=lambda r: (order.get(r["task"], len(order)), r["task"], r["number"]),
                keep=lambda r: (r["task"], r["number"]) in kept,
            )
        rows = tuple(row for rows in counted.values() for row in rows)
        verdicts = {task: verdict for task in plan if (verdict := race.verdict(task))}
        return Outcome(
            rows=rows, about=about, verdicts=verdicts, enough=enough, paired=against is not None, ledger=book.path
        )

    def planned(self, episodes: int) -> list[Row]:
        """What `evaluate` would play: a row per episode with "task", "number" and "start", as in a ledger."""
        jobs = [job for task in self.tasks for job in self._jobs(task, episodes, None, 0)[1]]
        return [{"task": job.task, "number": job.start.number, "start": start_hash(job.start)} for job in jobs]

    @property
    def _open(self) -> Callable[..., Env]:
        return partial(self.open_env, variation=self.variation) if self.variation else self.open_env

    def _seen(self, policy: Actor) -> tuple[str, ...]:
        return tuple(self.cameras or policy.cameras or (CAMERA,))

    def _jobs(self, task: str, episodes: int, clips: str | Path | None, filmed: int) -> tuple[str, list[Job]]:
        """(the task's name as the ledger has it, its jobs)."""
        if episodes < 1:
            raise ValueError(f"episodes={episodes} must be at least 1")
        begun = self.starts(task, "evaluation", episodes, 0)
        name = "/".join([*task.split("/")[:-1], begun[0].task])
        return name, [
            Job(name, start, Path(clips) if clips and place < filmed else None) for place, start in enumerate(begun)
        ]


class _Race:
    """Which episodes are still to be played, and where each task's sequential test stands."""

    def __init__(
        self,
        plan: dict[str, list[Job]],
        rows: Sequence[Row],
        enough: Sequential | None,
        against: Iterable[Row] | None,
    ) -> None:
        self.plan, self.enough = plan, enough
        self.rival = None if against is None else {(r["task"], r["number"]): r for r in against}
        self.rows = {(r["task"], r["number"]): r for r in rows}
        self.old = set(self.rows)
        self._check()
        self._waiting = self._open_jobs()

    def _check(self) -> None:
        """Errors: rows, ours or the rival's, of other starts than those of the plan; a rival that lacks some."""
        for job in (job for jobs in self.plan.values() for job in jobs):
            key = (job.task, job.start.number)
            for rows, whose in ((self.rows, "the ledger"), (self.rival or {}, "the other ledger")):
                if key in rows and rows[key]["start"] != start_hash(job.start):
                    raise ValueError(
                        f"{job.task}, start {job.start.number}: {whose} holds another start of that number"
                    )
            if self.enough and self.rival is not None and key not in self.rival:
                raise ValueError(
                    f"{job.task}, start {job.start.number}: the other ledger has no such episode to compare"
                )

    def _open_jobs(self) -> Iterator[Job]:
        for task, jobs in self.plan.items():
            for job in jobs:
                if self._decided(task):
                    break
                if (task, job.start.number) not in self.rows:
                    yield job

    def take(self) -> Job | None:
        """The next episode to be played; None where there is none."""
        return next(self._waiting, None)

    def add(self, row: Row) -> None:
        self.rows[row["task"], row["number"]] = row

    def prefix(self, task: str) -> list[Row]:
        """The rows that count: those before the first episode that is lacking, up to the one that decided."""
        rows = []
        for job in self.plan[task]:
            row = self.rows.get((task, job.start.number))
            if row is None:
                break
            rows.append(row)
            if self._decided_by(rows):
                break
        return rows

    def verdict(self, task: str) -> Verdict | None:
        """What the sequential test says of the rows that count."""
        return self.enough and self.enough.verdict(self._stream(self.prefix(task)))

    def _decided(self, task: str) -> bool:
        return self._decided_by(self.prefix(task)) if self.enough else False

    def _decided_by(self, rows: Sequence[Row]) -> bool:
        return bool(self.enough) and self.enough.verdict(self._stream(rows)).word != "undecided"

    def _stream(self, rows: Sequence[Row]) -> list[bool]:
        if self.rival is None:
            return [row["success"] for row in rows]
        theirs = [self.rival[row["task"], row["number"]]["success"] for row in rows]
        return discordant([row["success"] for row in rows], theirs)


def _plain_size(size: int | tuple[int, int]) -> Any:
    return size if isinstance(size, int) else list(size)
