"""The tables of DreamWorld and the union say what the runs wrote, and nothing where none were made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def said(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


@pytest.fixture
def tool(results_tool):
    return results_tool("results_dream")


def evaluation(question: str, errors: dict, world: dict, beside: dict | None = None, better: str = "") -> dict:
    first = next(iter(errors))
    row = {"first": question, "second": better, "measure": first, "verdict": "better"}
    return {
        "model": {"parameters": 3_862_867},
        "questions": {question: {"query": "", "errors": errors, "beside": beside or {}}},
        "comparisons": [row] if better else [],
        "probes": {"world": {"rows": {question: {"errors": world, "beside": {"the recording": world}}}}},
    }


def test_without_runs_nothing_is_said(tool) -> None:
    assert set(tool.parts().values()) == {"not run"}


def test_rows_stand_beside_each_other_with_the_recording(tool) -> None:
    flow = {"video.permanence": said(0.9), "flow.warp_explained": said(0.4), "geometry.depth_warp": said(0.02)}
    tool.put("dream-tabletop-all-0", evaluation("joint", {"video.psnr": said(25)}, flow))
    tool.put("dream-tabletop-all-1", evaluation("joint", {"video.psnr": said(26)}, flow))
    bare = evaluation("video", {"video.psnr": said(24)}, {"video.permanence": said(0.8)})
    tool.put("dream-tabletop-video-0", bare)
    lines = tool.kept("tabletop").splitlines()
    assert lines[2].startswith("| video alone, seed 0 | 0.80 [0.70, 0.90] |  |") and lines[2].endswith(
        "| 24.0 [23.9, 24.1] |"
    )
    assert lines[3].startswith("| + all three, seed 0 | 0.90 [0.80, 1.00] |  |  | 0.40 [0.30, 0.50] | 0.020 [")
    assert lines[4].startswith("| + all three, seed 1 |") and lines[5].startswith("| the recording | 0.90")
    assert tool.kept("people") == "not run" == tool.guided("tabletop")
    tool.put("dream-tabletop-guided-without-flow-0", evaluation("joint", {"video.psnr": said(20)}, flow))
    assert "| without that by flow, seed 0 | 0.90" in tool.guided("tabletop")


def test_what_it_cost(tool) -> None:
    cost = {"steps": 2200, "minutes": 41.6, "command": "runs/dream.sh row people flow 0"}
    tool.put("dream-people-flow-0.ledger", cost)
    tool.put("dream-people-flow-0", evaluation("joint", {"video.psnr": said(20)}, {}))
    ledger = tool.ledger()
    assert "| people | + flow | 0 | 2200 | 3.86 | 42 | `runs/dream.sh row people flow 0` |" in ledger
    assert ledger.endswith("| 42 |  |")


def test_the_union_is_asked_six_questions_and_acts(tool) -> None:
    beside = {"mean action": {"action.error": said(0.8)}, "shuffled inputs": {"action.error": said(0.7)}}
    document = evaluation("policy", {"action.error": said(0.5)}, {}, beside, better="mean action")
    tool.put("dream-tabletop-union-0", document)
    rows = tool.six().splitlines()[2:]
    assert len(rows) == 6 and rows[0] == (
        "| policy | 0 | `action.error` | 0.500 [0.400, 0.600] | mean action 0.800 [0.700, 0.900]; "
        "shuffled inputs 0.700 [0.600, 0.800] | mean action |"
    )
    assert all("not asked" in line for line in rows[1:])
    tasks = {"metaworld/drawer-open": {"successes": 40, "episodes": 50}}
    mean = {"share": 0.8, "low": 0.7, "high": 0.9}
    tool.put("dream-union-0.steered", {"tasks": tasks, "mean": mean, "latency_ms": {"p50": 71.2}})
    line = "| all at once, steered by its own maps, seed 0 | 0.80 [0.70, 0.90] | drawer-open 40/50 | 71 |"
    assert tool.acting().splitlines()[2:] == [line]


def test_what_guidance_costs(tool) -> None:
    clock = {"ratio": 1.8, "low": 1.7, "high": 1.9}
    one = {"wall": clock, "processor": clock | {"low": None, "high": None}}
    document = {
        "command": "python benchmarks/guidance.py", "machine": {"threads": 1}, "network": "all-0",
        "step": {"5 x 1": one}, "plans": {"exact": one | {"psnr": None, "evaluations": 5.0}},
        "clip": {"size": "1.3B", "latents": [21, 60, 104], "steps": 50, "dtype": "bf16", "ours, 5 branches": 99.5},
    }  # fmt: skip
    tool.put("guidance", document, "benchmarks/results")
    text = tool.cost()
    assert "| 5 | 1 | 1.80x [1.70, 1.90] | 1.80x |" in text and "| ours, 5 branches | 99.5 |" in text
    assert "| exact | 5.0 | 1.80x [1.70, 1.90] | 1.80x | exact |" in text


def test_the_script_knows_the_rows_of_the_tables(tool, tmp_path: Path) -> None:
    words = ["bash", str(ROOT / "runs" / "dream.sh"), "names"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == set(tool.ROWS)
