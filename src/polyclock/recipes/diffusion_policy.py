"""Diffusion policy: the actions alone, given what the world model is given.

Paper      Chi et al., Diffusion Policy (RSS 2023, arXiv 2303.04137), as Zhu et al. (arXiv 2504.02792) compare with it:
           a diffusion transformer on the features of the present pictures
Expects    beside `uwm` on the same data and steps: docs/results.md
Hardware   as `uwm`, and less of it: there is no video
Command    polyclock train diffusion_policy --data DATASET --out RUN
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..flags import arguments_of
from ..recipe import Recipe
from .uwm import uwm

VIDEO = ("patch", "future", "target", "times", "ends", "asked", "alone", "still", "relative", "spread", "weight")


@arguments_of(uwm, without=VIDEO)
def diffusion_policy(**settings: Any) -> Recipe:
    """Actions (horizon, A), one stream.

    # differs from the paper: the backbone is that of `uwm` in place of a convolutional network over time, so that the
    video is all that the two differ by; straight paths by default.
    """
    return replace(uwm(target="none", **settings), name="diffusion_policy")
