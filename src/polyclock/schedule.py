"""Schedules: the rows of times that a solver walks. Row k gives every token frame of every modality its time.

Rows never rise; what is wanted falls from its path's start to 0, what is given stays at 0, the rest stays unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .density import shifted
from .errors import unknown
from .modality import Modality
from .query import Role, Roles
from .timesteps import follows_clock

Row = dict[str, Tensor]


class Schedule(Protocol):
    """(roles, modalities) -> rows, each name -> (F,) float32 times; first = start, last: all wanted at 0."""

    def rows(self, roles: Roles, modalities: Mapping[str, Modality]) -> list[Row]: ...


def times(m: Modality, steps: int, shift: float) -> Tensor:
    """(steps + 1,) the path's solver times, shifted towards noise for shift > 1."""
    grid = m.path.rows(steps)
    return grid if shift == 1.0 else shifted(grid, shift)


def assemble(roles: Roles, modalities: Mapping[str, Modality], count: int, wanted: Mapping[str, Tensor]) -> list[Row]:
    """`count` rows from wanted[name] (count, F); given frames at 0, the rest unknown or with their clock."""
    leaders = [n for n in roles if Role.WANT in roles[n]]
    rows: list[Row] = [{} for _ in range(count)]
    for name, frames in roles.items():
        m = modalities[name]
        if frames[0] is Role.ABSENT:
            continue
        idle = torch.full((count, m.frames), m.path.unknown)
        if follows_clock(name, modalities, roles):
            mate = next(n for n in leaders if (modalities[n].clock or n) == (m.clock or name))
            idle = wanted[mate].amax(1, keepdim=True).expand(count, m.frames)
        want = torch.tensor([r is Role.WANT for r in frames])
        given = torch.tensor([r is Role.GIVEN for r in frames])
        grid = torch.where(want, wanted.get(name, idle), torch.where(given, 0.0, idle))
        for row, times_here in zip(rows, grid, strict=True):
            row[name] = times_here
    return rows


def check_names(what: str, names: Mapping, modalities: Mapping[str, Modality]) -> None:
    for name in names:
        if name not in modalities:
            raise unknown(f"modality in {what}", name, modalities)


def check_steps(*steps: int) -> None:
    for n in steps:
        if n < 1:
            raise ValueError(f"{n} solver steps; at least 1 is possible")


@dataclass(frozen=True, kw_only=True)
class Together:
    """All wanted frames fall together in `steps` moves. `shift` per modality pushes its times towards noise."""

    steps: int = 10
    shift: Mapping[str, float] = field(default_factory=dict)

    def rows(self, roles: Roles, modalities: Mapping[str, Modality]) -> list[Row]:
        names = dict.fromkeys(modalities, self.steps)
        return Asynchronous(steps=names, shift=self.shift).rows(roles, modalities)


@dataclass(frozen=True, kw_only=True)
class Asynchronous:
    """Each modality takes its own number of moves, spread evenly over the largest number; it waits in between."""

    steps: Mapping[str, int]
    shift: Mapping[str, float] = field(default_factory=dict)

    def rows(self, roles: Roles, modalities: Mapping[str, Modality]) -> list[Row]:
        check_names("steps", self.steps, modalities)
        check_names("shift", self.shift, modalities)
        check_steps(*self.steps.values())
        leaders = [n for n in roles if Role.WANT in roles[n]]
        for n in leaders:
            if n not in self.steps:
                raise ValueError(f"{n!r} is wanted but has no number of steps; given: {dict(self.steps)}")
        grids = {n: times(modalities[n], self.steps[n], self.shift.get(n, 1.0)) for n in leaders}
        count = max(len(g) for g in grids.values())
        wanted = {}
        for n, grid in grids.items():
            moves = len(grid) - 1
            place = torch.arange(count) * moves // (count - 1)
            wanted[n] = grid[place][:, None].expand(-1, modalities[n].frames)
        return assemble(roles, modalities, count, wanted)


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """Frame f begins `lag` rows after frame f - 1: near frames clear first (diffusion forcing)."""

    steps: int = 10
    lag: int = 1
    shift: Mapping[str, float] = field(default_factory=dict)

    def rows(self, roles: Roles, modalities: Mapping[str, Modality]) -> list[Row]:
        check_steps(self.steps)
        if self.lag < 0:
            raise ValueError(f"lag={self.lag} rows; at least 0 is possible")
        return staggered(roles, modalities, self.steps, self.shift, lambda place, n: place * self.lag)


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Each modality's wanted frames are cut into `count` chunks in time, denoised one after another."""

    count: int = 2
    steps: int = 10
    shift: Mapping[str, float] = field(default_factory=dict)

    def rows(self, roles: Roles, modalities: Mapping[str, Modality]) -> list[Row]:
        check_steps(self.steps, self.count)
        return staggered(
            roles, modalities, self.steps, self.shift, lambda place, n: (place * self.count // n) * self.steps
        )


def staggered(
    roles: Roles, modalities: Mapping[str, Modality], steps: int, shift: Mapping[str, float], delay
) -> list[Row]:
    """Rows in which the i-th wanted frame of n begins `delay(i, n)` rows late."""
    check_names("shift", shift, modalities)
    delays, grids = {}, {}
    for name, frames in roles.items():
        want = [f for f, r in enumerate(frames) if r is Role.WANT]
        if not want:
            continue
        grids[name] = times(modalities[name], steps, shift.get(name, 1.0))
        delays[name] = torch.zeros(len(frames), dtype=torch.long)
        for i, f in enumerate(want):
            delays[name][f] = delay(i, len(want))
    count = max(int(d.max()) + len(grids[n]) for n, d in delays.items())
    wanted = {}
    for name, late in delays.items():
        place = (torch.arange(count)[:, None] - late[None]).clamp(0, len(grids[name]) - 1)
        wanted[name] = grids[name][place]
    return assemble(roles, modalities, count, wanted)
