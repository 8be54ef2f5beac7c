"""A world small enough to know every answer: a bright square whose place is the state, moved by the action."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polyclock.backbones.dit import DiT
from polyclock.codecs import MeanStd, Pixels
from polyclock.data.source import Episode, Facts
from polyclock.data.subsets import chosen
from polyclock.encoders import Patches, Vector
from polyclock.layout import Layout, Stream
from polyclock.modality import Condition, Modality
from polyclock.nn.modulation import Joint
from polyclock.recipe import Recipe
from polyclock.timesteps import Independent

FPS, SIDE = 10.0, 16
CAMERA = "observation.images.top"


def picture(level: np.ndarray) -> np.ndarray:
    """(n,) levels in 0 .. 1 -> (n, SIDE, SIDE, 3) uint8: as many rows from the top are bright."""
    rows = np.arange(SIDE)[None] < np.round(level * SIDE)[:, None]
    return np.repeat(np.repeat(rows[:, :, None, None], SIDE, 2), 3, 3).astype(np.uint8) * 200


@dataclass(frozen=True)
class Moving:
    """Episodes in memory. state[t] is a walk, action[t] = state[t + 1] (dimension 1 never moves)."""

    episodes: tuple[Episode, ...] = tuple(Episode(index=i, length=80, tasks=("move",)) for i in range(4))
    actions: bool = True

    @property
    def facts(self) -> Facts:
        columns = {"observation.state": (2,), CAMERA: (SIDE, SIDE, 3), "task": ()}
        columns |= {"action": (2,)} if self.actions else {}
        return Facts(fps=FPS, cameras=(CAMERA,), tasks=("move",), columns=columns)

    @property
    def fingerprint(self) -> str:
        return f"moving {[e.index for e in self.episodes]}"

    def has(self, episode: int, key: str) -> bool:
        return key in self.facts.columns

    def levels(self, episode: int) -> np.ndarray:
        """(81,) the state over an episode."""
        steps = np.random.default_rng(episode).normal(0, 0.08, 81)
        return 0.5 + 0.5 * np.sin(np.cumsum(steps) * 3 + episode)

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        level = self.levels(episode)[np.asarray(frames) + (key == "action")]
        if key == "task":
            return "move"
        if key == CAMERA:
            assert size in (None, (SIDE, SIDE))
            return picture(level)
        return np.stack([level, np.full_like(level, 7.0)], 1).astype(np.float32)

    def column(self, key: str) -> Iterator[np.ndarray]:
        for e in self.episodes:
            yield self.read(e.index, key, range(e.length))

    def only(self, indices: Iterable[int]) -> Moving:
        return type(self)(chosen(self.episodes, indices, keep=True), self.actions)

    def without(self, indices: Iterable[int]) -> Moving:
        return type(self)(chosen(self.episodes, indices, keep=False), self.actions)


def recipe() -> Recipe:
    """Four actions at 10 Hz and two future pictures, given the current picture and state."""
    return Recipe(
        name="moving",
        modalities={
            "action": Modality(shape=(4, None), patch=(1,), rate=FPS, codec=MeanStd()),
            "video": Modality(
                key=CAMERA, shape=(2, SIDE, SIDE, 3), patch=(1, 8, 8), rate=5.0, start=0.2, codec=Pixels()
            ),
        },
        conditions={
            "camera": Condition(
                key=CAMERA, shape=(1, SIDE, SIDE, 3), encoder=Patches(patch=(8, 8)), route="fuse:video", required=True
            ),
            "state": Condition(
                key="observation.state", shape=(1, None), encoder=Vector(width=16), codec=MeanStd(), required=True
            ),
        },
        layout=Layout(Stream("action"), Stream("video")),
        law=Independent(),
        modulation=Joint(),
        backbone=DiT(width=32, depth=1, heads=2),
    )


def level_of(video: Tensor) -> Tensor:
    """uint8 (B, T, SIDE, SIDE, 3) -> (B, T) the level that each picture shows."""
    return (video[..., 0, 0] > 100).float().mean(-1)


class Oracle:
    """Stands in for `sample`: what is given tells the answer exactly, what is not is answered with noise's mean.

    `asked` collects (query, names of the values, noise of the action) of every call.
    """

    def __init__(self, model) -> None:
        self.model, self.asked = model, []

    def __call__(self, model, query, *, steps, seed, noise, decode, guides=(), **values) -> dict[str, Tensor]:
        assert model is self.model and decode is False
        self.asked.append((query, set(values) - {"guides"}, noise["action"].clone()))
        size = len(values["camera"])
        wanted = query.split("|")[0]
        out = {}
        if "video" in wanted:
            level = torch.full((size, 2), 0.5)
            if "action" in values:
                actions = model.codec("action").decode(values["action"])
                level = actions[:, 1::2, 0]
            pictures = torch.from_numpy(picture(level.flatten().numpy())).view(size, 2, SIDE, SIDE, 3)
            out["video"] = model.codec("video").encode(pictures)
        if "action" in wanted:
            raw = torch.full((size, 4, 2), 7.0)
            raw[..., 0] = 0.5
            if "video" in values:
                raw[:, 1::2, 0] = level_of(model.codec("video").decode(values["video"]))
            out["action"] = model.codec("action").encode(raw)
        return out
