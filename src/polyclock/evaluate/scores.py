"""Collects what every question answered, window by window, beside its baselines and its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ..data.source import Dataset
from ..model import WorldModel
from .asking import Answer, Asking
from .baselines import NEAREST, baselines
from .compare import MODEL, Table
from .held_out import HeldOut, Place
from .kinds import About, about, measure
from .questions import Question
from .reference import Reference


class Scores:
    """Measures by window: table[label, series]["video.mse"][place]."""

    def __init__(self, held: HeldOut, reference: Reference, model: WorldModel) -> None:
        self.held, self.reference, self.model = held, reference, model
        self.table: Table = {}
        self._moving: dict[tuple, Tensor | None] = {}
        self._beside: dict[tuple, dict[str, np.ndarray]] = {}

    def about(self, name: str) -> About:
        """What measures must know of a signal."""
        spread = self.reference.spreads.get(name)
        scale = None if spread is None or not bool(spread.std.any()) else spread.std
        codec = self.model.codec(name)
        return about(self.held.signals[name], self.reference.kinds[name], self.held.dataset, scale, codec)

    def add(
        self,
        label: str,
        series: str,
        places: Sequence[Place],
        answer: Answer,
        true: Mapping[str, Tensor | list[str]],
        wanted: Mapping[str, int],
        data: Dataset | None = None,
    ) -> None:
        """Score answer[name] (B, T', *S', C') against true[name], from data frame wanted[name] on.

        data: to read from which pixels move; None: that is not asked.
        """
        for name, guess in answer.items():
            value = true[name]
            assert isinstance(value, Tensor)
            found = self._measured(name, places, guess, value, wanted[name], data)
            for key, numbers in found.items():
                self.put(label, series, key, places, numbers)

    def _measured(
        self, name: str, places: Sequence[Place], guess: Tensor, true: Tensor, first: int, data: Dataset | None
    ) -> dict[str, np.ndarray]:
        """{"video.mse": (B,) or (B, k)} of the frames from `first` on."""
        moving = None if data is None else self._moves(name, places, data)
        moving = None if moving is None else moving[:, first:]
        found = measure(guess[:, first:], true[:, first:], self.about(name), moving)
        return {f"{name}.{kind}": numbers.numpy() for kind, numbers in found.items()}

    def put(self, label: str, series: str, key: str, places: Sequence[Place], numbers: np.ndarray) -> None:
        """Numbers (B,) or (B, k) of one measure, "action.coverage", say; windows where nothing counts are left out."""
        rows = self.table.setdefault((label, series), {}).setdefault(key, {})
        for place, number in zip(places, numbers, strict=True):
            if np.isfinite(number).all():
                rows[place] = number if number.ndim else float(number)

    def answered(self, question: Question, asking: Asking, data: Dataset) -> None:
        """Ask, and score the answer and its baselines."""
        true = {n: asking.batch.values[n] for n in question.wanted}
        places = asking.places
        self.add(question.name, MODEL, places, asking.ask(question), true, question.wanted, data)
        for name, value in true.items():
            assert isinstance(value, Tensor)
            first = question.wanted[name]
            for series, guess in baselines(name, value, question, places, data, self.reference).items():
                # All but the nearest frame are the same beside every question, and pictures take long to compare.
                known = (series, name, first, tuple(places))
                if series == NEAREST or known not in self._beside:
                    self._beside[known] = self._measured(name, places, guess, value, first, data)
                for key, numbers in self._beside[known].items():
                    self.put(question.name, series, key, places, numbers)

    def controlled(
        self, question: Question, asking: Asking, others: Asking, keep: Sequence[int], data: Dataset
    ) -> None:
        """Ask again with the inputs in question those of `others`, window by window, and the same noise.

        keep: the windows that have another.
        """
        if not question.varied or not keep:
            return
        found = asking.ask(question, others.values(question.varied))
        answer = {n: v[keep] for n, v in found.items()}
        true = {n: asking.batch.tensor(n)[keep] for n in answer}
        self.add(question.name, question.control, [asking.places[j] for j in keep], answer, true, question.wanted, data)

    def _moves(self, name: str, places: Sequence[Place], data: Dataset) -> Tensor | None:
        """`HeldOut.moving`, kept for the batch at hand."""
        key = (self.held.signals[name], tuple(places))
        if key not in self._moving:
            if len(self._moving) > 16:
                self._moving.clear()
            self._moving[key] = self.held.moving(name, places, data)
        return self._moving[key]
