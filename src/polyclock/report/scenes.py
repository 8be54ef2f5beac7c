"""Stretches of held-out episodes with what a model was given, what it answered and what was true, as arrays.

A stretch is asked about window by window, one behind the other; what is given is always what was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.source import Dataset, noted
from ..evaluate.asking import Asking
from ..evaluate.held_out import HeldOut, Place
from ..evaluate.kinds import kinds_of
from ..evaluate.questions import Question, questions
from ..evaluate.viewed import signals_of, views_of
from ..modality import Signal
from ..model import WorldModel

BATCH = 16  # windows asked about at a time


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One signal over a scene: seconds (n,) from the scene's beginning, values (n, *S, C), and which window (n,) each
    frame belongs to."""

    times: tuple[float, ...]
    values: np.ndarray
    window: tuple[int, ...]

    @classmethod
    def joined(cls, parts: Iterable[tuple[float, Sequence[float], np.ndarray]]) -> Clip:
        """From (seconds of the window, seconds of its frames behind that, frames) of windows in their order.

        Where windows overlap, the earlier one's frames stay: they look further ahead.
        """
        times: list[float] = []
        frames: list[np.ndarray] = []
        window: list[int] = []
        for number, (begin, own, values) in enumerate(parts):
            for t, frame in zip(own, values, strict=True):
                if not times or begin + t > times[-1] + 1e-6:
                    times.append(round(begin + t, 6))
                    frames.append(frame)
                    window.append(number)
        return cls(times=tuple(times), values=np.stack(frames), window=tuple(window))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One stretch.

    places   the windows, one behind the other; seconds: of the first, in its episode
    values   name -> what the data hold: a clip or a sentence
    given    question -> modality -> the clip of what was given of it
    answers  question -> modality -> the predicted clip
    scale    name -> (C,) how far each dimension of a vector usually moves, in units of the data
    """

    places: tuple[Place, ...]
    seconds: float
    values: Mapping[str, Clip | str]
    given: Mapping[str, Mapping[str, Clip]]
    answers: Mapping[str, Mapping[str, Clip]]
    scale: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """What was asked, of which stretches.

    kinds   name -> "picture", "numbers", "depth", ... of every signal but sentences
    notes   column -> what the data set says of it: "classes", "parts", "joints", "limbs", "names" of dimensions
    sizes   column -> (H, W) of its pictures in the data set
    seconds between a window and the next
    """

    asked: tuple[Question, ...]
    signals: Mapping[str, Signal]
    kinds: Mapping[str, str]
    notes: Mapping[str, Mapping]
    sizes: Mapping[str, tuple[int, int]]
    fps: float
    seconds: float
    scenes: tuple[Scene, ...]

    def true(self, name: str) -> list[Clip]:
        """The true clips of a signal, scene by scene."""
        return [v for s in self.scenes if isinstance(v := s.values.get(name), Clip)]


def sample_scenes(
    model: WorldModel,
    dataset: Dataset,
    episodes: Sequence[int],
    *,
    count: int = 3,
    seconds: float = 2.0,
    steps: int = 10,
    seed: int = 0,
) -> Scenes:
    """Ask every question about `count` stretches of up to `seconds`, spread evenly over the held-out `episodes`.

    Errors: those of `evaluate` where data and model do not fit.
    """
    signals, kinds = signals_of(model), kinds_of(model, dataset)
    held = HeldOut(dataset, signals, list(model.modalities), episodes, views=views_of(model))
    asked, _ = questions(model, held.fps, held.absent, kinds)
    step = max(1, held.last - held.first)
    stretches = _stretches(held, count, step, seconds)
    every = [p for places in stretches for p in places]
    windows: dict[Place, tuple[dict, dict]] = {}
    for begin in range(0, len(every), BATCH):
        places = every[begin : begin + BATCH]
        batch = held.gather(places)
        asking = Asking(model, places, batch, steps, seed)
        answers = {q.name: asking.ask(q) for q in asked}
        for j, place in enumerate(places):
            values = {n: _row(v, j) for n, v in batch.values.items() if len(batch.rows[n]) == len(places)}
            windows[place] = values, {q: {n: x[j].numpy() for n, x in found.items()} for q, found in answers.items()}
    own = {n: [signals[n].start + i / (signals[n].rate or held.fps) for i in range(int(signals[n].shape[0] or 0))]
           for n in signals if signals[n].kind != "text"}  # fmt: skip
    return Scenes(
        asked=asked,
        signals=signals,
        kinds=kinds,
        notes=_notes(dataset),
        sizes={k: (int(s[0]), int(s[1])) for k, s in dataset.facts.columns.items() if len(s) == 3},
        fps=held.fps,
        seconds=step / held.fps,
        scenes=tuple(_scene(model, asked, places, windows, own, held.fps) for places in stretches),
    )


def _stretches(held: HeldOut, count: int, step: int, seconds: float) -> list[tuple[Place, ...]]:
    """`count` runs of windows `step` data frames apart, spread evenly over episodes, and over each episode."""
    mine: dict[int, list[int]] = {}
    for place in held.fitting(1):
        mine.setdefault(place.episode, []).append(place.frame)
    chosen = [list(mine)[(2 * i + 1) * len(mine) // (2 * count)] for i in range(count)]
    most = max(1, round(seconds * held.fps / step))
    out = []
    for episode in dict.fromkeys(chosen):
        frames, times = mine[episode], chosen.count(episode)
        number = min(most, 1 + (frames[-1] - frames[0]) // step)
        starts = [f for f in frames if f + (number - 1) * step <= frames[-1]]
        # Stretches that are nearly the same tell nothing new.
        times = min(times, 1 + (starts[-1] - starts[0]) // (number * step))
        begun = dict.fromkeys(starts[(2 * i + 1) * len(starts) // (2 * times)] for i in range(times))
        out += [tuple(Place(episode, f + k * step) for k in range(number)) for f in begun]
    return out


def _scene(
    model: WorldModel,
    asked: Sequence[Question],
    places: tuple[Place, ...],
    windows: Mapping[Place, tuple[dict, dict]],
    own: Mapping[str, Sequence[float]],
    fps: float,
) -> Scene:
    begin = {p: (p.frame - places[0].frame) / fps for p in places}

    def clip(name: str, frames: slice, question: str | None = None) -> Clip:
        found = {p: windows[p][0] if question is None else windows[p][1][question] for p in places}
        return Clip.joined((begin[p], own[name][frames], found[p][name][frames]) for p in places)

    first = windows[places[0]][0]
    values = {n: v if isinstance(v, str) else clip(n, slice(None)) for n, v in first.items()}
    given = {
        q.name: {n: clip(n, slice(0, q.wanted.get(n))) for n in q.given if isinstance(first.get(n), np.ndarray)}
        for q in asked
    }
    answers = {q.name: {n: clip(n, slice(f, None), q.name) for n, f in q.wanted.items()} for q in asked}
    scale = {n: _scale(model, n, v) for n, v in first.items() if n in model.modalities}
    return Scene(places=places, seconds=places[0].frame / fps, values=values, given=given, answers=answers, scale=scale)


def _notes(dataset: Dataset) -> dict[str, dict]:
    """What the data set says of its columns."""
    notes: dict[str, dict] = {k: {"names": names} for k, names in noted(dataset).number_names.items()}
    for key, note in noted(dataset).dense.items():
        notes[key] = notes.get(key, {}) | note
    return notes


def _row(values: Tensor | list[str], j: int) -> np.ndarray | str:
    return values[j].numpy() if isinstance(values, Tensor) else values[j]


def _scale(model: WorldModel, name: str, value: np.ndarray | str) -> np.ndarray:
    """How much raw value one unit of latent is, by dimension, seen through the codec; ones where that has no sense."""
    assert isinstance(value, np.ndarray)
    if value.ndim != 2:
        return np.ones(value.shape[-1])
    raw = torch.from_numpy(value)[None]
    codec = model.codec(name)
    moved = codec.encode(torch.cat([raw, raw + 1]))
    step = (moved[1] - moved[0]).abs().mean(0).numpy()
    return 1 / np.maximum(step, 1e-9) if len(step) == value.shape[-1] else np.ones(value.shape[-1])
