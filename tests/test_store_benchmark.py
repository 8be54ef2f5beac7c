"""The benchmark of stores runs in small, and what docs/features.md says of its numbers is what they say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "store.json"


def test_stores_in_small(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = importlib.util.spec_from_file_location("store_benchmark", ROOT / "benchmarks" / "store.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    numbers = {"clips": 3, "windows": 4, "rounds": 1, "frames": 4, "window": 2, "height": 4, "width": 6, "channels": 2}
    sizes = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
    module.main(["--part", "stores", *sizes, "--folder", str(tmp_path), "--out", str(tmp_path / "store.json")])
    found = json.loads((tmp_path / "store.json").read_text())["stores"]["stores"]
    assert set(found) == set(module.STORES) and list(tmp_path.iterdir()) == [tmp_path / "store.json"]
    for name in ("one .npy", ".npy per clip", "safetensors"):
        assert found[name]["warm_ms_per_window_wall"]["median"] > 0 and found[name]["bytes_per_clip"] > 0
    assert "one .npy" in capsys.readouterr().out


def test_what_is_said_of_the_numbers() -> None:
    """No store gave warm windows much sooner than one memory-mapped array, and it saves far more than ten times the
    time with the smallest networks."""
    record = json.loads(RESULTS.read_text())
    stores = {n: s for n, s in record["stores"]["stores"].items() if "left_out" not in s}
    warm, cold = ({n: s[f"{how}_ms_per_window_wall"]["median"] for n, s in stores.items()} for how in ("warm", "cold"))
    assert {"one .npy", ".npy per clip", "safetensors", "zarr", "lance"} <= set(stores)
    assert warm["one .npy"] < 1.25 * min(warm.values()) and cold["one .npy"] < 2 * min(cold.values())
    assert warm["zarr"] > 4 * warm["one .npy"]
    assert record["pipeline"]["times_as_fast"]["median"] > 10
    pixels = record["pipeline"]["bytes_per_clip"]
    assert pixels["geometry, whole in float16"] > 80 * pixels["geometry"]
