"""Shares and errors as bars with their intervals: a table that reads without its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Markup, element

COLORS = 6  # of bars; where there are more, all but the first are used again


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row: `group` stands before the first of its rows, `name` says whose it is, `more` are further cells."""

    name: str
    value: float
    low: float | None
    high: float | None
    group: str = ""
    color: int = 0
    more: tuple[object, ...] = ()


def bars(
    rows: Sequence[Bar],
    columns: Sequence[str],
    *,
    ends: tuple[float, float] = (0.0, 1.0),
    mark: float | None = None,
) -> Markup:
    """A table with a bar from 0 to each value, a whisker over its interval, and an upright line at `mark`.

    columns name the group, the row, the bar and all of `more`; ends are the values at the track's two ends.
    """
    names = [c for c in columns if c or any(row.group for row in rows)]
    grouped = any(row.group for row in rows)
    body, before = [], None
    for row in rows:
        cells = [element("th", row.name, scope="row"), element("td", _track(row, ends, mark), class_="bar")]
        cells += [element("td", c, class_="short") for c in row.more]
        if grouped:
            span = next((i for i, r in enumerate(_from(rows, row)) if r.group != row.group), len(_from(rows, row)))
            head = element("th", row.group, scope="rowgroup", rowspan=span, class_="group")
            cells = [head, *cells] if row.group != before else cells
        body.append(element("tr", cells, class_="first" if row.group != before else None))
        before = row.group
    head = element("tr", [element("th", c, scope="col") for c in names])
    inner = element("table", element("thead", head), element("tbody", body), class_="bars")
    return element("div", inner, class_="scroll")


def _from(rows: Sequence[Bar], row: Bar) -> Sequence[Bar]:
    return rows[next(i for i, r in enumerate(rows) if r is row) :]


def _track(row: Bar, ends: tuple[float, float], mark: float | None) -> Markup:
    zero, tip = _part(0.0, ends), _part(row.value, ends)
    left, right = min(zero, tip), max(zero, tip)
    color = row.color if row.color < COLORS else 1 + (row.color - 1) % (COLORS - 1)
    parts = [element("i", class_=f"fill k{color}", style=f"left:{left:.2f}%;width:{right - left:.2f}%")]
    if row.low is not None and row.high is not None:
        a, b = _part(row.low, ends), _part(row.high, ends)
        parts.append(element("i", class_="whisker", style=f"left:{a:.2f}%;width:{b - a:.2f}%"))
    if mark is not None:
        parts.append(element("i", class_="mark", style=f"left:{_part(mark, ends):.2f}%"))
    return element("div", parts, class_="track", aria_hidden="true")


def _part(value: float, ends: tuple[float, float]) -> float:
    """Where a value lies on the track, in percent."""
    return 100 * min(1.0, max(0.0, (value - ends[0]) / (ends[1] - ends[0])))
