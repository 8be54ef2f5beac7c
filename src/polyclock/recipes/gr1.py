"""Video and action by regression: everything unknown is shown as nothing and predicted in one step.

Paper      Wu et al., GR-1 (ICLR 2024, arXiv 2312.13139), as Zhu et al. (arXiv 2504.02792) compare with it: squared
           errors of actions and future pixels, no diffusion
Expects    beside `uwm` on the same data and steps: docs/results.md. It acts by "video, action |" in one step
Hardware   as `uwm`
Command    polyclock train gr1 --data DATASET --out RUN
"""

from __future__ import annotations

from dataclasses import replace

from ..layout import Layout, Stream
from ..path import Linear
from ..recipe import Recipe
from ..timesteps import Fixed
from .uwm import Given, uwm

ACTION = 0.5  # spread of the actions, which are scaled to [-1, 1]


def gr1(
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
    text: bool = False,  # the task sentence is given
    optional: bool = False,  # a sample may lack the state
    given: Given = "global",  # how pictures and sentence enter: added to all vectors, as tokens, by cross-attention
    registers: int = 8,
    still: bool = False,  # the cameras stand still: every place of a picture has learnt values
    relative: bool = False,  # pictures are shown and told as their difference from the current one, of size `spread`
    spread: float = 0.5,  # of the pixels in [-1, 1]: the unit of what the network says of them
    weight: float = 1.0,  # of the video's loss
    margin: int = 0,  # pixels by which pictures are larger than `image` before a random crop in training
    jitter: bool = False,  # colours change in training
    seed: int = 0,
) -> Recipe:
    """Actions (horizon, A) and future frames (future, image, image, 3) as two streams side by side.

    With a spread a path shows nothing at t = 1: what a token begins with then is the learnt query of its place.

    # differs from the paper: the backbone is that of `uwm`, which sees in both directions, and trained from nothing, in
    place of a causal language model; squared errors in place of smooth absolute ones.
    """
    whole = uwm(
        size=size,
        cameras=cameras,
        state=state,
        action=action,
        image=image,
        patch=patch,
        horizon=horizon,
        action_rate=action_rate,
        future=future,
        history=history,
        text=text,
        optional=optional,
        given=given,
        registers=registers,
        still=still,
        relative=relative,
        spread=spread,
        weight=weight,
        margin=margin,
        jitter=jitter,
        seed=seed,
    )
    modalities = {
        name: replace(m, path=Linear(predict="data", spread=m.path.spread or ACTION))
        for name, m in whole.modalities.items()
    }
    queries = Layout(*(Stream(*s.slots, place=s.place, positions=True) for s in whole.layout.streams))
    return replace(whole, name="gr1", modalities=modalities, layout=queries, law=Fixed(1.0))
