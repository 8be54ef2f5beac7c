"""Prediction with action diffusion: action and future video at one shared time, so that they are only found together.

Paper      Guo et al., Prediction with Action (NeurIPS 2024, arXiv 2411.18179), as Zhu et al. (arXiv 2504.02792) compare
           with it: the present picture joins the noisy future by channel concatenation
Expects    beside `uwm` on the same data and steps: docs/results.md. It acts by "video, action |"
Hardware   as `uwm`
Command    polyclock train pad --data DATASET --out RUN
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import Recipe
from .uwm import Which, uwm


def pad(
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
    text: bool = False,  # the task sentence is given
    optional: bool = False,  # a sample may lack the state
    path: Which = "flow",  # straight paths and velocities, or the DDPM table and noise
    registers: int = 8,
    still: bool = False,  # the cameras stand still: every place of a picture has learnt values
    relative: bool = False,  # pictures are shown and told as their difference from the current one, of size `spread`
    spread: float | None = None,  # of the pixels in [-1, 1], to show the network its best guess in place of noise
    weight: float = 1.0,  # of the video's loss
    margin: int = 0,  # pixels by which pictures are larger than `image` before a random crop in training
    jitter: bool = False,  # colours change in training
    seed: int = 0,
) -> Recipe:
    """Actions (horizon, A) and future frames (future, image, image, 3) as two streams side by side.

    # differs from the paper: trained from nothing, in pixel patches; straight paths by default; samples without actions
    have no tokens of them, which is what masking learnt stand-ins comes to.
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
        text=text,
        optional=optional,
        given="none",
        path=path,
        times="shared",
        registers=registers,
        still=still,
        relative=relative,
        spread=spread,
        weight=weight,
        margin=margin,
        jitter=jitter,
        seed=seed,
    )
    return replace(whole, name="pad")
