"""What can act in a world: the protocol, and the scripted or blind policies that a success table is read against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..dice import seed_of
from ..envs.world import Env, Start

CAMERA = "observation.images."


class Episode(Protocol):
    """One episode of an actor, from its first observation on. `latency` holds the seconds of each call of a model."""

    latency: list[float]

    @property
    def looks(self) -> bool:
        """Whether what follows its last action will be looked at; before the first action it always is."""
        ...

    def __call__(self, observation: Mapping[str, Any] | None) -> np.ndarray:
        """The next observation, None where it does not look, -> the action (A,) float32 to take now."""
        ...


class Actor(Protocol):
    """Something that acts: `Policy`, `Expert`, `Still`, `Random` or one of your own. It is sent to other processes.

    cameras   names of the cameras it looks at
    describe  plain data that say what it is; episodes of another description are never mixed with its own
    """

    @property
    def cameras(self) -> tuple[str, ...]: ...

    def describe(self) -> dict[str, Any]: ...

    def begin(self, env: Env, start: Start) -> Episode:
        """A new episode of `env`, which has just been reset to `start`."""
        ...


@dataclass
class Scripted:
    """An episode in which the action is a function of the environment alone."""

    act: Any
    latency: list[float]
    looks: bool = False

    def __call__(self, observation: Mapping[str, Any] | None) -> np.ndarray:
        return np.asarray(self.act(), np.float32)


@dataclass(frozen=True)
class Expert:
    """The world's scripted expert. It knows where objects and goals are: what it reaches is a ceiling."""

    cameras: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        return {"policy": "expert"}

    def begin(self, env: Env, start: Start) -> Scripted:
        return Scripted(env.expert, [])


@dataclass(frozen=True)
class Still:
    """Every number of every action is 0: what succeeds without doing anything."""

    cameras: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        return {"policy": "still"}

    def begin(self, env: Env, start: Start) -> Scripted:
        return Scripted(lambda: np.zeros(env.action_dim), [])


@dataclass(frozen=True)
class Random:
    """Every number of every action is drawn from -1 to 1, by (seed, task, number of the start) alone."""

    seed: int = 0
    cameras: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        return {"policy": "random", "seed": self.seed}

    def begin(self, env: Env, start: Start) -> Scripted:
        rng = np.random.default_rng(seed_of(self.seed, "random", start.task, start.number))
        return Scripted(lambda: rng.uniform(-1, 1, env.action_dim), [])
