"""UWM's tables say what the runs wrote, and what a run that was not made would take."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from polyclock.evaluate.paired import Pairs

ROOT = Path(__file__).parents[1]
SPEED = {"steps_per_s": 1.0, "cpu_seconds_a_step": 2.0, "ms_a_call": 50.0, "seconds_an_episode": 10.0}


def share(successes: int, episodes: int = 50) -> dict:
    return {"successes": successes, "episodes": episodes, "share": successes / episodes, "low": 0.1, "high": 0.9}


def rollout(solved: int, rival: str | None = None) -> dict:
    tasks = ("drawer-close", "drawer-open", "window-open", "button-press-topdown", "handle-press")
    document = {
        "tasks": {f"metaworld/{task}": share(solved) for task in tasks},
        "mean": {"share": solved / 50, "low": 0.1, "high": 0.9},
        "successes": 5 * solved,
        "episodes": 250,
    }
    if rival:
        pair = {"p_value": 0.03, "difference": 0.2, "low": 0.05, "high": 0.35}
        document["against"] = {"ledger": f"runs/out/uwm/{rival}-0/rollout/ledger.jsonl", **pair}
    return document


@pytest.fixture
def tool(results_tool, tmp_path: Path):
    """The tool, in a folder where the script says how long its rows are."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "uwm.sh").write_text("steps=${STEPS:-3600} episodes=${EPISODES:-50}\n")
    return results_tool("results_uwm", "uwm-")


def test_without_runs_everything_says_so_and_nothing_else(tool) -> None:
    for text in tool.parts().values():
        assert "not run" in text or "not measured" in text
        assert not re.search(r"\d/\d|hours", text)


def test_hours_are_those_of_two_free_cores(tool) -> None:
    systems = dict.fromkeys(("uwm", "diffusion_policy", "pad", "gr1", "context"), SPEED)
    about = {"command": "runs/uwm.sh speed", "date": "2026-01-01", "load": [1.0], "cores": 2}
    tool.put("speed", about | {"systems": systems})
    assert tool.hours("uwm") == pytest.approx(1.0 + 250 * 10 / 2 / 3600)
    assert tool.hours("scratch") == pytest.approx(1.0 + 50 * 10 / 2 / 3600)
    assert tool.hours("pretrained") == pytest.approx(1.0)
    assert "| UWM, seed 0 | not run: 1.3 hours |" in tool.success("uwm")
    assert "0 of 2" in tool.parts()["uwm-ledger"] and "not run: 2.7 hours" in tool.parts()["uwm-ledger"]
    tool.put("uwm-0.ledger", {"steps": 3600, "minutes": 61.4})
    assert "| 1 of 2 | 3600 | 61 | not run: 1.3 hours |" in tool.parts()["uwm-ledger"]
    assert "seconds of 3600 steps" in tool.speeds() and "and 50 episodes of each task" in tool.speeds()


def test_a_row_whose_steps_are_of_two_kinds_costs_their_weighted_mean(tool) -> None:
    kinds = ("uwm", "diffusion_policy", "pad", "gr1", "context")
    systems = dict.fromkeys(kinds, SPEED) | {"diffusion_policy": SPEED | {"cpu_seconds_a_step": 1.0}}
    tool.put("speed", {"systems": systems})
    assert tool.hours("alone") == pytest.approx(0.5 * (0.7 * 2.0 + 0.3 * 1.0) + 250 * 10 / 2 / 3600)
    script = (ROOT / "runs" / "uwm.sh").read_text()
    assert f"--alone {tool.MIXED['alone']['diffusion_policy']}" in script and sum(tool.MIXED["alone"].values()) == 1


def test_hours_follow_what_the_script_would_do_now(tool) -> None:
    script = (ROOT / "runs" / "uwm.sh").read_text()
    changed, places = re.subn(r"STEPS:-\d+", "STEPS:-7200", script)
    (tool.tables.ROOT / "runs" / "uwm.sh").write_text(changed)
    assert places == 1 and (
        tool.tables.default_of("uwm.sh", "STEPS"),
        tool.tables.default_of("uwm.sh", "EPISODES"),
    ) == (7200, 50)
    with pytest.raises(AssertionError, match="no default of SEEDS"):
        tool.tables.default_of("uwm.sh", "SEEDS")


def test_a_call_without_tokens_for_the_future_is_drawn_from_its_numbers(tool) -> None:
    def pair(slow: str, fast: str, ratio: float) -> dict:
        clock = {"ratio": ratio, "low": ratio - 0.1, "high": ratio + 0.1, "seconds": {slow: 3.0, fast: 3.0 / ratio}}
        return {"wall": clock, "processor": clock}

    about = {"command": "python benchmarks/uwm.py CHECKOUT", "rounds": 9, "machine": {"threads": 1}}
    policy = pair("theirs", "ours", 1.2) | {"largest_difference": 1e-5}
    bare = {
        "full": pair("theirs", "full", 1.2),
        "bare": pair("theirs", "bare", 3.0),
        "saved": pair("full", "bare", 2.5),
    }
    folder = tool.tables.ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True)
    (folder / "uwm.json").write_text(json.dumps(about | {"results": {"policy": policy}}))
    assert "tokens for the future" not in tool.call()
    results = {"bare": bare | {"tokens": {"full": 122, "bare": 24}}}
    (folder / "uwm_bare.json").write_text(json.dumps(about | {"results": results}))
    text = tool.call()
    assert "| theirs / ours without | 3.00x [2.90, 3.10] | 3.00x [2.90, 3.10] |" in text
    assert "| ours with / without | 2.50x [2.40, 2.60] |" in text
    assert "122 and 24 tokens, 3.00 s a call of theirs and 1.00 s of ours without" in text


def test_what_was_found_stands_beside_what_it_is_compared_with(tool) -> None:
    tool.put("flow_ends-0.rollout", rollout(40))
    tool.put("flow_bare-0.rollout", rollout(30, "flow_ends"))
    lines = tool.success("flow_ends", "flow_bare").splitlines()
    assert "0.80 [0.10, 0.90] | 40/50" in lines[2] and lines[2].endswith("|  |")
    assert lines[3].endswith("| +0.20 [+0.05, +0.35] to `flow_ends`, p = 0.03 |")
    error = {"mean": 0.5, "low": 0.4, "high": 0.6}
    asked = {"policy": {"errors": {"action.error": error}, "beside": {"mean action": {"action.error": error}}}}
    tool.put("diffusion_policy-0", {"questions": asked})
    tool.put("uwm-0.tracking", rollout(7))
    tool.put("uwm-0.goal", rollout(3))
    tool.put("uwm-0", {"questions": asked})
    text = tool.questions()
    assert "| Diffusion Policy | 0.500 [0.400, 0.600] | not asked |" in text and "| 35/250 | 15/250 |" in text
    assert "| mean action (windows of `uwm`, `diffusion_policy`) | 0.500 [0.400, 0.600] |" in text
    width = text.splitlines()[0].count("|")
    assert all(line.count("|") == width for line in text.splitlines())


def test_seeds_stand_alone_and_together(tool) -> None:
    for name, others in (("uwm", {}), ("gr1", {"both": 150, "first": 50, "second": 0, "neither": 50})):
        for seed in (0, 1):
            document = rollout(30 if name == "uwm" else 40)
            if others:
                document["against"] = {"ledger": f"out/uwm-{seed}/rollout/ledger.jsonl", **Pairs(**others).plain()}
            tool.put(f"{name}-{seed}.rollout", document)
    first, second, all_seeds, other = tool.success("uwm", "gr1").splitlines()[4:8]
    assert first.startswith("| UWM, all seeds | 0.60 [0.56, 0.64] | 60/100 |") and first.endswith("|  |")
    assert second.endswith("+0.20 [+0.15, +0.25] to `uwm`, p = 1.8e-15 |") and all_seeds.startswith("| GR1, seed 1 |")
    assert other.startswith("| GR1, all seeds | 0.80 [0.76, 0.83] | 80/100 |")
    assert other.endswith("+0.20 [+0.16, +0.24] to `uwm`, p = 1.6e-30 |")
    (tool.tables.ROOT / "runs" / "results" / "uwm-gr1-1.rollout.json").unlink()
    assert "GR1, all seeds" not in tool.success("uwm", "gr1")


def test_a_yardstick_stands_beside_those_whose_windows_it_was_asked_about(tool) -> None:
    def document(mean: float, *questions: str) -> dict:
        error = {"action.error": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}}
        return {"questions": {q: {"errors": error, "beside": {"mean action": error}} for q in questions}}

    tool.put("uwm-0", document(0.848, "policy", "joint"))
    tool.put("diffusion_policy-0", document(0.846, "policy"))
    tool.put("pad-0", document(0.848, "joint"))
    lines = [line for line in tool.questions().splitlines() if line.startswith("| mean action")]
    one = "| mean action (windows of `uwm`, `pad`) | 0.848 [0.748, 0.948] |  | 0.848 [0.748, 0.948] |"
    other = "| mean action (windows of `diffusion_policy`) | 0.846 [0.746, 0.946] |  |  |"
    assert len(lines) == 2 and lines[0].startswith(one) and lines[1].startswith(other)


def test_acting_without_tokens_for_the_future_is_compared_where_both_acted(tool) -> None:
    tool.put("alone-0.rollout", rollout(40))  # made before the row that it is compared with
    tool.put("uwm-0.bare", rollout(30, "uwm"))
    first, second = tool.without_video().splitlines()[2:]
    assert first.endswith("| 0.80 [0.10, 0.90] | not compared |  |")
    assert second.endswith("| +0.20 [+0.05, +0.35] to `uwm`, p = 0.03 | yes |")


def test_what_kept_targets_differ_by_and_latencies_are_drawn_from_their_numbers(tool) -> None:
    folder = tool.tables.ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True)
    clock = {"ratio": 7.0, "low": 6.0, "high": 8.0, "seconds": {}}
    one = {"wall": clock, "processor": clock, "largest_difference": 1e-5}
    about = {"command": "python benchmarks/NAME.py", "rounds": 9, "machine": {"threads": 1}, "size": {"batch": 4}}
    train = {"encoding": one, "ahead": one, "parts": {"theirs": {"network": 0.5}}}
    for name, results in (("uwm", {"policy": one}), ("uwm_train", {"train": train})):
        (folder / f"{name}.json").write_text(json.dumps(about | {"results": results}))
    assert "kept ahead" not in tool.call()
    near = {"grid crop": 0.176, "grid crop, by cells from its border": {"0": 0.3, "4": 0.095}, "float16": 0.0002}
    (folder / "latents.json").write_text(json.dumps(about | {"weights": "random", "results": near}))
    text = tool.call()
    assert "autoencoder: random" in text and "those of the whole picture | 0.176 |" in text
    assert "at the crop's border | 0.300 |" in text and "| kept as float16 | 0.0002 |" in text
    assert tool.latency() == "not run: needs a CUDA GPU, 5 minutes"
    ran = {"p50_ms": 9.5, "p95_ms": 9.9, "largest_difference": 0.0, "weights_read_bytes": 4e9, "share_of_bound": 0.12}
    document = {"command": "python benchmarks/latency.py --device cuda", "machine": {"device": "a GPU"}, "calls": 200}
    document |= {"steps": 10, "bandwidth_gb_s": 3000.0, "variants": {"fp32": ran, "bf16": {"not run": "no compiler"}}}
    (folder / "latency.json").write_text(json.dumps(document))
    text = tool.latency()
    assert "| fp32 | 9.50 | 9.90 | 0.0e+00 | 4000 | 12 % |" in text and "| bf16 | not run: no compiler |" in text
    assert "200 calls at batch 1, 10 steps" in text and "moves 3000 GB/s" in text


def test_other_looks_stand_beside_the_same_starts_without(tool) -> None:
    lines = tool.varied().splitlines()
    assert len(lines) == 2 + 12 and all("not run" in line for line in lines[2:])
    pair = {"both": 50, "first": 5, "second": 30, "neither": 15, "p_value": 2e-5}
    pair |= {"difference": -0.25, "low": -0.36, "high": -0.14}
    tool.put("pad-0.clutter", rollout(11) | {"against": pair})
    line = next(line for line in tool.varied().splitlines() if line.startswith("| PAD | clutter"))
    assert line == "| PAD | clutter | 0.22 [0.10, 0.90] | 0.80 [0.71, 0.87] | -0.25 [-0.36, -0.14], p = 2e-05 |"


def test_the_script_knows_the_rows_of_the_tables(tool, tmp_path: Path) -> None:
    words = ["bash", str(ROOT / "runs" / "uwm.sh"), "names"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == set(tool.ROWS)
    assert f"    {' | '.join(tool.ANSWERS)}) ask " in (ROOT / "runs" / "uwm.sh").read_text()
