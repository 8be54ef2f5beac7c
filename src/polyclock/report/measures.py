"""The part of a report that counts: errors beside what they are held against, and probes as small charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..data.source import spans
from ..evaluate.compare import CONTROL, NO_EFFECT
from ..evaluate.kinds import is_main, spec
from ..evaluate.table import cell, controls, errors, notes, number, paired, sizes, span
from .bars import Bar, bars
from .chart import Line, chart
from .markup import Markup, element, table
from .run import Run

Row = Mapping[str, Any]
MOODS = {"better": "good", "worse": "bad", "undecided": "open", NO_EFFECT: "bad", "differs": "good"}
FEW = 6  # notes that are shown without being asked for
WORDS = {
    "error": "distance from what was done",
    "mse": "squared error of pixels",
    "absrel": "relative error",
    "absrel_aligned": "relative error, scale and shift aside",
    "epe": "pixels off",
    "epe_moving": "pixels off, of what moves",
    "miou": "overlap",
    "pck": "joints found",
    "part_accuracy": "parts right",
}
NAMES = {
    "horizon": "How far ahead do predictions hold?",
    "calibration": "Does it know what it does not know?",
    "consistency": "Do predicted pictures show the actions that they were predicted for?",
    "world": "Do things stay, stay themselves, and move as the world has them move?",
    "counterfactual": "Other actions from the same state: does the picture change as the world's does?",
}


def verdict(word: str) -> Markup:
    """A verdict in its colour."""
    return element("span", word, class_=f"verdict {MOODS.get(word, '')}".strip())


def evaluation(run: Run) -> list[Markup]:
    """Probes as charts, then tables of errors and paired differences with their intervals, and what was noted."""
    document = run.evaluation
    if document is None:
        return [element("p", "There is no evaluation of this run yet.", class_="quiet")]
    data, settings = document["data"], document["settings"]
    plural = "s" if len(data["episodes"]) > 1 else ""
    about = (
        f"Held-out episode{plural} {spans(data['episodes'])}: {sizes(document)}, {settings['steps']} solver steps. In "
        "brackets: 95\u00a0% intervals from resampled blocks. Errors of actions are in standard deviations of the "
        "training data; mse is of pixels in [0, 1]."
    )
    out = [element("p", about)]
    for name, probe in document.get("probes", {}).items():
        out += _probe(name, probe)
    grid = controls(document)
    if grid.rows:
        why = (
            "The same question with the inputs of another window in place of the true ones. Where no difference can be "
            f"told the row says “{NO_EFFECT}”: nothing here shows then that the answer depends on what it is given."
        )
        body = [(*row[:-1], verdict(row[-1])) for row in grid.rows]
        out += [element("h3", "Do the inputs matter?"), element("p", why), table(grid.columns, body)]
    for grid in errors(document):
        units = "; ".join(f"{kind}: {spec(kind).unit}" for kind in grid.columns[1:])
        out += [element("h3", f"Errors: {grid.title}"), table(grid.columns, grid.rows, grid.quiet)]
        out.append(element("p", f"{units}.", class_="quiet"))
    grid = paired(document)
    if grid.rows:
        body = [(*row[:-1], verdict(row[-1])) for row in grid.rows]
        out += [element("h3", "Paired differences, first less second"), table(grid.columns, body)]
    said = [sentence(note) for note in notes(document)]
    if said:
        listed = element("ul", [element("li", note) for note in said])
        folded = element("details", element("summary", f"{len(said)} notes"), listed)
        out += [element("h3", "What to know"), folded if len(said) > FEW else listed]
    return out


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def by_question(document: Row | None) -> dict[str, Markup]:
    """question -> a small table: its main errors, beside the best of what costs nothing and beside other inputs."""
    out = {}
    said = {(r["first"], r["second"], r["measure"]): r["verdict"] for r in (document or {}).get("comparisons", [])}
    for name, answer in (document or {}).get("questions", {}).items():
        rows = [_line(name, key, found, answer["beside"], said) for key, found in answer["errors"].items()
                if spec(key).primary]  # fmt: skip
        if rows:
            columns = ("measured", "this network", "best baseline", "against it", "told of other inputs", "true inputs")
            out[name] = element("div", table(columns, rows), class_="measured")
    return out


def _line(
    question: str, key: str, found: Row, beside: Mapping[str, Mapping[str, Row]], said: Mapping[tuple, str]
) -> tuple[object, ...]:
    better = spec(key).better
    control = next((s for s, m in beside.items() if s.startswith(CONTROL) and key in m), None)
    rivals = [(s, m[key]["mean"]) for s, m in beside.items() if not s.startswith(CONTROL) and key in m]
    best = (max if better == "higher" else min)(rivals, key=lambda at: at[1], default=None)
    won = said.get((question, best[0], key)) if best else None
    matters = said.get((question, f"{question} with {control}", key)) if control else None
    return (
        named(key),
        cell(found),
        f"{number(best[1])} ({best[0]})" if best else "-",
        verdict(won) if won else "",
        number(beside[control][key]["mean"]) if control else "-",
        verdict(matters) if matters else "",
    )


def named(key: str) -> str:
    """ "depth.absrel" in words."""
    signal, _, kind = key.rpartition(".")
    higher = ", higher is better" if spec(key).better == "higher" else ""
    return f"{signal}: {WORDS.get(kind, kind)} ({kind}{higher})"


def _probe(name: str, probe: Row) -> Iterator[Markup]:
    """A probe's sentence and its chart."""
    if not probe["rows"]:
        return
    yield element("h3", NAMES.get(name, name.capitalize()))
    yield element("p", probe["what"], class_="quiet")
    if name == "horizon":
        yield _horizon(probe)
    else:
        yield from _compared(name, probe)
    for note in probe["notes"]:
        yield element("p", sentence(note))


def _horizon(probe: Row) -> Markup:
    """Error against seconds ahead, one chart per measure."""
    chunk = probe.get("seconds_per_chunk", 1.0)
    parts = list(probe["rows"].values())
    figures = []
    for key in dict.fromkeys(k for part in parts for k in part["errors"] if spec(k).primary):
        lines = [_by_chunk("network", [p["errors"].get(key) for p in parts], chunk, 0)]
        series = dict.fromkeys(s for part in parts for s in part["beside"])
        for color, s in enumerate(series, 1):
            lines.append(_by_chunk(s, [p["beside"].get(s, {}).get(key) for p in parts], chunk, color))
        shown = [line for line in lines if any(v is not None for v in line.y)]
        figures.append(chart(shown, x="seconds ahead", y=key, width=460, height=210, zero=True))
    return element("div", figures, class_="pair")


def _by_chunk(label: str, found: list[Row | None], chunk: float, color: int) -> Line:
    return Line(
        label=label,
        x=[chunk * (i + 1) for i in range(len(found))],
        y=[None if f is None else f["mean"] for f in found],
        low=[None if f is None else f["low"] for f in found],
        high=[None if f is None else f["high"] for f in found],
        color=color,
        dots=True,
        dashed=color > 0,
    )


def _compared(name: str, probe: Row) -> Iterator[Markup]:
    """One group of bars per measure: the network, and what stands beside it."""
    every = dict.fromkeys(k for p in probe["rows"].values() for k in p["errors"])
    for key in [k for k in every if is_main(k) or spec(k).better is None]:
        rows, nominal = [], probe.get("nominal") if key.endswith(".coverage") else None
        for label, part in probe["rows"].items():
            found = {"network": part["errors"].get(key)} | {s: m.get(key) for s, m in part["beside"].items()}
            for color, (s, row) in enumerate((s, r) for s, r in found.items() if r is not None):
                more = (number(row["mean"]), span(row) if row["low"] is not None else "-")
                rows.append(Bar(group=label, name=s, value=row["mean"], low=row["low"], high=row["high"],
                                color=color, more=more))  # fmt: skip
        numbers = [v for r in rows for v in (r.value, r.low, r.high) if v is not None]
        ends = (min(0.0, *numbers), max([*numbers, 1.0 if nominal else 1e-9]))
        unit = spec(key).unit
        yield bars(rows, ("", "", f"{key}, {unit}", "value", "interval"), ends=ends, mark=nominal)
