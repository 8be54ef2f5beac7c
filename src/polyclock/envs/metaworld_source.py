"""Collecting from the tabletop: the scripted expert acts, with noise if wanted, and every frame keeps its truth."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..dice import seed_of
from .collect import Columns, Unit
from .metaworld import (
    CAMERAS,
    FPS,
    OPEN,
    PUBLISHED,
    SPLITS,
    Tabletop,
    check_cameras,
    check_size,
    known_task,
    starts,
)
from .metaworld_anatomy import anatomy, joints
from .recording import Recording, Row
from .world import Start


@dataclass(frozen=True, kw_only=True)
class TabletopSource:
    """What to collect from the tabletop.

    lines        the tasks; episodes are taken from them in turn
    episodes     of each task
    size         pixels, height and width of a picture
    cameras      views
    noise        standard deviation of the noise on the expert's actions
    correlation  of the noise from one step to the next
    flow_steps   frames that optical flow spans
    after        steps that an episode goes on after its first success
    split        which starts: training or evaluation
    keep_failed  keep episodes in which the expert failed
    seed         of the noise
    """

    lines: tuple[str, ...]
    episodes: int
    size: int = 128
    cameras: tuple[str, ...] = CAMERAS
    noise: float = 0.0
    correlation: float = 0.8
    flow_steps: int = 1
    after: int = 8
    split: str = "training"
    keep_failed: bool = False
    seed: int = 0
    fps: float = FPS

    def __post_init__(self) -> None:
        lines = tuple(known_task(line) for line in self.lines)
        if not lines or len(set(lines)) != len(lines):
            raise ValueError(f"tasks {', '.join(lines) or 'none'}: each once, and at least one")
        object.__setattr__(self, "lines", lines)
        check_size(self.size)
        if self.size % 2:
            raise ValueError(f"size {self.size}; possible: an even number, as video files have it")
        check_cameras(self.cameras)
        bounds = {
            "noise": (self.noise >= 0, "0 or more"),
            "correlation": (0 <= self.correlation < 1, "from 0, less than 1"),
            "flow_steps": (self.flow_steps >= 1, "1 or more"),
            "after": (self.after >= 0, "0 or more"),
            "split": (self.split in SPLITS, " or ".join(SPLITS)),
            "episodes": (
                self.split != "evaluation" or self.episodes <= PUBLISHED,
                f"at most {PUBLISHED} with split evaluation",
            ),
        }
        for name, (good, possible) in bounds.items():
            if not good:
                raise ValueError(f"{name.replace('_', '-')} {getattr(self, name)}; possible: {possible}")

    def settings(self) -> dict[str, Any]:
        """What the data depend on besides the number of episodes."""
        plain = asdict(self)
        del plain["episodes"]
        return {"world": "metaworld", "tasks": plain.pop("lines")} | plain

    def features(self) -> dict[str, Any]:
        """The columns; they are the same for all tasks."""
        world = Tabletop(self.lines[0], self.cameras, self.size)
        try:
            dense = self.recording(world).features()
        finally:
            world.close()
        moves = {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "closing"]}
        return {
            **dense,
            "observation.state": {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "opening"]},
            "action": moves,
            "action.expert": moves,
            "next.success": {"dtype": "bool", "shape": (1,), "names": None},
        }

    def recording(self, world: Tabletop) -> Recording:
        """What turns the views of a world into columns."""
        return Recording(self.cameras, world.size, anatomy(world.model), self.flow_steps)

    def open(self) -> TabletopMaker:
        """What makes the episodes."""
        return TabletopMaker(self)


class TabletopMaker:
    """Episodes of a `TabletopSource`; the worlds of the tasks used last stay open."""

    def __init__(self, source: TabletopSource) -> None:
        self.source = source
        self._worlds: OrderedDict[str, tuple[Tabletop, Recording]] = OrderedDict()

    def worth(self, unit: Unit) -> bool:
        """Whether the expert does the task from this start, with this noise."""
        if self.source.keep_failed:
            return True
        world, _ = self._world(unit.line)
        success: list[bool] = []
        for _ in play(self.source, world, self._start(unit), success):
            pass
        return any(success)

    def make(self, unit: Unit) -> tuple[Columns, str]:
        """The columns of one episode and its sentence."""
        world, recording = self._world(unit.line)
        success: list[bool] = []
        vectors: list[tuple[np.ndarray, ...]] = []

        def rows() -> Iterator[Row]:
            for expert, action in play(self.source, world, self._start(unit), success):
                vectors.append((world.state(), action, expert))
                views = {camera: world.scene.view(world.data, camera) for camera in self.source.cameras}
                yield Row(views, world.scene.poses(world.data), joints(world.model, world.data))

        columns = recording.columns(rows())
        state, action, expert = (np.stack(column) for column in zip(*vectors, strict=True))
        columns |= {"observation.state": state, "action": action, "action.expert": expert}
        return columns | {"next.success": np.array(success)}, world.sentence()

    def _start(self, unit: Unit) -> Start:
        return starts(unit.line, self.source.split, 1, unit.number)[0]

    def _world(self, task: str) -> tuple[Tabletop, Recording]:
        if task not in self._worlds:
            if len(self._worlds) >= OPEN:
                self._worlds.popitem(last=False)[1][0].close()
            world = Tabletop(task, self.source.cameras, self.source.size)
            self._worlds[task] = world, self.source.recording(world)
        self._worlds.move_to_end(task)
        return self._worlds[task]


def play(
    source: TabletopSource, world: Tabletop, start: Start, success: list[bool]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The expert's episode from `start`: at each step what it wants and what will be done, (4,) float32 each.

    The world stands before the step when it is handed out; whether the task was done after it is appended to `success`.
    """
    noise = correlated(source, start, world.limit)
    world.begin(start)
    since = 0  # steps since the first success, itself included
    for disturbance in noise:
        expert = world.expert()
        action = np.clip(expert + disturbance, -1, 1).astype(np.float32)
        yield expert, action
        success.append(world.act(action))
        since += since > 0 or success[-1]
        if since > source.after:
            return


def correlated(source: TabletopSource, start: Start, count: int) -> np.ndarray:
    """Noise (count, 4): of standard deviation `source.noise`, each step correlated with the one before."""
    dice = np.random.default_rng(seed_of("noise", source.seed, start.task, source.split, start.number))
    fresh = dice.standard_normal((count, 4))
    kept = source.correlation
    noise = np.empty_like(fresh)
    noise[0] = fresh[0]
    for i in range(1, count):
        noise[i] = kept * noise[i - 1] + np.sqrt(1 - kept**2) * fresh[i]
    return source.noise * noise
