"""The file that the authors' Unified World Models code trains into, `models.pt`: opened, and nothing of it run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..codecs.scale import MinMax
from ..errors import unknown
from .restricted import Restored, read
from .uwm_layout import Facts, inspect

ENTRIES = ("model", "optimizer", "scheduler", "scaler", "action_normalizer", "lowdim_normalizer", "step")


class Scaling(Restored):
    """Their linear normaliser: x = (raw - offset) / scale, each (C,) float64."""

    scale: np.ndarray
    offset: np.ndarray

    def restore(self, state: Any) -> None:
        if not isinstance(state, dict) or set(state) != {"scale", "offset"}:
            raise ValueError("a normaliser has a scale and an offset")
        values = {n: v for n, v in state.items() if isinstance(v, np.ndarray) and v.ndim == 1 and v.dtype.kind in "fiu"}
        if len(values) < 2 or values["scale"].shape != values["offset"].shape:
            raise ValueError("scale and offset of a normaliser must be vectors of one length")
        self.scale, self.offset = (np.array(values[n], np.float64) for n in ("scale", "offset"))
        if not np.isfinite([self.scale, self.offset]).all() or (self.scale < 0).any():
            raise ValueError("a normaliser's numbers must be finite and its scale not negative")

    def codec(self) -> MinMax:
        """Ours with the same numbers; a dimension of scale 0, by which theirs divides, has scale 1 in ours."""
        low, high = self.offset - self.scale, self.offset + self.scale
        return MinMax(low=torch.from_numpy(low).float(), high=torch.from_numpy(high).float())


class Scalings(Restored, dict):
    """Their normalisers by name."""

    def restore(self, state: Any) -> None:
        if state:
            raise ValueError("normalisers by name have no other state")


STAND_INS = {
    "datasets.utils.normalizer.LinearNormalizer": Scaling,
    "datasets.utils.normalizer.NestedDictLinearNormalizer": Scalings,
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Their file: weights by their names, what these say, and how actions and low-dimensional state were scaled.

    `action` is None where actions are as they are in the data; `low_dim` maps an observation's name to its scaling.
    """

    path: Path
    state: Mapping[str, Tensor]
    facts: Facts
    action: Scaling | None
    low_dim: Mapping[str, Scaling] = field(default_factory=dict)
    step: int | None = None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Their `models.pt`. Tensors stay in the file until they are looked at; the optimiser's never are.

    Errors: ValueError naming the entry, key or class that is unknown or does not fit.
    """
    path = Path(path)
    found = read(path, STAND_INS)
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise ValueError(f"{path} holds no entry 'model', so it is no checkpoint of a unified world model")
    for name in found:
        if name not in ENTRIES:
            raise unknown(f"entry of {path}", name, ENTRIES)
    state = found["model"]
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path}: {name!r} of the entry 'model' is no named tensor")
    try:
        facts = inspect(state)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None
    action, low_dim, step = (found.get(n) for n in ("action_normalizer", "lowdim_normalizer", "step"))
    if action is not None and (not isinstance(action, Scaling) or len(action.scale) != facts.action):
        raise ValueError(f"{path}: action_normalizer is no normaliser of {facts.action} action dimensions")
    if low_dim is not None and not isinstance(low_dim, Scalings):
        raise ValueError(f"{path}: lowdim_normalizer is no table of normalisers")
    for name, scaling in (low_dim or {}).items():
        if not isinstance(name, str) or not isinstance(scaling, Scaling):
            raise ValueError(f"{path}: {name!r} of lowdim_normalizer is no normaliser")
    step = step if isinstance(step, int) else None
    return Checkpoint(path=path, state=state, facts=facts, action=action, low_dim=dict(low_dim or {}), step=step)
