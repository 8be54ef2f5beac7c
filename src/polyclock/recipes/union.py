"""The union: one network that acts, foresees, explains, estimates, draws and dreams.

Video, depth, flow and semantics are channels of the same tokens of a Wan, each with its own clock; actions stand beside
them, with narrower blocks of their own.

Expects    each of six questions answered better than by its marginal, and the policy steered by its own predicted
           depth, flow and semantics (docs/results.md)
Hardware   without a base: two CPU cores
Command    polyclock train union --data DATASET --out RUN, on what `polyclock collect metaworld/... --flow-steps 8`
           wrote; --base WAN: beside a pretrained video network
           polyclock rollout RUN --world metaworld/drawer-open --query "JOINT" \
               --guide weight=1,drop=depth+flow+semantics,scope=action, where JOINT is the last of `questions()`
"""

from __future__ import annotations

from dataclasses import replace

from ..augment import Shift
from ..backbones.wan import Wan
from ..codecs import Quantile, WanVAE
from ..data.annotation import column_name
from ..density import Uniform
from ..encoders import ResNet, Vector
from ..layout import Layout, Stream, after
from ..modality import Condition, Modality
from ..nn.detail import Detail
from ..recipe import Recipe
from ..timesteps import Law, Mixture, PerFrame, Task
from .dreamworld import PLAIN, codecs, read, sized, small

FEATURES = {"depth": "geometry", "flow": "flow", "semantics": "semantics"}  # ours, and what dreamworld calls them


def union(
    *,
    base: str | None = None,  # a Wan in diffusers' format that the video begins as; none: a new one, on pixels
    cameras: tuple[str, ...] = ("observation.images.corner2",),  # the first is the column of the video
    features: tuple[str, ...] = tuple(FEATURES),  # predicted beside the video, any of them given or wanted
    action: str = "action",  # column of the actions
    state: str | None = "observation.state",  # column of the proprioception; none: not given
    camera: bool = True,  # the present picture is also given through convolutions
    image: tuple[int, int] = (64, 64),  # height,width in pixels
    horizon: int = 8,  # action steps
    action_rate: float = 80.0,  # action steps a second
    frames: int | None = None,  # of video and features, the first the present; none: 2, or 5 with an autoencoder
    expert: int = 96,  # width of the actions' own blocks; 0: they share the video's
    size: str = "tiny",  # of the new network
    patch: int = 8,  # pixels to a side of its tokens
    detail: bool = True,  # convolutions beside them
    classes: int = 13,  # of the segmentation
    reach: float = 0.033,  # flow that has the full colour, in diagonals of the picture
    acting: float = 0.3,  # share of samples that train the policy alone
    shift: int = 3,  # px, how far the given picture is moved at random in training
    seed: int = 0,
) -> Recipe:
    """Video and features (frames, height, width, C) in one stream, actions (horizon, A) in one with its own blocks."""
    start = read(base, False) if base else small(size, "wan", patch, "data")
    large = isinstance(start.modalities["video"].codec, WanVAE)
    pictures = frames or (5 if large else 2)
    rate = action_rate * (pictures - 1) / horizon
    film = sized(start.modalities["video"], image, pictures, rate, cameras[0])
    drawn = codecs(film, image, reach, classes, True, 8, "none", "causal", "area")
    plain = {} if base else PLAIN
    modalities = {"video": replace(film, weight=plain.get("video", 1.0))}
    for name in features:
        channels, codec, column = drawn[FEATURES[name]]
        path = film.path if name != "flow" or film.path.spread is None else replace(film.path, spread=0.1)
        modalities[name] = replace(
            film, key=column_name(cameras[0], column), shape=(*film.shape[:-1], channels), codec=codec, path=path,
            weight=plain.get(FEATURES[name], 1.0), zero_init=base is not None,
        )  # fmt: skip
    modalities["action"] = Modality(key=action, shape=(horizon, None), patch=(1,), rate=action_rate, codec=Quantile())
    see = Stream("video", *features, place=not base, detail=Detail() if detail and not base else None)
    assert isinstance(start.backbone, Wan)
    conditions = told(start.conditions["text"], cameras[0], image, action_rate, state, camera)
    return replace(
        start,
        name="union",
        modalities=modalities,
        conditions=conditions,
        layout=Layout(see, Stream("action", at=after(see.name, "T"))),
        law=law(features, tuple(conditions), acting),
        backbone=replace(start.backbone, experts={"action": expert} if expert else {}),
        registers=0 if base else 4,
        augment=(Shift(of=("camera",), pixels=shift),) if camera and shift else (),
        base=base,
        seed=seed,
    )


def told(
    text: Condition, column: str, image: tuple[int, int], rate: float, state: str | None, camera: bool
) -> dict[str, Condition]:
    """What a question may be given besides: a picture, the robot's state, a sentence."""
    found = {}
    if camera:
        found["camera"] = Condition(
            key=column,
            shape=(1, *image, 3),
            rate=rate,
            encoder=ResNet(size="fine", width=128, pool="tokens"),
            route="tokens",
        )
    if state is not None:
        found["state"] = Condition(key=state, shape=(1, None), rate=rate, encoder=Vector(width=128), codec=Quantile())
    return found | {"text": text if text.required else replace(text, key="task", drop=0.1)}


def questions(
    features: tuple[str, ...] = tuple(FEATURES), given: tuple[str, ...] = ("camera", "state", "text")
) -> dict[str, str]:
    """policy, forward, inverse, estimate, control, joint: name -> query."""
    seen, maps = ", ".join(("video[:1]", *given)), ", ".join(features)
    ahead = ", ".join(("video[1:]", *features))
    text = ", text" if "text" in given else ""
    found = {
        "policy": f"action | {seen}",
        "forward": f"{ahead} | {seen}, action",
        "inverse": f"action | {', '.join(('video', *given))}",
        "estimate": f"{maps} | video",
        "control": f"video | {maps}{text}",
        "joint": f"{ahead}, action | {seen}",
    }
    return found if features else {n: q for n, q in found.items() if n not in ("estimate", "control")}


def law(features: tuple[str, ...], given: tuple[str, ...], acting: float) -> Law:
    """The six questions, and times of their own for every frame of everything, so that any subset may be given."""
    shares = {"forward": 0.2, "inverse": 0.1, "estimate": 0.2, "control": 0.1, "joint": 0.2}
    asked = questions(features, given)
    # Given the picture, nearly all of the answer is decided where the maps are still noise.
    late = {"estimate": Uniform(shift=5.0)}
    each = [(shares[n], Task(q, late.get(n, Uniform()))) for n, q in asked.items() if n in shares]
    rest = 1 - sum(share for share, _ in each)
    others = Mixture(*each, (rest, PerFrame(ends=0.15)))
    return Mixture((acting, Task(asked["policy"])), (1 - acting, others)) if acting else others
