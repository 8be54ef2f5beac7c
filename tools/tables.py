"""What the pages of results are made of: rows, tables, numbers with intervals, committed documents."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
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


def default_of(script: str, variable: str) -> int:
    """The default of a variable of a script in runs/, such as STEPS."""
    match = re.search(rf"\$\{{{variable}:-(\d+)\}}", (ROOT / "runs" / script).read_text())
    assert match, f"runs/{script} has no default of {variable}"
    return int(match[1])


def ledger(of: str, titles: Mapping[str, tuple[str, int]], left: Callable[[str, int], str]) -> str:
    """What the runs `OF-NAME-SEED` cost, and what is `left` of a name so many runs of which were not made.

    `titles` has a title and a number of seeds for each name.
    """
    rows, spent = [], 0.0
    for name, (title, seeds) in titles.items():
        costs = [c for c in (load(f"runs/results/{of}-{name}-{seed}.ledger.json") for seed in range(seeds)) if c]
        spent += sum(c["minutes"] for c in costs)
        steps, minutes = ", ".join(str(c["steps"]) for c in costs), ", ".join(f"{c['minutes']:.0f}" for c in costs)
        missing = left(name, seeds - len(costs)) if len(costs) < seeds else ""
        rows.append(row(f"`{name}`", title, f"{len(costs)} of {seeds}", steps, minutes, missing))
    rows.append(row("all", "", "", "", f"{spent:.0f}", ""))
    return table(("row", "what it is", "runs", "steps", "minutes of training steps", ""), rows)
