"""One episode from a start to its end: what happened, as a row of the ledger, and its pictures."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..data.encode import VideoCodec, encode_video
from ..data.files import replacing
from ..envs.world import Env, Observation, Start
from .actor import CAMERA, Actor
from .demonstration import Undemonstrated
from .ledger import Row, start_hash

CLIP_FPS = 20.0  # pictures a second of an episode's clip, in the world's own time
WIDEST = 160  # pixels to which a small picture of a clip may grow


@dataclass(frozen=True)
class Job:
    """An episode to be played: the world's name, the start, and the folder for its clip (None: there is none)."""

    task: str
    start: Start
    clips: Path | None = None


@dataclass(frozen=True)
class Station:
    """All that a process needs to play: who acts, and how a world is opened."""

    actor: Actor
    open_env: Callable[..., Env]
    cameras: tuple[str, ...]
    size: int | tuple[int, int]


class Player:
    """Plays jobs one after the other and keeps the world of the last one open."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self._task = ""
        self._env: Env | None = None

    def play(self, job: Job) -> Row:
        """The row of one episode. An exception of the world ends it as a failure that says so; others are raised."""
        env = self._open(job.task)
        began = time.perf_counter()
        row, pictures = play(env, self.station.actor, job.start, filmed=bool(job.clips))
        row = {"task": job.task, "number": job.start.number, "start": start_hash(job.start), **row}
        row["seconds"] = round(time.perf_counter() - began, 3)
        if row["error"]:
            self.close()  # nobody knows in which state it is
        if pictures:
            write_clip(clip_of(job.clips, row), pictures, env.fps)
        return row

    def close(self) -> None:
        """Close the world that is open. One that cannot even be closed is left to the process."""
        env, self._env, self._task = self._env, None, ""
        if env is not None:
            with suppress(Exception):  # what mattered has been written
                env.close()

    def _open(self, task: str) -> Env:
        if self._env is None or self._task != task:
            self.close()
            station = self.station
            self._env = station.open_env(task, cameras=station.cameras, size=station.size)
            self._task = task
        return self._env


def play(env: Env, actor: Actor, start: Start, *, filmed: bool) -> tuple[Row, list[np.ndarray]]:
    """Act until the first success or `env.limit` steps. Returns the row, and where it is `filmed` the first camera's
    picture at each step; else only what the actor looks at is drawn.

    `actions` in the row is a hash of every action that was taken, to the bit. Where the actor needs a demonstration and
    there is none, `error` says so and the episode has failed. Errors: ValueError for an action of the
    actor that is not (A,) finite numbers.
    """
    pictures: list[np.ndarray] = []
    taken = hashlib.sha256()
    acting, steps, success = None, 0, False
    observation, _, error = _tried(lambda: (env.reset(start), False))
    while error is None and not success and steps < env.limit:
        pictures += _picture(observation) if filmed else []
        try:
            acting = acting or actor.begin(env, start)
        except Undemonstrated as problem:
            error = str(problem)
            break
        action = _checked(acting(observation), env)
        taken.update(action.tobytes())
        move = env.step if filmed or acting.looks else partial(_unseen, env)
        observation, success, error = _tried(partial(move, action))
        steps += error is None
    if error is None and filmed:
        pictures += _picture(observation)
    latency = 1000 * np.array(acting.latency if acting else [])
    row = {
        "success": success,
        "steps": steps,
        "first_success": steps if success else None,
        "actions": taken.hexdigest()[:16],
        "calls": len(latency),
        "latency_ms": _summary(latency),
        "error": error,
    }
    return row, pictures


def _checked(action: np.ndarray, env: Env) -> np.ndarray:
    """As (A,) float32. A world would call it its own failure, and the ledger a failed episode."""
    action = np.ascontiguousarray(action, "<f4")
    if action.shape != (env.action_dim,) or not np.isfinite(action).all():
        raise ValueError(
            f"the actor answered with {np.array2string(action, threshold=8)} of shape {action.shape}; an action of "
            f"this world is {env.action_dim} finite numbers, shape ({env.action_dim},)"
        )
    return action


def _unseen(env: Env, action: np.ndarray) -> tuple[None, bool]:
    """`env.step` where nobody looks at what follows."""
    return None, env.act(action)


def _tried(call: Callable[[], tuple[Observation | None, bool]]) -> tuple[Observation | None, bool, str | None]:
    """(what the world answered, whether the task is done, what it raised)."""
    try:
        return *call(), None
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return None, False, f"{type(error).__name__}: {first}"


def _picture(observation: Observation | None) -> list[np.ndarray]:
    return [] if observation is None else [observation[key] for key in observation if key.startswith(CAMERA)][:1]


def _summary(latency: np.ndarray) -> dict[str, float] | None:
    if not len(latency):
        return None
    p50, p95 = np.percentile(latency, [50, 95])
    return {"mean": round(float(latency.mean()), 3), "p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def clip_of(folder: str | Path, row: Row) -> Path:
    """Where the film of an episode lies. Its actions are in the name: no row leads to what another policy did."""
    return Path(folder) / f"{row['task'].replace('/', '-')}-{row['number']:04d}-{row['actions']}.mp4"


def write_clip(path: Path, pictures: list[np.ndarray], fps: float) -> None:
    """(H, W, 3) pictures at `fps` -> an MP4 of `CLIP_FPS` or fewer pictures a second; the last picture is kept."""
    every = max(1, round(fps / CLIP_FPS))
    kept = pictures[::every] if (len(pictures) - 1) % every == 0 else [*pictures[::every], pictures[-1]]
    times = max(1, WIDEST // max(kept[0].shape[:2]))
    frames = np.stack(kept).repeat(times, 1).repeat(times, 2)
    frames = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]  # H.264 has colour for pixels in pairs
    with replacing(path) as aside:
        encode_video(aside, frames, fps / every, VideoCodec(encoder="h264", group=12, crf=18))
