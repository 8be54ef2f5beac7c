"""Which of two ways to answer is better, window by window, and a sentence wherever the model is not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .held_out import Place
from .intervals import block_interval, paired_interval, pooled
from .kinds import is_main, spec
from .questions import Question

MODEL = "model"
CONTROL = "shuffled"  # how the name of every control begins
NO_EFFECT = "no effect seen"
Value = float | np.ndarray
Table = dict[tuple[str, str], dict[str, dict[Place, Value]]]
Block = Callable[[Place], Hashable]
Plain = dict[str, Any]


def summary(table: Table, label: str, block: Block, *, seed: int, resamples: int) -> Plain:
    """{"errors": {measure: interval}, "beside": {series: {measure: interval}}} of one label (a question, say)."""
    series: dict[str, Plain] = {}
    for (asked, name), measures in table.items():
        if asked == label:
            found = {key: _interval(key, rows, block, seed, resamples) for key, rows in measures.items()}
            series[name] = {key: row for key, row in found.items() if row is not None}
    return {"errors": series.pop(MODEL, {}), "beside": series}


def _interval(key: str, rows: Mapping[Place, Value], block: Block, seed: int, resamples: int) -> Plain | None:
    """None where nothing of it is there to be measured."""
    if not rows:
        return None
    values, blocks, measure = np.array(list(rows.values())), [block(p) for p in rows], spec(key)
    found = block_interval(values, blocks, pool=measure.pool, seed=seed, resamples=resamples)
    if not np.isfinite(found.mean):
        return None
    return found.plain() | {"unit": measure.unit, "better": measure.better}


def compare(
    pairs: Sequence[tuple[tuple[str, str], tuple[str, str], str]],
    table: Table,
    block: Block,
    *,
    seed: int,
    resamples: int,
) -> list[Plain]:
    """Paired differences first - second with 95 % intervals; table[label, series][measure][place]: one value."""
    out = []
    for first, second, key in pairs:
        a, b, measure = table[first][key], table[second][key], spec(key)
        places = [p for p in a if p in b]
        if not places:
            continue
        x, y = (np.array([rows[p] for p in places]) for rows in (a, b))
        blocks = [block(p) for p in places]
        found = paired_interval(x, y, blocks, pool=measure.pool, seed=seed, resamples=resamples)
        means = [pooled(v, measure.pool) for v in (x, y)]
        if not np.isfinite(means).all():
            continue
        row = {
            "first": _label(first),
            "second": _label(second),
            "measure": key,
            "first_mean": means[0],
            "second_mean": means[1],
            **found.plain(),
            "verdict": verdict(found.low, found.high, better=measure.better, control=second[1].startswith(CONTROL)),
        }
        out.append(row)
    return out


def pairs(asked: Sequence[Question], table: Table) -> Iterator[tuple[tuple[str, str], tuple[str, str], str]]:
    """(first, second, measure) of every comparison among questions, controls first: (question, series) twice."""
    for question, series in table:
        if series.startswith(CONTROL):
            yield from _all(table, (question, MODEL), (question, series))
    for a, b in crossed(asked):
        yield from _all(table, (a, MODEL), (b, MODEL), primary=True)
    for question, series in table:
        if series != MODEL and not series.startswith(CONTROL):
            yield from _all(table, (question, MODEL), (question, series))


def crossed(asked: Sequence[Question]) -> Iterator[tuple[str, str]]:
    """Questions of which the first is given more than the second, of the same frames."""
    for a in asked:
        for b in asked:
            # Errors over different frames cannot be compared.
            if a.of and not b.of and a.wanted == b.wanted:
                yield a.name, b.name


def _all(
    table: Table, first: tuple[str, str], second: tuple[str, str], primary: bool = False
) -> Iterator[tuple[tuple[str, str], tuple[str, str], str]]:
    """Every measure that both have."""
    for key in table.get(first, {}):
        if key in table.get(second, {}) and (spec(key).primary or not primary):
            yield first, second, key


def verdict(low: float | None, high: float | None, *, better: str | None = "lower", control: bool = False) -> str:
    """Where the interval of first - second lies relative to 0, for a measure of which less or more is `better`.

    "better", "worse"; "differs" where neither direction is better; "undecided", or for a control "no effect seen",
    where it holds 0.
    """
    if low is None or high is None or low <= 0 <= high:
        return NO_EFFECT if control else "undecided"
    if better is None:
        return "differs"
    return "better" if (low > 0) == (better == "higher") else "worse"


def losses(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each pair in which the first does not win by every main measure."""
    out = []
    for first, second in dict.fromkeys((row["first"], row["second"]) for row in rows):
        mine = [r for r in rows if (r["first"], r["second"]) == (first, second) and is_main(r["measure"])]
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
    return f"{question} with {series}" if series.startswith(CONTROL) else series
