"""Unified world model: action and future video, each with its own clock, given cameras and state.

Paper      Zhu et al., Unified World Models (RSS 2025, arXiv 2504.02792)
Expects    held out, one network answers policy, forward, inverse, video and joint; forward with the true actions beats
           forward with shuffled ones, inverse beats policy (docs/results.md)
Hardware   size tiny at 64 px: two CPU cores, 30 minutes; sizes S to L: one GPU
Command    polyclock train uwm --data DATASET --out RUN
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..backbones.dit import DiT
from ..codecs import Pixels, Quantile
from ..density import Density, Places, Uniform
from ..encoders import Bytes, Patches, ResNet, Vector
from ..layout import Layout, Stream
from ..modality import Condition, Encoder, Modality
from ..nn.modulation import Joint, JointLocal
from ..path import Discrete, Linear, Path
from ..recipe import Recipe
from ..timesteps import Independent, Law, Mixture, Shared, Task
from ..views import Jitter, View

TABLE = 100  # places of the DDPM table
QUESTIONS = (("action", ""), ("video", "action"), ("action", "video"), ("video", ""))  # what is wanted, and given
Given = Literal["global", "tokens", "context", "none"]
Which = Literal["flow", "ddpm"]


def uwm(
    *,
    size: str = "tiny",  # of the network: tiny, S, B or L
    cameras: tuple[str, ...] = ("observation.images.top",),  # columns; signals of all but the first end in .NAME
    state: str | None = "observation.state",  # column of the proprioception; None: not given
    action: str = "action",  # column of the actions
    image: int = 64,  # pixels to a side
    patch: int = 8,  # pixels to a side of a token
    horizon: int = 16,  # action steps
    action_rate: float = 10.0,  # action steps a second
    future: int = 4,  # future frames, spread evenly over the horizon, the last at its end
    history: int = 2,  # camera frames that are given, the last one current
    text: bool = False,  # the task sentence is given
    optional: bool = False,  # a sample may lack the state: people, or a robot that was only filmed
    given: Given = "global",  # how pictures and sentence enter: added to all vectors, as tokens, by cross-attention
    target: Literal["future", "current", "none"] = "future",  # what the video stream predicts; none: there is none
    path: Which = "flow",  # straight paths and velocities, or the DDPM table and noise
    times: Literal["independent", "shared"] = "independent",  # of action and video
    ends: float = 0.1,  # weight of the atoms at t = 0 and at t = 1, where times are independent
    asked: float = 0.5,  # share of samples drawn as one of the four questions; the rest draw independent times
    spans: float = 0.0,  # share with the first k actions given; above 0 each step has a time: action[k:] | action[:k]
    alone: float = 0.0,  # share of steps that train the policy without tokens for the video: action | -video
    registers: int = 8,
    still: bool = False,  # the cameras stand still: every place of a picture has learnt values
    relative: bool = False,  # pictures are shown and told as their difference from the current one, of size `spread`
    spread: float | None = None,  # of the pixels in [-1, 1], to show the network its best guess in place of noise
    weight: float = 1.0,  # of the video's loss
    margin: int = 0,  # pixels by which pictures are larger than `image` before a random crop in training
    jitter: bool = False,  # colours change in training
    looks: int | None = None,  # crops and colours that training draws from, always the same ones; None: any
    seed: int = 0,
) -> Recipe:
    """Actions (horizon, A) and future frames (future, image, image, 3) as two streams side by side.

    # differs from the paper: pixel patches in place of VAE latents; the current image also joins the video stream by
    channel concatenation, so that what does not move need not pass through one vector; straight paths; end atoms; a
    share of samples at exactly the times of the questions; samples without actions have no tokens and no loss of them.
    """
    tiny = size == "tiny"
    names = {c: "video" if i == 0 else f"video.{c.rsplit('.', 1)[-1]}" for i, c in enumerate(cameras)}
    film = Modality(
        shape=(future, image, image, 3),
        patch=(2 if future % 2 == 0 else 1, patch, patch),
        rate=future * action_rate / horizon,
        start=(1 if target == "future" else 1 - future) * horizon / action_rate / future,
        path=picture_path(path, spread),
        codec=Pixels(),
        weight=weight,
    )
    if relative and (target != "future" or spread is None):
        raise ValueError("relative is for target='future', and needs spread, the size of the difference")
    modalities, conditions, views = {}, {}, []
    for camera, name in names.items():
        eye, now = name.replace("video", "camera"), name.replace("video", "current")
        if target != "none":
            mate = {} if name == "video" else {"clock": "video", "share": "video"}
            modalities[name] = replace(film, key=camera, near=now if relative else None, **mate)
        if given != "none":
            conditions[eye] = pictures(camera, image, history, action_rate, picture_encoder(tiny, given), given)
        if target == "future":
            conditions[now] = present(camera, image, patch, action_rate, name, relative)
        seen = [n for n in (eye, now, name) if n in conditions or n in modalities]
        views += look(seen, image, margin, jitter, looks)
    modalities["action"] = Modality(
        key=action, shape=(horizon, None), patch=(1,), rate=action_rate, path=action_path(path), codec=Quantile()
    )
    conditions |= words(state, optional, action_rate, text, given, tiny)
    streams = (Stream(n, place=still) for n in names.values() if n in modalities)
    return Recipe(
        name="uwm",
        modalities=modalities,
        conditions=conditions,
        layout=Layout(Stream("action"), *streams),
        law=law(density(path), times, ends, asked, spans, alone, target != "none", conditions),
        modulation=JointLocal() if spans else Joint(),
        backbone=DiT(size=size),
        registers=registers,
        views=tuple(views),
        seed=seed,
    )


def picture_path(path: Which, spread: float | None) -> Path:
    """Data are predicted: a patch has more numbers than a small network is wide, and noise would not pass."""
    if path == "ddpm":
        return Discrete(steps=TABLE, spacing="trailing", predict="data", spread=spread)
    return Linear(predict="data", spread=spread)


def action_path(path: Which) -> Path:
    """Velocity on the straight path; noise on the table, whose rows begin at its last place, where nothing is left."""
    return Discrete(steps=TABLE, spacing="trailing") if path == "ddpm" else Linear()


def picture_encoder(tiny: bool, given: Given) -> ResNet:
    """One vector a frame where these are added to all vectors, else one for each cell of a frame."""
    width = 128 if tiny else 512
    if given == "global":
        return ResNet(size="mini" if tiny else "18", width=width)
    return ResNet(size="fine" if tiny else "18", width=width, pool="tokens")


def pictures(camera: str, image: int, frames: int, rate: float, encoder: Encoder, route: str) -> Condition:
    """The last frames of a camera, up to the present one."""
    shape, start = (frames, image, image, 3), (1 - frames) / rate
    return Condition(key=camera, shape=shape, rate=rate, start=start, encoder=encoder, route=route, required=True)


def present(camera: str, image: int, patch: int, rate: float, stream: str, near: bool) -> Condition:
    """The present picture, joined to the tokens of a stream; as a latent where the stream's pictures are near to it."""
    joined = pictures(camera, image, 1, rate, Patches(patch=(patch, patch)), f"fuse:{stream}")
    return replace(joined, codec=Pixels()) if near else joined


def look(names: Sequence[str], image: int, margin: int, jitter: bool, looks: int | None) -> list[View]:
    """How one camera is looked at: alike under all its names, anew for every sample, by one of `looks` if so many."""
    if looks and not (margin or jitter):
        raise ValueError(f"looks={looks} has no effect without margin or jitter: pictures are looked at in one way")
    if not names or not (margin or jitter):
        return []
    whole, colours = (image + margin, image + margin), Jitter() if jitter else None
    return [View(of=tuple(names), size=whole, crop=(image, image), jitter=colours, fixed=looks)]


def words(state: str | None, optional: bool, rate: float, text: bool, given: Given, tiny: bool) -> dict[str, Condition]:
    """The conditions that are no pictures. What need not be there is withheld now and then."""
    conditions = {}
    if state:
        conditions["state"] = Condition(
            key=state,
            shape=(1, None),
            rate=rate,
            encoder=Vector(width=128),
            codec=Quantile(),
            required=not optional,
            drop=0.1 if optional else 0.0,
        )
    if text:
        route = "global" if given == "none" else given
        numbers = {"width": 64, "depth": 1, "heads": 2} if tiny else {}
        encoder = Bytes(**numbers, pool=route != "context")  # a sentence that names a task is one token's worth
        conditions["text"] = Condition(key="task", encoder=encoder, route=route, drop=0.1)
    return conditions


def density(path: Which) -> Density:
    """Of times: all alike, or all places of the table."""
    return Places(TABLE) if path == "ddpm" else Uniform()


def law(
    density: Density,
    times: str,
    ends: float,
    asked: float,
    spans: float,
    alone: float,
    video: bool,
    conditions: Mapping[str, Condition],
) -> Law:
    """Independent times, and with probability `asked` the very times of policy, forward, inverse or video.

    A condition that a question does not name is null in it, so every question names those that are not required.
    """
    for name, share in (("asked", asked), ("spans", spans), ("alone", alone), ("asked + spans", asked + spans)):
        if not 0 <= share < 1:
            raise ValueError(f"{name}={share} is a share and must lie in [0, 1)")
    if (spans or alone) and times == "shared" or alone and not video:
        raise ValueError("spans needs times='independent', and alone that and a video to be left out")
    if times == "shared":
        return Shared(density)

    named = [n for n, c in conditions.items() if not c.required]

    def task(wanted: str, *given: str) -> Task:
        return Task(f"{wanted} | {', '.join([*filter(None, given), *named])}".strip(), density)

    # Actions alone have one clock, and nothing is ever given or unknown beside it.
    sides = QUESTIONS if video and asked else ()
    entries: list[tuple[float, Law]] = [(asked / len(sides), task(*side)) for side in sides]
    entries += [(spans, task("action[k:]", "action[:k]"))] if spans else []
    rest = Independent(density, ends=ends if video else 0.0)
    whole = Mixture((1 - sum(share for share, _ in entries), rest), *entries) if entries else rest
    return Mixture((alone, task("action", "-video")), (1 - alone, whole), whole=True) if alone else whole
