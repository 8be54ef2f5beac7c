"""Video and action by regression: everything unknown is shown as nothing and predicted in one step.

Paper      Wu et al., GR-1 (ICLR 2024, arXiv 2312.13139), as Zhu et al. (arXiv 2504.02792) compare with it: squared
           errors of actions and future pixels, no diffusion
Expects    beside `uwm` on the same data and steps: docs/results.md. It acts by "video, action |" in one step
Hardware   as `uwm`
Command    polyclock train gr1 --data DATASET --out RUN
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..flags import arguments_of
from ..layout import Layout, Stream
from ..path import Linear
from ..recipe import Recipe
from ..timesteps import Fixed
from .uwm import uwm

ACTION = 0.5  # spread of the actions, which are scaled to [-1, 1]


@arguments_of(uwm, without=("target", "path", "times", "ends", "asked", "spans", "alone"))
def gr1(
    *,
    spread: float = 0.5,  # of the pixels in [-1, 1]: the unit of what the network says of them
    **settings: Any,
) -> Recipe:
    """Actions (horizon, A) and future frames (future, image, image, 3) as two streams side by side.

    With a spread a path shows nothing at t = 1: what a token begins with then is the learnt query of its place.

    # differs from the paper: the backbone is that of `uwm`, which sees in both directions, and trained from nothing, in
    place of a causal language model; squared errors in place of smooth absolute ones.
    """
    whole = uwm(spread=spread, **settings)
    modalities = {
        name: replace(m, path=Linear(predict="data", spread=m.path.spread or ACTION))
        for name, m in whole.modalities.items()
    }
    queries = Layout(*(Stream(*s.slots, place=s.place, positions=True) for s in whole.layout.streams))
    return replace(whole, name="gr1", modalities=modalities, layout=queries, law=Fixed(1.0))
