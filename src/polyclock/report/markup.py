"""HTML from Python in which text is always escaped: only what these functions made is taken as markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is HTML already."""


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """<name attributes>children</name>; children that are not `Markup` are escaped, None is left out.

    An attribute `class_` is written class, `data_times` data-times; None or False leaves it out, True writes its name.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        parts.append(word if value is True else f'{word}="{escape(str(value))}"')
    head = " ".join(parts)
    if name in ("img", "input", "meta", "br"):
        return Markup(f"<{head}>")
    return Markup(f"<{head}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Markup:
    """Children one after another, escaped where they are not `Markup`; lists are flattened, None is left out."""
    out = []
    for child in children:
        if isinstance(child, Markup):
            out.append(str(child))
        elif isinstance(child, list | tuple):
            out.append(str(join(child)))
        elif child is not None:
            out.append(escape(str(child)))
    return Markup("".join(out))


def table(columns: Iterable[object], rows: Iterable[Iterable[object]], quiet: Iterable[bool] = ()) -> Markup:
    """A table that scrolls on its own where it is too wide; the first column names the row, `quiet` rows are dimmed."""
    dim = list(quiet)
    head = element("tr", [element("th", c, scope="col") for c in columns])
    body = []
    for i, row in enumerate(rows):
        first, *rest = row
        cells = [element("th", first, scope="row"), *(element("td", c, class_=_short(c)) for c in rest)]
        body.append(element("tr", cells, class_="quiet" if i < len(dim) and dim[i] else None))
    inner = element("table", element("thead", head) if any(columns) else None, element("tbody", body))
    return element("div", inner, class_="scroll")


def pairs(rows: Iterable[tuple[object, object]], *, many: bool = False) -> Markup:
    """A list of names and values; many short ones stand in columns."""
    groups = [element("div", element("dt", name), element("dd", value)) for name, value in rows]
    return element("dl", groups, class_="many" if many else None)


def _short(cell: object) -> str | None:
    """Cells that must not break over lines."""
    return "short" if isinstance(cell, Markup) or len(str(cell)) <= 26 else None
