"""What costs nothing to predict: the present, held; the mean of the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.source import Dataset
from ..modality import Signal
from .held_out import Place

STATE = "observation.state"
COPY_STATE, COPY_FRAME = "copy current state", "copy last frame"


@dataclass(frozen=True)
class Spread:
    """Mean (C,) and population standard deviation (C,), float32, of a column; std is 0 where it never moves."""

    mean: Tensor
    std: Tensor


def spread_of(training: Dataset, key: str) -> Spread:
    """Statistics over all frames of all episodes of `training`. Errors: ValueError where it has no such column."""
    arrays = [np.asarray(a, np.float64) for a in training.column(key)]
    if not arrays:
        raise ValueError(f"the training episodes have no column {key!r}, which gives errors their unit")
    rows = np.concatenate([a.reshape(-1, a.shape[-1]) for a in arrays])
    mean, std = rows.mean(0), rows.std(0)
    # What is left of a constant after rounding is no spread.
    std[std <= np.maximum(1e-6 * np.abs(mean), 1e-12)] = 0.0
    return Spread(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


def baselines(
    name: str, signal: Signal, true: Tensor, places: Sequence[Place], data: Dataset, spreads: Mapping[str, Spread]
) -> dict[str, Tensor]:
    """What stands beside a prediction like `true` (B, T', *S', C'): {baseline: (B, T', *S', C')}.

    Pictures: the current frame of the same camera. Actions: the current state where it has their width, and the mean
    over the training episodes; other numbers: the mean.
    """
    if signal.kind == "video":
        size = (true.shape[2], true.shape[3])
        now = [data.read(p.episode, signal.key, [p.frame], size) for p in places]
        return {COPY_FRAME: _held(now, true)}
    found = {}
    if name == "action" and data.facts.state_dim == true.shape[-1] and true.ndim == 3:
        now = [data.read(p.episode, STATE, [p.frame]) for p in places]
        found[COPY_STATE] = _held(now, true)
    if name in spreads:
        found[f"mean {name}"] = spreads[name].mean.expand_as(true).to(true)
    return found


def _held(now: Sequence[np.ndarray | str], true: Tensor) -> Tensor:
    """One frame per window, repeated over the horizon."""
    frames = torch.from_numpy(np.stack([np.asarray(frame) for frame in now]))
    return frames.to(true.dtype).expand_as(true)
