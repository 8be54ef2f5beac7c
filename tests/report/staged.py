"""A scene of a robot's camera with every kind of map, made of arrays: no model and no simulator."""

from __future__ import annotations

import numpy as np

from polyclock.evaluate.held_out import Place
from polyclock.evaluate.questions import Question
from polyclock.modality import Signal
from polyclock.report.scenes import Clip, Scene, Scenes

SIDE, FRAMES, RATE = 16, 5, 10.0
TIMES = tuple(i / RATE for i in range(FRAMES))
WINDOW = (0, 0, 0, 1, 1)
MAPS = ("depth", "flow", "segmentation", "skeleton", "surface")
NOTES = {
    "observation.segmentation.front": {"classes": {"0": "background", "1": "floor", "4": "arm", "9": "button"}},
    "observation.skeleton.front": {
        "joints": ["base", "elbow", "hand"],
        "limbs": [["base", "elbow"], ["elbow", "hand"]],
    },
    "observation.flow.front": {"steps": 4},
    "observation.surface.front": {"parts": {"0": "none", "1": "arm", "2": "hand"}},
    "action": {"names": ["x", "y", "closing"]},
}


def true_values() -> dict[str, np.ndarray]:
    """name -> (FRAMES, ...) in the units of the data; what moves goes one pixel to the right in a frame."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    video = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)
    depth = np.repeat((1 + columns / SIDE)[None, ..., None], FRAMES, 0).astype(np.float32)
    depth[:, 0] = 0  # unknown
    flow = np.zeros((FRAMES, SIDE, SIDE, 3), np.float32)
    masks = np.zeros((FRAMES, SIDE, SIDE, 2), np.int32)
    masks[..., 1] = rows >= 8
    surface = np.zeros((FRAMES, SIDE, SIDE, 3), np.float32)
    points = np.ones((FRAMES, 3, 3), np.float32)
    for i in range(FRAMES):
        box = np.s_[i, 4:8, 2 + i : 6 + i]
        video[box], flow[box], masks[box], surface[box] = 200, (1, 0, 0), (1, 4), (2, 0.5, 0.25)
        points[i, :, :2] = [(8, 15), (8, 8), (4 + i, 6)]
    action = np.stack([np.linspace(0, 1, FRAMES), np.zeros(FRAMES), np.linspace(1, -1, FRAMES)], 1)
    return {"video": video, "depth": depth, "flow": flow, "segmentation": masks, "surface": surface,
            "skeleton": points, "action": action.astype(np.float32)}  # fmt: skip


def clip(values: np.ndarray, first: int = 0) -> Clip:
    return Clip(times=TIMES[first:], values=values[first:], window=WINDOW[first:])


def signal(name: str, shape: tuple[int | None, ...], kind: str) -> Signal:
    column = {"video": "images"}.get(name, name)
    key = name if name in ("action", "task") else f"observation.{column}.front"
    return Signal(key=key, shape=shape, rate=RATE, start=0.0, kind=kind)  # type: ignore[arg-type]


FORWARD = Question(
    name="forward",
    query=f"video[1:], {', '.join(MAPS)} | video[:1], action, text",
    wanted={"video": 1, **dict.fromkeys(MAPS, 0)},
    given=("video", "action"),
    of=("action",),
    conditions=("text",),
    tokens=("video", *MAPS, "action"),
)
POLICY = Question(
    name="policy", query="action | text", wanted={"action": 0}, given=(), of=(), conditions=("text",),
    tokens=("action",),
)  # fmt: skip
BACK = Question(
    name="video from depth", query="video | depth", wanted={"video": 0}, given=("depth",), of=("depth",),
    conditions=(), tokens=("video", "depth"),
)  # fmt: skip


def scenes(asked: tuple[Question, ...] = (POLICY, FORWARD, BACK)) -> Scenes:
    """One stretch of two windows; every answer is the truth with noise."""
    true = true_values()
    dice = np.random.default_rng(0)

    def guess(name: str) -> np.ndarray:
        noise = dice.normal(0, 0.1, true[name].shape)
        return (true[name] + noise).astype(true[name].dtype) if true[name].dtype == np.float32 else true[name]

    kinds = {n: n for n in MAPS} | {"video": "picture", "action": "numbers"}
    signals = {n: signal(n, (3, *v.shape[1:]), "video" if v.ndim == 4 else "vector") for n, v in true.items()}
    signals["text"] = signal("task", (), "text")
    one = Scene(
        places=(Place(7, 0), Place(7, 3)),
        seconds=0.0,
        values={n: clip(v) for n, v in true.items()} | {"text": "press <the> button"},
        given={q.name: {n: clip(true[n][: q.wanted.get(n) or FRAMES]) for n in q.given} for q in asked},
        answers={q.name: {n: clip(guess(n), first) for n, first in q.wanted.items()} for q in asked},
        scale={"action": np.ones(3)},
    )
    return Scenes(
        asked=asked, signals=signals, kinds=kinds, notes=NOTES,
        sizes={"observation.images.front": (SIDE, SIDE)}, fps=RATE, seconds=0.3, scenes=(one,),
    )  # fmt: skip
