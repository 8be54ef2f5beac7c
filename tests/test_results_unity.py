"""UnityVideo's tables say what the runs wrote, and what a run that was not made would take; losses are of tasks."""

from __future__ import annotations

import importlib
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moving import level_of
from polyclock.data import Windows
from polyclock.layout import Layout, Stream
from polyclock.timesteps import Independent, Mixture, Task

ROOT = Path(__file__).parents[1]
STEP = {"cpu_seconds_a_step": 1.0, "cpu_seconds_a_window": 10.0}


def score(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def document(depth: float, video: float) -> dict:
    beside = {"mean depth": {"depth.absrel": score(0.9)}, "mean video": {"video.mse": score(0.8)}}
    return {
        "questions": {
            "depth from video": {"query": "depth | video", "errors": {"depth.absrel": score(depth)}, "beside": beside},
            "video from depth": {
                "query": "video | depth, text",
                "errors": {"video.mse": score(video)},
                "beside": beside,
            },
            "video from flow": {
                "query": "video | flow, text",
                "errors": {"video.mse": score(3 * video)},
                "beside": beside,
            },
        }
    }


@pytest.fixture
def tool(results_tool, tmp_path: Path):
    """The tool, in a folder where the script says how long its rows are."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "people.sh").write_text("steps=${STEPS:-3600} windows=${WINDOWS:-60}\n")
    return results_tool("results_unity", "unity-")


def test_without_runs_everything_says_so_and_nothing_else(tool) -> None:
    for text in tool.parts().values():
        assert "not run" in text or "not measured" in text
        assert not re.search(r"\d\.\d|hours", text)


def test_hours_are_those_of_two_free_cores(tool) -> None:
    about = {"command": "runs/people.sh speed", "date": "2026-01-01", "load": [1.0], "cores": 2}
    tool.put("speed", about | {"rows": dict.fromkeys(tool.SPEEDS, STEP)})
    assert tool.hours("joint") == pytest.approx((3600 + 600) / 2 / 3600)
    assert "| `joint` | five maps, three tasks | 0 of 2 |  |  | not run: 1.2 hours |" in tool.parts()["unity-ledger"]
    tool.put("joint-0.ledger", {"steps": 3600, "minutes": 41.4})
    assert "| 1 of 2 | 3600 | 41 | not run: 0.6 hours |" in tool.parts()["unity-ledger"]
    assert "3600 steps and 60 windows" in tool.speeds()


def test_speed_is_what_is_left_of_long_and_short_runs(tool, tmp_path: Path) -> None:
    for name in tool.SPEEDS:
        for what, user in (("5", 10.0), ("35", 40.0), ("asked-2", 7.0), ("asked-6", 27.0)):
            (tmp_path / f"speed-{name}-{what}.times").write_text(f"a line of torchrun\n{user} 1.5\n")
    found = tool.measured(tmp_path)
    assert found["rows"]["joint"] == {"cpu_seconds_a_step": 1.0, "cpu_seconds_a_window": 5.0}
    assert set(found["rows"]) == {kind for _, kind in tool.ROWS.values()}


def test_a_network_of_five_stands_beside_one_of_one_and_what_costs_nothing(tool) -> None:
    tool.put("joint-0", document(0.5, 0.2))
    tool.put("joint-1", document(0.6, 0.2))
    tool.put("single-depth-1", document(0.4, 0.1))
    first, second = (line for line in tool.estimation().splitlines() if "`depth.absrel`" in line)
    assert first.startswith(
        "| `depth \\| video` | `depth.absrel` | 0 | 0.500 [0.400, 0.600] | not run | not run | 0.900 "
    )
    assert "| 1 | 0.600 [0.500, 0.700] | 0.400 [0.300, 0.500] | not run |" in second
    assert "| 0.2000 [0.1000, 0.3000] | not run | not run |  | 0.8000 [0.7000, 0.9000] |  |" in tool.control()
    assert "| five maps, three tasks, seed 0 | 0.500 [0.400, 0.600] |" in tool.networks("joint", "neither")
    assert "| 0.4000 |" in tool.networks("joint"), "the mean over the maps that are asked"
    # A network of one map has another name for what it generates together.
    alone = {"query": "video, depth | text", "errors": {"depth.absrel": score(0.7)}, "beside": {}}
    tool.put("together-depth-0", {"questions": {"joint": alone}})
    assert "| 0.700 [0.600, 0.800] |" in tool.together()


def test_losses_and_estimates_over_the_steps(tool) -> None:
    steps = {"10": {"video, depth | text": {"video": 0.2, "depth": 1}, "video, flow | text": {"video": 0.4, "flow": 1}}}
    estimates = {"10": {"depth | video": {"depth.absrel": 0.5}}, "20": {"depth | video": {"depth.absrel": 0.25}}}
    tool.put("joint-0.losses", {"steps": steps, "estimates": estimates})
    tool.put("rgb-only-0.losses", {"steps": {"10": {"video | text": {"video": 0.5}}}})
    text = tool.convergence()
    assert "| seed 0 | five maps, three tasks | 0.3000 |" in text and "| seed 0 | video alone | 0.5000 |" in text
    assert "| `depth.absrel`, seed 0 | five maps, three tasks | 0.500 | 0.250 |" in tool.learning()
    assert "| `depth.absrel`, seed 0 | depth from video alone | not run |  |" in tool.learning()


def test_what_was_never_shown_stands_beside_what_costs_nothing(tool) -> None:
    tool.put("one-person-0.two", document(0.5, 0.2))
    line = next(line for line in tool.unseen("two", "one-person").splitlines() if "`depth.absrel`" in line)
    assert line.endswith("| 0.500 [0.400, 0.600] | 0.900 [0.800, 1.000] |  |  |")
    row = {
        "errors": {"flow.warp_explained": score(0.5)},
        "beside": {"the recording": {"flow.warp_explained": score(0.9)}},
    }
    tool.put("joint-0", {"questions": {}, "probes": {"world": {"rows": {"video and flow": row}}}})
    assert "| 0.500 [0.400, 0.600] |  | 0.900 [0.800, 1.000] |" in tool.agreement()


def test_the_script_knows_the_rows_of_the_tables(tool, tmp_path: Path) -> None:
    words = ["bash", str(ROOT / "runs" / "people.sh"), "names"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(tool.ROWS)


def test_losses_by_task_and_what_is_estimated_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.syspath_prepend(ROOT / "tests" / "evaluate")
    tool, mapped = importlib.import_module("task_losses"), importlib.import_module("mapped")
    made, data = mapped.recipe(), mapped.Mapped()
    modalities = {n: made.modalities[n] for n in ("video", "depth")}
    law = Mixture((0.5, Task("depth | video")), (0.3, Task("video, depth")), (0.2, Independent()))
    streams = Layout(*(Stream(n) for n in modalities))
    model = replace(made, modalities=modalities, conditions={}, layout=streams, law=law).fit(data).build()
    windows = Windows(data, model.recipe.signals())
    found = tool.losses(model, windows, 8)
    assert {q: set(each) for q, each in found.items()} == {
        "depth | video": {"depth"},
        "video, depth": {"video", "depth"},
    }
    monkeypatch.setattr(tool, "PART", 3)
    again = tool.losses(model, windows, 8)
    assert again["depth | video"] == pytest.approx(found["depth | video"]), "however the windows are cut"

    def reader(model, query, *, steps, size, video):
        """Reads the depth off the picture, half a metre too far."""
        level = level_of(video).numpy().reshape(-1)
        assert (query.text, steps, size) == ("depth | video", 1, len(video))
        return {"depth": torch.from_numpy(mapped.depth(level) + 0.5).unflatten(0, (size, 2))}

    monkeypatch.setattr(tool, "sample", reader)
    (errors,) = tool.estimates(model, windows, 8, data).values()
    assert set(errors) == {"depth.absrel"} and 0.25 < errors["depth.absrel"] < 0.5, "of 1 m and of 2 m"
