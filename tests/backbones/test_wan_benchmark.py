"""The benchmark of Wan runs in small, and both sides say the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_both_sides_run_in_small(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    out = tmp_path / "wan.json"
    words = ["--size", "tiny", "--depth", "1", "--latents", "2,4,4", "--rounds", "1", "--cases", "one,two,load"]
    command = [sys.executable, str(ROOT / "benchmarks" / "wan.py"), *words, "--device", "cpu", "--out", str(out)]
    subprocess.run(command, check=True, timeout=600, cwd=tmp_path)
    results = json.loads(out.read_text())["results"]
    for case, tokens in (("one", 8), ("two", 16)):
        assert results[case]["tokens"] == tokens and results[case]["largest_difference"] < 1e-5
        for act in ("forward", "forward and backward"):
            assert all(v > 0 for v in results[case][act]["peak_MB"].values())
            assert all(0 < v < 1 for v in results[case][act]["outside_matrix_products"].values())
    assert results["load"]["finite"] and results["load"]["weights_GB"] > 0
