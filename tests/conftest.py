"""What every test shares: one torch thread, the folder of real data, and an account of what was skipped or slow."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

# Two workers on two cores: a second thread in each only waits for the other worker's.
torch.set_num_threads(1)


def data_folder() -> Path:
    """Where real data are looked for: $POLYCLOCK_DATA, else a folder beside the repository."""
    return (ROOT / os.environ.get("POLYCLOCK_DATA", "../shared/data")).resolve()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data. Where it is absent the test is skipped, or fails under POLYCLOCK_REQUIRE_DATA=1."""
    folder = data_folder()
    if not folder.is_dir():
        pytest.skip("no real data: set POLYCLOCK_DATA to their folder")
    return folder


@pytest.fixture
def results_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A tool of results by its name, reading from an empty folder where its `put(name, document)` writes."""

    def load(name: str, prefix: str = "") -> ModuleType:
        monkeypatch.syspath_prepend(ROOT / "tools")
        tool, tables = importlib.import_module(name), importlib.import_module("tables")
        monkeypatch.setattr(tables, "ROOT", tmp_path)

        def put(kind: str, document: dict, folder: str = "runs/results") -> None:
            path = tmp_path / folder / f"{prefix}{kind}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document))

        monkeypatch.setattr(tool, "put", put, raising=False)
        monkeypatch.setattr(tool, "tables", tables, raising=False)
        return tool

    return load


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Mark the skips of tests that asked for real data; make failures of them where the data are required."""
    outcome = yield
    report = outcome.get_result()
    if not report.skipped or hasattr(report, "wasxfail") or "real_data" not in getattr(item, "fixturenames", ()):
        return
    report.lacks_data = True
    if os.environ.get("POLYCLOCK_REQUIRE_DATA") == "1":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"real data are required here, but the test was skipped: {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests lacked real data, and how much of the slow tests' budget is used."""
    stats = terminalreporter.stats
    lacking = [r for reports in stats.values() for r in reports if getattr(r, "lacks_data", False)]
    if lacking:
        terminalreporter.write_line(f"{len(lacking)} tests need real data and found none in $POLYCLOCK_DATA")
    budget = os.environ.get("POLYCLOCK_SLOW_BUDGET")
    markers = terminalreporter.config.getoption("markexpr", "")
    if budget and markers == "slow":
        used = sum(getattr(r, "duration", 0.0) for kind in ("passed", "failed") for r in stats.get(kind, []))
        terminalreporter.write_line(f"slow tests: {used:.0f} s of work; the budget is {budget} s on the clock")
