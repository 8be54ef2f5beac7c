"""The tabletop: an episode is a function of start and actions, nothing hidden leaks out, what is seen is true."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("metaworld")

from polyclock.envs import metaworld as module
from polyclock.envs import open_env, starts
from polyclock.envs.collect import Unit
from polyclock.envs.metaworld import CAMERAS, Tabletop, task_names
from polyclock.envs.metaworld_source import TabletopSource, correlated, play
from polyclock.envs.metaworld_tables import APART, REFERENCE, SENTENCES, sentences
from polyclock.envs.world import Start

SIZE = 48


@pytest.fixture(scope="module")
def drawer() -> Iterator[Tabletop]:
    world = Tabletop("drawer-open", CAMERAS, SIZE)
    yield world
    world.close()


def deeds(count: int, seed: int = 0) -> np.ndarray:
    """Actions (count, 4) of someone who knows nothing."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, 4)).astype(np.float32)


def trace(world: Tabletop, start: Start, actions: np.ndarray) -> str:
    """A hash of all pictures, states and successes of an episode."""
    seen = hashlib.sha256()
    observation, done = world.reset(start), False
    for action in [*actions, None]:
        for key in sorted(observation):
            value = observation[key]
            seen.update(value.encode() if isinstance(value, str) else np.ascontiguousarray(value).tobytes())
        seen.update(bytes([done]))
        if action is not None:
            observation, done = world.step(action)
    return seen.hexdigest()


# Starts.


def test_fifty_evaluation_starts_are_published_for_each_task_that_is_reported() -> None:
    assert set(module.published()) == {*REFERENCE, *APART}
    for task in (*REFERENCE, *APART):
        found = starts(task)
        assert [start.number for start in found] == list(range(50))
        assert len({start.values for start in found}) == 50
        assert starts(f"metaworld/{task}-v3", count=3, first=7) == found[7:10]


@pytest.mark.parametrize("task", ["drawer-close", "pick-place"])
def test_the_published_starts_are_those_that_are_drawn(task: str) -> None:
    drawn = [module._drawn(task, "evaluation", k) for k in range(50)]
    assert drawn == [start.values for start in starts(task)]
    space = module._drawer(task)._random_reset_space
    assert all((space.low <= np.array(d)).all() and (np.array(d) <= space.high).all() for d in drawn)


def test_what_draws_starts_is_kept_for_all_tasks_that_take_turns() -> None:
    assert module._drawer.cache_parameters()["maxsize"] >= len({*REFERENCE, *APART})


@pytest.mark.parametrize("task", ["window-open", "reach", "door-open"])
def test_training_starts_are_no_evaluation_starts(task: str) -> None:
    evaluation = {start.values for start in starts(task)}
    training = {start.values for start in starts(task, "training", 100)}
    assert len(training) == 100 and not training & evaluation
    assert starts(task, "training", 2, 40) == starts(task, "training", 42)[40:]


def test_a_start_that_the_task_refuses_is_an_error_and_no_endless_loop(tabletop) -> None:
    world = tabletop("pick-place")
    good = starts("pick-place")[0]
    with pytest.raises(ValueError, match="refuses the start"):
        world.begin(Start("pick-place", good.values[:3] * 2, 0))
    world.begin(good)


# An episode is a function of its start and its actions.


def test_an_episode_depends_on_nothing_before_it(drawer: Tabletop) -> None:
    first, second = starts("drawer-open", count=2)
    actions = deeds(12)
    once = trace(drawer, first, actions)
    assert trace(drawer, second, deeds(20, 1)) != once
    for _ in range(30):
        drawer.act(np.array([0, 1, -1, 1]))
    assert trace(drawer, first, actions) == once


def test_another_process_sees_the_same_bits(drawer: Tabletop) -> None:
    start = starts("drawer-open", count=6)[5]
    here = drawer.reset(start)
    script = (
        "import hashlib; from polyclock.envs import open_env, starts\n"
        f"world = open_env('metaworld/drawer-open-v3', {CAMERAS!r}, {SIZE})\n"
        "seen = world.reset(starts('metaworld/drawer-open')[5])\n"
        "arrays = [seen[key] for key in sorted(seen) if key != 'task']\n"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in arrays)).hexdigest())\n"
        "world.close()\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    arrays = [here[key] for key in sorted(here) if key != "task"]
    assert said == hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


def test_the_first_picture_shows_the_object_where_the_start_puts_it(drawer: Tabletop) -> None:
    """Meta-World's own first observation still has it where the episode before left it."""
    for start in starts("drawer-open", count=2):
        drawer.begin(start)
        assert np.allclose(drawer.data.body("drawer").xpos, start.values)
        assert np.allclose(drawer._seen[4:7], drawer.data.body("drawer_link").xpos + (0, -0.16, 0))
        assert np.array_equal(drawer._seen[:18], drawer._seen[18:36])


@pytest.mark.parametrize(("task", "before_success"), [("drawer-close", 65), ("pick-place", 40)])
def test_restore_leads_to_the_same_pictures_and_successes(tabletop, task: str, before_success: int) -> None:
    world = tabletop(task)
    world.reset(starts(task)[3])
    for _ in range(before_success):
        world.act(world.expert())
    state = world.save()

    def onward() -> list:
        found = []
        for _ in range(25):
            seen, done = world.step(world.expert())
            found.append((seen["observation.images.corner2"].tobytes(), seen["observation.state"].tobytes(), done))
        return found

    first = world.observe()
    once = onward()
    assert len({picture for picture, _, _ in once}) > 5, "something moves"
    world.reset(starts(task)[4])
    for action in deeds(7):
        world.step(action)
    again = world.restore(state)
    assert np.array_equal(again["observation.images.corner2"], first["observation.images.corner2"])
    assert again["task"] == first["task"]
    assert onward() == once
    world.restore(state)
    assert onward() == once, "a state can be gone back to twice"
    assert {done for _, _, done in once} == {False, True}


@pytest.mark.slow
def test_all_tasks_are_exact_and_can_be_done() -> None:
    """For each of the 50: a repeated episode has the same bits, and the expert succeeds from one of three starts."""
    for task in task_names():
        world = Tabletop(task, size=16)
        source = TabletopSource(lines=(task,), episodes=1, size=16)
        seen, done = [], []
        for start in (*starts(task, "training", 3), *starts(task, "training", 1)):
            success: list[bool] = []
            seen.append([world._seen.copy() for _ in play(source, world, start, success)])
            done.append(any(success))
        assert any(done[:3]), task
        assert np.array_equal(seen[0], seen[3]), task
        assert len(set(sentences(task))) == 3, task
        world.close()


# Nothing hidden leaks.


def test_an_observation_is_pictures_hand_and_sentence(drawer: Tabletop) -> None:
    seen = drawer.reset(starts("drawer-open")[0])
    assert set(seen) == {"observation.images.corner2", "observation.images.corner3", "observation.state", "task"}
    assert seen["observation.images.corner2"].shape == (SIZE, SIZE, 3)
    assert seen["observation.state"].shape == (4,) and seen["observation.state"].dtype == np.float32
    assert np.allclose(seen["observation.state"][:3], drawer.data.body("hand").xpos, atol=1e-6)


@pytest.mark.parametrize("task", ["drawer-close", "pick-place"])
def test_the_state_says_nothing_of_object_and_goal(tabletop, task: str) -> None:
    """Where the object is changes from start to start, what the policy is told beside the pictures does not."""
    world = tabletop(task)
    told, hidden = [], []
    for start in starts(task, count=4):
        world.begin(start)
        told.append(world.state())
        hidden.append(world._seen[4:])
    assert np.ptp(told, axis=0).max() < 2e-3 < 0.02 < np.ptp(hidden, axis=0).max()


def test_the_columns_are_a_closed_set_without_object_or_goal() -> None:
    source = TabletopSource(lines=("handle-press",), episodes=1, size=16, cameras=("corner2",), after=0)
    maker = source.open()
    unit = Unit("handle-press", 0)
    columns, sentence = maker.make(unit)
    kinds = ("images", "depth", "flow", "flow_back", "segmentation", "surface", "skeleton", "intrinsics", "pose")
    dense = {f"observation.{kind}.corner2" for kind in kinds}
    assert set(columns) == dense | {"observation.state", "action", "action.expert", "next.success"}
    assert set(columns) == set(source.features())
    assert sentence in SENTENCES["handle-press"]
    world, _ = maker._world("handle-press")
    hidden = []
    for _ in play(source, world, starts("handle-press", "training", 1)[0], []):
        hidden.append(world._seen[[4, 5, 6, 36, 37, 38]])  # the object's place, the goal's
    hidden = np.array(hidden)
    assert np.ptp(hidden[:, :3], axis=0).max() > 0.05, "the handle moved"
    for key in ("observation.state", "action", "action.expert"):
        for told in columns[key].T:
            assert np.abs(hidden - told[:, None]).max(0).min() > 1e-3, key
    world.close()


# The expert.


def test_noise_has_the_spread_and_the_memory_that_were_asked_for() -> None:
    source = TabletopSource(lines=("reach",), episodes=1, noise=0.15)
    start = starts("reach")[0]
    noise = correlated(source, start, 20_000)
    assert noise.std() == pytest.approx(0.15, rel=0.05)
    once = (noise[1:] * noise[:-1]).mean() / noise.var()
    assert once == pytest.approx(0.8, abs=0.03)
    assert np.array_equal(noise[:200], correlated(source, start, 200)[:200])
    other = TabletopSource(lines=("reach",), episodes=1, noise=0.15, seed=1)
    assert not np.array_equal(noise[:200], correlated(other, start, 200))


def test_actions_are_what_was_done_and_episodes_end_after_success(tabletop) -> None:
    source = TabletopSource(lines=("handle-press",), episodes=1, size=16, noise=0.3, after=5)
    world = tabletop("handle-press")
    start = starts("handle-press", "training", 1)[0]
    success: list[bool] = []
    wanted, made = (np.array(x) for x in zip(*play(source, world, start, success), strict=True))
    assert success.index(True) == len(success) - 1 - 5
    noise = correlated(source, start, len(made))
    assert np.array_equal(made, np.clip(wanted + noise, -1, 1).astype(np.float32))
    assert np.abs(made).max() <= 1 and np.abs(wanted).max() <= 1 and (made != wanted).any(1).all()
    world.begin(start)
    assert [world.act(action) for action in made] == success, "replaying what was done does the same"


@pytest.mark.slow
def test_the_expert_does_the_reference_tasks() -> None:
    """Ten starts each, with the noise that the shipped model learns from."""
    for task in REFERENCE:
        maker = TabletopSource(lines=(task,), episodes=1, size=16, cameras=("corner2",), noise=0.15).open()
        assert sum(maker.worth(Unit(task, k)) for k in range(10)) >= 9, task


def test_every_task_that_is_reported_has_three_sentences() -> None:
    for task in (*REFERENCE, *APART):
        assert len(set(SENTENCES[task])) == 3
    assert sentences("box-close") == ("box close", "do the task box close", "use the robot arm for box close")


# What users get wrong.


def test_mistakes_are_one_sentence() -> None:
    for make, said in (
        (lambda: open_env("metaworld/drawer-opne"), "unknown task 'drawer-opne'. Did you mean 'drawer-open'?"),
        (lambda: open_env("drawer-open"), "unknown world 'drawer-open'"),
        (lambda: open_env("metaworld/drawer-open", ("corner9",)), "unknown camera 'corner9'"),
        (lambda: open_env("metaworld/drawer-open", ()), "at least one of"),
        (lambda: open_env("metaworld/drawer-open", size=8), "size 8 x 8: too small; possible: from 16 pixels"),
        (lambda: starts("drawer-open", "test"), "unknown split 'test'"),
        (lambda: starts("drawer-open", count=51), "drawer-open has 50 evaluation starts"),
        (lambda: TabletopSource(lines=("reach", "reach-v3"), episodes=1), "each once"),
        (lambda: TabletopSource(lines=("reach",), episodes=1, noise=-1), "noise -1; possible: 0 or more"),
        (lambda: TabletopSource(lines=("reach",), episodes=1, size=33), "an even number"),
        (
            lambda: TabletopSource(lines=("reach",), episodes=51, split="evaluation"),
            "episodes 51; possible: at most 50",
        ),
    ):
        with pytest.raises(ValueError) as caught:
            make()
        assert said in str(caught.value)


def test_misuse_of_a_world_is_one_sentence(drawer: Tabletop) -> None:
    drawer.begin(starts("drawer-open")[0])
    for make, said in (
        (lambda: drawer.reset(starts("reach")[0]), "this world is drawer-open; the start is of reach"),
        (lambda: drawer.reset(Start("drawer-open", (0.0,), 0)), "has 3 values; this one has 1"),
        (lambda: drawer.step(np.zeros(3)), "4 finite numbers"),
        (lambda: drawer.step(np.array([0, 0, np.nan, 0])), "4 finite numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            make()
    fresh = Tabletop("drawer-open", size=16)
    with pytest.raises(ValueError, match="no episode has begun"):
        fresh.step(np.zeros(4))
    fresh.close()


def test_without_the_simulator_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module._package.cache_clear()
    monkeypatch.setitem(sys.modules, "metaworld", None)
    monkeypatch.setitem(sys.modules, "metaworld.env_dict", None)
    with pytest.raises(
        ImportError, match=r"metaworld.* is not installed; it comes with: pip install 'polyclock\[sim\]'"
    ):
        open_env("metaworld/drawer-open")
    module._package.cache_clear()
