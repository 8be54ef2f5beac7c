"""What a policy has seen of one episode, brought into the windows that its model was trained on (data/window.py)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from ..data.video import resized
from ..data.window import offsets
from ..modality import Signal

Observation = Mapping[str, Any]
Seen = Observation | None  # None: nobody looked


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
        # What lies ahead repeats the present, and text is read off it.
        self._back = {0} | {max(0, -int(k)) for due in self._due.values() for k in due}
        self._seen: deque[Seen] = deque(maxlen=max(self._back) + 1)
        self._scaler = VideoReformatter()

    def holds(self, before: int, every: int) -> bool:
        """Whether a window looks at the observation `before` steps before it is asked for, or one `every` so many
        steps later."""
        return any(k >= before and (k - before) % every == 0 for k in self._back)

    def add(self, observation: Seen) -> None:
        """The next observation; None for one that no window `holds`.

        Errors: ValueError for a column that the first one lacks or that has another shape there.
        """
        if not self._seen:
            assert observation is not None
            self._check(observation)
        self._seen.append(observation)

    def values(self) -> dict[str, Tensor | list[str]]:
        """Raw values of one sample for `sample`: (1, T', *S, C) uint8 or float32, or one sentence."""
        out: dict[str, Tensor | list[str]] = {}
        for name, signal in self.signals.items():
            if signal.kind == "text":
                out[name] = [str(self.at(0)[signal.key])]
                continue
            due = self._due[name].tolist()
            frames = {k: self._frame(signal, self.at(k)[signal.key]) for k in set(due)}
            out[name] = torch.from_numpy(np.stack([frames[k] for k in due]))[None]
        return out

    def at(self, due: int) -> Observation:
        """The observation `due` steps from now: the episode's first one before it began, the last one beyond it."""
        last = len(self._seen) - 1
        found = self._seen[min(max(last + due, 0), last)]
        assert found is not None, "nobody looked at what a window holds"
        return found

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
