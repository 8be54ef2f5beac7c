"""The benchmark against the authors' UWM code: how sure it is, and that it runs where a checkout is at hand."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = os.environ.get("POLYCLOCK_UWM")  # their code; what it imports must be importable


@pytest.mark.skipif(CHECKOUT is None, reason="POLYCLOCK_UWM names no checkout of the authors' code")
def test_both_sides_run_in_small(tmp_path: Path) -> None:
    """In a process of its own: their code changes modules of the process that it is imported in."""
    out = tmp_path / "uwm.json"
    words = [str(CHECKOUT), "--small", "--rounds", "2", "--batch", "2", "--out", str(out)]
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "uwm.py"), *words], check=True, timeout=600)
    results = json.loads(out.read_text())["results"]
    assert results["policy"]["largest_difference"] < 2e-5
    assert set(results["bare"]) == {"full", "bare", "saved", "tokens"}
    assert results["bare"]["tokens"]["full"] - results["bare"]["tokens"]["bare"] == 8, "2 views of 4 patches"
    assert set(results["train"]) == {"encoding", "ahead", "parts"}
    parts = results["train"]["parts"]
    assert all(set(parts[name]) >= {"pictures", "observation", "network", "backward", "optimizer"} for name in parts)
    assert parts["ahead"]["autoencoder"] < parts["encoding"]["autoencoder"]
    assert len(results["solvers"]) == 10
    assert results["policy"]["wall"]["low"] is None, "two rounds say nothing of how sure"


def test_how_sure_a_ratio_is() -> None:
    """Of the median: the least and the largest of six hold it with 1 - 2 / 64, the 6th of 20 with 0.959."""
    spec = importlib.util.spec_from_file_location("against_the_authors", ROOT / "benchmarks" / "uwm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.order_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]) == (1.0, 6.0)
    assert module.order_interval([1.0] * 5) is None
    assert module.order_interval([float(k) for k in range(1, 21)]) == (6.0, 15.0)
    clocks = [{"wall": w, "processor": 1.0} for w in (2.0, 4.0, 3.0)]
    found = module.compared({"a": clocks, "b": [{"wall": 1.0, "processor": 2.0}] * 3}, "a", "b")
    assert found["wall"]["ratio"] == 3.0 and found["processor"]["ratio"] == 0.5 and found["wall"]["low"] is None
