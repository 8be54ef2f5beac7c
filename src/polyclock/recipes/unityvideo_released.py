"""What the authors of UnityVideo released: Wan2.2-TI2V-5B with one more way in and out, which five modalities share.

Paper      UnityVideo (CVPR 2026, arXiv 2512.07831), as its public code trains it (commit e79e9b6): no switcher in the
           blocks, one time for all tokens, one task for all samples of a step
Expects    what the authors' network computes, to 1e-5 (tests/interop/test_unityvideo_import.py); none of its published
           weights has been run by us
Hardware   one GPU of 80 GB for training at 256 px, 33 frames
Command    polyclock train unityvideo_released --base BASE --data clips.csv --out RUN --lr 1e-5 --lr-new 10 \
               --warmup 200 --schedule constant --clip 1.5 --ema 0.9999 --batch-size 28, where BASE is Wan2.2-TI2V-5B
               in diffusers' format
           polyclock import unityvideo CHECKPOINT --base BASE --out MODEL: their weights, in place of new ones
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..backbones.wan import Wan
from ..codecs import Chain, DepthColor, FlowColor, Palette, Pixels, SurfaceColor, WanVAE, coco_skeleton
from ..codecs.codec import Codec
from ..density import LogitNormal
from ..encoders import Bytes, Numbers
from ..errors import unknown
from ..interop.wan import WORDS, recipe_of
from ..layout import Layout, Stream, after, one_of
from ..modality import Condition, Modality
from ..nn.modulation import Local
from ..recipe import Recipe
from .unityvideo import SILENT, law

# What they call our modalities: these are their columns.
COLUMNS = {
    "depth": "depth",
    "surface": "densepose",
    "flow": "raft",
    "segmentation": "segmentation",
    "skeleton": "skeleton",
}
# Quoted from JIA-Lab-research/UnityVideo, MIT licence: their network was trained on these very words.
PROMPTS = {
    "depth": "depth map visualization, scene depth from camera, near in warm colors and far in cool colors.",
    "surface": "densepose visualization with body part UV coordinates.",
    "flow": "optical flow visualization showing motion direction with color and magnitude with intensity.",
    "segmentation": "segmentation mask of foreground objects against background.",
    "skeleton": "human skeleton pose visualization with body keypoints and limbs.",
}


def unityvideo_released(
    *,
    base: str
    | None = None,  # Wan2.2-TI2V-5B, or another Wan, in diffusers' format; none: a small one on pixels, for tests
    maps: tuple[str, ...] = tuple(COLUMNS),  # beside the video
    drawn: bool = False,  # the data bring maps drawn as pictures, as the authors' do; else their numbers
    image: tuple[int, int] = (256, 256),  # height,width in pixels; in latent cells, where it brings no autoencoder
    frames: int = 33,  # pictures of a clip, 4 k + 1; latent frames, where the base brings no autoencoder
    rate: float = 8.0,  # pictures a second
    control: float = 0.25,  # shares of the three tasks: the video from a map,
    estimate: float = 0.25,  # a map from the video,
    joint: float = 0.5,  # both at once
    shift: float = 5.0,  # of the times towards noise
    drop_text: float = 0.1,  # share of samples without their caption
    seed: int = 0,
) -> Recipe:
    """Video and maps as latents of one autoencoder, each map's tokens right of the video's.

    # differs from the release: a sample's map is drawn for it alone, and a step may hold several.
    """
    for name in maps:
        if name not in COLUMNS:
            raise unknown("map", name, COLUMNS)
    whole = small() if base is None else recipe_of(base)
    film = whole.modalities["video"]
    film = replace(film, shape=sized(film, frames, image), rate=rate)
    codecs = drawings(film.codec, image, drawn)
    modalities = {"video": film}
    for name in maps:
        own: dict[str, Any] = {"copy": "video", "adapter": SILENT}
        if name != maps[0]:
            own = {"embedding": maps[0], "head": maps[0]}
        codec = codecs.get(name, film.codec)
        modalities[name] = replace(film, key=COLUMNS[name], codec=codec, mark=True, zero_init=True, **own)
    sides = (Stream("video"), Stream(one_of(*maps), at=after("video", "W")))
    shares = {"control": control, "estimate": estimate, "joint": joint}
    odds = LogitNormal(shift=shift)
    assert isinstance(whole.modulation, Local)
    return Recipe(
        name="unityvideo_released",
        modalities=modalities,
        conditions=told(whole.conditions["text"], sides[1].name, maps, drop_text),
        layout=Layout(*sides),
        law=law(maps, shares, "step", "shared", estimate_text=True, density=odds, apart=True),
        modulation=replace(whole.modulation, times="highest", last=tuple(maps)),
        backbone=whole.backbone,
        base=base,
        seed=seed,
    )


def small() -> Recipe:
    """A Wan network of a few million weights on pixels, and a caption that it reads byte by byte."""
    reader = Bytes(width=64, depth=1, heads=2)
    return Recipe(
        name="small",
        modalities={"video": Modality(shape=(None, None, None, 3), patch=(1, 8, 8), codec=Pixels())},
        conditions={"text": Condition(key="task", encoder=reader, route="context", adapter=WORDS, null="empty")},
        layout=Layout(Stream("video")),
        law=law((), {}, "step", "shared", False, LogitNormal(), True),
        modulation=Local(shared=True),
        backbone=Wan(size="tiny"),
    )


def sized(film: Modality, frames: int, image: tuple[int, int]) -> tuple[int | None, ...]:
    """The latent shape of a clip, read off the autoencoder.

    Errors: ValueError for a number of frames or pixels that it, or a token of the network, does not divide.
    """
    codec, factor = film.codec, 1
    if isinstance(codec, WanVAE):
        if frames % 4 != 1:
            raise ValueError(f"frames={frames}; the autoencoder takes 4 k + 1, such as {frames - (frames - 1) % 4}")
        frames, factor = (frames + 3) // 4, codec.factor
    for size, patch in zip(image, film.patch[1:], strict=True):
        cell = factor * patch
        if size % cell:
            near = max(1, size // cell) * cell
            raise ValueError(f"image={image}: a token is {cell} pixels wide, so {size} is not possible; {near} is")
    return frames, *(size // factor for size in image), film.shape[-1]


def drawings(codec: Codec, image: tuple[int, int], drawn: bool) -> dict[str, Codec]:
    """How numbers become the pictures that the autoencoder reads; none where they are pictures already, or latents."""
    if drawn or not isinstance(codec, WanVAE | Pixels):
        return {}
    shown: dict[str, Codec] = {
        "depth": DepthColor(range="clip", scale="inverse"),
        "surface": SurfaceColor(style="viridis"),
        "flow": FlowColor(range="clip"),
        "segmentation": Palette(of="instance", cycle=True),
        "skeleton": coco_skeleton(image, figures=2, radius=max(1.5, 2 * image[0] / 128)),
    }
    if isinstance(codec, Pixels):
        return shown
    behind = replace(codec, raw="float")
    return {name: Chain(first, behind) for name, first in shown.items()}


def told(caption: Condition, side: str, maps: tuple[str, ...], drop: float) -> dict[str, Condition]:
    """The caption for the video, and what a map is for its stream, through one text encoder; only the first is dropped.

    Without a text encoder both are features that are given.
    """
    if isinstance(caption.encoder, Numbers):
        caption = replace(caption, to=("video",))
        return {"text": caption, "prompt": replace(caption, to=(side,), share="text")}
    caption = replace(caption, key="task", to=("video",), drop=drop)
    said = {name: PROMPTS[name] for name in maps}
    return {"text": caption, "prompt": replace(caption, key="prompt", to=(side,), share="text", drop=0.0, prompts=said)}
