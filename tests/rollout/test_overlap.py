"""Real-time chunking: the world goes on while the model thinks, and an answer carries on what is under way."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reaching
from test_policy import QUERY, actions

from polyclock.guidance import Guide, Pull
from polyclock.recipes import tiny
from polyclock.rollout import Policy, World
from polyclock.rollout.ledger import read
from polyclock.timesteps import Fixed


@pytest.fixture(scope="module")
def model():
    return reaching.model()


def calls(policy: Policy, steps: int = 7) -> list[tuple[np.ndarray | None, np.ndarray]]:
    """(what is left of the chunk before, chunk) of every call from a start."""
    seen, ask = [], policy.ask

    def watched(start, call, values, planned):
        seen.append((planned, ask(start, call, values, planned)))
        return seen[-1][1]

    policy.ask = watched
    actions(policy, steps=steps)
    return seen


def test_a_hard_overlap_is_the_query_that_is_given_what_is_under_way(model) -> None:
    short = Policy(model, QUERY, execute=2, steps=2, overlap="hard")
    long = Policy(model, "action[k:] | action[:k], video[:1], state, text", execute=2, steps=2, k=2)
    assert np.array_equal(actions(short), actions(long)) and short.delay == 2
    assert short.query.text == "action[2f:] | action[:2f], video[:1], state, text"
    for before, (planned, chunk) in zip(calls(short), calls(short)[1:], strict=False):
        assert np.array_equal(planned, before[1][2:]) and np.allclose(chunk[:2], planned, atol=1e-5)
    assert Policy(model, "action", execute=1, overlap="hard").query.text == "action[1f:] | action[:1f]"


def test_a_soft_overlap_draws_an_answer_to_the_one_before(model) -> None:
    """What is under way is carried out as it was planned; beyond it the plan changes less than without."""
    bare = calls(Policy(model, QUERY, execute=1, steps=10))
    soft = calls(Policy(model, QUERY, execute=1, steps=10, overlap="soft"))
    assert np.array_equal(bare[0][1], soft[0][1]) and len(soft) == 7
    for planned, chunk in soft[1:]:
        assert planned.shape == (3, 2) and np.array_equal(chunk[:1], planned[:1])
    turned = [np.mean([np.abs(c[k] - p[k]).mean() for p, c in seen[1:]]) for seen in (bare, soft) for k in (1, 2)]
    assert turned[2] < 0.7 * turned[0] and turned[3] < turned[1], turned


def test_a_policy_with_an_overlap_goes_to_other_processes_and_into_the_ledger(model, tmp_path: Path) -> None:
    policy = Policy(model, QUERY, execute=2, steps=2, overlap="soft", delay=1)
    assert np.array_equal(actions(copy.deepcopy(policy)), actions(policy))
    world = World("toy/reach", 0, **reaching.WORLD)
    found = world.evaluate(policy, 2, ledger=tmp_path / "ledger.jsonl")
    row = read(tmp_path / "ledger.jsonl")[0]
    assert row["overlap"] == {"kind": "soft", "delay": 1} and row["calls"] == -(-row["steps"] // 2)
    assert "soft overlap of 1" in found.grid().title
    with pytest.raises(ValueError, match="holds episodes of another rollout: overlap"):
        world.evaluate(Policy(model, QUERY, execute=2, steps=2), 2, ledger=tmp_path / "ledger.jsonl")


def test_overlaps_that_cannot_be(model) -> None:
    for settings, message in (
        ({"overlap": "gentle"}, "Possible: hard, soft"),
        ({"delay": 1}, "delay=1 has no effect without overlap"),
        ({"overlap": "soft", "execute": 3}, "execute=3 and delay=3 of 4 actions.*together at most 4"),
        ({"overlap": "hard", "execute": 2, "delay": 0}, "possible: both at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Policy(model, QUERY, **settings)
    with pytest.raises(ValueError, match="is given what is under way"):
        Policy(model, "action[k:] | action[:k], state", k=1, execute=1, overlap="soft")
    with pytest.raises(ValueError, match="wants all of 'action'"):
        Policy(model, "action[:2] | state", execute=1, overlap="hard")
    pull = Pull(of="action", towards=None, weights=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a Pull is for one question"):
        Policy(model, QUERY, guides=[pull])
    once = replace(tiny(cameras=(reaching.CAMERA,), rate=10.0), law=Fixed(1.0)).fit(reaching.Demonstrations(2)).build()
    with (
        pytest.warns(UserWarning, match="outside"),
        pytest.raises(ValueError, match="answers in one step from no noise"),
    ):
        Policy(once, "action | state, text", execute=2, overlap="soft")


def test_a_guide_of_actions_goes_with_an_overlap(model) -> None:
    guide = Guide(weight=2.0, drop={"state"}, scope={"action"})
    plain = Policy(model, QUERY, execute=2, steps=4, overlap="soft")
    led = Policy(model, QUERY, execute=2, steps=4, overlap="soft", guides=[guide])
    assert not np.allclose(actions(plain), actions(led), atol=1e-3)
    assert np.array_equal(calls(led)[1][1][:2], calls(led)[1][0])
