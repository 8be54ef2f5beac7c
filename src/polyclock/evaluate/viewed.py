"""Held-out data as a model looks at them: where a recipe cuts pictures, truth and baselines are cut alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data.source import Around, Dataset
from ..data.video import resized
from ..modality import Signal
from ..model import WorldModel
from ..views import View


def looked(pictures: np.ndarray, view: View) -> np.ndarray:
    """uint8 (n, H, W, C) as read for a view -> uint8 (n, h, w, C) as it shows them outside training."""
    raw = torch.from_numpy(np.ascontiguousarray(pictures))[None]
    return (view(raw, view.draw(None, raw))[0] * 255).round().to(torch.uint8).numpy()


def middle(planes: np.ndarray, view: View) -> np.ndarray:
    """(n, H, W, ...) of any numbers, as read for a view -> the part that it shows outside training."""
    look = view.draw(None, torch.empty(1, *planes.shape[:3], 1))
    high, wide = view.crop or planes.shape[1:3]
    top, left = int(look.top), int(look.left)
    return planes[:, top : top + high, left : left + wide]


def signals_of(model: WorldModel) -> dict[str, Signal]:
    """What a model works on, by name: pictures are as large as its views show them."""
    return {name: part.signal(name) for name, part in {**model.modalities, **model.conditions}.items()}


def views_of(model: WorldModel) -> dict[str, View]:
    """column -> how the model looks at it. Errors: ValueError for a column that is looked at in two ways."""
    assert model.recipe is not None
    signals, found = model.recipe.signals(), dict[str, View]()
    for name, view in model.views.items():
        if found.setdefault(signals[name].key, view) is not view:
            raise ValueError(f"the model looks at {signals[name].key!r} in two ways; what is true of it is not one")
    return found


@dataclass(frozen=True)
class Viewed(Around):
    """A data set whose pictures are those that a model works on; all else is passed on.

    `views` are by column. What is asked for at another size than a view shows is made from what it shows.
    """

    dataset: Dataset
    views: Mapping[str, View]

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        """As the data set reads."""
        if key not in self.views:
            return self.dataset.read(episode, key, frames, size)
        view = self.views[key]
        stored = self.dataset.read(episode, key, frames, view.size or (None if view.seen else size))
        shown = looked(np.asarray(stored), view)
        return shown if size is None else np.stack([resized(picture, size) for picture in shown])


def viewed(dataset: Dataset, views: Mapping[str, View]) -> Dataset:
    """The data set itself where nothing is looked at."""
    return Viewed(dataset, views) if views else dataset
