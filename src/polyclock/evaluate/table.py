"""An evaluation as grids of text, and on the screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .compare import CONTROL
from .kinds import is_main, spec

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of text: the first column names the row; `quiet` rows are baselines."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    quiet: tuple[bool, ...]


def grids(document: Mapping[str, Any]) -> list[Grid]:
    """All there is to see but the paired differences: errors, controls, probes."""
    return [*errors(document), *(g for g in (controls(document), *probes(document)) if g.rows)]


def errors(document: Mapping[str, Any]) -> list[Grid]:
    """One grid per modality: a row per question, then what stands beside; cells "mean (low to high)"."""
    every: dict[tuple[str, str, str], dict[str, str]] = {}
    for question, series, key, found in _errors(document):
        modality, kind = key.rsplit(".", 1)
        every.setdefault((modality, question, series), {})[kind] = cell(found)
    rows: dict[str, dict[str, dict[str, str]]] = {}
    loud = {(modality, question) for modality, question, series in every if not series}
    for (modality, question, series), cells in every.items():
        mine = rows.setdefault(modality, {})
        # A baseline is one row where it is the same beside every question.
        if mine.setdefault(series or question, cells) != cells:
            mine[f"{question}, {series}"] = cells
    out = []
    for modality, series in rows.items():
        kinds = tuple(dict.fromkeys(kind for cells in series.values() for kind in cells))
        order = sorted(series, key=lambda label: (modality, label) not in loud)
        body = tuple((label, *(series[label].get(kind, "-") for kind in kinds)) for label in order)
        quiet = tuple((modality, label) not in loud for label in order)
        out.append(Grid(title=modality, columns=("question", *kinds), rows=body, quiet=quiet))
    return out


def _errors(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(question, series or "" for the model, measure, interval) of every error but those of controls."""
    for question, answer in document["questions"].items():
        beside = {series: measures for series, measures in answer["beside"].items() if not series.startswith(CONTROL)}
        for series, measures in {"": answer["errors"], **beside}.items():
            for key, found in measures.items():
                yield question, series, key, found


def controls(document: Mapping[str, Any]) -> Grid:
    """Every number beside its value for the inputs of another window."""
    found = [r for r in document["comparisons"] if f"with {CONTROL}" in r["second"]]
    firsts = [i for i, r in enumerate(found) if not i or r["second"] != found[i - 1]["second"]]
    body = tuple(
        # A question is named where its rows begin.
        (
            r["second"] if i in firsts else "", r["measure"], number(r["first_mean"]), number(r["second_mean"]),
            span(r), r["verdict"],
        )
        for i, r in enumerate(found)
    )  # fmt: skip
    columns = ("question", "measure", "true inputs", "shuffled", "95 % interval of the difference", "true inputs are")
    return Grid(title="do the inputs matter?", columns=columns, rows=body, quiet=(False,) * len(body))


def paired(document: Mapping[str, Any]) -> Grid:
    """The paired comparisons with other questions and baselines, by their main measures."""
    rows = [row for row in document["comparisons"] if f"with {CONTROL}" not in row["second"]]
    body = tuple(
        (f"{row['first']} - {row['second']}", row["measure"], number(row["mean"]), span(row), row["verdict"])
        for row in rows
        if is_main(row["measure"])
    )
    columns = ("difference", "measure", "mean", "95 % interval", "the first is")
    return Grid(title="paired differences", columns=columns, rows=body, quiet=(False,) * len(body))


def probes(document: Mapping[str, Any]) -> list[Grid]:
    """One grid per probe: a row per measure, what stands beside it, and whether it is told apart from its control."""
    out = []
    for name, probe in document.get("probes", {}).items():
        found = {
            (label, key): {"": row} | {s: m[key] for s, m in part["beside"].items() if key in m}
            for label, part in probe["rows"].items()
            for key, row in part["errors"].items()
            if is_main(key) or spec(key).better is None
        }
        series = tuple(dict.fromkeys(s for cells in found.values() for s in cells if s))
        verdicts = {
            (row["first"], row["measure"]): row["verdict"]
            for row in probe["comparisons"]
            if f"with {CONTROL}" in row["second"]
        }
        body = tuple(
            (*at, *(cell(cells[s]) if s in cells else "-" for s in ("", *series)), verdicts.get(at, "-"))
            for at, cells in found.items()
        )
        columns = (f"{probe['windows']} windows", "measure", "value", *series, "beside shuffled")
        out.append(Grid(title=name, columns=columns, rows=body, quiet=(False,) * len(body)))
    return out


def show(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print an evaluation document: errors by question, controls, probes, paired comparisons, notes."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    console.print(f"{sizes(document)}; means with 95 % intervals")
    for grid in [*grids(document), paired(document)]:
        if not grid.rows:
            continue
        # Text, not str: names come from data, and rich would read [brackets] in them as markup.
        table = Table(title=Text(grid.title), title_justify="left")
        for i, column in enumerate(grid.columns):
            table.add_column(Text(column), justify="right" if i else "left", overflow="fold")
        for row, quiet in zip(grid.rows, grid.quiet, strict=True):
            table.add_row(*(Text(value) for value in row), style="dim" if quiet else None)
        console.print(table)
    for note in notes(document):
        console.print(Text(f"- {note}"))


def sizes(document: Mapping[str, Any]) -> str:
    """ "73 windows in 8 blocks of 1 s"."""
    data = document["data"]
    # Older documents have blocks of a second and do not say so.
    each = "an episode" if data.get("block") == "episode" else f"{data.get('block_seconds', 1):.3g} s"
    return f"{data['windows']} windows in {data['blocks']} blocks of {each}"


def notes(document: Mapping[str, Any]) -> list[str]:
    """What was noted of the questions and of every probe."""
    said = [f"{name}: {note}" for name, probe in document.get("probes", {}).items() for note in probe["notes"]]
    return [*document["notes"], *said]


def cell(found: Mapping[str, Any]) -> str:
    """ "mean (low to high)" of an interval."""
    return number(found["mean"]) if found["low"] is None else f"{number(found['mean'])} ({span(found)})"


def number(value: float | None) -> str:
    """Three significant digits; "-" for None."""
    return "-" if value is None else f"{value:.3g}"


def span(found: Mapping[str, Any]) -> str:
    """ "low to high" of an interval."""
    return "no interval" if found["low"] is None else f"{number(found['low'])} to {number(found['high'])}"
