"""How many episodes are enough, and which of two policies is better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reaching

from polyclock.evaluate.intervals import wilson
from polyclock.evaluate.paired import Sequential
from polyclock.rollout import Expert, Still, World
from polyclock.rollout.ledger import read
from polyclock.rollout.outcome import Share, matched, mean_share


def world(task: str | tuple[str, ...] = "toy/reach") -> World:
    return World(task, 0, **reaching.WORLD)


def test_the_interval_of_the_mean_covers_it() -> None:
    """Three tasks of known shares, 50 episodes each; of one task it is Wilson's."""
    rng, shares, hits, trials = np.random.default_rng(0), np.array([0.9, 0.6, 0.1]), 0, 1000
    for _ in range(trials):
        found = []
        for won in rng.binomial(50, shares):
            low, high = wilson(int(won), 50)
            found.append(Share(successes=int(won), episodes=50, crashed=0, low=low, high=high))
        _, low, high = mean_share(found)
        hits += low <= shares.mean() <= high
    assert 0.93 <= hits / trials <= 0.98
    assert mean_share(found[:1]) == pytest.approx((found[0].share, found[0].low, found[0].high))


# The same rows whatever runs beside.


def test_a_task_ends_when_enough_was_run(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    found = world(("toy/reach", "toy/fragile")).evaluate(Expert(), 50, ledger=path, enough=Sequential(threshold=0.6))
    assert [v.word for v in found.verdicts.values()] == ["above", "above"]
    assert all(5 < share.episodes < 20 for share in found.tasks.values())
    assert found.tasks["toy/fragile"].episodes > found.tasks["toy/reach"].episodes  # it broke once
    assert [v.trials for v in found.verdicts.values()] == [s.episodes for s in found.tasks.values()]
    assert len(read(path)) == found.episodes
    assert found.grid().rows[0][-1] == f"above after {found.tasks['toy/reach'].episodes}"
    assert found.plain()["enough"] == {"threshold": 0.6, "alpha": 0.05, "paired": False}
    # Undecided is said too.
    few = world().evaluate(Expert(), 3, enough=Sequential(threshold=0.6))
    assert few.verdicts["toy/reach"].word == "undecided" and few.episodes == 3


def test_two_policies_are_compared_on_the_same_starts(tmp_path: Path) -> None:
    path = tmp_path / "still.jsonl"
    still = world().evaluate(Still(), 20, ledger=path)
    expert = world().evaluate(Expert(), 20)
    pairs = expert.against(path)
    assert (pairs.first, pairs.second) == (20 - still.successes, 0) and pairs.p_value < 1e-3
    assert expert.against(still) == pairs == expert.against(still.rows)
    early = world().evaluate(Expert(), 20, enough=Sequential(), against=still.rows)
    assert early.verdicts["toy/reach"].word == "above" and early.episodes < 12


def test_other_starts_are_never_paired() -> None:
    rows = list(world().evaluate(Still(), 4).rows)
    mine, theirs = matched(rows[1:], rows[:3])
    assert [r["number"] for r in mine] == [r["number"] for r in theirs] == [1, 2]
    with pytest.raises(ValueError, match="start 1: the two ledgers began from different states"):
        matched(rows, [{**rows[1], "start": "another"}])
    with pytest.raises(ValueError, match="no start in common"):
        matched(rows[:1], rows[1:])
    with pytest.raises(ValueError, match="start 2: the other ledger has no such episode"):
        world().evaluate(Expert(), 4, enough=Sequential(), against=rows[:2])
