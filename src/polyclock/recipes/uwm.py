"""Unified world model: action and future video, each with its own clock, given cameras and state.

Paper      Zhu et al., Unified World Models (RSS 2025, arXiv 2504.02792)
Expects    held out, one network answers policy, forward, inverse, video and joint; forward with the true actions beats
           forward with shuffled ones, inverse beats policy (docs/results.md)
Hardware   size tiny at 64 px: two CPU cores, 30 minutes; sizes S to L: one GPU
Command    polyclock train uwm --data DATASET --out RUN
"""

from __future__ import annotations

from ..backbones.dit import DiT
from ..codecs import Pixels, Quantile
from ..encoders import Bytes, Patches, ResNet, Vector
from ..layout import Layout, Stream
from ..modality import Condition, Modality
from ..nn.modulation import Joint
from ..path import Linear
from ..recipe import Recipe
from ..timesteps import Independent, Law, Mixture, Task


def uwm(
    *,
    size: str = "tiny",  # of the network: tiny, S, B or L
    cameras: tuple[str, ...] = ("observation.images.top",),  # columns; the first is `video`, others `video.NAME`
    state: str | None = "observation.state",  # column of the proprioception; None: not given
    action: str = "action",  # column of the actions
    image: int = 64,  # pixels to a side
    patch: int = 8,  # pixels to a side of a token
    horizon: int = 16,  # action steps
    action_rate: float = 10.0,  # action steps a second
    future: int = 4,  # future frames, spread evenly over the horizon, the last at its end
    history: int = 2,  # camera frames that are given, the last one current
    text: bool = False,  # the task sentence as cross-attention context
    registers: int = 8,
    ends: float = 0.1,  # weight of the atoms at t = 0 and at t = 1
    asked: float = 0.5,  # share of samples drawn as one of the four questions; the rest draw independent times
    seed: int = 0,
) -> Recipe:
    """Actions (horizon, A) and future frames (future, image, image, 3) as two streams side by side.

    # differs from the paper: pixel patches in place of VAE latents; the current image also joins the video stream by
    channel concatenation, so that what does not move need not pass through one vector; straight paths; end atoms; a
    share of samples at exactly the times of the questions.
    """
    seconds = horizon / action_rate
    names = {c: "video" if i == 0 else f"video.{c.rsplit('.', 1)[-1]}" for i, c in enumerate(cameras)}
    modalities = {}
    conditions = {}
    for camera, name in names.items():
        modalities[name] = Modality(
            key=camera,
            shape=(future, image, image, 3),
            patch=(2 if future % 2 == 0 else 1, patch, patch),
            rate=future / seconds,
            start=seconds / future,
            path=Linear(predict="data"),  # a patch has more numbers than the network is wide: noise would not pass
            codec=Pixels(),
            clock=None if name == "video" else "video",
            share=None if name == "video" else "video",
        )
        eye = name.replace("video", "camera")
        conditions[eye] = Condition(
            key=camera,
            shape=(history, image, image, 3),
            rate=action_rate,
            start=-(history - 1) / action_rate,
            encoder=ResNet(size="mini" if size == "tiny" else "18", width=128 if size == "tiny" else 512),
            required=True,
        )
        conditions[eye.replace("camera", "current")] = Condition(
            key=camera,
            shape=(1, image, image, 3),
            rate=action_rate,
            encoder=Patches(patch=(patch, patch)),
            route=f"fuse:{name}",
            required=True,
        )
    modalities["action"] = Modality(key=action, shape=(horizon, None), patch=(1,), rate=action_rate, codec=Quantile())
    if state:
        conditions["state"] = Condition(
            key=state,
            shape=(1, None),
            rate=action_rate,
            encoder=Vector(width=128),
            codec=Quantile(),
            required=True,
        )
    if text:
        conditions["text"] = Condition(key="task", encoder=Bytes(), route="context", drop=0.1)
    return Recipe(
        name="uwm",
        modalities=modalities,
        conditions=conditions,
        layout=Layout(Stream("action"), *(Stream(n) for n in names.values())),
        law=law(ends, asked, text),
        modulation=Joint(),
        backbone=DiT(size=size),
        registers=registers,
        seed=seed,
    )


def law(ends: float, asked: float, text: bool) -> Law:
    """Independent times, and with probability `asked` the very times of policy, forward, inverse or video."""
    if not 0 <= asked < 1:
        raise ValueError(f"asked={asked} is a share and must lie in [0, 1)")
    independent = Independent(ends=ends)
    if not asked:
        return independent
    questions = (("action", ""), ("video", "action"), ("action", "video"), ("video", ""))
    # A condition that a question does not name is null in it: the sentence has to be named.
    sides = [(wanted, ", ".join([given] * bool(given) + ["text"] * text)) for wanted, given in questions]
    return Mixture((1 - asked, independent), *((asked / len(sides), Task(f"{w} | {g}".strip())) for w, g in sides))
