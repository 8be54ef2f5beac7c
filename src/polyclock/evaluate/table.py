"""An evaluation as grids of text, and on the screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .compare import SHUFFLED

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = ("error", "mse", "ssim")  # rmse and psnr say the same of a pair as error and mse


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of text: the first column names the row; `quiet` rows are baselines and controls."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    quiet: tuple[bool, ...]


def grids(document: Mapping[str, Any]) -> list[Grid]:
    """One grid per modality: a row per question, then what stands beside; cells "mean (low to high)"."""
    rows: dict[str, dict[str, dict[str, str]]] = {}
    loud: set[tuple[str, str]] = set()
    for question, series, key, found in _errors(document):
        modality, kind = key.rsplit(".", 1)
        label, text = series or question, cell(found)
        if not series:
            loud.add((modality, label))
        # A baseline is one row where it is the same beside every question; a control belongs to its question.
        if series == SHUFFLED or rows.get(modality, {}).get(label, {}).get(kind, text) != text:
            label = f"{question}, {series}"
        rows.setdefault(modality, {}).setdefault(label, {})[kind] = text
    out = []
    for modality, series in rows.items():
        kinds = tuple(dict.fromkeys(kind for cells in series.values() for kind in cells))
        order = sorted(series, key=lambda label: (modality, label) not in loud)
        body = tuple((label, *(series[label].get(kind, "-") for kind in kinds)) for label in order)
        quiet = tuple((modality, label) not in loud for label in order)
        out.append(Grid(title=modality, columns=("question", *kinds), rows=body, quiet=quiet))
    return out


def _errors(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(question, series or "" for the model, measure, interval) of every error."""
    for question, answer in document["questions"].items():
        for series, measures in {"": answer["errors"], **answer["beside"]}.items():
            for key, found in measures.items():
                yield question, series, key, found


def paired(document: Mapping[str, Any]) -> Grid:
    """The paired comparisons by their main measures."""
    found = [row for row in document["comparisons"] if row["measure"].rsplit(".", 1)[-1] in SHOWN]
    body = tuple(
        (f"{row['first']} - {row['second']}", row["measure"], number(row["mean"]), span(row), row["verdict"])
        for row in found
    )
    columns = ("difference", "measure", "mean", "95 % interval", "the first is")
    return Grid(title="paired differences", columns=columns, rows=body, quiet=(False,) * len(body))


def show(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Print an evaluation document: errors by question, paired comparisons, notes."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    data = document["data"]
    console.print(f"{data['windows']} windows in {data['blocks']} blocks of 1 s; means with 95 % intervals")
    for grid in [*grids(document), paired(document)]:
        if not grid.rows:
            continue
        # Text, not str: names come from data, and rich would read [brackets] in them as markup.
        table = Table(title=Text(grid.title), title_justify="left")
        for i, column in enumerate(grid.columns):
            table.add_column(column, justify="right" if i else "left", overflow="fold")
        for row, quiet in zip(grid.rows, grid.quiet, strict=True):
            table.add_row(*(Text(value) for value in row), style="dim" if quiet else None)
        console.print(table)
    for note in document["notes"]:
        console.print(Text(f"- {note}"))


def cell(found: Mapping[str, Any]) -> str:
    """ "mean (low to high)" of an interval."""
    return number(found["mean"]) if found["low"] is None else f"{number(found['mean'])} ({span(found)})"


def number(value: float | None) -> str:
    """Three significant digits; "-" for None."""
    return "-" if value is None else f"{value:.3g}"


def span(found: Mapping[str, Any]) -> str:
    """ "low to high" of an interval."""
    return "no interval" if found["low"] is None else f"{number(found['low'])} to {number(found['high'])}"
