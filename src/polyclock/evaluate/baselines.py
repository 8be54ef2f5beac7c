"""What costs nothing to predict: the present, held; the mean of the training data; their most similar picture's map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.source import Dataset
from .held_out import Place
from .kinds import DENSE, PICTURE
from .questions import Question
from .reference import Reference

STATE = "observation.state"
COPY_STATE, COPY_FRAME = "copy current state", "copy last frame"
NEAREST, STILL = "nearest training frame", "zero flow"


def baselines(
    name: str, true: Tensor, question: Question, places: Sequence[Place], data: Dataset, reference: Reference
) -> dict[str, Tensor]:
    """What stands beside a prediction like `true` (B, T', *S', C') of one question: {baseline: (B, T', *S', C')}.

    Pictures: the current frame of the same camera; where the question is given no picture, the training mean too. Maps
    and joints: their training mean, the nearest training frame's, and no motion for flow. Actions: the current state
    where it has their width, and the mean; other numbers: the mean.
    """
    signal, kind = reference.signals[name], reference.kinds[name]
    if kind == PICTURE:
        size = (true.shape[2], true.shape[3])
        now = [data.read(p.episode, signal.key, [p.frame], size) for p in places]
        held = {COPY_FRAME: _held(now, true)}
        mean = None if reference.seen(question) else reference.mean_map(name)
        return held if mean is None else held | {f"mean {name}": torch.from_numpy(mean).to(true.dtype).expand_as(true)}
    found = {}
    if kind in DENSE:
        mean, near = reference.mean_map(name), reference.nearest(name, question, places, data)
        if mean is not None:
            found[f"mean {name}"] = torch.from_numpy(mean).to(true.dtype).expand_as(true)
        if near is not None:
            found[NEAREST] = torch.from_numpy(near).to(true.dtype)
        if kind == "flow":
            found[STILL] = torch.zeros_like(true)
        return found
    if name == "action" and data.facts.state_dim == true.shape[-1] and true.ndim == 3:
        now = [data.read(p.episode, STATE, [p.frame]) for p in places]
        found[COPY_STATE] = _held(now, true)
    if name in reference.spreads:
        found[f"mean {name}"] = reference.spreads[name].mean.expand_as(true).to(true)
    return found


def _held(now: Sequence[np.ndarray | str], true: Tensor) -> Tensor:
    """One frame per window, repeated over the horizon."""
    frames = torch.from_numpy(np.stack([np.asarray(frame) for frame in now]))
    return frames.to(true.dtype).expand_as(true)
