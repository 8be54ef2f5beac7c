"""What a world is to whoever acts in it: a published start, an observation, an action, a success, an exact way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Observation = dict[str, Any]


@dataclass(frozen=True)
class Start:
    """A published initial state.

    task    the task's name, such as drawer-open
    values  the numbers that fix the scene, in metres; a world of the same task makes of them the same first picture
    number  its place in the split that it came from, from 0
    """

    task: str
    values: tuple[float, ...]
    number: int


class Env(Protocol):
    """A world to act in: an episode is a function of its start and its actions, and of nothing before it.

    An observation is {"observation.images.NAME": uint8 (H, W, 3) for each camera, "observation.state": float32 (S,),
    "task": a sentence}. What the world knows beyond that (where objects and goals are) is not in it.

    fps         steps a second
    action_dim  numbers in an action, each in [-1, 1]
    limit       steps after which an episode is cut
    """

    fps: float
    action_dim: int
    limit: int

    def reset(self, start: Start) -> Observation:
        """Begin the episode of `start`; its first observation."""

    def step(self, action: np.ndarray) -> tuple[Observation, bool]:
        """Act once, action (A,) clipped to [-1, 1]; the next observation, and whether the task is done at this step."""

    def act(self, action: np.ndarray) -> bool:
        """`step` for one who does not look at what follows, which then need not be drawn."""

    def expert(self) -> np.ndarray:
        """What the scripted expert would do now, (A,) float32 in [-1, 1]; it knows where objects and goals are."""

    def save(self) -> Any:
        """The whole state of the episode, to come back to by `restore`."""

    def restore(self, state: Any) -> Observation:
        """Go back to what `save` returned; the same actions then lead to the same pictures. The observation there."""

    def close(self) -> None:
        """Give back what the simulator holds."""
