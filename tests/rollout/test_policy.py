"""A query as a controller: what it sees, what it asks, what it takes of an answer, and what it refuses."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reaching
import torch

from moving import FPS, Moving
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.data.video import read_frames, resized
from polyclock.data.window import Windows
from polyclock.modality import Signal
from polyclock.rollout import Expert, Policy, Random, Still, World
from polyclock.rollout.history import History

QUERY = "action | video[:1], state, text"
START = reaching.starts("toy/reach", count=3)


@pytest.fixture(scope="module")
def model():
    return reaching.model()


def actions(policy, start=START[0], steps=7) -> np.ndarray:
    """(steps, 2) what is done from a start."""
    env = reaching.Reaching("reach")
    seen, taken = env.reset(start), []
    acting = policy.begin(env, start)
    for _ in range(steps):
        taken.append(acting(seen))
        seen, _ = env.step(taken[-1])
    return np.stack(taken)


# What it sees.


def test_the_history_is_the_window_that_training_cuts() -> None:
    """Every signal of past and present at every frame of an episode, exactly, its first frames included."""
    camera = "observation.images.top"
    signals = {
        "now": Signal(key=camera, kind="video", shape=(1, 16, 16, 3), rate=FPS),
        "slow": Signal(key=camera, kind="video", shape=(3, 16, 16, 3), rate=4.0, start=-0.5),
        "state": Signal(key="observation.state", kind="vector", shape=(2, 2), start=-0.1),
        "text": Signal(key="task", kind="text", shape=()),
    }
    data = Moving()
    windows = Windows(data.only([1]), signals)
    history = History(signals, FPS, "a query")
    for frame in range(20):
        observation = {key: data.read(1, key, [frame]) for key in (camera, "observation.state")}
        history.add({key: value[0] for key, value in observation.items()} | {"task": "move"})
        found, want = history.values(), windows[frame].values
        assert found.pop("text") == [want.pop("text")]
        for name, value in want.items():
            assert np.array_equal(found[name][0].numpy(), value) and str(found[name].dtype).endswith(str(value.dtype))


def test_pictures_are_made_smaller_as_those_of_a_data_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # Gray: a video holds colour at half its size, which a picture from a world does not.
    frames = rng.integers(0, 256, (2, 20, 20, 1)).repeat(3, 1).repeat(3, 2).repeat(3, 3).astype(np.uint8)
    path = tmp_path / "clip.mp4"
    encode_video(path, frames, 10.0, VideoCodec(encoder="h264", crf=1))
    large, small = read_frames(path, [0, 1]), read_frames(path, [0, 1], size=(16, 16))
    for k in range(2):
        assert np.abs(resized(large[k], (16, 16)).astype(int) - small[k]).max() <= 1
    # Averages over areas, not single pixels.
    fine = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    mean = fine.reshape(8, 4, 8, 4, 3).mean((1, 3))
    assert np.abs(resized(fine, (8, 8)) - mean).max() <= 1.01
    assert np.array_equal(resized(fine, (32, 32)), fine)
    assert resized(fine[..., :1], (8, 8)).shape == (8, 8, 1)
    # Measurements are never mixed.
    deep = rng.integers(0, 60_000, (32, 32, 1)).astype(np.uint16)
    assert set(resized(deep, (8, 8)).ravel()) <= set(deep.ravel())


def test_a_larger_picture_is_made_smaller_for_the_model(model) -> None:
    policy = Policy(model, QUERY, steps=2)
    env = reaching.Reaching("reach", size=64)
    assert policy.begin(env, START[0])(env.reset(START[0])).shape == (2,)


# What it asks and takes.


def test_the_first_actions_of_a_chunk_are_taken_then_it_looks_again(model) -> None:
    chunks = []

    class Watched(Policy):
        def ask(self, *words):
            chunks.append(super().ask(*words))
            return chunks[-1]

    done = actions(Watched(model, QUERY, execute=3, steps=2))
    assert len(chunks) == 3 and chunks[0].shape == (4, 2)
    assert np.array_equal(done, np.concatenate([chunks[0][:3], chunks[1][:3], chunks[2][:1]]))


def test_actions_are_a_function_of_seed_task_start_and_call(model) -> None:
    policy = Policy(model, QUERY, steps=2)
    first = actions(policy)
    actions(policy, START[1])  # what ran before is forgotten
    assert np.array_equal(actions(policy), first)
    assert not np.array_equal(actions(Policy(model, QUERY, steps=2, seed=1)), first)
    elsewhere = replace(START[0], number=9)
    assert not np.array_equal(actions(policy, elsewhere)[0], first[0])
    same = {"state": torch.zeros(1, 1, 2), "text": ["a"], "video": torch.zeros(1, 4, 16, 16, 3, dtype=torch.uint8)}
    asked = [policy.ask(START[0], call, same, None) for call in (0, 0, 1)]
    assert np.array_equal(asked[0], asked[1]) and not np.array_equal(asked[0], asked[2])


def test_a_copy_in_another_process_is_the_same_to_the_bit(model) -> None:
    policy = Policy(model, QUERY, steps=2)
    other = copy.deepcopy(policy)  # by the state that multiprocessing sends
    assert other.model is not policy.model and other.describe() == policy.describe()
    assert np.array_equal(actions(other), actions(policy))
    other = reaching.model()
    with torch.no_grad():
        max(other.parameters(), key=torch.numel).view(-1)[0] += 0.01
    assert Policy(other, QUERY).sha256 != policy.sha256


def test_a_model_that_was_trained_on_is_another_policy(tmp_path: Path) -> None:
    trained = reaching.model()
    policy = Policy(trained, QUERY, steps=1)
    world = World("toy/reach", 0, **reaching.WORLD)
    world.evaluate(policy, 1, ledger=tmp_path / "ledger.jsonl")
    with torch.no_grad():
        max(trained.parameters(), key=torch.numel).view(-1)[0] += 0.01
    with pytest.raises(ValueError, match="holds episodes of another rollout: model is"):
        world.evaluate(policy, 1, ledger=tmp_path / "ledger.jsonl")


@pytest.mark.filterwarnings("ignore:the query")
def test_names_without_tokens_are_not_asked(model) -> None:
    """`-video` leaves the future pictures out of the sequence: another answer, from fewer tokens."""
    full, lean = Policy(model, "action | state, text", steps=2), Policy(model, "action | state, text, -video", steps=2)
    assert lean.cameras == full.cameras == ()
    assert not np.array_equal(actions(lean, steps=1), actions(full, steps=1))


def test_what_is_under_way_is_given_to_the_next_call(model) -> None:
    """Real-time chunking: after the first call, the first k actions of an answer are those already planned."""
    seen = []

    class Watched(Policy):
        def ask(self, start, call, values, planned):
            seen.append((planned, super().ask(start, call, values, planned)))
            return seen[-1][1]

    policy = Watched(model, "action[k:] | action[:k], video[:1], state, text", execute=2, steps=2, k=1)
    done = actions(policy)
    assert seen[0][0] is None and len(seen) == 4
    for (_, before), (planned, chunk) in zip(seen, seen[1:], strict=False):
        assert np.array_equal(planned, before[2:])
        assert np.allclose(chunk[:1], before[2:3], atol=1e-5)
    assert np.allclose(done[2], seen[0][1][2], atol=1e-5)


def test_blind_and_scripted_policies() -> None:
    env = reaching.Reaching("reach")
    env.reset(START[0])
    assert np.array_equal(Expert().begin(env, START[0])({}), env.expert())
    assert not Still().begin(env, START[0])({}).any()
    draw = [Random(seed).begin(env, start)({}) for seed, start in ((0, START[0]), (0, START[0]), (0, START[1]))]
    assert np.array_equal(draw[0], draw[1]) and not np.array_equal(draw[0], draw[2])


# What it refuses.


@pytest.mark.parametrize(
    ("query", "settings", "message"),
    [
        ("video | state", {}, "a policy wants one modality of the column 'action'.*the query.*wants video"),
        (QUERY, {"execute": 5}, "execute=5 of 4 actions .*possible: 1 to 4"),
        (QUERY, {"execute": 0}, "must be at least 1"),
        (QUERY, {"steps": 0}, "must be at least 1"),
        ("action | video", {}, "gives 'video' up to 0.3 s ahead"),
        ("action | video[:2]", {}, "gives 'video' up to 0.1 s ahead"),
        ("action[:2] | action[2:], state", {"execute": 1}, "can be given its first frames alone"),
        ("action[1:] | state", {"execute": 1}, "first frame of 'action' is what is done now"),
        ("action[k:] | action[:k], state", {"k": 2, "execute": 3}, "of which 2 are under way; possible: 1 to 2"),
        ("action[k:] | action[:k], state", {}, "bind the free name"),
        ("action | state, smell", {}, "unknown name 'smell'"),
    ],
)
def test_a_query_that_is_no_policy_is_refused(model, query: str, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(model, query, **settings)


def test_the_first_actions_alone_may_be_wanted(model) -> None:
    assert actions(Policy(model, "action[:2] | state, text", execute=2, steps=2)).shape == (7, 2)


def test_what_the_world_lacks_is_told_in_one_sentence(model) -> None:
    env = reaching.Reaching("reach")
    acting = Policy(model, QUERY, steps=2).begin(env, START[0])
    observation = env.reset(START[0])
    picture = observation.pop(reaching.CAMERA)
    with pytest.raises(ValueError, match=r"needs 'video' \(column 'observation.images.corner2'\), which the world does "
                       "not bring; it brings observation.state, task"):  # fmt: skip
        acting(observation)
    with pytest.raises(ValueError, match=r"'state' .* has shape \(3,\) in this world; the model wants \(2\)"):
        acting(observation | {reaching.CAMERA: picture, "observation.state": np.zeros(3)})


def test_a_world_of_other_actions_is_refused(model) -> None:
    policy = Policy(model, QUERY)
    env = reaching.Reaching("reach")
    env.fps = 20.0
    with pytest.raises(ValueError, match="comes 10 times a second from 0 s on; the world takes an action 20 times"):
        policy.begin(env, START[0])
    env.fps, env.action_dim = 10.0, 4
    with pytest.raises(ValueError, match="has 2 numbers, an action of this world has 4"):
        policy.begin(env, START[0])


def test_a_query_outside_training_is_told_once(model) -> None:
    narrow = reaching.model()
    narrow.patterns = []
    with pytest.warns(UserWarning, match="lies outside what this model was trained for"):
        policy = Policy(narrow, QUERY, steps=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actions(policy)
