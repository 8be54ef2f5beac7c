"""Line charts as inline SVG: axes, ticks and a legend; colours come from the page's style, light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .markup import Markup, element

COLORS = 6
POINTS = 400  # more than a line this wide can show
Number = float | int | None


@dataclass(frozen=True, kw_only=True)
class Line:
    """y over x; None or a number that is not finite leaves a gap. `dots` marks each point and gives its value; between
    `low` and `high` stands a whisker."""

    label: str
    x: Sequence[Number]
    y: Sequence[Number]
    color: int = 0
    dashed: bool = False
    dots: bool = False
    faint: bool = False
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()


@dataclass(frozen=True)
class Frame:
    """Where data lie in the picture: data (low, high) and pixels of both axes."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int
    height: int
    log: bool
    left: int = 58
    right: int = 22
    top: int = 10
    bottom: int = 34

    def across(self, value: float) -> float:
        return self._along(value, self.x, self.left, self.width - self.right)

    def up(self, value: float) -> float:
        ends = (math.log10(self.y[0]), math.log10(self.y[1])) if self.log else self.y
        return self._along(math.log10(value) if self.log else value, ends, self.height - self.bottom, self.top)

    @staticmethod
    def _along(value: float, ends: tuple[float, float], first: float, last: float) -> float:
        return first + (value - ends[0]) / (ends[1] - ends[0]) * (last - first)


def chart(
    lines: Sequence[Line],
    *,
    x: str,
    y: str,
    width: int = 680,
    height: int = 260,
    cursor: bool = False,
    log: bool = False,
    with_legend: bool = True,
    zero: bool = False,
) -> Markup:
    """A figure with its legend, or without it where several share one.

    log: a logarithmic y axis if the values are positive and span more than a factor of 20. cursor: a vertical mark that
    the page's player moves, in units of x. zero: the y axis reaches down to 0. Nothing to draw gives a sentence.
    """
    lines = [_thinned(line) for line in lines]
    points = [p for line in lines for run in _runs(line) for p in run]
    if not points:
        return element("p", f"No {y} to draw yet.", class_="quiet")
    values = [v for _, v in points] + [
        v for line in lines for *_, v in (*_ends(line, line.low), *_ends(line, line.high))
    ]
    values += [0.0] if zero else []
    log = log and min(values) > 0 and max(values) > 20 * min(values)
    frame = Frame(_wide([p for p, _ in points], 0), _wide(values, 0.06, log), width, height, log)
    body = [*_grid(frame, x, y)]
    if cursor:
        at = _px(frame.across(max(0.0, frame.x[0])))
        right, floor = width - frame.right, height - frame.bottom
        ends = {"data_x0": frame.x[0], "data_x1": frame.x[1], "data_left": frame.left, "data_right": right}
        body.append(element("line", x1=at, x2=at, y1=frame.top, y2=floor, class_="cursor", **ends))
    for line in lines:
        body += _drawn(line, frame)
    names = ", ".join(line.label for line in lines)
    svg = element("svg", body, viewBox=f"0 0 {width} {height}", role="img", aria_label=f"{y} over {x}: {names}")
    return element(
        "figure",
        svg,
        element("figcaption", legend(lines)) if with_legend else None,
        class_="chart wide" if width > 500 else "chart",
    )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten) between low and high."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next((m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= count), 10)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between low and high; powers alone where there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    return [m * 10.0**p for p in powers for m in factors if low <= m * 10.0**p <= high]


def shown(value: float) -> str:
    """A tick's number: 0.02, 1500, 20k, 3e-5."""
    if value == 0:
        return "0"
    if abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k" if abs(value) < 1e6 else f"{value:.3g}"
    return f"{value:.4g}"


def _grid(frame: Frame, x: str, y: str) -> list[Markup]:
    out = []
    floor = frame.height - frame.bottom
    for value in log_ticks(*frame.y) if frame.log else ticks(*frame.y, count=5 if frame.height > 160 else 4):
        at = _px(frame.up(value))
        out.append(element("line", x1=frame.left, x2=frame.width - frame.right, y1=at, y2=at, class_="grid"))
        out.append(element("text", shown(value), x=frame.left - 6, y=at, dy="0.32em", text_anchor="end"))
    for value in ticks(*frame.x, count=6 if frame.width > 400 else 3):
        at = _px(frame.across(value))
        out.append(element("line", x1=at, x2=at, y1=floor, y2=floor + 4, class_="axis"))
        out.append(element("text", shown(value), x=at, y=floor + 16, text_anchor="middle"))
    out.append(element("line", x1=frame.left, x2=frame.width - frame.right, y1=floor, y2=floor, class_="axis"))
    out.append(element("text", x, x=frame.width - frame.right, y=frame.height - 4, text_anchor="end", class_="name"))
    middle = (frame.top + floor) / 2
    turned = f"rotate(-90 11 {_px(middle)})"
    out.append(element("text", y, x=11, y=_px(middle), text_anchor="middle", transform=turned, class_="name"))
    return out


def _drawn(line: Line, frame: Frame) -> list[Markup]:
    kind = f"line c{line.color % COLORS}" + (" dashed" if line.dashed else "") + (" faint" if line.faint else "")
    out = []
    for run in _runs(line):
        places = [f"{_px(frame.across(a))},{_px(frame.up(b))}" for a, b in run]
        if len(places) > 1:
            out.append(element("polyline", points=" ".join(places), class_=kind))
        elif not line.dots:
            out.append(element("polyline", points=" ".join(places * 2), class_=f"{kind} lone"))
    for (a, low), (_, high) in zip(_ends(line, line.low), _ends(line, line.high), strict=False):
        at = _px(frame.across(a))
        out.append(element("line", x1=at, x2=at, y1=_px(frame.up(low)), y2=_px(frame.up(high)), class_=f"{kind} whisk"))
    if line.dots:
        for a, b in (p for run in _runs(line) for p in run):
            name = element("title", f"{line.label}: {b:.4g} at {a:g}")
            at = {"cx": _px(frame.across(a)), "cy": _px(frame.up(b)), "r": 2.6}
            out.append(element("circle", name, class_=f"dot c{line.color % COLORS}", **at))
    return out


def legend(lines: Sequence[Line]) -> list[Markup]:
    """What each line is."""
    entries = []
    for line in lines:
        kind = f"key c{line.color % COLORS}" + (" dashed" if line.dashed else "")
        entries.append(element("span", element("i", class_=kind), line.label, class_="entry"))
    return entries


def _runs(line: Line) -> list[list[tuple[float, float]]]:
    """The stretches without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(line.x, line.y, strict=True):
        if a is None or b is None or not math.isfinite(a) or not math.isfinite(b):
            runs.append([])
        else:
            runs[-1].append((float(a), float(b)))
    return [run for run in runs if run]


def _ends(line: Line, ends: Sequence[Number]) -> list[tuple[float, float]]:
    """Where an end of the whiskers is known."""
    both = zip(line.x, line.low, line.high, ends, strict=False)
    return [(float(a), float(e)) for a, low, high, e in both if None not in (a, low, high, e)]  # type: ignore[arg-type]


def _thinned(line: Line) -> Line:
    """A line of at most `POINTS` points: neighbours are averaged."""
    if len(line.x) <= POINTS:
        return line
    size = -(-len(line.x) // POINTS)
    xs, ys = [], []
    for i in range(0, len(line.x), size):
        good = [
            (a, b)
            for a, b in zip(line.x[i : i + size], line.y[i : i + size], strict=True)
            if a is not None and b is not None and math.isfinite(b)
        ]
        xs.append(sum(a for a, _ in good) / len(good) if good else line.x[i])
        ys.append(sum(b for _, b in good) / len(good) if good else None)
    return Line(label=line.label, x=xs, y=ys, color=line.color, dashed=line.dashed, dots=line.dots, faint=line.faint)


def _wide(values: Sequence[float], margin: float, log: bool = False) -> tuple[float, float]:
    """Least and greatest, a little apart."""
    low, high = min(values), max(values)
    if log:
        return low / 1.15, high * 1.15
    room = margin * (high - low) if high > low else abs(low) * 0.1 or 0.5
    return low - room, high + room


def _px(value: float) -> str:
    return f"{value:.1f}"
