"""What an expert is: a frozen value that maps the frames of a clip to an array, and says what made that array."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..data import dense

RUNNING = ("device", "batch")  # fields that change how fast the answer comes, not what it is
LATER = {"later": True}  # of a field that came later: at its default it is left out, so that fingerprints stay
FEATURES = "features"  # a map of C numbers on a coarser grid, (T, h, w, C): what no dense kind of `data.dense` is


class Expert(Protocol):
    """Frames uint8 (T, H, W, 3) of one clip -> an array with one row a frame, as `data.dense` reads its kinds back.

    modality     the kind: depth, flow, segmentation, surface, skeleton, or "features"
    note         what a data set says of the column: kind, unit, scale, classes, joints, ...
    after        how many later frames the answer for a frame depends on; None: on the whole clip
    fingerprint  sha256 over the settings that the answer depends on, and the weights
    """

    modality: str

    @property
    def note(self) -> dict[str, Any]: ...

    @property
    def after(self) -> int | None: ...

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, frames: np.ndarray) -> np.ndarray: ...


class Filter(Protocol):
    """Frames uint8 (T, H, W, 3) of one clip -> a few numbers about it, float32 (n,), and whether it is kept.

    modality     "clip"
    names        of the n numbers
    fingerprint  as of an expert
    """

    modality: str
    names: tuple[str, ...]

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, frames: np.ndarray) -> np.ndarray: ...

    def why(self, values: np.ndarray) -> str:
        """Why a clip with these numbers is left out, in words; "" where it is kept."""
        ...


def settings(expert: Any) -> dict[str, Any]:
    """The settings that an expert's answer depends on, as plain data; what is fitted to data stands in files."""
    values = {f.name: getattr(expert, f.name) for f in dataclasses.fields(expert) if f.name not in RUNNING}
    for f in dataclasses.fields(expert):
        if f.metadata.get("later") and values[f.name] == f.default:
            del values[f.name]
    parts = {n: {"is": type(v).__name__} | settings(v) for n, v in values.items() if dataclasses.is_dataclass(v)}
    return {n: parts.get(n, v) for n, v in values.items() if n in parts or not (callable(v) or isinstance(v, Tensor))}


def fingerprint(expert: Any, made_of: str = "") -> str:
    """sha256 over the class, its settings, and `made_of`: the hash of its weights, which stands for their path."""
    said = settings(expert)
    if made_of:
        said = said | {name: made_of for name in ("weights", "program", "network") if name in said}
    text = json.dumps([type(expert).__name__, said, made_of], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def noted(kind: str, more: Mapping[str, Any] | None = None, **details: Any) -> dict[str, Any]:
    """The note of a column of this kind: that of a recorded one (`data.dense.feature`), and `more`."""
    size = (1, 1) if kind in dense.PLANES else None
    plain: dict[str, Any] = dense.feature(kind, size, **details)[dense.BLOCK]
    return plain | dict(more or {})


def check_frames(frames: np.ndarray) -> np.ndarray:
    """The frames. Errors: ValueError for anything but uint8 (T, H, W, 3), and for none."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; an expert takes uint8 (T, H, W, 3)")
    if not len(frames):
        raise ValueError("a clip without frames")
    return frames
