"""Tracking: the inverse model is shown the demonstration's next frames, and goes where it went."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import reaching
from imagining import Oracle
from test_policy import START, actions

from polyclock.data.source import Episode, Facts
from polyclock.rollout import ByExpert, Pictured, Policy, Recorded, Tracker, World

INVERSE = "action | video, text, state"


@pytest.fixture(scope="module")
def model():
    return reaching.model()


def world(oracle: Oracle) -> World:
    return World("toy/reach", 0, **{**reaching.WORLD, "open_env": oracle.open_env})


def test_the_demonstration_is_followed_to_its_end(model, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle()
    monkeypatch.setattr("polyclock.rollout.policy.sample", oracle)
    found = world(oracle).evaluate(Tracker(model, execute=3), 12)
    assert found.successes >= 11 and found.rows[0]["query"] == INVERSE
    assert found.rows[0]["policy"] == "tracker" and found.rows[0]["demonstration"] == {"from": "expert"}


def test_what_is_given_are_its_own_present_and_the_other_s_future(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every call the frame of now is the world's, later ones are the demonstration's; its last one stays."""
    oracle = Oracle()
    monkeypatch.setattr("polyclock.rollout.policy.sample", oracle)
    env = oracle.open_env("toy/reach", ("corner2",))
    seen = env.reset(START[2])
    film = [frame[reaching.CAMERA] for frame in ByExpert()(env, START[2], [])]
    acting = Tracker(model, execute=3).begin(env, START[2])
    for step in range(len(film) + 6):
        own = seen[reaching.CAMERA]
        taken = acting(seen)
        if step % 3 == 0:
            given = oracle.films[-1][0].numpy()
            assert np.array_equal(given[0], own)
            for k in (1, 2, 3):
                assert np.array_equal(given[k], film[min(step + k, len(film) - 1)])
        seen, _ = env.step(-taken)  # it does not go where it is told
    assert not np.array_equal(own, film[-1])


def test_a_picture_of_the_goal_can_be_tracked(model, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle()
    monkeypatch.setattr("polyclock.rollout.policy.sample", oracle)
    env = oracle.open_env("toy/reach", ("corner2",))
    env.reset(START[0])
    goal = Pictured(reaching.CAMERA, ByExpert()(env, START[0], [])[-1][reaching.CAMERA])
    found = world(oracle).evaluate(Tracker(model, INVERSE, execute=3, demonstration=goal), 1)
    assert found.successes == 1


def test_where_the_expert_ends_can_be_tracked_from_every_start(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every call all that lies ahead is its last picture from that start, and nothing of the way there."""
    oracle = Oracle()
    monkeypatch.setattr("polyclock.rollout.policy.sample", oracle)
    found = world(oracle).evaluate(Tracker(model, INVERSE, execute=3, demonstration=ByExpert(end=True)), 6)
    assert found.successes >= 5
    assert found.rows[0]["demonstration"] == {"from": "expert", "shows": "its end"}
    env = oracle.open_env("toy/reach", ("corner2",))
    for start in START[:2]:
        seen = env.reset(start)
        last = ByExpert()(env, start, [])[-1][reaching.CAMERA]
        Tracker(model, INVERSE, execute=3, demonstration=ByExpert(end=True)).begin(env, start)(seen)
        given = oracle.films[-1][0].numpy()
        assert all(np.array_equal(given[k], last) for k in (1, 2, 3)) and not np.array_equal(given[0], last)


@dataclass(frozen=True)
class Kept:
    """A data set of one episode: what the expert did from a start."""

    frames: list
    episodes: tuple[Episode, ...] = (Episode(index=5, length=4, tasks=("reach",)),)
    fps: float = 10.0
    fingerprint: str = "kept"

    @property
    def facts(self) -> Facts:
        columns = {reaching.CAMERA: (16, 16, 3), "observation.state": (2,), "action": (2,), "task": ()}
        return Facts(fps=self.fps, cameras=(reaching.CAMERA,), tasks=("reach",), columns=columns)

    def read(self, episode, key, frames, size=None):
        return np.stack([self.frames[k][key] for k in frames])


def test_an_episode_of_a_data_set_can_be_tracked(model, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle()
    monkeypatch.setattr("polyclock.rollout.policy.sample", oracle)
    env = oracle.open_env("toy/reach", ("corner2",))
    env.reset(START[0])
    frames = list(ByExpert()(env, START[0], []))
    data = Kept(frames, (Episode(index=5, length=len(frames), tasks=("reach",)),))
    found = world(oracle).evaluate(Tracker(model, INVERSE, execute=3, demonstration=Recorded(data, 5)), 1)
    assert found.successes == 1
    assert found.rows[0]["demonstration"] == {"from": "data", "fingerprint": "kept", "episode": 5}
    lacking = world(oracle).evaluate(Tracker(model, INVERSE, demonstration=Recorded(data)), 1).rows[0]
    assert lacking["error"] == "the data have no episode 0" and not lacking["success"]
    slow = Kept(frames, fps=5.0)
    with pytest.raises(ValueError, match="5 frames a second, the world makes 10 steps"):
        Tracker(model, INVERSE, demonstration=Recorded(slow, 5)).begin(env, START[0])


def test_a_tracker_is_a_policy_in_all_else(model) -> None:
    tracker = Tracker(model, execute=2, steps=2)
    assert np.array_equal(actions(copy.deepcopy(tracker)), actions(tracker)) and tracker.cameras == ("corner2",)
    soft = Tracker(model, execute=2, steps=2, overlap="soft")
    assert not np.array_equal(actions(soft), actions(tracker))
    with pytest.raises(ValueError, match="gives nothing that lies ahead"):
        Tracker(model, "action | video[:1], state").begin(reaching.Reaching("reach"), START[0])
    with pytest.raises(ValueError, match="gives 'video' up to 0.3 s ahead"):
        Policy(model, INVERSE)
