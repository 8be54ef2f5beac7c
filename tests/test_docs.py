"""The examples in the documentation run, from the top of a page to its end."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("page", ["docs/concepts.md"])
def test_the_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"```python\n(.*?)```", text, re.S))
    assert blocks
    script = ""
    for block in blocks:
        # Empty lines where the prose is, so that a traceback gives the line of the page.
        script += "\n" * (text[: block.start(1)].count("\n") - script.count("\n")) + block[1]
    path = tmp_path / Path(page).with_suffix(".py").name
    path.write_text(script, encoding="utf-8")
    runpy.run_path(str(path))
