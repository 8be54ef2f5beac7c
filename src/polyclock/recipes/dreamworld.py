"""DreamWorld: a video network that predicts flow, semantics and geometry too, as channels of the same tokens.

Paper      DreamWorld (arXiv 2603.00466): Wan2.1-T2V-1.3B with 48 channels in and out
Expects    the video's velocity at the first step is the base network's to the bit; at our scale, docs/results.md
Hardware   with Wan2.1: 8 GPUs of 80 GB; without a base: two CPU cores
Command    polyclock annotate CLIPS --experts flow=raft:FILE,semantics=dino:DINOV2,geometry=vggt:VGGT --out ANNOTATED
           polyclock train dreamworld --base WAN --data ANNOTATED --out RUN --steps 2000 --batch-size 16 --lr 1e-5 \
               --warmup 400 --schedule constant --betas 0.9,0.99 --weight-decay 0.2 --ema 0 --clip 1 --precision bf16 \
               --seed 42 --recompute --lora 32 --lora-of attention,cross --lora-beside embed.video,head.video
           polyclock train dreamworld --data DATASET --out RUN: a small network on pixels and a world's exact maps

What the paper leaves open is an argument here, or a flag of training above; docs/papers/dreamworld.md lists all.

# differs from the paper: flow is drawn at the later frame of its pair, as a causal autoencoder sees it; means,
deviations and components are fitted to features before they are brought to the latents' grid, as ReDi's code does it,
where theirs are fitted after it; the frames of a clip follow each other at `rate`, where theirs are spread over all of
it (CLIPS?frames=81&fps=16 does that); without a base clean pictures are predicted, as a token holds more numbers than
a small network is wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from ..backbones.dit import DiT
from ..backbones.wan import Wan
from ..codecs import (
    Chain,
    DepthPlane,
    FlowColor,
    FlowFrames,
    FlowPlanes,
    Identity,
    LabelPlanes,
    Pixels,
    Projection,
    Resample,
    WanVAE,
)
from ..codecs.codec import Codec
from ..data.annotation import column_name
from ..density import Density, LogitNormal, Uniform
from ..encoders import Bytes
from ..errors import unknown
from ..guidance import Guide
from ..interop import expanded, wan
from ..layout import Layout, Stream
from ..modality import Condition, Modality, Null
from ..nn.detail import Detail
from ..nn.modulation import Local
from ..objective import Annealed
from ..path import Linear
from ..recipe import Recipe
from ..timesteps import Drop, Law, Mixture, Shared, Task

FEATURES = ("flow", "semantics", "geometry")  # in the order of the channels
MAPS = {"semantics": "segmentation", "geometry": "depth"}  # what a world knows exactly
# Losses of clean pictures and maps are small numbers of different sizes; these bring them to that of velocities.
PLAIN = {"video": 4.0, "flow": 60.0, "semantics": 8.0, "geometry": 12.0}
# In place of a base: 64 px.
SMALL = {"image": (64, 64), "frames": 8, "rate": 10.0}
LARGE = {"image": (480, 832), "frames": 81, "rate": 16.0}


def dreamworld(
    *,
    base: str | None = None,  # a Wan, or what became of one, in diffusers' format; none: a small network on pixels
    features: tuple[str, ...] = FEATURES,  # beside the video; none: the video alone
    experts: Literal["features", "maps"] | None = None,  # what semantics and geometry are; none: features with a base
    cameras: tuple[str, ...] = ("video",),  # the first is the column of the video, its features lie beside it
    image: tuple[int, int] | None = None,  # height,width in pixels; none: 480,832, or 64,64 without a base
    frames: int | None = None,  # pictures of a clip; none: 81, or 8 without a base
    rate: float | None = None,  # of them a second; none: 16, or 10 without a base
    weight: float = 0.2,  # of each feature's loss, beside 1 of the video
    weights: tuple[tuple[str, float], ...] = (),  # of single features, such as flow=0.1
    annealed: int = 2000,  # steps in which the weights fall to 0; 0: they stay
    hold: int = 0,  # of these, steps before they begin to fall
    reduction: Literal["mean", "sum"] = "mean",  # a loss is the mean over each source's numbers, or over all channels
    drop: float = 0.0,  # share of samples without a feature, of each by itself
    null: Null = "zero",  # what a withheld feature looks like: zero, mean, noise, or blank (zero before the noise)
    learn_dropped: bool = False,  # a dropped feature is learnt all the same
    drop_text: float = 0.0,  # share of samples without their caption; none where a base brings no text encoder
    density: Literal["logit-normal", "uniform"] = "logit-normal",  # of the times
    shift: float = 1.0,  # of the times towards noise
    first: float = 0.0,  # share of samples whose first picture is given
    components: int = 8,  # of semantics and geometry
    scale: Literal["none", "global", "channel"] = "none",  # of the components
    pooling: Literal["causal", "pick"] = "causal",  # of features over the frames of a latent frame
    space: Literal["bilinear", "nearest", "area"] = "bilinear",  # of features to the latents' grid
    reach: float = 0.15,  # flow that has the full colour, in diagonals of the picture
    posterior: bool = False,  # latents are drawn from the autoencoder's posterior, else its mode
    size: str = "tiny",  # of the small network, here and below
    network: Literal["wan", "dit"] = "wan",
    patch: int = 8,  # pixels to a side of a token
    predict: Literal["data", "velocity"] = "data",
    classes: int = 13,  # of the segmentation
    still: bool = False,  # the camera stands still: every place of the picture has learnt values
    detail: bool = False,  # convolutions beside the tokens
    seed: int = 0,
) -> Recipe:
    """Video and features in one stream on one clock; features join a base silently.

    Errors: ValueError for a size that does not come out even, an unknown feature, or features without an autoencoder.
    """
    numbers = LARGE if base else SMALL
    image, frames, rate = image or numbers["image"], frames or numbers["frames"], rate or numbers["rate"]  # type: ignore[assignment]
    start = read(base, posterior) if base else small(size, network, patch, predict)
    film = sized(start.modalities["video"], image, frames, rate, cameras[0])  # type: ignore[arg-type]
    exact = (experts or ("features" if isinstance(film.codec, WanVAE) else "maps")) == "maps"
    drawn = codecs(film, image, reach, classes, exact, components, scale, pooling, space)  # type: ignore[arg-type]
    plain = PLAIN if predict == "data" and not base else {}
    modalities = {"video": replace(film, weight=plain.get("video", 1.0))}
    own = dict.fromkeys(features, weight) | dict(weights)
    for name in features:
        if name not in drawn:
            raise unknown("feature", name, FEATURES)
        channels, codec, column = drawn[name]
        modalities[name] = replace(
            film,
            key=column_name(cameras[0], column),
            shape=(*film.shape[:-1], channels),
            codec=codec,
            path=replace(film.path, spread=0.1) if name == "flow" and film.path.spread else film.path,
            weight=falling(own[name] * plain.get(name, 1.0), annealed, hold),
            clock="video",
            null=null,
            zero_init=True,
        )
    if reduction == "sum":
        modalities = by_channels(modalities)
    odds: Density = LogitNormal(shift=shift) if density == "logit-normal" else Uniform(shift)
    text = start.conditions["text"]
    return replace(
        start,
        name="dreamworld",
        modalities=modalities,
        conditions={"text": text if text.required else replace(text, key="task", drop=drop_text)},
        layout=Layout(Stream("video", *features, place=still, detail=Detail() if detail else None)),
        law=law(features, odds, first, drop, learn_dropped),
        base=base,
        seed=seed,
    )


def guides(text: float = 5.0, feature: float = 1.0, features: Sequence[str] = FEATURES) -> tuple[Guide, ...]:
    """The paper's guidance: one branch without the text, one without each feature."""
    return (Guide(weight=text, drop={"text"}), *(Guide(weight=feature, drop={n}) for n in features))


def read(base: str, posterior: bool) -> Recipe:
    """The recipe of a folder, of whose channels the first are the video's; three channels without an autoencoder are
    pixels."""
    start = wan.recipe_of(base)
    film = start.modalities["video"]
    said = expanded.sources_of(base)
    codec: Codec = film.codec
    if isinstance(codec, WanVAE):
        codec = replace(codec, sample=posterior)
    channels = next(iter(said.values())) if said else film.shape[-1]
    if isinstance(codec, Identity) and channels == 3:
        codec = Pixels()
    return replace(start, modalities={"video": replace(film, shape=(*film.shape[:-1], channels), codec=codec)})


def small(size: str, network: str, patch: int, predict: str) -> Recipe:
    """A network on pixels that reads its caption byte by byte."""
    path = Linear(predict="data", spread=0.5) if predict == "data" else Linear()
    shape = (None, None, None, 3)
    return Recipe(
        name="small",
        modalities={"video": Modality(shape=shape, patch=(1, patch, patch), path=path, codec=Pixels())},
        conditions={"text": Condition(encoder=Bytes(width=64, depth=1, heads=2), route="context", null="empty")},
        layout=Layout(Stream("video")),
        law=Shared(),
        modulation=Local(shared=True, frequencies=64),
        backbone=Wan(size=size) if network == "wan" else DiT(size=size),
    )


def sized(film: Modality, image: tuple[int, int], frames: int, rate: float, column: str) -> Modality:
    """The video with the size that its autoencoder makes of pictures. Errors: sizes that do not come out even."""
    factor = 1
    if isinstance(film.codec, WanVAE):
        if frames % 4 != 1:
            raise ValueError(
                f"frames={frames}; the autoencoder takes 4 k + 1, such as {max(1, frames - (frames - 1) % 4)}"
            )
        frames, factor = (frames + 3) // 4, film.codec.factor
    for n, p in zip(image, film.patch[1:], strict=True):
        if n % (factor * p):
            near = max(1, n // (factor * p)) * factor * p
            raise ValueError(f"image={image}: a token is {factor * p} pixels wide, so {n} is not possible; {near} is")
    shape = (frames, *(n // factor for n in image), film.shape[-1])
    return replace(film, shape=shape, rate=rate, key=column)


def codecs(
    film: Modality,
    image: tuple[int, int],
    reach: float,
    classes: int,
    exact: bool,
    components: int,
    scale: Any,
    pooling: Any,
    space: Any,
) -> dict[str, tuple[int, Codec, str]]:
    """feature -> (channels, codec, name of its column): as latents of the video's autoencoder, or as they are."""
    behind = film.codec
    if not isinstance(behind, WanVAE):
        if not exact:
            raise ValueError('experts="features" needs a base with an autoencoder; possible here: "maps"')
        flow: tuple[int, Codec, str] = (2, FlowPlanes(reach=reach * (image[0] ** 2 + image[1] ** 2) ** 0.5), "flow")
        if film.path.predict == "velocity":
            flow = (3, FlowColor(style="hsv", range="diagonal", reach=reach, turn=0.5), "flow")
        return {
            "flow": flow,
            "semantics": (classes, LabelPlanes(classes=classes), MAPS["semantics"]),
            "geometry": (1, DepthPlane(near=1.0, far=8.0, scale="inverse"), MAPS["geometry"]),
        }
    grid = (int(film.shape[1] or 0), int(film.shape[2] or 0))
    drawn = FlowColor(style="hsv", range="diagonal", reach=reach, turn=0.5)
    flow = (int(film.shape[-1] or 0), Chain(FlowFrames(), drawn, replace(behind, raw="float")), "flow")
    if exact:
        cells = Resample(size=grid, space="area", time=pooling, grid=image)
        labels, depth = LabelPlanes(classes=classes), DepthPlane(near=1.0, far=8.0, scale="inverse")
        return {
            "flow": flow,
            "semantics": (classes, Chain(labels, cells), MAPS["semantics"]),
            "geometry": (1, Chain(depth, cells), MAPS["geometry"]),
        }
    few = Chain(Projection(components=components, scale=scale), Resample(size=grid, space=space, time=pooling))
    return {"flow": flow, "semantics": (components, few, "semantics"), "geometry": (components, few, "geometry")}


def falling(weight: float, steps: int, hold: int) -> Annealed | float:
    """Constraint annealing of a loss's weight, or the weight itself."""
    return Annealed(start=weight, steps=steps, hold=hold) if steps and weight else weight


def by_channels(modalities: dict[str, Modality]) -> dict[str, Modality]:
    """Weights with which the sum of means is the mean over all channels, times their number over the video's."""
    most = float(modalities["video"].shape[-1] or 1)
    out = {}
    for name, m in modalities.items():
        share = float(m.shape[-1] or 1) / most
        weight = m.weight
        if isinstance(weight, Annealed):
            out[name] = replace(m, weight=replace(weight, start=weight.start * share, end=weight.end * share))
        else:
            assert isinstance(weight, float)
            out[name] = replace(m, weight=weight * share)
    return out


def law(features: tuple[str, ...], odds: Density, first: float, drop: float, learn: bool) -> Law:
    """One time for all; with the first picture given in a share of samples, and features dropped in another."""
    found: Law = Shared(odds)
    if first:
        wanted = ", ".join(("video[1:]", *features))
        given = Task(f"{wanted} | video[:1], text", odds)
        found = Mixture((1 - first, found), (first, given)) if first < 1 else given
    return Drop(features, drop, found, learn) if drop and features else found
