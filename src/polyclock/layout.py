"""Layouts: which modalities add into one stream of tokens, which streams stand side by side, and who sees whom.

Adding inside a stream is channel concatenation (a linear map of concatenated channels is a sum of linear maps);
streams side by side are token concatenation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .errors import unknown
from .modality import Condition, Modality
from .nn.detail import Detail

AXES = {"T": 0, "H": 1, "W": 2}


@dataclass(frozen=True)
class OneOf:
    """A slot that holds whichever of its modalities a sample has: at most one."""

    names: tuple[str, ...]


def one_of(*names: str) -> OneOf:
    """`Stream(one_of("depth", "flow"))`: a sample brings depth or flow, never both."""
    return OneOf(names)


@dataclass(frozen=True)
class After:
    """Positions that begin where another stream's end, along one axis."""

    stream: str
    axis: Literal["T", "H", "W"] = "W"


def after(stream: str, axis: Literal["T", "H", "W"] = "W") -> After:
    """`Stream("depth", at=after("video", axis="W"))`: placed to the right of the video."""
    if axis not in AXES:
        raise unknown("axis", axis, AXES)
    return After(stream, axis)


@dataclass(frozen=True, init=False)
class Stream:
    """Modalities whose tokens add: they must have one token grid. The stream's name is theirs, joined by '+'.

    `at` places it (None: on its own grid from 0). `context` names the conditions it attends to by cross-attention
    (None: those whose `to` includes it). With `place` every place of the grid has a learnt vector of its own, and every
    modality a learnt value there, which is added to what is predicted: for cameras that stand still, so that what is
    always there need not pass through the network. With `positions` every token has a learnt vector of its own (as in
    Dosovitskiy et al. 2021), beside the backbone's rotary positions. `detail` is a path at the scale of pixels beside
    the tokens.
    """

    slots: tuple[str | OneOf, ...]
    at: After | None = None
    context: tuple[str, ...] | None = None
    place: bool = False
    detail: Detail | None = None
    positions: bool = False

    def __init__(
        self,
        *of: str | OneOf,
        at: After | None = None,
        context: tuple[str, ...] | None = None,
        place: bool = False,
        detail: Detail | None = None,
        positions: bool = False,
    ) -> None:
        if not of:
            raise ValueError("a Stream needs at least one modality")
        object.__setattr__(self, "slots", tuple(of))
        object.__setattr__(self, "at", at)
        object.__setattr__(self, "context", context)
        object.__setattr__(self, "place", place)
        object.__setattr__(self, "detail", detail)
        object.__setattr__(self, "positions", positions)

    @property
    def of(self) -> tuple[str, ...]:
        """The modalities of the stream."""
        return tuple(n for s in self.slots for n in (s.names if isinstance(s, OneOf) else (s,)))

    @property
    def exclusive(self) -> tuple[tuple[str, ...], ...]:
        """Groups of which a sample may have at most one."""
        return tuple(s.names for s in self.slots if isinstance(s, OneOf))

    @property
    def name(self) -> str:
        return "+".join(self.of)


@dataclass(frozen=True, init=False)
class Layout:
    """Streams side by side. `sees[stream]` names the streams it attends to besides itself (missing: all)."""

    streams: tuple[Stream, ...]
    sees: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __init__(self, *streams: Stream, sees: Mapping[str, tuple[str, ...]] | None = None) -> None:
        names = [s.name for s in streams]
        for name, others in (sees or {}).items():
            for n in (name, *others):
                if n not in names:
                    raise unknown("stream in sees", n, names)
        for s in streams:
            if s.at and s.at.stream not in names[: names.index(s.name)]:
                raise ValueError(f"stream {s.name!r} is placed after {s.at.stream!r}, which must come before it")
        object.__setattr__(self, "streams", tuple(streams))
        object.__setattr__(self, "sees", dict(sees or {}))

    def check(self, modalities: Mapping[str, Modality]) -> None:
        """Errors: a modality in no stream or in two, an unknown one, a stream whose grids differ."""
        placed = [n for s in self.streams for n in s.of]
        for n in placed:
            if n not in modalities:
                raise unknown("modality in the layout", n, modalities)
        for n in modalities:
            if placed.count(n) != 1:
                raise ValueError(
                    f"modality {n!r} stands in {placed.count(n)} streams of the layout; it must stand in one"
                )
        for s in self.streams:
            grids = {n: modalities[n].grid for n in s.of}
            if len(set(grids.values())) > 1:
                raise ValueError(f"modalities of one stream must have one token grid; {s.name!r} has {grids}")

    def stream_of(self, modality: str) -> Stream:
        return next(s for s in self.streams if modality in s.of)


def check_names(modalities: Mapping[str, Modality], conditions: Mapping[str, Condition], layout: Layout) -> None:
    """Errors: ValueError for a name that is used twice, or a stream or partner that does not exist or does not fit."""
    streams = [s.name for s in layout.streams]
    for name, c in conditions.items():
        for prompted in c.prompts:
            if prompted not in modalities:
                raise unknown(f"modality with a prompt of condition {name!r}", prompted, modalities)
        if name in modalities:
            raise ValueError(f"{name!r} is both a modality and a condition; give one of them another name")
        target = c.route.removeprefix("fuse:") if c.route.startswith("fuse:") else None
        for s in (*(c.to or ()), *((target,) if target else ())):
            if s not in streams:
                raise unknown(f"stream for condition {name!r}", s, streams)
    for name, m in modalities.items():
        for mate, means in ((m.share, "share"), (m.embedding, "embedding"), (m.head, "head"), (m.copy, "copy")):
            if mate is None:
                continue
            if mate not in modalities or modalities[mate].share or getattr(modalities[mate], means):
                raise unknown(f"modality that {name!r} shares with ({means}=)", mate, modalities)
            if modalities[mate].channels != m.channels:
                raise ValueError(f"{name!r} shares weights with {mate!r}, but their tokens have different sizes")
        if m.near and (m.near not in conditions or not conditions[m.near].required):
            required = [n for n, c in conditions.items() if c.required]
            raise unknown(f"required condition that {name!r} is near to", m.near, required)
