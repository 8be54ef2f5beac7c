"""`polyclock collect` as a user gives it: a whole data set, the same command again, and what users get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from polyclock.cli import main
from polyclock.data import open_dataset
from polyclock.data.verify import verify

pytest.importorskip("mujoco")
pytest.importorskip("metaworld")

SMALL = ["--size", "16", "--cameras", "corner2", "--flow-steps", "2", "--noise", "0.15", "--after", "0"]


def collect(out: Path, world: str, *more: str) -> int:
    return main(["collect", world, "--out", str(out), *SMALL, *more])


def sentence(capsys: pytest.CaptureFixture, *words: object) -> str:
    """Run a command that must fail as a user's mistake; what it says."""
    capsys.readouterr()
    assert main([str(w) for w in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("polyclock: ") and said.count("\n") == 1
    return said


def test_a_data_set_and_the_same_command_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "data"
    assert collect(out, "metaworld/handle-press-v3", "--episodes", "1", "--workers", "1") == 0
    captured = capsys.readouterr()
    assert "1 episodes with" in captured.out and "1 of them new" in captured.out
    assert "making episodes" in captured.err
    assert [p for p in verify(out) if not p.note] == []
    data = open_dataset(out)
    success = next(iter(data.column("next.success"))).reshape(-1)
    assert success[-1] and not success[:-1].any()
    assert data.read(0, "task", [0]) == "press the handle down"
    info = json.loads((out / "meta" / "info.json").read_text(encoding="utf-8"))
    assert info["fps"] == 80
    notes = info["polyclock"]["dense"]
    assert notes["observation.flow.corner2"]["steps"] == 2 and notes["observation.flow_back.corner2"]["steps"] == -2
    assert notes["observation.segmentation.corner2"]["classes"]["10"] == "handle"
    assert collect(out, "metaworld/handle-press", "--episodes", "1", "--workers", "1") == 0
    assert "0 of them new" in capsys.readouterr().out

    said = sentence(capsys, "collect", "metaworld/handle-press", "--episodes", 1, "--out", out, "--size", 32)
    assert "was collected with after = 0, not 8" in said
    assert [p for p in verify(out) if not p.note] == []


@pytest.mark.slow
def test_workers_do_not_matter(tmp_path: Path) -> None:
    """The tabletop by one worker and by two: the same parquet and the same decoded frames."""
    world = "metaworld/handle-press,button-press-topdown"
    for workers in ("1", "2"):
        assert collect(tmp_path / workers, world, "--episodes", "2", "--workers", workers) == 0
    one, two = (sorted((tmp_path / w).rglob("*.parquet")) for w in "12")
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two] and len(one) == 2 * 4 + 1
    first, second = (open_dataset(tmp_path / w) for w in "12")
    for episode in first.episodes:
        for key in first.facts.cameras:
            frames = range(episode.length)
            assert np.array_equal(first.read(episode.index, key, frames), second.read(episode.index, key, frames))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tablecloth/drawer-open"], "unknown world 'tablecloth/drawer-open'"),
        (["metaworld/drawer-opne"], "unknown task 'drawer-opne'. Did you mean 'drawer-open'?"),
        (["metaworld/"], "unknown task ''"),
        (["metaworld/reach,reach"], "tasks reach, reach: each once"),
        (["metaworld/reach", "--cameras", "corner9"], "unknown camera 'corner9'. Did you mean 'corner'?"),
        (["metaworld/reach", "--size", "8"], "size 8 x 8: too small; possible: from 16 pixels"),
        (["metaworld/reach", "--noise", "-1"], "noise -1.0; possible: 0 or more"),
        (["metaworld/reach", "--flow-steps", "0"], "flow-steps 0; possible: 1 or more"),
        (["metaworld/reach", "--split", "both"], "split both; possible: evaluation or training"),
        (["metaworld/reach", "--workers", "0"], "workers 0"),
        (["metaworld/reach", "--colour", "red"], "unknown flag '--colour'"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], said: str
) -> None:
    assert said in sentence(capsys, "collect", *words, "--episodes", "1", "--out", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_what_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "--episodes" in sentence(capsys, "collect", "metaworld/reach", "--out", tmp_path / "data")
    assert "--out" in sentence(capsys, "collect", "metaworld/reach", "--episodes", "1")
    assert main(["collect"]) == 2
    assert main(["collect", "--help"]) == 0
    assert "metaworld/TASK" in capsys.readouterr().out


def test_a_folder_that_holds_something_else(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    said = sentence(capsys, "collect", "metaworld/reach", "--episodes", "1", "--out", tmp_path)
    assert "holds something else; possible: an empty or a new folder" in said
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
