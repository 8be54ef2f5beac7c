"""The examples of docs/experts.md run, from the top of the page to its end."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from polyclock.commands.annotate import ABOUT
from polyclock.experts import CLASSES, DEFAULTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "experts.md"


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    (tmp_path / "page.py").write_text("".join(blocks), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("page.py")
    assert len(blocks) == 2


def test_the_page_and_the_help_name_every_expert() -> None:
    page, help_text = PAGE.read_text(encoding="utf-8"), " ".join(ABOUT.values())
    assert [name for name in CLASSES if f"`{name}`" not in page or name not in help_text] == []
    assert set(DEFAULTS) == set(ABOUT) - {"filters"}
