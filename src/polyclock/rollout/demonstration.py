"""Demonstrations: what an episode is to become, seen beforehand, from the world's expert, a data set, or one picture.

Tracking is given their frames as what lies ahead; planning takes their last one as its goal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..data.source import Dataset
from ..envs.world import Env, Observation, Start


class Undemonstrated(RuntimeError):
    """There is no demonstration of an episode; it counts as one that failed, and its row says why."""


class Demonstration(Protocol):
    """Where demonstrations come from. It is sent to other processes with the actor that has it."""

    def describe(self) -> dict[str, Any]:
        """Plain data that say what is shown."""
        ...

    def __call__(self, env: Env, start: Start, columns: Sequence[str]) -> Sequence[Observation]:
        """Observations of an episode like that of `env`, which has just been reset to `start` and is left like that.

        They have the named columns at least, one observation a step of the world.
        Errors: `Undemonstrated`; ValueError for a column that there is not.
        """
        ...


@dataclass(frozen=True)
class ByExpert:
    """What is seen when the world's scripted expert acts from the same start until it succeeds; `end`: its end."""

    end: bool = False

    def describe(self) -> dict[str, Any]:
        return {"from": "expert"} | ({"shows": "its end"} if self.end else {})

    def __call__(self, env: Env, start: Start, columns: Sequence[str]) -> Sequence[Observation]:
        """Errors: `Undemonstrated` where the expert does not succeed, or the world raises meanwhile."""
        state = env.save()
        seen, done = [env.restore(state)], False
        _check(columns, seen[0], "the world")
        while not done and len(seen) <= env.limit:
            try:
                observation, done = env.step(env.expert())
            except Exception as error:
                raise Undemonstrated(f"the world raised while its expert acted: {error}") from error
            seen.append(observation)
        if not done:
            raise Undemonstrated(f"the expert does not succeed from start {start.number}")
        env.restore(state)
        return seen[-1:] if self.end else seen


@dataclass(frozen=True)
class Recorded:
    """The episodes of a data set, which must have been recorded at the world's rate.

    episode  the one that is shown from every start; None: the one with the number of the start
    """

    dataset: Dataset
    episode: int | None = None

    def describe(self) -> dict[str, Any]:
        return {"from": "data", "fingerprint": self.dataset.fingerprint, "episode": self.episode}

    def __call__(self, env: Env, start: Start, columns: Sequence[str]) -> Sequence[Observation]:
        """Errors: `Undemonstrated` where there is no such episode; ValueError for data of another rate."""
        facts = self.dataset.facts
        if facts.fps != env.fps:
            raise ValueError(
                f"the demonstrations have {facts.fps:g} frames a second, the world makes {env.fps:g} steps"
            )
        _check(columns, facts.columns, "the data set of demonstrations")
        number = start.number if self.episode is None else self.episode
        found = next((e for e in self.dataset.episodes if e.index == number), None)
        if found is None:
            raise Undemonstrated(f"the data have no episode {number}")
        values = {key: self.dataset.read(number, key, range(found.length)) for key in columns}
        return [{key: value[k] for key, value in values.items()} for k in range(found.length)]


@dataclass(frozen=True, eq=False)
class Pictured:
    """One picture uint8 (H, W, 3) of a camera: nothing but how it should look in the end."""

    column: str
    picture: np.ndarray
    name: str = "a picture"

    @classmethod
    def read(cls, column: str, path: str | Path) -> Pictured:
        """The picture in a file. Errors: ValueError where the file holds none."""
        import av

        try:
            with av.open(str(path)) as container:
                frame = next(container.decode(video=0))
        except (av.FFmpegError, StopIteration, IndexError, OSError) as error:
            raise ValueError(f"{path} is no picture that can be read: {error}") from None
        return cls(column, frame.to_ndarray(format="rgb24"), str(path))

    def describe(self) -> dict[str, Any]:
        return {"from": "picture", "name": self.name}

    def __call__(self, env: Env, start: Start, columns: Sequence[str]) -> Sequence[Observation]:
        _check(columns, (self.column,), self.name)
        return [{self.column: self.picture}]


def _check(columns: Sequence[str], have: Mapping[str, Any] | Sequence[str], what: str) -> None:
    for column in columns:
        if column not in have:
            raise ValueError(f"{what} shows no {column!r}, which is needed; it shows {', '.join(have)}")
