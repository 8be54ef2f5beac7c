"""What an evaluation in a world found: shares with intervals, latency, comparison with another ledger."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluate.intervals import wilson
from ..evaluate.paired import Pairs, Sequential, Verdict
from ..evaluate.table import Grid
from .ledger import Row, read

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Share:
    """Successes among episodes with Wilson's 95 % interval; `crashed` episodes count as failures."""

    successes: int
    episodes: int
    crashed: int
    low: float
    high: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Share:
        good = sum(row["success"] for row in rows)
        low, high = wilson(good, len(rows))
        crashed = sum(row["error"] is not None for row in rows)
        return cls(successes=good, episodes=len(rows), crashed=crashed, low=low, high=high)

    @property
    def share(self) -> float:
        return self.successes / self.episodes

    def plain(self) -> dict[str, float | int]:
        """As a dict that JSON can hold."""
        return asdict(self) | {"share": self.share}


def mean_share(shares: Sequence[Share]) -> tuple[float, float, float]:
    """(mean over tasks, low, high) of the mean of independent shares; of one share its Wilson interval.

    The squared distances from each share to its Wilson limits add up (Zou and Donner 2008, "Construction of confidence
    limits about effect measures: a general approach").
    """
    mean = sum(s.share for s in shares) / len(shares)
    below = math.sqrt(sum((s.share - s.low) ** 2 for s in shares)) / len(shares)
    above = math.sqrt(sum((s.high - s.share) ** 2 for s in shares)) / len(shares)
    return mean, max(0.0, mean - below), min(1.0, mean + above)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The episodes that count, task by task in the order of their starts.

    rows      as in the ledger
    about     what acted, in which world
    verdicts  what the sequential test `enough` said of each task, where one was asked for; paired: whether it was
              about who solves more of the starts that one of two policies solves alone
    ledger    the file, or None
    """

    rows: tuple[Row, ...]
    about: Mapping[str, Any]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    enough: Sequential | None = None
    paired: bool = False
    ledger: Path | None = None

    @property
    def tasks(self) -> dict[str, Share]:
        """Task -> its share of successes."""
        return {task: Share.of(rows) for task, rows in by_task(self.rows).items()}

    @property
    def mean(self) -> tuple[float, float, float]:
        """(mean over tasks, low, high): every task weighs the same."""
        return mean_share(list(self.tasks.values()))

    @property
    def successes(self) -> int:
        return sum(row["success"] for row in self.rows)

    @property
    def episodes(self) -> int:
        return len(self.rows)

    @property
    def latency(self) -> dict[str, float] | None:
        """Milliseconds a call: the mean over calls, the median over episodes of their p50 and of their p95."""
        return latency(self.rows)

    def against(self, other: Outcome | str | Path | Iterable[Row]) -> Pairs:
        """This policy and another on the same starts. Errors: ValueError as of `matched`."""
        mine, theirs = matched(self.rows, _rows(other))
        return Pairs.of([r["success"] for r in mine], [r["success"] for r in theirs])

    def grid(self) -> Grid:
        """A row per task, then the mean over tasks."""
        tasks, found = self.tasks, by_task(self.rows)
        body = [
            (*_cells(task, tasks[task].share, tasks[task].low, tasks[task].high, rows), self._said(task))
            for task, rows in found.items()
        ]
        if len(tasks) > 1:
            body.append((*_cells(f"mean over {len(tasks)} tasks", *self.mean, self.rows), ""))
        columns = ("task", "solved", "share (95 %)", "crashed", "steps", "ms a call")
        if self.verdicts:
            columns = (*columns, "sequential test")
        else:
            body = [row[:-1] for row in body]
        return Grid(title=self._title(), columns=columns, rows=tuple(body), quiet=(False,) * len(body))

    def show(self, console: Console | None = None) -> None:
        """Print the table, and which episodes ended because the world raised."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = self.grid()
        table = Table(title=Text(grid.title), title_justify="left")
        for i, column in enumerate(grid.columns):
            table.add_column(column, justify="right" if i else "left", overflow="fold", no_wrap=not i)
        for row in grid.rows:
            table.add_row(*map(Text, row))
        console = console or Console()
        console.print(table)
        for row in (row for row in self.rows if row["error"]):
            console.print(Text(f"- {row['task']}, start {row['number']}, counted as a failure: {row['error']}"))

    def plain(self) -> dict[str, Any]:
        """One document that JSON can hold, without the rows."""
        mean, low, high = self.mean
        found: dict[str, Any] = {
            "kind": "rollout",
            "about": dict(self.about),
            "tasks": {task: share.plain() for task, share in self.tasks.items()},
            "mean": {"share": mean, "low": low, "high": high},
            "successes": self.successes,
            "episodes": self.episodes,
            "latency_ms": self.latency,
            "ledger": None if self.ledger is None else str(self.ledger),
        }
        if self.enough:
            found["enough"] = asdict(self.enough) | {"paired": self.paired}
            found["verdicts"] = {task: verdict.plain() for task, verdict in self.verdicts.items()}
        return found

    def _said(self, task: str) -> str:
        verdict = self.verdicts.get(task)
        return f"{verdict.word} after {verdict.trials}" if verdict else ""

    def _title(self) -> str:
        about = self.about
        varied = f", varied {about['variation']}" if "variation" in about else ""
        if "query" not in about:
            return f"{about['policy']}{varied}"
        more = f"best of {about['plan']['count']}, " if "plan" in about else ""
        more += f"{about['overlap']['kind']} overlap of {about['overlap']['delay']}, " if "overlap" in about else ""
        steps = f"steps {about['solver_steps']}, seed {about['seed']}"
        return f"{about['query']!r}, execute {about['execute']}, {more}{steps}{varied}"


def by_task(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Task -> its rows, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["task"], []).append(row)
    return found


def matched(first: Iterable[Row], second: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of both that began alike, in the order of the first.

    Errors: ValueError where none did, or where a task's start of the same number is another start.
    """
    known = {(row["task"], row["number"]): row for row in second}
    mine, theirs = [], []
    for row in first:
        other = known.get((row["task"], row["number"]))
        if other is None:
            continue
        if other["start"] != row["start"]:
            raise ValueError(f"{row['task']}, start {row['number']}: the two ledgers began from different states")
        mine.append(row)
        theirs.append(other)
    if not mine:
        raise ValueError("the two ledgers have no start in common, so nothing can be paired")
    return mine, theirs


def comparison(met: Pairs, first: str, second: str, *, early: bool) -> str:
    """Who solved more of the same starts. early: a sequential test chose how many there are, so that McNemar's test,
    which is for a number chosen beforehand, says nothing."""
    if not early:
        return met.sentence(first, second)
    counts = f"both {met.both}, only {first} {met.first}, only {second} {met.second}, neither {met.neither}"
    return (
        f"{first} and {second} on the same {met.number} starts: {counts}; no p-value, since the episodes ended as soon "
        "as a sequential test was decided"
    )


def ended_early(verdicts: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a sequential test chose how many episodes there are; verdicts as in a document."""
    return any(said.get("word") != "undecided" for said in verdicts.values())


def latency(rows: Sequence[Row]) -> dict[str, float] | None:
    """Milliseconds a call over episodes: mean over calls, medians of the episodes' p50 and p95; None without calls."""
    called = [row for row in rows if row["latency_ms"]]
    if not called:
        return None
    calls = np.array([row["calls"] for row in called], float)
    means = np.array([row["latency_ms"]["mean"] for row in called])
    medians = {k: round(float(np.median([row["latency_ms"][k] for row in called])), 3) for k in ("p50", "p95")}
    return {"mean": round(float((calls * means).sum() / calls.sum()), 3), **medians}


def _cells(name: str, share: float, low: float, high: float, rows: Sequence[Row]) -> tuple[str, ...]:
    """A row of the table: `share` of these rows with its interval, what crashed, mean steps of successes, latency."""
    good = [row["steps"] for row in rows if row["success"]]
    return (
        name,
        f"{len(good)}/{len(rows)}",
        f"{percent(share)} ({100 * low:.0f} to {100 * high:.0f})",
        str(sum(row["error"] is not None for row in rows)),
        f"{sum(good) / len(good):.0f}" if good else "-",
        _milliseconds(latency(rows)),
    )


def percent(share: float) -> str:
    """0.724 -> "72 %"."""
    return f"{100 * share:.0f} %"


def _rows(other: Outcome | str | Path | Iterable[Row]) -> list[Row]:
    if isinstance(other, Outcome):
        return list(other.rows)
    return read(other) if isinstance(other, str | Path) else list(other)


def _milliseconds(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else f"{found['mean']:.0f} (p95 {found['p95']:.0f})"
