"""What a policy has seen of one episode, brought into the windows that its model was trained on (data/window.py)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from ..data.video import AREA, nearest
from ..data.window import offsets
from ..modality import Signal

Observation = Mapping[str, Any]


class History:
    """The observations of one episode as far back as `signals` reach; `values` is the window anchored at the last one.

    signals  what a query is given, by name; a frame that lies ahead of the present stands for a frame that the query
             does not give and repeats the present
    fps      observations a second
    query    for messages

    Before the episode's first observation that one is repeated, as windows of a data set are clipped.
    """

    def __init__(self, signals: Mapping[str, Signal], fps: float, query: str) -> None:
        self.signals, self.query = dict(signals), query
        self._due = {n: np.array(offsets(s, fps), np.int64) for n, s in self.signals.items() if s.kind != "text"}
        reach = max((int(-due.min(initial=0)) for due in self._due.values()), default=0)
        self._seen: deque[Observation] = deque(maxlen=reach + 1)
        self._scaler = VideoReformatter()

    def add(self, observation: Observation) -> None:
        """The next observation. Errors: ValueError for a column that it lacks or that has another shape."""
        if not self._seen:
            self._check(observation)
        self._seen.append(observation)

    def values(self) -> dict[str, Tensor | list[str]]:
        """Raw values of one sample for `sample`: (1, T', *S, C) uint8 or float32, or one sentence."""
        out: dict[str, Tensor | list[str]] = {}
        for name, signal in self.signals.items():
            if signal.kind == "text":
                out[name] = [str(self._seen[-1][signal.key])]
                continue
            last = len(self._seen) - 1
            rows = np.clip(last + self._due[name], 0, last).tolist()
            frames = {row: self._frame(signal, self._seen[row][signal.key]) for row in set(rows)}
            out[name] = torch.from_numpy(np.stack([frames[row] for row in rows]))[None]
        return out

    def _frame(self, signal: Signal, value: np.ndarray) -> np.ndarray:
        if signal.kind != "video":
            return np.asarray(value, np.float32)
        picture = np.asarray(value)
        size = (int(signal.shape[1] or picture.shape[0]), int(signal.shape[2] or picture.shape[1]))
        picture = resized(picture, size, self._scaler)
        return picture.astype(np.int32) if picture.dtype == np.uint16 else picture

    def _check(self, observation: Observation) -> None:
        for name, signal in self.signals.items():
            if signal.key not in observation:
                raise ValueError(
                    f"the query {self.query!r} needs {name!r} (column {signal.key!r}), which the world does not bring; "
                    f"it brings {', '.join(observation)}"
                )
            if signal.kind == "text":
                continue
            shape = np.shape(observation[signal.key])
            want = signal.shape[-1:] if signal.kind == "video" else signal.shape[1:]
            here = shape[-1:] if signal.kind == "video" and len(shape) == 3 else shape
            if len(want) != len(here) or any(w not in (None, h) for w, h in zip(want, here, strict=True)):
                raise ValueError(
                    f"{name!r} (column {signal.key!r}) has shape {shape} in this world; the model wants "
                    f"({', '.join('any' if n is None else str(n) for n in signal.shape[1:])})"
                )


def resized(picture: np.ndarray, size: tuple[int, int], scaler: VideoReformatter | None = None) -> np.ndarray:
    """(H, W, C) -> (*size, C) as pictures of a data set are: colour and 8-bit gray averaged over area, else nearest."""
    if picture.shape[:2] == tuple(size):
        return np.ascontiguousarray(picture)
    if picture.dtype != np.uint8 or picture.shape[-1] not in (1, 3):
        return np.ascontiguousarray(nearest(picture, size))
    form = "rgb24" if picture.shape[-1] == 3 else "gray"
    plain = np.ascontiguousarray(picture if form == "rgb24" else picture[..., 0])
    frame = av.VideoFrame.from_ndarray(plain, format=form)
    done = (scaler or VideoReformatter()).reformat(frame, size[1], size[0], form, interpolation=AREA, threads=1)
    return done.to_ndarray().reshape(*size, -1)
