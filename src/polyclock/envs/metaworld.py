"""The tabletop: Meta-World's robot arm and its 50 tasks, with exact starts, exact states and the scripted experts.

Meta-World keeps parts of a state in its model (where a body was put) and in attributes of its environment; all of them
are put back at every reset, so that an episode is a function of its start and its actions.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from ..dice import seed_of
from ..errors import missing, unknown
from .metaworld_tables import sentences
from .metaworld_variations import check_variation, vary
from .scene import Scene, import_simulator
from .world import Observation, Start

FPS = 80.0
LIMIT = 200
SUFFIX = "-v3"
CAMERAS = ("corner2", "corner3")  # the two published views
ALL_CAMERAS = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")
TURNED = ("corner", "corner2", "corner3", "corner4")  # these hang upside down
SPLITS = ("evaluation", "training")
PUBLISHED = 50  # evaluation starts of a task
SMALLEST = 16  # pixels
MOVED = ("body_pos", "body_quat", "site_pos", "site_quat")  # what Meta-World changes in its model at a reset
VIEWED = ("xpos", "xquat", "xipos", "geom_xpos", "site_xpos", "qpos", "qvel", "mocap_pos", "mocap_quat")
OPEN = 8  # worlds of different tasks that a process keeps
DRAWS = 100  # a reset that asks for its start more often than this refuses it


def task_names() -> tuple[str, ...]:
    """The names of all tasks, without the "-v3". Errors: ImportError where Meta-World is not installed."""
    return tuple(sorted(name.removesuffix(SUFFIX) for name in _package()))


def known_task(task: str) -> str:
    """A task's name without "-v3". Errors: ValueError with the nearest names where there is no such task."""
    plain = task.removesuffix(SUFFIX)
    names = task_names()
    if plain not in names:
        raise unknown("task", task, names)
    return plain


@lru_cache(maxsize=1)
def _package() -> Mapping[str, type]:
    import_simulator()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except ModuleNotFoundError as error:
        raise missing(error.name or "metaworld", "sim") from None
    return ALL_V3_ENVIRONMENTS


# Starts.


def starts(task: str, split: str = "evaluation", count: int = PUBLISHED, first: int = 0) -> tuple[Start, ...]:
    """Starts number `first` to `first + count - 1` of a split of a task.

    The evaluation starts of seven tasks are a published list; all others are drawn as Meta-World draws them, each from
    (task, split, number) alone. No training start is an evaluation start.

    Errors: ValueError for an unknown task or split, or for more evaluation starts than `PUBLISHED`.
    """
    task = known_task(task)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if split == "evaluation" and first + count > PUBLISHED:
        raise ValueError(f"{task} has {PUBLISHED} evaluation starts; asked for numbers {first} to {first + count - 1}")
    listed = published().get(task, ()) if split == "evaluation" else ()
    if listed:
        return tuple(Start(task, tuple(listed[k]), k) for k in range(first, first + count))
    return tuple(Start(task, _drawn(task, split, k), k) for k in range(first, first + count))


@lru_cache(maxsize=1)
def published() -> Mapping[str, list[list[float]]]:
    """The published evaluation starts: {task: 50 lists of numbers}."""
    text = files(__package__).joinpath("metaworld_starts.json").read_text(encoding="utf-8")
    return json.loads(text)["evaluation"]


def _drawn(task: str, split: str, number: int) -> tuple[float, ...]:
    env = _drawer(task)
    env.seeded_rand_vec, env._freeze_rand_vec, env._set_task_called = True, False, True
    env._np_random = np.random.default_rng(seed_of("start", task, split, number))
    env.reset_model()
    return tuple(float(x) for x in env._last_rand_vec)


@lru_cache(maxsize=OPEN)
def _drawer(task: str) -> Any:
    """An environment that only draws starts: nothing in it is simulated, since what is drawn depends on no physics."""
    env = _package()[task + SUFFIX]()
    env.do_simulation = lambda control, n_frames: None
    return env


# The world.


@dataclass(frozen=True, eq=False)
class State:
    """Everything an episode goes on from.

    physics     (n,) what the simulator integrates from, its solver's warm start and the moved hand included
    model       where the reset put bodies and marks
    attributes  what the task keeps in Python
    seen        (39,) what the expert sees
    """

    start: Start
    physics: np.ndarray
    model: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]
    seen: np.ndarray


class Tabletop:
    """One task of the tabletop as an `Env`: pictures of `cameras` (H, W, 3), the hand's position and opening (4,).

    With a `variation` every episode has looks of its own, drawn from its start; all else is as without.
    """

    fps = FPS
    action_dim = 4
    limit = LIMIT

    def __init__(
        self,
        task: str,
        cameras: Sequence[str] = CAMERAS[:1],
        size: int | tuple[int, int] = 64,
        variation: str | None = None,
    ) -> None:
        """Errors: ValueError for an unknown task, camera or variation, or a size below 16; ImportError without the
        simulator."""
        self.size = check_size(size)
        self.variation = variation and check_variation(variation)
        self.cameras = check_cameras(cameras)
        self.task = known_task(task)
        self._env = _package()[self.task + SUFFIX]()
        from metaworld.policies import ENV_POLICY_MAP

        self._env._set_task_called = True
        # The expert of some tasks needs the goal. What leaves this class are the first four numbers alone.
        self._env._partially_observable = False
        del self._env.sawyer_observation_space
        self._env._get_state_rand_vec = self._given_start
        self._policy = ENV_POLICY_MAP[self.task + SUFFIX]()
        self.model, self.data = self._env.model, self._env.data
        self.scene = Scene(self.model, self.size, turned=TURNED)
        self._start: Start | None = None
        self._draws = 0
        self._seen = np.zeros(39)
        self._fresh = self._whole_state(Start(self.task, (), -1))

    @property
    def start(self) -> Start:
        """The start of the episode. Errors: ValueError before the first `reset`."""
        if self._start is None:
            raise ValueError("no episode has begun; call reset(start) first")
        return self._start

    def sentence(self) -> str:
        """What the episode is called: one of the task's three sentences, by the number of its start."""
        return sentences(self.task)[self.start.number % 3]

    def reset(self, start: Start) -> Observation:
        """Begin the episode of `start`. Errors: ValueError where it is of another task or the task refuses it."""
        self.begin(start)
        return self.observe()

    def begin(self, start: Start) -> None:
        """`reset` without rendering."""
        import mujoco

        space = self._env._random_reset_space
        if start.task != self.task:
            raise ValueError(f"this world is {self.task}; the start is of {start.task}")
        if len(start.values) != space.low.size:
            raise ValueError(f"a start of {self.task} has {space.low.size} values; this one has {len(start.values)}")
        self._dress(start)
        self._put(self._fresh)
        self._start, self._draws = start, 0
        self._env._last_rand_vec = np.array(start.values, np.float64)
        self._env.reset()
        # Meta-World moves bodies in its model and looks at them before the simulator has: the first observation
        # and the first picture would show them where they were.
        mujoco.mj_forward(self.model, self.data)
        now = self._env._get_curr_obs_combined_no_goal()
        self._env._prev_obs = now
        self._seen = np.concatenate([now, now, self._env._get_pos_goal()])

    def step(self, action: np.ndarray) -> tuple[Observation, bool]:
        """Act once, action (4,): hand dx, dy, dz (1 is 1 cm) and closing force; whether the task is done now."""
        done = self.act(action)
        return self.observe(), done

    def act(self, action: np.ndarray) -> bool:
        """`step` without drawing."""
        self.start  # noqa: B018 - an episode must have begun
        values = np.asarray(action, np.float32)
        if values.shape != (self.action_dim,) or not np.isfinite(values).all():
            raise ValueError(f"an action is {self.action_dim} finite numbers; got {action!r}")
        self._seen, _, _, _, told = self._env.step(np.clip(values, -1, 1))
        return bool(told["success"] > 0)

    def expert(self) -> np.ndarray:
        """(4,) float32 in [-1, 1]: what the scripted expert would do now."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the experts ask for more than 1, and say so
            wanted = self._policy.get_action(self._seen)
        return np.clip(np.asarray(wanted, np.float32), -1, 1)

    def state(self) -> np.ndarray:
        """(4,) float32: the hand's x, y, z in m and its opening from 0 to 1. No object, no goal."""
        return self._seen[:4].astype(np.float32)

    def observe(self) -> Observation:
        """The pictures now, the state and the sentence."""
        views = {f"observation.images.{c}": self.scene.view(self.data, c, dense=False).rgb for c in self.cameras}
        return {**views, "observation.state": self.state(), "task": self.sentence()}

    def save(self) -> State:
        """The whole state of the episode."""
        return self._whole_state(self.start)

    def restore(self, state: State) -> Observation:
        """Go back to a saved state of this task; the observation there. Errors: ValueError for one of another task."""
        if state.start.task != self.task:
            raise ValueError(f"this world is {self.task}; the state is of {state.start.task}")
        self._dress(state.start)
        self._put(state)
        self._start, self._seen = state.start, state.seen.copy()
        return self.observe()

    def close(self) -> None:
        """Give back the renderer and the simulator."""
        self.scene.close()
        self._env.close()

    def _dress(self, start: Start) -> None:
        if self.variation:
            vary(self.scene, self.variation, start)

    def _given_start(self) -> np.ndarray:
        self._draws += 1
        if self._draws > DRAWS:  # some tasks draw again until the object is far enough from the goal
            raise ValueError(f"{self.task} refuses the start {self.start.values}: object and goal are too close")
        return self._env._last_rand_vec

    def _whole_state(self, start: Start) -> State:
        import mujoco

        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.empty(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, self.data, physics, kind)
        return State(
            start=start,
            physics=physics,
            model={name: getattr(self.model, name).copy() for name in MOVED},
            attributes={name: self._kept(value) for name, value in vars(self._env).items() if self._is_state(value)},
            seen=self._seen.copy(),
        )

    def _put(self, state: State) -> None:
        import mujoco

        for name, values in state.model.items():
            getattr(self.model, name)[:] = values
        mujoco.mj_resetData(self.model, self.data)
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(self.model, self.data, state.physics, kind)
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_setState(self.model, self.data, state.physics, kind)  # the solver's warm start has just moved
        attributes = vars(self._env)
        for name in [n for n, value in attributes.items() if self._is_state(value) and n not in state.attributes]:
            del attributes[name]
        attributes.update({name: self._kept(value) for name, value in state.attributes.items()})

    def _is_state(self, value: Any) -> bool:
        plain = (bool, int, float, str, np.ndarray, np.generic, list, tuple, dict, type(None))
        return isinstance(value, plain)

    def _kept(self, value: Any) -> Any:
        """A copy, or the thing itself where it is a window into the simulator's own memory and moves with it."""
        if isinstance(value, np.ndarray):
            own = [getattr(self.data, name) for name in VIEWED] + [getattr(self.model, name) for name in MOVED]
            if any(np.may_share_memory(value, array) for array in own):
                return value
        return copy.deepcopy(value)


def check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(H, W). Errors: ValueError for a size below 16 pixels."""
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < SMALLEST:
        raise ValueError(f"size {height} x {width}: too small; possible: from {SMALLEST} pixels")
    return height, width


def check_cameras(cameras: Sequence[str]) -> tuple[str, ...]:
    """The cameras. Errors: ValueError for none, an unknown one, or one that is named twice."""
    for camera in cameras:
        if camera not in ALL_CAMERAS:
            raise unknown("camera", camera, ALL_CAMERAS)
    if not cameras or len(set(cameras)) != len(cameras):
        raise ValueError(f"cameras {', '.join(cameras) or 'none'}: each once, at least one of {', '.join(ALL_CAMERAS)}")
    return tuple(cameras)
