"""The demo's script, with a stand-in for `polyclock` that writes down what it was asked for."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from polyclock import cli

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "demo.sh"


def commands(tmp_path: Path, *, draws: bool, shipped: bool, recorded: bool) -> tuple[list[list[str]], str]:
    """What the demo runs where a simulator draws or not, a checkpoint is there or not, episodes are there or not."""
    done, ran = demo(tmp_path, draws=draws, shipped=shipped, recorded=recorded)
    assert done.returncode == 0, done.stderr
    return ran, done.stdout


def demo(
    tmp_path: Path, *, draws: bool = True, shipped: bool = False, recorded: bool = False, installed: bool = True
) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
    bin_folder, log = tmp_path / "bin", tmp_path / "log"
    bin_folder.mkdir()
    stand_ins = {
        "polyclock": 'printf "%q " "$@" >>"$LOG"; echo >>"$LOG"',
        "python": f'[ "$1" = examples/00_known_world.py ] || exit {0 if draws else 1}',
    }
    for name, line in stand_ins.items() if installed else ():
        (bin_folder / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (bin_folder / name).chmod(0o755)
    start, data = tmp_path / "shipped", tmp_path / "data" / "g1_pick_bottle" / "meta"
    if shipped:
        start.mkdir()
        (start / "config.json").write_text("{}")
    if recorded:
        data.mkdir(parents=True)
        (data / "info.json").write_text("{}")
    env = os.environ | {
        "PATH": f"{bin_folder}:/usr/bin:/bin", "LOG": str(log), "OUT": str(tmp_path / "out"),
        "START": str(start), "POLYCLOCK_DATA": str(tmp_path / "data"), "TASK": "door-close",
    }  # fmt: skip
    done = subprocess.run(["bash", str(SCRIPT)], env=env, capture_output=True, text=True, check=False)
    return done, [shlex.split(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_the_shipped_network_learns_an_unseen_task(tmp_path: Path) -> None:
    ran, said = commands(tmp_path, draws=True, shipped=True, recorded=True)
    assert [words[0] for words in ran] == ["collect", "rollout", "train", "evaluate", "rollout", "report"]
    collect, before, train, evaluate, after, report = ran
    assert collect[1] == "metaworld/door-close" and train[1] == str(tmp_path / "shipped")
    assert before[before.index("--world") :][:4] == after[after.index("--world") :][:4], "the same starts"
    assert report[report.index("--beside") + 1] == f"before learning={tmp_path}/out/before"
    assert report[report.index("--name") + 1] == "after learning"
    for words in ran:
        assert f"$ polyclock {words[0]}" in said, "each command is said before it runs"
    assert f"the report is {tmp_path}/out/report.html" in said


def test_without_a_shipped_network_a_new_one_is_trained(tmp_path: Path) -> None:
    ran, said = commands(tmp_path, draws=True, shipped=False, recorded=False)
    assert [words[0] for words in ran] == ["collect", "train", "evaluate", "rollout", "report"]
    assert ran[1][1] == "tabletop" and "--beside" not in ran[-1]
    assert "is not there, so a new network is trained" in said


def test_without_a_simulator_recorded_episodes_are_taken(tmp_path: Path) -> None:
    ran, said = commands(tmp_path, draws=False, shipped=True, recorded=True)
    assert ["train", "uwm"] in [words[:2] for words in ran] and ran[-1][0] == "report"
    assert not any(words[0] in ("collect", "rollout") for words in ran) and "no simulator draws here" in said


def test_without_either_the_known_world_is_left(tmp_path: Path) -> None:
    ran, said = commands(tmp_path, draws=False, shipped=False, recorded=False)
    assert ran == [] and "$ python examples/00_known_world.py" in said


def test_only_a_folder_that_a_demo_made_is_removed(tmp_path: Path) -> None:
    mine = tmp_path / "out"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    done, ran = demo(tmp_path)
    assert done.returncode == 2 and ran == [] and (mine / "thesis.tex").read_text() == "years of work"
    assert done.stderr.count("\n") == 1 and f"{mine} is there and no demo made it" in done.stderr
    (mine / ".demo").touch()
    (tmp_path / "bin").rename(tmp_path / "old")
    done, ran = demo(tmp_path)
    assert done.returncode == 0 and ran and (mine / ".demo").exists() and not (mine / "thesis.tex").exists()


def test_without_an_installation_it_says_so(tmp_path: Path) -> None:
    done, _ = demo(tmp_path, installed=False)
    assert done.returncode == 2 and "no command polyclock here; make demo installs it" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("draws", [True, False])
def test_every_flag_is_one_that_the_command_has(tmp_path: Path, draws: bool, capsys) -> None:
    ran, _ = commands(tmp_path, draws=draws, shipped=False, recorded=True)
    for words in ran:
        with contextlib.suppress(SystemExit):
            cli.main([*(words[:2] if words[0] in ("train", "collect", "data") else words[:1]), "--help"])
        text = capsys.readouterr().out
        for flag in [word for word in words if word.startswith("--")]:
            assert flag in text, f"{flag} of {words[0]}"
