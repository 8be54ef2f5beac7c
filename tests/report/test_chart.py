"""Charts: where lines lie, which ticks stand there, what is left out."""

from __future__ import annotations

import math
import re

import pytest

from polyclock.report.chart import POINTS, Line, chart, log_ticks, shown, ticks


def points(svg: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'points="([^"]*)"', svg)
    return [[tuple(map(float, p.split(","))) for p in line.split()] for line in found]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 400, [0, 100, 200, 300, 400]),
        (-0.13, 0.31, [-0.1, 0, 0.1, 0.2, 0.3]),
        (0.577, 0.591, [0.58, 0.585, 0.59]),
    ],
)
def test_ticks_are_round_numbers_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_logarithmic_ticks() -> None:
    assert log_ticks(0.03, 2.5) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])
    assert log_ticks(1e-6, 1) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1])


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.0005, "5e-4"), (0.02, "0.02"), (1500, "1500"), (20000, "20k"), (3e7, "3e+07")]
)
def test_numbers_of_ticks(value: float, text: str) -> None:
    assert shown(value) == text


def test_a_line_rises_from_left_to_right() -> None:
    ((a, b, c),) = points(chart([Line(label="l", x=[0, 1, 2], y=[0.0, 1.0, 2.0])], x="x", y="y"))
    assert a[0] < b[0] < c[0] and a[1] > b[1] > c[1]
    assert b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.2) and a[1] - b[1] == pytest.approx(b[1] - c[1], abs=0.2)


def test_wide_positive_values_are_drawn_by_their_logarithm() -> None:
    ((a, b, c),) = points(chart([Line(label="l", x=[0, 1, 2], y=[0.01, 0.1, 1.0])], x="x", y="y", log=True))
    assert a[1] - b[1] == pytest.approx(b[1] - c[1], abs=0.2)
    ((a, b, c),) = points(chart([Line(label="l", x=[0, 1, 2], y=[0.0, 0.1, 1.0])], x="x", y="y", log=True))
    assert b[1] - c[1] == pytest.approx(9 * (a[1] - b[1]), rel=0.02), "0 has no logarithm"


def test_nan_none_and_infinity_leave_gaps() -> None:
    y = [1.0, 2.0, math.nan, 1.0, None, 2.0, 1.0, math.inf]
    lines = points(chart([Line(label="l", x=list(range(8)), y=y)], x="x", y="y"))
    assert [len(line) for line in lines] == [2, 2, 2], "a lone point is drawn as a line of no length"


def test_nothing_to_draw_is_said() -> None:
    assert "No loss to draw yet" in chart([Line(label="l", x=[], y=[])], x="step", y="loss")
    assert "No loss to draw yet" in chart([Line(label="l", x=[1], y=[None])], x="step", y="loss")


def test_a_constant_and_a_single_point_can_be_drawn() -> None:
    for y in ([2.0, 2.0], [0.0, 0.0]):
        assert len(points(chart([Line(label="l", x=[0, 1], y=y)], x="x", y="y"))[0]) == 2
    assert "<circle" in chart([Line(label="l", x=[5], y=[3.0], dots=True)], x="x", y="y")


def test_long_logs_are_thinned_to_their_means() -> None:
    y = [float(i % 2) for i in range(100 * POINTS)]
    (line,) = points(chart([Line(label="l", x=list(range(len(y))), y=y)], x="x", y="y"))
    assert len(line) == POINTS
    assert max(p[1] for p in line) - min(p[1] for p in line) < 1


def test_labels_are_escaped() -> None:
    made = chart([Line(label="<b>", x=[0, 1], y=[0.0, 1.0], dots=True)], x="<i>", y="<u>")
    assert not re.search(r"<[biu]>", made)
