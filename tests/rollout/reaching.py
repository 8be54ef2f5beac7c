"""A world that costs nothing: a green point must come to a red one, both seen in a 16 px picture."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np

from polyclock.envs.world import Observation, Start
from polyclock.model import WorldModel
from polyclock.recipes import tiny

CAMERA = "observation.images.corner2"
TASKS = ("reach", "fragile", "fatal", "shut", "blind")


class Reaching:
    """The action (2,) is a step of at most a tenth of the table.

    `fragile` raises and `fatal` dies at start 3; `blind` has no camera.
    """

    fps, action_dim, limit = 10.0, 2, 30

    def __init__(self, task: str, size: int = 16) -> None:
        self.task, self.size, self.start = task, size, Start(task, (), -1)

    def reset(self, start: Start) -> Observation:
        self.start, self.steps = start, 0
        self.point, self.goal = np.array(start.values[:2]), np.array(start.values[2:])
        return self.observe()

    def step(self, action: np.ndarray) -> tuple[Observation, bool]:
        done = self.act(action)
        return self.observe(), done

    def act(self, action: np.ndarray) -> bool:
        self.steps += 1
        if self.task == "fragile" and self.start.number == 3 and self.steps == 2:
            raise RuntimeError("the table broke\nand more")
        if self.task == "fatal" and self.start.number == 3 and self.steps == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        self.point = np.clip(self.point + 0.1 * np.clip(action, -1, 1), 0, 1)
        return bool(np.abs(self.point - self.goal).max() < 0.12)

    def observe(self) -> Observation:
        state = {"observation.state": self.point.astype(np.float32), "task": "come to the red point"}
        if self.task == "blind":
            return state
        picture = np.full((self.size, self.size, 3), 30, np.uint8)
        for place, colour in ((self.goal, (220, 40, 40)), (self.point, (40, 220, 40))):
            row, column = (place[::-1] * (self.size - 3)).astype(int)
            picture[row : row + 3, column : column + 3] = colour
        return {CAMERA: picture, **state}

    def expert(self) -> np.ndarray:
        return np.clip((self.goal - self.point) / 0.1, -1, 1).astype(np.float32)

    def save(self) -> Any:
        return self.start, self.steps, self.point.copy()

    def restore(self, state: Any) -> Observation:
        self.reset(state[0])
        self.steps, self.point = state[1], state[2].copy()
        return self.observe()

    def close(self) -> None:
        pass


def open_env(name: str, cameras: tuple[str, ...] = (), size: int = 16) -> Reaching:
    assert cameras == ("corner2",)
    if name == "toy/shut":
        raise ValueError("the world toy/shut does not open")
    return Reaching(name.removeprefix("toy/"), size)


def starts(name: str, split: str = "evaluation", count: int = 50, first: int = 0) -> tuple[Start, ...]:
    task = name.removeprefix("toy/")
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}")
    values = np.random.default_rng(len(task)).random((50, 4))
    return tuple(Start(task, tuple(map(float, values[k])), k) for k in range(first, first + count))


WORLD = {"open_env": open_env, "starts": starts, "size": 16}


class Demonstrations:
    """Columns that a recipe is fitted to, of vectors of `numbers`."""

    def __init__(self, numbers: int) -> None:
        self.numbers = numbers

    def column(self, key: str) -> Iterator[np.ndarray]:
        low = 0 if key == "observation.state" else -1
        yield np.random.default_rng(0).uniform(low, 1, (200, self.numbers)).astype(np.float32)


def model(rate: float = 10.0, numbers: int = 2) -> WorldModel:
    """`tiny` at the world's rate, with weights that are zero nowhere."""
    import torch

    built = tiny(cameras=(CAMERA,), rate=rate).fit(Demonstrations(numbers)).build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in built.parameters():
            if not p.any():
                p.normal_(0, 0.1, generator=generator)
    return built.eval()
