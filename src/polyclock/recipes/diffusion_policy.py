"""Diffusion policy: the actions alone, given what the world model is given.

Paper      Chi et al., Diffusion Policy (RSS 2023, arXiv 2303.04137), as Zhu et al. (arXiv 2504.02792) compare with it:
           a diffusion transformer on the features of the present pictures
Expects    beside `uwm` on the same data and steps: docs/results.md
Hardware   as `uwm`, and less of it: there is no video
Command    polyclock train diffusion_policy --data DATASET --out RUN
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import Recipe
from .uwm import Given, Which, uwm


def diffusion_policy(
    *,
    size: str = "tiny",  # of the network: tiny, S, B or L
    cameras: tuple[str, ...] = ("observation.images.top",),  # columns
    state: str | None = "observation.state",  # column of the proprioception; None: not given
    action: str = "action",  # column of the actions
    image: int = 64,  # pixels to a side
    horizon: int = 16,  # action steps
    action_rate: float = 10.0,  # action steps a second
    history: int = 2,  # camera frames that are given, the last one current
    text: bool = False,  # the task sentence is given
    optional: bool = False,  # a sample may lack the state
    given: Given = "global",  # how pictures and sentence enter: added to all vectors, as tokens, by cross-attention
    path: Which = "flow",  # straight paths and velocities, or the DDPM table and noise
    spans: float = 0.0,  # share with the first k actions given; above 0 each step has a time: action[k:] | action[:k]
    registers: int = 8,
    margin: int = 0,  # pixels by which pictures are larger than `image` before a random crop in training
    jitter: bool = False,  # colours change in training
    seed: int = 0,
) -> Recipe:
    """Actions (horizon, A), one stream.

    # differs from the paper: the backbone is that of `uwm` in place of a convolutional network over time, so that the
    video is all that the two differ by; straight paths by default.
    """
    whole = uwm(
        size=size,
        cameras=cameras,
        state=state,
        action=action,
        image=image,
        horizon=horizon,
        action_rate=action_rate,
        history=history,
        text=text,
        optional=optional,
        given=given,
        target="none",
        path=path,
        spans=spans,
        registers=registers,
        margin=margin,
        jitter=jitter,
        seed=seed,
    )
    return replace(whole, name="diffusion_policy")
