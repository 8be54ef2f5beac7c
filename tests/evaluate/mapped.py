"""The moving square with maps of it, a network that reads them off the picture, and the square as a world to act in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from moving import CAMERA, FPS, SIDE, Moving, level_of, picture
from moving import recipe as moving
from polyclock.codecs import Identity
from polyclock.envs import Start
from polyclock.layout import Layout, Stream
from polyclock.modality import Modality
from polyclock.recipe import Recipe

NOTES = {
    "observation.depth.top": {"kind": "depth"},
    "observation.flow.top": {"kind": "flow", "steps": 1},
    "observation.flow_back.top": {"kind": "flow", "steps": -1},
    "observation.segmentation.top": {"kind": "segmentation", "classes": {"1": "bright", "2": "dark"}},
    "observation.skeleton.top": {"kind": "skeleton", "joints": ["left", "right"]},
}
CHANNELS = {"depth": 1, "flow": 3, "segmentation": 2}


def bright(level: np.ndarray) -> np.ndarray:
    """(n,) levels -> (n, SIDE, SIDE) bool."""
    return picture(level)[..., 0] > 0


def depth(level: np.ndarray) -> np.ndarray:
    """1 m where it is bright, 2 m where it is dark."""
    return np.where(bright(level), 1.0, 2.0).astype(np.float32)[..., None]


def flow(level: np.ndarray, after: np.ndarray) -> np.ndarray:
    """What is bright moves down by as many pixels as the level rises."""
    down = bright(level) * (np.round(after * SIDE) - np.round(level * SIDE))[:, None, None]
    return np.stack([np.zeros_like(down), down, np.zeros_like(down)], -1).astype(np.float32)


def segmentation(level: np.ndarray) -> np.ndarray:
    """Class 1 where it is bright, 2 where it is dark."""
    label = np.where(bright(level), 1, 2)
    return np.stack([label, label], -1).astype(np.int32)


def skeleton(level: np.ndarray) -> np.ndarray:
    """Two joints on the edge, always visible."""
    y = np.round(level * SIDE)
    return np.stack([np.stack([np.full_like(y, x), y, np.ones_like(y)], -1) for x in (2.0, 12.0)], 1).astype(np.float32)


@dataclass(frozen=True)
class Mapped(Moving):
    """`Moving` with depth, flow, segmentation and skeleton of every frame."""

    @property
    def dense(self) -> dict:
        return NOTES

    @property
    def facts(self):
        facts = super().facts
        maps = {k: (SIDE, SIDE, CHANNELS[note["kind"]]) for k, note in NOTES.items() if note["kind"] != "skeleton"}
        return replace(facts, columns=facts.columns | maps | {"observation.skeleton.top": (2, 3)})

    def read(self, episode: int, key: str, frames: Sequence[int], size=None):
        if key == CAMERA and size == (16, 16):
            size = None  # what is compared is as large as the pictures are
        if key not in NOTES:
            return super().read(episode, key, frames, size)
        rows = np.asarray(frames)
        level, after = self.levels(episode)[rows], self.levels(episode)[rows + 1]
        if "flow" in key:
            return flow(level, after)
        return {"depth": depth, "segmentation": segmentation, "skeleton": skeleton}[key.split(".")[1]](level)


def recipe() -> Recipe:
    """Actions and video of the moving square, with its maps as peers."""
    made = moving()
    video = made.modalities["video"]
    maps = {
        name: replace(
            video, key=f"observation.{name}.top", codec=Identity(), shape=(2, SIDE, SIDE, channels), patch=(1, 8, 8)
        )
        for name, channels in CHANNELS.items()
    }
    joints = Modality(key="observation.skeleton.top", shape=(2, 2, 3), patch=(1, 2), rate=5.0, start=0.2)
    modalities = {**made.modalities, **maps, "skeleton": joints}
    return replace(made, name="mapped", modalities=modalities, layout=Layout(*(Stream(n) for n in modalities)))


class Reader:
    """Stands in for `sample`: maps are read off a given video; without one the picture is taken to be half bright."""

    def __init__(self, model) -> None:
        self.model = model

    def __call__(self, model, query, *, steps, seed, noise, decode, **values) -> dict[str, Tensor]:
        size = len(values["camera"])
        level = np.full((size, 2), 0.5)
        if "video" in values:
            level = level_of(model.codec("video").decode(values["video"])).numpy()
        flat = level.reshape(-1)
        maps = {
            "depth": depth(flat),
            "flow": flow(flat, flat),
            "segmentation": segmentation(flat),
            "skeleton": skeleton(flat),
            "video": picture(flat),
        }
        out = {}
        for name in (n.strip() for n in query.split("|")[0].split(",")):
            if name == "action":
                raw = torch.full((size, 4, 2), 7.0)
            else:
                raw = torch.from_numpy(maps[name]).view(size, 2, *maps[name].shape[1:])
            out[name] = model.codec(name).encode(raw)
        return out


class Pushing:
    """The moving square as a world: an action says where it is next; the expert fills the picture up."""

    fps, action_dim, limit = FPS, 2, 40

    def reset(self, start: Start) -> dict:
        self.level = start.values[0]
        return self.seen()

    def step(self, action: np.ndarray) -> tuple[dict, bool]:
        done = self.act(action)
        return self.seen(), done

    def act(self, action: np.ndarray) -> bool:
        self.level = float(np.clip(action[0], 0, 1))
        return self.level == 1

    def expert(self) -> np.ndarray:
        return np.array([min(1.0, self.level + 0.02), 7.0], np.float32)

    def save(self) -> float:
        return self.level

    def restore(self, state: float) -> dict:
        self.level = state
        return self.seen()

    def close(self) -> None:
        pass

    def seen(self) -> dict:
        state = np.array([self.level, 7.0], np.float32)
        return {CAMERA: picture(np.array([self.level]))[0], "observation.state": state, "task": "move"}
