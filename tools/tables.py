"""What the pages of results are made of: rows, tables, numbers with intervals, committed documents."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def load(path: str) -> dict | None:
    """A committed JSON document, or None where the run was not made."""
    file = ROOT / path
    return json.loads(file.read_text()) if file.is_file() else None


def number(value: dict | None, digits: int = 3) -> str:
    """Mean and interval; nothing for None."""
    if not value:
        return ""
    mean = f"{value['mean']:.{digits}f}"
    return mean if value["low"] is None else f"{mean} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def row(*cells: object) -> str:
    """A line of a table; a bar inside a cell would end it."""
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"


def table(head: tuple[str, ...], rows: list[str]) -> str:
    return "\n".join([row(*head), row(*["---"] * len(head)), *rows]) if rows else "not run"
