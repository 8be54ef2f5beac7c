"""The page of results says what the committed JSON says, and no more."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module("results")


def test_the_tables_are_those_of_the_json(tool):
    page = (ROOT / "docs" / "results.md").read_text()
    assert tool.written(page) == page, "run: python tools/results.py"


def test_a_changed_number_is_found(tool):
    page = (ROOT / "docs" / "results.md").read_text()
    assert re.search(r"\d\.\d{3} \[", page), "the page holds no measured number"
    changed = re.sub(r"(\d\.\d{2})\d \[", r"\g<1>x [", page, count=1)
    assert changed != page and tool.written(changed) == page


def test_what_the_main_job_requires_holds_in_the_json(tool):
    document = tool.load("runs/results/g1.json")
    found = {(c["first"], c["second"], c["measure"]): c for c in document["comparisons"]}
    assert found["forward", "forward with shuffled actions", "video.mse"]["high"] < 0
    assert found["inverse", "policy", "action.error"]["high"] < 0


def test_the_films_of_the_evaluation_page_score_what_the_json_says(tool):
    """Rows are `MEASURE`: FILM, .. | people | tabletop |, numbers as they are rounded."""
    page, found, films = (ROOT / "docs" / "evaluation.md").read_text(), tool.load("benchmarks/results/world.json"), []
    table = page.split("| film or map | people | tabletop |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)`: (.+?) \| (.+?) \| (.+?) \|$", table, re.M)
    assert len(rows) == 8
    for measure, named, *columns in rows:
        films = films if named == "the same" else named.split(", ")
        for world, cells in zip(("people", "tabletop"), columns, strict=True):
            numbers = found[world]["measures"][measure]
            for film, cell in zip(films, cells.split(", "), strict=True):
                (key,) = (k for k in numbers if k.startswith(film) or film.startswith(k))
                places = len(cell.partition(".")[2])
                assert f"{numbers[key]:.{places}f}" == cell, (measure, world, film)
