"""Which of two ways to answer is better, window by window, and a sentence wherever the model is not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .held_out import Place
from .intervals import block_interval
from .metrics import HIGHER_IS_BETTER, PRIMARY
from .questions import Question

MODEL, SHUFFLED = "model", "shuffled actions"
Table = dict[tuple[str, str], dict[str, dict[Place, float]]]


def compare(
    asked: Sequence[Question], table: Table, block: Callable[[Place], Hashable], *, seed: int, resamples: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Paired differences first - second with 95 % intervals, and a sentence for each that the first does not win.

    table[question, series][measure][place]: an error of one window.
    """
    out = []
    for first, second, key in pairs(asked, table):
        a, b = table[first][key], table[second][key]
        places = [p for p in a if p in b]
        x, y = (np.array([rows[p] for p in places]) for rows in (a, b))
        found = block_interval(x - y, [block(p) for p in places], seed=seed, resamples=resamples)
        row = {
            "first": _label(first),
            "second": _label(second),
            "measure": key,
            "first_mean": float(x.mean()),
            "second_mean": float(y.mean()),
            **found.plain(),
            "verdict": verdict(found.low, found.high, higher=_kind(key) in HIGHER_IS_BETTER),
        }
        out.append(row)
    return out, losses(out)


def pairs(asked: Sequence[Question], table: Table) -> Iterator[tuple[tuple[str, str], tuple[str, str], str]]:
    """(first, second, measure) of every comparison: (question, series) twice."""
    named = {q.name: q for q in asked}
    crossed = [("forward", "video"), ("inverse", "policy")]
    for key in _shared(table, ("forward", MODEL), ("forward", SHUFFLED), PRIMARY):
        yield ("forward", MODEL), ("forward", SHUFFLED), key
    for a, b in crossed:
        # Errors over different frames cannot be compared.
        if a in named and b in named and named[a].wanted == named[b].wanted:
            for key in _shared(table, (a, MODEL), (b, MODEL), PRIMARY):
                yield (a, MODEL), (b, MODEL), key
    for question, series in table:
        if series not in (MODEL, SHUFFLED):
            for key in _shared(table, (question, MODEL), (question, series)):
                yield (question, MODEL), (question, series), key


def verdict(low: float | None, high: float | None, *, higher: bool = False) -> str:
    """ "better", "worse" or "undecided": where the interval of first - second lies relative to 0."""
    if low is None or high is None or low <= 0 <= high:
        return "undecided"
    return "better" if (low > 0) == higher else "worse"


def losses(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each pair in which the first does not win by every measure."""
    out = []
    for first, second in dict.fromkeys((row["first"], row["second"]) for row in rows):
        mine = [row for row in rows if (row["first"], row["second"]) == (first, second)]
        lost = [row for row in mine if row["verdict"] != "better"]
        if lost:
            worse = any(row["verdict"] == "worse" for row in lost)
            verb = "does not beat" if worse else "is not told apart from"
            out.append(f"{first} {verb} {second}: {'; '.join(map(_words, lost))}")
    return out


def _words(row: Mapping[str, Any]) -> str:
    span = "no interval" if row["low"] is None else f"difference {row['low']:.3g} to {row['high']:.3g}"
    return f"{row['measure']} {row['first_mean']:.3g} against {row['second_mean']:.3g} ({span}, {row['verdict']})"


def _label(place: tuple[str, str]) -> str:
    question, series = place
    if series == MODEL:
        return question
    return f"{question} with {series}" if series == SHUFFLED else series


def _shared(
    table: Table, first: tuple[str, str], second: tuple[str, str], kinds: Sequence[str] | None = None
) -> list[str]:
    """The measures that both have, of the named kinds (None: all)."""
    keys = [k for k in table.get(first, {}) if k in table.get(second, {})]
    return [k for k in keys if kinds is None or _kind(k) in kinds]


def _kind(key: str) -> str:
    return key.rsplit(".", 1)[-1]
