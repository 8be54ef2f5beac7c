"""One network that generates video, estimates five maps from it and is controlled by them, each in a stream of its own.

Paper      UnityVideo (CVPR 2026, arXiv 2512.07831): dynamic noising, prompts in context, modality switcher, expert ends
Expects    each map is estimated better than by its mean; beside networks of one map of equal size and steps:
           docs/results.md. docs/papers/unityvideo.md says which part makes which choice of the paper
Hardware   size tiny at 64 px: two CPU cores, 30 minutes
Command    polyclock train unityvideo --data DATASET --out RUN, on what `polyclock collect people --flow-steps 4` wrote
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..adapter import Adapter
from ..backbones.dit import DiT
from ..codecs import (
    TAB20,
    DepthColor,
    DepthPlane,
    FlowColor,
    FlowPlanes,
    LabelPlanes,
    Palette,
    Pixels,
    SkeletonPicture,
    SurfaceColor,
    SurfacePlanes,
    coco_skeleton,
)
from ..codecs.codec import Codec
from ..density import Density, LogitNormal, Uniform
from ..encoders import Bytes
from ..errors import unknown
from ..layout import Layout, Stream, after, one_of
from ..modality import Condition, Modality
from ..nn.detail import Detail
from ..nn.modulation import Local
from ..path import Linear
from ..recipe import Recipe
from ..timesteps import Independent, Law, Mixture, Task, Without

# In context: what a stream is told that it holds. A sample's own text takes the place of what stands in braces.
PROMPTS = {
    "depth": "depth map",
    "flow": "optical flow",
    "segmentation": "segmentation of {all things}",
    "skeleton": "human skeleton",
    "surface": "body surface",
}
# A way in that is a copy of the video's, and behind it a map that is silent at the start; the way out is a copy.
SILENT = Adapter(hidden=1, ratio=1, activation="none", like="behind", out=0)
Ends = Literal["own", "maps", "all"]
Together = Literal["one", "beside", "fused"]


def unityvideo(
    *,
    size: str = "tiny",  # of the network: tiny, S, B or L
    camera: str = "main",  # the view: columns observation.images.NAME, observation.depth.NAME, ...
    maps: tuple[str, ...] = tuple(PROMPTS),  # beside the video, each from observation.MAP.NAME; none: video alone
    together: Together = "one",  # a sample has one map; or several, in streams beside each other or in the video's own
    image: int = 64,  # pixels to a side
    frame: int = 128,  # pixels to a side of the data set's pictures, which keypoints are measured in
    patch: int = 8,  # pixels to a side of a token
    frames: int = 2,  # of video and maps
    rate: float = 5.0,  # frames a second
    rendering: Literal["published", "pictures", "planes"] = "pictures",  # how maps are drawn, see `codecs`
    near: float = 1.5,  # m, of the range of depth
    far: float = 8.5,
    reach: float = 6.0,  # px of `image`, the largest flow
    classes: int = 5,  # of the segmentation, the background among them
    figures: int = 2,  # of COCO's 17 joints, in a skeleton; 0: another figure, of `joints` joints
    joints: int = 11,
    parts: int = 24,  # of the surface
    control: float = 0.2,  # shares of the three tasks: the video from a map,
    estimate: float = 0.3,  # a map from the video,
    joint: float = 0.5,  # both at once
    asked: float = 0.5,  # with several maps: share of samples drawn as these tasks; others have times of all clocks
    routing: Literal["sample", "step"] = "sample",  # which task: drawn for each sample, or for all of a step
    times: Literal["shared", "independent"] = "shared",  # of video and map where both are wanted
    clean: Literal["own", "highest"] = "own",  # clean tokens are modulated at t = 0, or at the time of the noisy ones
    density: Literal["logit-normal", "uniform"] = "logit-normal",  # of the times
    shift: float = 1.0,  # of the times towards noise
    switcher: Literal["none", "token", "label", "table"] = "label",  # what tells modalities apart, see `switch`
    switch_video: bool = True,  # the video has a vector of its own too, where there is a label or table
    inputs: Ends = "all",  # whose way in a map uses: its own, one of all maps, or the video's
    outputs: Ends = "own",  # whose way out
    begin: Literal["new", "copy", "silent"] = "new",  # own ways begin anew, as the video's, or so behind a silent map
    context: Literal["prompts", "caption", "none"] = "prompts",  # what a map's stream attends to
    estimate_text: bool = False,  # the caption is given where a map is estimated
    drop_text: float = 0.1,  # share of samples without their caption
    drop_prompt: float = 0.0,  # share without their prompt
    place: Literal["width", "same"] = "width",  # a map stands beside the video, or in its place with a mark of its own
    predict: Literal["data", "velocity"] = "data",
    weight: float = 1.0,  # of the maps' losses
    detail: bool = False,  # convolutions beside the tokens
    seed: int = 0,
) -> Recipe:
    """Video and maps (frames, image, image, C).

    # differs from the paper: pixel patches in place of VAE latents, and clean pictures are predicted, as a token holds
    more numbers than a small network is wide and noise would not pass. Maps are drawn so that they can be read back.
    """
    film = Modality(
        key=f"observation.images.{camera}",
        shape=(frames, image, image, 3),
        patch=(1, patch, patch),
        rate=rate,
        path=Linear(predict="data", spread=0.5) if predict == "data" else Linear(),
        codec=Pixels(),
    )
    drawn = codecs(rendering, image, frame, near, far, reach, classes, figures, joints, parts)
    modalities = {"video": film}
    for name in maps:
        if name not in drawn:
            raise unknown("map", name, drawn)
        channels, codec = drawn[name]
        key, shape = f"observation.{name}.{camera}", (frames, image, image, channels)
        own = replace(film, key=key, shape=shape, codec=codec, weight=weight)
        marked = switcher == "token" or (place == "same" and together != "fused")
        modalities[name] = replace(own, mark=marked, **ends(name, maps[0], inputs, outputs, begin))
    sides = streams(maps, together, place, detail)
    odds: Density = LogitNormal(shift=shift) if density == "logit-normal" else Uniform(shift)
    named = {"control": control, "estimate": estimate, "joint": joint}
    tasks = law(maps, named, routing, times, estimate_text, odds, apart=together == "one")
    return Recipe(
        name="unityvideo",
        modalities=modalities,
        conditions=texts(maps, sides, context, drop_text, drop_prompt),
        layout=Layout(*sides),
        law=tasks if together == "one" or not maps else subsets(maps, tasks, asked, odds),
        modulation=switch(switcher, (*maps, "video") if switch_video else maps, clean),
        backbone=DiT(size=size),
        seed=seed,
    )


def codecs(
    rendering: str,
    image: int,
    frame: int,
    near: float,
    far: float,
    reach: float,
    classes: int,
    figures: int,
    joints: int,
    parts: int,
) -> dict[str, tuple[int, Codec]]:
    """map -> (channels, codec): "published" as the paper's figures show it, "planes" in numbers.

    "pictures" have three channels too, but nothing is lost: parts of a surface, whose published colours lie too close
    together to be read off a small network's pictures, are three digits.
    """
    size, radius = (image, image), max(1.5, 2 * image / 64)
    joined: Codec = SkeletonPicture(size=size, frame=(frame, frame), joints=joints, radius=radius)
    if figures:
        joined = coco_skeleton(size, (frame, frame), figures, radius)
    if rendering == "planes":
        return {
            "depth": (1, DepthPlane(near=near, far=far, scale="inverse")),
            "flow": (2, FlowPlanes(reach=reach)),
            "segmentation": (classes, LabelPlanes(classes=classes)),
            "skeleton": (3, joined),
            "surface": (5, SurfacePlanes(count=parts)),
        }
    return {
        "depth": (3, DepthColor(near=near, far=far, scale="inverse")),
        "flow": (3, FlowColor(reach=reach)),
        "segmentation": (3, Palette() if classes <= 11 else Palette(colours=TAB20)),
        "skeleton": (3, joined),
        "surface": (3, SurfaceColor(style="viridis" if rendering == "published" else "digits", count=parts)),
    }


def ends(name: str, first: str, inputs: Ends, outputs: Ends, begin: str) -> dict[str, Any]:
    """How a map enters and leaves the network; what maps share is that of the first of them."""
    shared = {"own": None, "maps": None if name == first else first, "all": "video"}
    found: dict[str, Any] = {"embedding": shared[inputs], "head": shared[outputs]}
    if begin != "new":
        found["copy"] = "video"
    if begin == "silent":
        found |= {"zero_init": True, "adapter": SILENT}
    return found


def streams(maps: Sequence[str], together: Together, place: str, detail: bool) -> tuple[Stream, ...]:
    """The video's stream, and one for whichever map a sample has, or one for each; or all in one."""
    fine = Detail() if detail else None
    if together == "fused":
        return (Stream("video", *maps, detail=fine),)
    slots = [(one_of(*maps) if len(maps) > 1 else maps[0],)] if together == "one" and maps else [(n,) for n in maps]
    sides = [Stream("video", detail=fine)]
    for slot in slots:
        sides.append(Stream(*slot, at=after(sides[-1].name, "W") if place == "width" else None, detail=fine))
    return tuple(sides)


def texts(
    maps: Sequence[str], sides: Sequence[Stream], context: str, drop_text: float, drop_prompt: float
) -> dict[str, Condition]:
    """The caption, and for each stream with maps what it is told of them; one encoder reads all."""
    caption = Condition(
        key="task",
        encoder=Bytes(width=64, depth=1, heads=2),
        route="context",
        to=None if context == "caption" else ("video",) if len(sides) > 1 or not maps else (sides[0].name,),
        drop=drop_text,
    )
    found = {"text": caption}
    for side in sides:
        told = {n: PROMPTS[n] for n in side.of if n in PROMPTS}
        if told and context == "prompts":
            # The data may bring a text of their own for what is segmented: docs/data.md says how a column is one.
            name = f"prompt.{side.name}" if len(sides) > 2 else "prompt"
            own = replace(caption, key="prompt", to=(side.name,), share="text", drop=drop_prompt)
            found[name] = replace(own, prompts=told)
    return found


def law(
    maps: Sequence[str],
    shares: Mapping[str, float],
    routing: str,
    times: Literal["shared", "independent"],
    estimate_text: bool,
    density: Density,
    apart: bool,
) -> Law:
    """Dynamic noising: the video from a map, a map from the video, or both, in these shares.

    `apart`: each for the one map that a sample has; else for all at once.
    """
    if not maps:
        return Task("video | text", density)
    seen = "video, text" if estimate_text else "video"
    queries = {"control": "video | {}, text", "estimate": f"{{}} | {seen}", "joint": "video, {} | text"}
    wanted = maps if apart else (", ".join(maps),)
    entries: list[tuple[float, Law]] = []
    for task, query in queries.items():
        how: Literal["shared", "independent"] = times if task == "joint" else "shared"
        each = [Task(query.format(n), density, how) for n in wanted]
        if shares[task]:
            entries.append((shares[task], each[0] if len(each) == 1 else Mixture(*((1.0, one) for one in each))))
    return Mixture(*entries, whole=routing == "step")


def subsets(maps: Sequence[str], tasks: Law, asked: float, density: Density) -> Law:
    """Beyond the paper: each sample has some of the maps, at times of their own, so that any may be given or wanted."""
    some = Independent(density, ends=0.15)
    return Without(tuple(maps), 0.5, Mixture((asked, tasks), (1 - asked, some)) if asked else some)


def switch(kind: str, names: tuple[str, ...], clean: Literal["own", "highest"]) -> Local:
    """What tells modalities apart in the blocks: nothing (a token's mark is the modality's own affair), a vector beside
    the time, or six vectors for each block and two for the last modulation."""
    table = names if kind == "table" else False
    return Local(
        shared=True, frequencies=64, times=clean, label=names if kind == "label" else False, table=table, last=table
    )
