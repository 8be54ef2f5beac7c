"""Prediction with action diffusion: action and future video at one shared time, so that they are only found together.

Paper      Guo et al., Prediction with Action (NeurIPS 2024, arXiv 2411.18179), as Zhu et al. (arXiv 2504.02792) compare
           with it: the present picture joins the noisy future by channel concatenation
Expects    beside `uwm` on the same data and steps: docs/results.md. It acts by "video, action |"
Hardware   as `uwm`
Command    polyclock train pad --data DATASET --out RUN
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..flags import arguments_of
from ..recipe import Recipe
from .uwm import uwm


@arguments_of(uwm, without=("history", "given", "target", "times", "ends", "asked", "spans", "alone"))
def pad(**settings: Any) -> Recipe:
    """Actions (horizon, A) and future frames (future, image, image, 3) as two streams side by side.

    # differs from the paper: trained from nothing, in pixel patches; straight paths by default; samples without actions
    have no tokens of them, which is what masking learnt stand-ins comes to.
    """
    return replace(uwm(given="none", times="shared", **settings), name="pad")
