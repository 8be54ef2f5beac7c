"""A few of the kills of runs/kill.py, and what its committed result says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from standin import SETTINGS, kill, make_job, replace_order


def assert_nothing_lost(result: dict, kills: int) -> None:
    assert result["kills"] == kills == result["hooked"] + result["random"]
    assert abs(result["hooked"] - result["random"]) <= 1
    assert set(result["equal"]) == {"weights", "average", "optimizer", "order", "log", "best"}
    assert all(result["equal"].values()), result["equal"]
    assert result["corrupt_checkpoints_seen"] == 0 < result["whole_checkpoints_seen"]
    assert 0 < result["lost_steps_max"] <= result["checkpoint_every"]


def test_four_kills_lose_nothing(tmp_path: Path) -> None:
    training = replace(SETTINGS, steps=240, checkpoint_every=5, validate_every=20, log_every=10, workers=2)
    assert_nothing_lost(kill.trial(make_job(), training, tmp_path, kills=4, seed=1), 4)


def test_a_run_that_lost_something_is_noticed(tmp_path: Path) -> None:
    """The comparison itself: a resumed run that sees other samples is told apart."""
    training = replace(SETTINGS, steps=60, checkpoint_every=5, validate_every=20, log_every=10)
    result = kill.trial(replace_order(make_job(), tmp_path / "parts"), training, tmp_path, kills=1, seed=1)
    assert not result["equal"]["order"] and not result["equal"]["weights"] and not result["equal"]["log"]


@pytest.mark.slow
def test_kills_of_the_real_recipe_lose_nothing(tmp_path: Path) -> None:
    assert_nothing_lost(kill.trial(kill.make_job(), replace(kill.SETTINGS, steps=250), tmp_path, kills=10, seed=2), 10)


def test_the_committed_result_is_that_of_fifty_kills() -> None:
    result = json.loads(kill.RESULT.read_text())
    assert_nothing_lost(result, 50)
    assert {"write", "fsync", "rename"} <= set(result["hooked_at"])
