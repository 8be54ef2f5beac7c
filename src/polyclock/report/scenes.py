"""A few held-out windows with what a model was given, what it answered and what was true, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data.source import Dataset
from ..evaluate.evaluate import Asking
from ..evaluate.held_out import HeldOut, Place
from ..evaluate.questions import Question, questions
from ..modality import Signal
from ..model import WorldModel


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One window.

    values   name -> what the data hold: (T', *S, C) or a sentence
    answers  question -> name -> (T', *S, C) predicted; first[question][name]: the first frame that was asked for
    scale    name -> (C,) how far each dimension of a vector usually moves, in units of the data
    """

    place: Place
    seconds: float
    values: Mapping[str, np.ndarray | str]
    answers: Mapping[str, Mapping[str, np.ndarray]]
    scale: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """What was asked, of which windows, and the signals (with frames per second `fps` where they name no rate)."""

    asked: tuple[Question, ...]
    signals: Mapping[str, Signal]
    fps: float
    scenes: tuple[Scene, ...]

    def times(self, name: str) -> list[float]:
        """(T',) seconds of each frame of a signal from the present."""
        signal = self.signals[name]
        step = 1 / (signal.rate or self.fps)
        return [round(signal.start + i * step, 6) for i in range(int(signal.shape[0] or 0))]


def sample_scenes(
    model: WorldModel, dataset: Dataset, episodes: Sequence[int], *, count: int = 3, steps: int = 10, seed: int = 0
) -> Scenes:
    """Ask every question about `count` windows spread evenly over the held-out `episodes`.

    Errors: those of `evaluate` where data and model do not fit.
    """
    signals = model.recipe.signals()  # type: ignore[union-attr]
    held = HeldOut(dataset, signals, list(model.modalities), episodes)
    asked, _ = questions(model, held.fps, held.absent)
    total = len(held.places)
    chosen = [held.places[(2 * i + 1) * total // (2 * count)] for i in range(min(count, total))]
    scenes = []
    for places, batch, _ in held.batches(count, chosen):
        asking = Asking(model, places, batch, steps, seed)
        answers = {q.name: asking.ask(q) for q in asked}
        for j, place in enumerate(places):
            values = {n: _row(v, j) for n, v in batch.values.items() if len(batch.rows[n]) == len(places)}
            mine = {q: {n: x[j].numpy() for n, x in found.items()} for q, found in answers.items()}
            scale = {n: _scale(model, n, v) for n, v in values.items() if n in model.modalities}
            scenes.append(Scene(place=place, seconds=place.frame / held.fps, values=values, answers=mine, scale=scale))
    return Scenes(asked=asked, signals=signals, fps=held.fps, scenes=tuple(scenes))


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
