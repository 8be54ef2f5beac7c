"""Training laws: how times are drawn. A training task is a query too, so `Task("depth | video")` is a law.

A law maps (presence, dice) to `Draw(t, learn, drop, absent)`. What is learnt is never inferred from t: regression
learns at t = 1, and a given frame teaches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from .density import Density, Uniform, with_ends
from .dice import Dice
from .errors import unknown
from .modality import Condition, Modality, family
from .query import Query, Role, Roles

ALL = frozenset(Role) - {Role.ABSENT}


@dataclass(frozen=True)
class Presence:
    """What the B samples of a batch have: `has[name]` (B,) bool, for modalities and conditions."""

    size: int
    has: Mapping[str, Tensor]
    modalities: Mapping[str, Modality]
    conditions: Mapping[str, Condition] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """The law's word on a batch, for all B samples, whatever each of them has.

    t[name]      (B, F) float32 times          learn[name]   (B, F) bool: frames that carry loss
    drop[name]   (B,) bool: replaced by its null (modalities and conditions; missing name: never)
    absent[name] (B,) bool: gets no tokens (missing name: never)
    """

    t: dict[str, Tensor]
    learn: dict[str, Tensor]
    drop: dict[str, Tensor] = field(default_factory=dict)
    absent: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Pattern:
    """A set of role assignments that a law trains: allowed roles per frame, and names whose roles agree.

    `once`: at t = 1 alone, so that one step of a solver is the answer and more would leave what was trained.
    """

    label: str
    allowed: Mapping[str, tuple[frozenset[Role], ...]]
    tied: tuple[frozenset[str], ...] = ()
    once: bool = False

    def covers(self, roles: Roles) -> bool:
        """Whether a query with these roles was trained."""
        for name, frames in roles.items():
            if not all(role in may for role, may in zip(frames, self.allowed[name], strict=True)):
                return False
        return all(len({role for n in group for role in roles[n]} - {Role.ABSENT}) <= 1 for group in self.tied)


class Law(Protocol):
    """(presence, dice) -> Draw."""

    def __call__(self, presence: Presence, dice: Dice) -> Draw: ...

    def answers(self, presence: Presence) -> Tensor:
        """(B,) bool: the samples that this law can be applied to."""
        ...

    def patterns(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Pattern]:
        """The role patterns it draws. Errors: names that the recipe does not have."""
        ...


def clocks(modalities: Mapping[str, Modality]) -> dict[str, list[str]]:
    """clock -> the modalities on it. A clock named after a modality is that modality's own."""
    out: dict[str, list[str]] = {}
    for name, m in modalities.items():
        out.setdefault(m.clock or name, []).append(name)
    return out


def follows_clock(name: str, modalities: Mapping[str, Modality], roles: Roles) -> bool:
    """Whether a modality that a question leaves out keeps the time of its clock: its null does, and another on that
    clock is wanted."""
    m = modalities[name]
    if m.null == "noise" or set(roles[name]) != {Role.NEITHER}:
        return False
    return any(Role.WANT in roles[n] for n in clocks(modalities)[m.clock or name])


class Anyone:
    """A law that every sample with some modality can follow. `ends` is the weight of an atom at 0 and one at 1."""

    ends: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.ends < 0.5:
            raise ValueError(f"ends={self.ends} is the weight of each of two atoms and must lie in [0, 0.5)")

    def answers(self, presence: Presence) -> Tensor:
        return torch.stack([presence.has[n] for n in presence.modalities]).any(0)


@dataclass(frozen=True)
class Independent(Anyone):
    """Every clock draws its own time (Zhu et al. 2025, arXiv 2504.02792): one network answers all questions.

    `ends` is the weight of an atom at exactly 0 and of another at exactly 1, where nothing is learnt: they train the
    very times that queries use.
    """

    density: Density = Uniform()
    ends: float = 0.1

    def __call__(self, presence: Presence, dice: Dice) -> Draw:
        draw = Draw({}, {})
        for clock, names in clocks(presence.modalities).items():
            frames = {n: presence.modalities[n].frames for n in names}
            count = self._count(clock, set(frames.values()))
            time, taught = with_ends(dice.uniform(f"t.{clock}", count), self.density, self.ends)
            draw.t.update({n: time.expand(-1, f) for n, f in frames.items()})
            draw.learn.update({n: taught.expand(-1, f) for n, f in frames.items()})
        return draw

    def _count(self, clock: str, frames: set[int]) -> int:
        """How many times a clock draws whose modalities have so many frames."""
        return 1

    def patterns(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Pattern]:
        allowed = {n: (ALL,) * m.frames for n, m in modalities.items()}
        tied = tuple(frozenset(names) for names in clocks(modalities).values())
        return [Pattern("any whole modality wanted, given or neither", allowed, tied)]


@dataclass(frozen=True)
class PerFrame(Independent):
    """Every frame of every clock draws its own time (diffusion forcing): any span of any modality can be asked for.

    Errors: ValueError for modalities of one clock that have different numbers of frames.
    """

    def _count(self, clock: str, frames: set[int]) -> int:
        if len(frames) > 1:
            raise ValueError(f"PerFrame: modalities on clock {clock!r} have different frame counts {sorted(frames)}")
        return next(iter(frames))

    def patterns(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Pattern]:
        return [Pattern("any frames wanted, given or neither", {n: (ALL,) * m.frames for n, m in modalities.items()})]


@dataclass(frozen=True)
class Shared(Anyone):
    """One time for everything: plain joint diffusion."""

    density: Density = Uniform()
    ends: float = 0.0

    def __call__(self, presence: Presence, dice: Dice) -> Draw:
        time, taught = with_ends(dice.uniform("t", 1), self.density, self.ends)
        sizes = {n: m.frames for n, m in presence.modalities.items()}
        return Draw(
            {n: time.expand(-1, f) for n, f in sizes.items()}, {n: taught.expand(-1, f) for n, f in sizes.items()}
        )

    def patterns(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Pattern]:
        want = frozenset({Role.WANT})
        return [Pattern("all wanted", {n: (want,) * m.frames for n, m in modalities.items()})]


@dataclass(frozen=True)
class Fixed(Anyone):
    """One fixed time, learnt everywhere: at t = 1 the network sees no data and regresses it."""

    t: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.t <= 1:
            raise ValueError(f"Fixed(t={self.t}): t must lie in (0, 1]")

    def __call__(self, presence: Presence, dice: Dice) -> Draw:
        sizes = {n: (presence.size, m.frames) for n, m in presence.modalities.items()}
        t = {n: torch.full(s, self.t, device=dice.device) for n, s in sizes.items()}
        return Draw(t, {n: torch.ones_like(v, dtype=torch.bool) for n, v in t.items()})

    def patterns(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Pattern]:
        want = frozenset({Role.WANT})
        label = "all wanted, in one step" if self.t == 1 else f"all wanted, at t = {self.t:g}"
        return [Pattern(label, {n: (want,) * m.frames for n, m in modalities.items()}, once=self.t == 1)]


@dataclass(frozen=True)
class Task:
    """A query as a law: one time for what is wanted, 0 for what is given, unknown for the rest.

    With times="independent" every clock of what is wanted draws a time of its own. Free names are drawn uniformly over
    the values that leave every span non-empty. Conditions that the query does not name are replaced by their null.
    """

    query: str
    density: Density = Uniform()
    times: Literal["shared", "independent"] = "shared"

    def __post_init__(self) -> None:
        if self.times not in ("shared", "independent"):
            raise unknown("times of a Task", self.times, ("shared", "independent"))

    def __call__(self, presence: Presence, dice: Dice) -> Draw:
        modalities = presence.modalities
        table = self._bindings(modalities, presence.conditions)
        pick = (dice.uniform(f"bind.{self.query}") * len(table)).long()
        own = self.times == "independent"
        drawn = {c: self.density(dice.uniform(f"t.{c}" if own else "t", 1)) for c in clocks(modalities)}
        draw = Draw({}, {}, {}, {})
        for name, m in modalities.items():
            time = drawn[m.clock or name]
            # (choices, F): which role each frame has under each binding of the free names.
            codes = [[list(Role).index(r) for r in roles[name]] for roles in table]
            role = torch.tensor(codes, device=dice.device)[pick]
            want, given, neither, absent = (role == i for i in range(4))
            # Whatever the free names are, a span has a frame: what is left out as a whole is so under all of them.
            idle = time if follows_clock(name, modalities, table[0]) else m.path.unknown
            draw.t[name] = torch.where(want, time, torch.where(given, 0.0, idle))
            draw.learn[name] = want
            draw.absent[name] = absent.all(1)
            # Whole modalities that are neither are null; for null "noise" that is what t = unknown says already.
            draw.drop[name] = neither.all(1)
        named = Query.parse(self.query).given_conditions(presence.conditions)
        for name in presence.conditions:
            draw.drop[name] = torch.full((presence.size,), name not in named, device=dice.device)
        return draw

    def answers(self, presence: Presence) -> Tensor:
        query = Query.parse(self.query)
        ok = torch.ones(presence.size, dtype=torch.bool, device=next(iter(presence.has.values())).device)
        for term in query.want + query.given:
            for name in family(list(presence.modalities), term.name) or [term.name]:
                ok = ok & presence.has[name]
        return ok

    def patterns(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Pattern]:
        if any(m.shape[0] is None for m in modalities.values()):  # spans mean nothing yet; each call looks again
            return [Pattern(self.query, dict.fromkeys(modalities, ()))]
        rows = self._bindings(modalities, conditions)
        return [Pattern(self.query, {n: tuple(frozenset({r}) for r in f) for n, f in row.items()}) for row in rows]

    def _bindings(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Roles]:
        query = Query.parse(self.query)
        if not query.free:
            return [query.roles(modalities, conditions)]
        if len(query.free) > 1:
            raise ValueError(f"the law Task({self.query!r}) has {len(query.free)} free names; one is possible")
        rows = []
        for k in range(1, max(m.frames for m in modalities.values())):
            try:
                rows.append(query.bind(**{query.free[0]: k}).roles(modalities, conditions))
            except ValueError:  # an empty span under this binding: not among the choices
                continue
        if not rows:
            raise ValueError(f"no value of {query.free[0]!r} makes every span of {self.query!r} non-empty")
        return rows


class Less:
    """A law of another law, in which with probability `p` a sample is told less of `names`: they have the `role`."""

    role: ClassVar[Role]
    names: tuple[str, ...]
    p: float
    law: Law

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"{type(self).__name__}(p={self.p}): p must lie in [0, 1]")

    def answers(self, presence: Presence) -> Tensor:
        return self.law.answers(presence)

    def patterns(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Pattern]:
        possible = [*modalities, *(conditions if self.role is Role.NEITHER else ())]
        for name in self.names:
            if name not in possible:
                raise unknown(f"name in {type(self).__name__}", name, possible)
        out = []
        for pattern in self.law.patterns(modalities, conditions):
            more = {n: tuple(f | {self.role} for f in pattern.allowed[n]) for n in self.names if n in modalities}
            out.append(replace(pattern, allowed={**pattern.allowed, **more}))
        return out


@dataclass(frozen=True)
class Drop(Less):
    """With probability `p` a sample's `names` become their null, whatever their times; with `learn` learnt as ever."""

    role: ClassVar[Role] = Role.NEITHER
    names: tuple[str, ...]
    p: float
    law: Law
    learn: bool = False

    def __call__(self, presence: Presence, dice: Dice) -> Draw:
        draw = self.law(presence, dice)
        drop, learn = dict(draw.drop), dict(draw.learn)
        for name in self.names:
            hit = dice.uniform(f"drop.{name}") < self.p
            drop[name] = drop[name] | hit if name in drop else hit
            if name in learn and not self.learn:
                learn[name] = learn[name] & ~hit[:, None]
        return replace(draw, drop=drop, learn=learn)


@dataclass(frozen=True)
class Without(Less):
    """With probability `p`, for each of `names` anew, a sample has no tokens of it: what lacks it is cheaper.

    Whatever subset of them a question names, the rest may then be absent, and not only unknown.
    """

    role: ClassVar[Role] = Role.ABSENT
    names: tuple[str, ...]
    p: float
    law: Law

    def patterns(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Pattern]:
        if set(modalities) <= set(self.names):
            raise ValueError("Without names every modality, so a sample may be left with no tokens at all; spare one")
        return super().patterns(modalities, conditions)

    def __call__(self, presence: Presence, dice: Dice) -> Draw:
        draw = self.law(presence, dice)
        absent = dict(draw.absent)
        for name in self.names:
            hit = dice.uniform(f"absent.{name}") < self.p
            absent[name] = absent[name] | hit if name in absent else hit
        return replace(draw, absent=absent)


@dataclass(frozen=True, init=False)
class Mixture:
    """Each sample follows one of several weighted laws, among those that it can answer: `Mixture((0.5, law), ...)`.

    With `whole` one throw decides for the whole batch, so that modalities which the chosen law leaves out have no
    tokens at all and cost nothing: a step of a policy is then as cheap as in a network that is nothing else.
    """

    entries: tuple[tuple[float, Law], ...]
    whole: bool = False

    def __init__(self, *entries: tuple[float, Law], whole: bool = False) -> None:
        if not entries or any(weight <= 0 for weight, _ in entries):
            raise ValueError("a Mixture needs at least one (weight, law), each weight above 0")
        object.__setattr__(self, "entries", tuple((float(w), law) for w, law in entries))
        object.__setattr__(self, "whole", whole)

    def __call__(self, presence: Presence, dice: Dice) -> Draw:
        can = torch.stack([law.answers(presence) for _, law in self.entries], 1).to(dice.device)  # (B, entries)
        weight = can * torch.tensor([w for w, _ in self.entries], device=dice.device)
        # A sample that can answer nothing follows the first law; whatever it lacks carries no loss.
        weight[:, 0] += (weight.sum(1) == 0).float()
        edge = weight.cumsum(1) / weight.sum(1, keepdim=True)
        # A mixture inside this one throws for itself.
        purpose = f"mixture{_height(self) or ''}"
        throw = dice.common(purpose) if self.whole else dice.uniform(purpose, 1)
        pick = (throw >= edge).sum(1).clamp_max(len(self.entries) - 1)
        used, pick = pick.unique(return_inverse=True)
        draws = [self.entries[i][1](presence, dice) for i in used.tolist()]

        def chosen(values: list[Tensor]) -> Tensor:
            return torch.stack(values)[pick, torch.arange(presence.size, device=dice.device)]

        no = torch.zeros(presence.size, dtype=torch.bool, device=dice.device)
        dropped = {n for d in draws for n in d.drop}
        absent = {n for d in draws for n in d.absent}
        return Draw(
            t={n: chosen([d.t[n] for d in draws]) for n in presence.modalities},
            learn={n: chosen([d.learn[n] for d in draws]) for n in presence.modalities},
            drop={n: chosen([d.drop.get(n, no) for d in draws]) for n in dropped},
            absent={n: chosen([d.absent.get(n, no) for d in draws]) for n in absent},
        )

    def answers(self, presence: Presence) -> Tensor:
        return torch.stack([law.answers(presence) for _, law in self.entries]).any(0)

    def patterns(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]) -> list[Pattern]:
        return [p for _, law in self.entries for p in law.patterns(modalities, conditions)]


def _height(law: Law) -> int:
    """How many mixtures lie inside each other below a law."""
    inner = [entry for _, entry in law.entries] if isinstance(law, Mixture) else [getattr(law, "law", None)]
    return max((_height(one) + isinstance(one, Mixture) for one in inner if one is not None), default=0)
