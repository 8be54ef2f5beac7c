"""Queries: p(want | given) as data. A query gives each modality, and each token frame of it, its role.

    action | video[:2], text          a policy
    video[2:] | video[:2], action     forward dynamics
    action | video                    inverse dynamics
    video, depth | text, -flow        flow gets no tokens at all

Spans are token frames (`[2:]`, `[-1:]`, `[3]`), data frames (`[:5f]`), seconds from the modality's first frame
(`[:0.5s]`) or free names bound at the call (`[k:]`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from .errors import pointed, unknown
from .modality import Condition, Modality, family


class Role(StrEnum):
    """What a query says of one token frame."""

    WANT = "want"  # runs from unknown to known
    GIVEN = "given"  # stays at time 0
    NEITHER = "neither"  # stays unknown: integrated out
    ABSENT = "absent"  # has no tokens


Roles = dict[str, tuple[Role, ...]]
Bound = int | float | str | None


@dataclass(frozen=True)
class Span:
    """`[start:stop]` in `unit`: "" token frames, "f" data frames, "s" seconds. A bound may be a free name."""

    start: Bound = None
    stop: Bound = None
    unit: str = ""

    def free(self) -> set[str]:
        return {b for b in (self.start, self.stop) if isinstance(b, str)}

    def bind(self, names: Mapping[str, int]) -> Span:
        def value(b: Bound) -> Bound:
            return names.get(b, b) if isinstance(b, str) else b

        return replace(self, start=value(self.start), stop=value(self.stop))


@dataclass(frozen=True)
class Term:
    """One name of a query with its span; `at` is where it stands in the text."""

    name: str
    span: Span | None
    at: tuple[int, int]


@dataclass(frozen=True)
class Query:
    """A parsed query. `text` is kept for messages."""

    text: str
    want: tuple[Term, ...]
    given: tuple[Term, ...]
    absent: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, text: str | Query) -> Query:
        """Text -> Query. Errors: junk, nothing wanted, an absence on the left; each with a caret under the fault."""
        if isinstance(text, Query):
            return text
        sides = text.split("|")
        if len(sides) > 2:
            at = len(sides[0]) + 1 + len(sides[1])
            raise pointed(text, at, at + 1, "a query has one '|': wanted on its left, given on its right")
        left = [_term(text, *at) for at in _pieces(text, 0, len(sides[0]))]
        right = [_term(text, *at) for at in _pieces(text, len(sides[0]) + 1, len(text))]
        for absent, term in left:
            if absent:
                raise pointed(text, *term.at, "what is absent cannot be wanted: write it on the right of '|'")
        if not left:
            raise pointed(text, 0, max(1, len(sides[0])), "nothing is wanted: name a modality on the left of '|'")
        given = tuple(term for absent, term in right if not absent)
        return cls(text, tuple(t for _, t in left), given, tuple(t for absent, t in right if absent))

    @property
    def free(self) -> tuple[str, ...]:
        """Names that must be bound before the query can be asked."""
        spans = [t.span for t in self.want + self.given if t.span]
        return tuple(sorted(set().union(*(s.free() for s in spans)))) if spans else ()

    def bind(self, **names: int) -> Query:
        """The query with free names replaced by token-frame numbers. Errors: a name that is not free here."""
        for name in names:
            if name not in self.free:
                raise unknown(f"free name in the query {self.text!r}", name, self.free)

        def bound(terms: tuple[Term, ...]) -> tuple[Term, ...]:
            return tuple(replace(t, span=t.span.bind(names)) if t.span else t for t in terms)

        return replace(self, want=bound(self.want), given=bound(self.given))

    def given_conditions(self, conditions: Mapping[str, Condition]) -> tuple[str, ...]:
        """Conditions named on the right, and those that need not be named: required ones, and those with prompts."""
        named = {t.name for t in self.given}
        return tuple(n for n, c in conditions.items() if n in named or c.said)

    def needed_conditions(self, conditions: Mapping[str, Condition]) -> tuple[str, ...]:
        """Those of `given_conditions` without which it cannot be asked: not unnamed ones that have prompts."""
        named = {t.name for t in self.given}
        return tuple(n for n, c in conditions.items() if n in named or c.required)

    def roles(self, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition] | None = None) -> Roles:
        """name -> (F,) roles, for every modality.

        Errors: an unknown name, a condition that is wanted or has a span, an empty or cut span, a frame that is both
        wanted and given, an unbound free name.
        """
        conditions = conditions or {}
        if self.free:
            raise pointed(self.text, 0, len(self.text), f"bind the free name(s) {', '.join(self.free)} first")
        roles = {n: [Role.NEITHER] * m.frames for n, m in modalities.items()}
        sides = ((self.want, Role.WANT), (self.given, Role.GIVEN), (self.absent, Role.ABSENT))
        for term, role in ((t, role) for side, role in sides for t in side):
            for name in self._members(term, role, modalities, conditions):
                self._assign(roles[name], term, role, modalities[name], name)
        return {n: tuple(r) for n, r in roles.items()}

    def _assign(self, roles: list[Role], term: Term, role: Role, m: Modality, name: str) -> None:
        """Give the frames of a term their role; each frame has one."""
        for f in self._frames(term, m, name):
            if roles[f] is not Role.NEITHER:
                raise pointed(self.text, *term.at, f"frame {f} of {name!r} is both {roles[f]} and {role}")
            roles[f] = role

    def _members(
        self, term: Term, role: Role, modalities: Mapping[str, Modality], conditions: Mapping[str, Condition]
    ) -> list[str]:
        members = family(list(modalities), term.name)
        if members:
            return members
        if term.name not in conditions:
            problem = unknown("name", term.name, [*modalities, *conditions])
            raise pointed(self.text, *term.at, str(problem))
        if role is Role.WANT:
            raise pointed(self.text, *term.at, f"{term.name!r} is a condition: it can be given, never wanted")
        if role is Role.ABSENT:
            raise pointed(self.text, *term.at, f"{term.name!r} is a condition: leave it out to have its null")
        if term.span:
            raise pointed(self.text, *term.at, f"{term.name!r} is a condition and has no frames to choose from")
        return []

    def _frames(self, term: Term, m: Modality, name: str) -> range:
        """The token frames of a term."""
        span = term.span
        if span is None:
            return range(m.frames)
        try:
            bounds = tuple(_token_bound(b, span.unit, m) for b in (span.start, span.stop))
        except ValueError as problem:
            raise pointed(self.text, *term.at, f"{name!r}: {problem}") from None
        start, stop = _clamp(bounds[0], 0, m.frames), _clamp(bounds[1], m.frames, m.frames)
        if start >= stop:
            raise pointed(self.text, *term.at, f"empty span: {name!r} has {m.frames} token frames, 0 to {m.frames - 1}")
        return range(start, stop)


def _clamp(bound: int | None, default: int, frames: int) -> int:
    if bound is None:
        return default
    return max(0, bound + frames) if bound < 0 else min(bound, frames)


def _token_bound(bound: Bound, unit: str, m: Modality) -> int | None:
    """A bound in token frames. Errors: one that lies outside, or cuts a token frame, with the nearest legal bounds."""
    if bound is None or not unit:
        return bound  # type: ignore[return-value]
    assert not isinstance(bound, str), "free names are token frames"
    if unit == "s" and not m.rate:
        raise ValueError("has no rate, so seconds mean nothing; use token frames")
    data = bound * (m.rate or 1.0) if unit == "s" else bound
    edges = [m.covers(f).start for f in range(m.frames)] + [m.covers(m.frames - 1).stop]
    if data < 0:
        data += edges[-1]
    near = min(edges, key=lambda e: abs(e - data))
    if abs(near - data) < 1e-6:
        return edges.index(near)
    scale = (m.rate or 1.0) if unit == "s" else 1
    if not edges[0] < data < edges[-1]:
        raise ValueError(f"{bound:g}{unit} lies outside; possible: 0 to {edges[-1] / scale:g}{unit}")
    low, high = max(e for e in edges if e < data), min(e for e in edges if e > data)
    legal = " or ".join(f"{e / scale:g}{unit}" for e in (low, high))
    raise ValueError(f"{bound:g}{unit} cuts a token frame; nearest legal bounds: {legal}")


def _pieces(text: str, start: int, stop: int) -> list[tuple[int, int]]:
    """Where the comma-separated terms of text[start:stop] stand, without the blanks around them."""
    if not text[start:stop].strip():
        return []
    out, at = [], start
    for piece in text[start:stop].split(","):
        body = piece.strip()
        begin = at + len(piece) - len(piece.lstrip())
        if not body:
            raise pointed(text, at, at + max(1, len(piece)), "a name is missing here")
        out.append((begin, begin + len(body)))
        at += len(piece) + 1
    return out


_TERM = re.compile(r"(?P<absent>-?)\s*(?P<name>[A-Za-z_][\w.]*)\s*(\[(?P<span>[^\[\]]*)\])?")
_BOUND = re.compile(r"(?P<number>-?\d+(?:\.\d+)?)(?P<unit>[fs]?)|(?P<free>[A-Za-z_]\w*)")


def _term(text: str, start: int, stop: int) -> tuple[bool, Term]:
    match = _TERM.fullmatch(text, start, stop)
    if not match:
        raise pointed(text, start, stop, "not understood; a term is NAME, NAME[start:stop] or -NAME")
    span = None
    if match["span"] is not None:
        span = _span(text, *match.span("span"))
        if match["absent"]:
            raise pointed(text, start, stop, "a modality is absent as a whole: drop the span")
    return bool(match["absent"]), Term(match["name"], span, (start, stop))


def _span(text: str, start: int, stop: int) -> Span:
    parts = text[start:stop].split(":")
    if len(parts) > 2 or not text[start:stop].strip():
        raise pointed(text, start - 1, stop + 1, "a span is [start:stop] or one frame [n]")
    bounds = [_bound(text, p.strip(), start, stop) for p in parts]
    units = {unit for value, unit in bounds if value is not None}
    if len(units) > 1:
        raise pointed(text, start, stop, "both bounds of a span must have the same unit")
    unit = units.pop() if units else ""
    if len(bounds) == 2:
        return Span(bounds[0][0], bounds[1][0], unit)
    only = bounds[0][0]
    if not isinstance(only, int) or unit:
        raise pointed(text, start, stop, "a single frame is a whole number of token frames")
    return Span(only, None if only == -1 else only + 1)


def _bound(text: str, piece: str, start: int, stop: int) -> tuple[Bound, str]:
    if not piece:
        return None, ""
    match = _BOUND.fullmatch(piece)
    if not match:
        raise pointed(text, start, stop, f"{piece!r} is no bound; possible: 3, -1, 5f, 0.5s or a free name")
    if match["free"]:
        return match["free"], ""
    if match["unit"] == "s":
        return float(match["number"]), "s"
    if "." in match["number"]:
        raise pointed(text, start, stop, f"{piece!r}: frames are whole numbers; seconds are written {match['number']}s")
    return int(match["number"]), match["unit"]
