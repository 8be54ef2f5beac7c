"""Planning: the chunk that is imagined to end nearest the goal is executed; a true imagination gets there."""

from __future__ import annotations

import copy
from pathlib import Path

import av
import numpy as np
import pytest
import reaching
import torch
from imagining import Oracle, corner
from test_policy import QUERY, START, actions

from polyclock.envs.world import Start
from polyclock.rollout import ByExpert, Pictured, Planner, Policy, World
from polyclock.rollout.ledger import read, timeless

FORWARD = "video[1:] | video[:1], action, text, state"


@pytest.fixture(scope="module")
def model():
    return reaching.model()


def world(oracle: Oracle | None = None, task: str = "toy/reach", num_envs: int = 0) -> World:
    parts = reaching.WORLD if oracle is None else {**reaching.WORLD, "open_env": oracle.open_env}
    return World(task, num_envs, **parts)


def test_a_true_imagination_reaches_the_goal(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are drawn blindly; what looks at where the green point ends finds the way."""
    oracle = Oracle()
    monkeypatch.setattr("polyclock.rollout.policy.sample", oracle)
    policy = Policy(model, QUERY, execute=3)
    bare = world(oracle).evaluate(policy, 12)
    planned = world(oracle).evaluate(Planner(policy, 16, features=corner), 12)
    assert planned.successes >= 11 and bare.successes <= 6, (planned.successes, bare.successes)
    # One call for all chunks, one for all imaginations.
    asked = oracle.asked[sum(row["calls"] for row in bare.rows) :]
    assert asked == [("action", 16), ("video[1:]", 16)] * (len(asked) // 2)
    assert sum(row["calls"] for row in planned.rows) == len(asked) // 2 and planned.latency["mean"] > 0


def test_a_goal_on_the_way(model) -> None:
    """With `within` the picture that counts is so many steps ahead of each call's; past the end it is the last."""
    start = Start("reach", (0.1, 0.1, 0.9, 0.9), 0)
    env = reaching.Reaching("reach")
    for within, due in ((3, [3, 5, 7, 7]), (None, [7] * 4)):
        env.reset(start)
        planner = Planner(Policy(model, QUERY, execute=2), 2, within=within)
        film = planner.begin(env, start).ask.args[1]
        assert len(film) == 8
        for call, k in enumerate(due):
            seen = torch.from_numpy(film[k][reaching.CAMERA]).float() / 255
            assert torch.equal(planner.goals(film, call)["video"], seen)


def test_the_nearest_picture_wins(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """By pixels: of chunks that stay, leave and arrive, the one that arrives, wherever it stands."""
    oracle = Oracle()
    monkeypatch.setattr("polyclock.rollout.policy.sample", oracle)
    env = oracle.open_env("toy/reach", ("corner2",))
    start = Start("reach", (0.5, 0.5, 0.8, 0.8), 0)
    seen = env.reset(start)
    planner = Planner(Policy(model, QUERY), 3)
    acting = planner.begin(env, start)
    acting.history.add(seen)
    goals = planner.goals(acting.ask.args[1], 0)
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        # The expert stops at 0.7, near enough; the last picture is the one after the third action.
        chunks = np.stack([np.full((4, 2), speed, np.float32) for speed in (0.0, -0.67, 0.67)])[list(order)]
        far = planner.distances(chunks, acting.history.values(), goals, 0)
        assert int(far.argmin()) == order.index(2) and far.min() < 1e-6 and (far > 1e-3).sum() == 2


def test_one_candidate_is_the_policy_itself(model) -> None:
    policy = Policy(model, QUERY, execute=3, steps=2)
    assert np.array_equal(actions(Planner(policy, 1)), actions(policy))
    assert not np.array_equal(actions(Planner(policy, 4)), actions(policy))
    several = policy.candidates(START[0], 0, inputs(), None, 3)
    assert np.allclose(several[0], policy.ask(START[0], 0, inputs(), None), atol=1e-5)
    assert np.abs(several[0] - several[1]).max() > 0.1


def inputs() -> dict:
    seen = torch.from_numpy(reaching.Reaching("reach").reset(START[0])[reaching.CAMERA])
    video = seen.expand(1, 4, -1, -1, -1).contiguous()
    return {"state": torch.zeros(1, 1, 2), "text": ["come to the red point"], "video": video}


def test_chunks_are_imagined_with_the_same_noise(model) -> None:
    planner = Planner(Policy(model, QUERY, steps=2), 4)
    chunk = np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32)
    other = np.stack([chunk, -chunk, chunk])
    goals = {"video": torch.zeros(16, 16, 3)}
    far = planner.distances(other, inputs(), goals, 3)
    assert torch.allclose(far[0], far[2], atol=1e-6) and abs(float(far[0] - far[1])) > 1e-6
    assert torch.allclose(planner.distances(other[:1], inputs(), goals, 3), far[:1], atol=1e-6)


def test_a_plan_in_the_ledger_and_in_another_process(model, tmp_path: Path) -> None:
    planner = Planner(Policy(model, QUERY, steps=1), 3)
    rows = []
    for num_envs in (0, 1):
        path = tmp_path / f"{num_envs}.jsonl"
        found = world(num_envs=num_envs).evaluate(planner, 2, ledger=path)
        rows.append(timeless(read(path)))
    assert rows[0] == rows[1] and rows[0][0]["policy"] == "planner" and "best of 3" in found.grid().title
    assert rows[0][0]["plan"] == {
        "count": 3, "forward": FORWARD, "solver_steps": 1, "goal": {"from": "expert"}, "within": None,
        "features": None,
    }  # fmt: skip
    with pytest.raises(ValueError, match="another rollout: plan is"):
        world().evaluate(Planner(planner.policy, 4), 1, ledger=tmp_path / "0.jsonl")


def test_the_expert_leaves_the_episode_as_it_was(model) -> None:
    planner = Planner(Policy(model, QUERY, steps=1), 2)
    env = reaching.Reaching("reach")
    before = env.reset(START[1])
    planner.begin(env, START[1])
    after = env.observe()
    assert env.steps == 0 and all(np.array_equal(before[key], after[key]) for key in before)
    film = ByExpert()(env, START[1], [reaching.CAMERA])
    assert np.abs(film[-1]["observation.state"] - env.goal).max() < 0.12 < np.abs(env.point - env.goal).max()


def test_a_goal_from_a_file(model, tmp_path: Path) -> None:
    picture = reaching.Reaching("reach", size=32).reset(START[0])[reaching.CAMERA]
    path = tmp_path / "goal.png"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 32
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    goal = Pictured.read(reaching.CAMERA, path)
    assert np.array_equal(goal.picture, picture)
    planner = Planner(Policy(model, QUERY, steps=1), 2, goal=goal)
    acting = planner.begin(reaching.Reaching("reach"), START[0])
    assert planner.goals(acting.ask.args[1], 5)["video"].shape == (16, 16, 3)
    assert planner.describe()["plan"]["goal"] == {"from": "picture", "name": str(path)}
    path.write_text("no picture")
    with pytest.raises(ValueError, match="is no picture that can be read"):
        Pictured.read(reaching.CAMERA, path)


class Hopeless(reaching.Reaching):
    """A world whose expert does nothing."""

    def expert(self) -> np.ndarray:
        return np.zeros(2, np.float32)


def hopeless(name: str, cameras: tuple[str, ...] = (), size: int = 16) -> Hopeless:
    return Hopeless("reach", size)


def test_an_episode_without_a_demonstration_has_failed_and_says_why(model) -> None:
    planner = Planner(Policy(model, QUERY, steps=1), 2)
    found = World("toy/reach", 0, **{**reaching.WORLD, "open_env": hopeless}).evaluate(planner, 2)
    row = found.rows[1]
    assert row["error"] == "the expert does not succeed from start 1" and not row["success"] and row["steps"] == 0
    broke = world(task="toy/fragile").evaluate(planner, 4).rows[3]
    assert broke["error"].startswith("the world raised while its expert acted: the table broke")


def test_what_cannot_plan_is_refused(model) -> None:
    policy = Policy(model, QUERY, steps=1)
    for settings, message in (
        ({"count": 0}, "count=0"),
        ({"within": 0}, "within=0"),
        ({"forward": "video[1:] | video[:1], state"}, "wants pictures and is given 'action'"),
        ({"forward": "action[1:] | action[:1], state"}, "wants pictures and is given 'action'"),
        ({"forward": "video[:1] | video[1:], action"}, "gives 'video' up to 0.3 s ahead"),
    ):
        with pytest.raises(ValueError, match=message):
            Planner(policy, **settings).begin(reaching.Reaching("reach"), START[0])
    with pytest.raises(ValueError, match="is given 4 actions; the policy's wants 2"):
        Planner(Policy(model, "action[:2] | state", execute=2))
    other = Pictured("observation.images.other", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="shows no 'observation.images.corner2', which is needed"):
        Planner(policy, goal=other).begin(reaching.Reaching("reach"), START[0])


def test_a_planner_is_copied_whole(model) -> None:
    planner = Planner(Policy(model, QUERY, steps=1), 3, features=corner)
    other = copy.deepcopy(planner)
    assert other.policy.model is not model and other.describe() == planner.describe()
    assert np.array_equal(actions(other), actions(planner)) and planner.cameras == ("corner2",)
