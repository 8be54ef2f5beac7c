"""A recipe: one frozen value that holds everything about a model and what it is trained to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np
import torch

from .augment import Augmentation
from .backbones import Backbone
from .backbones.dit import DiT
from .codecs.codec import Column
from .dice import seed_of
from .errors import unknown
from .layout import Layout
from .modality import Condition, Modality, Signal
from .model import WorldModel
from .nn.init import INITS
from .nn.modulation import Joint, Modulation
from .plain import PATH
from .relations import Relations
from .timesteps import Law
from .views import View

Named = TypeVar("Named", Modality, Condition, Relations)


class Columns(Protocol):
    """What `Recipe.fit` needs of a data set: `column(key)` yields one (n, *S) array per episode."""

    def column(self, key: str) -> Iterable[np.ndarray]: ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What exists, how it is laid out, how it is trained, what it is made of. A variant is `dataclasses.replace`.

    views say how pictures of one camera are looked at, before they are encoded; augment is applied to latent batches in
    training; auxiliary objectives, by name, add to the loss; init says how linear maps begin ("xavier" or "normal"),
    base is the folder of a published network whose weights a training begins with; seed fixes the initial weights.
    """

    name: str
    modalities: Mapping[str, Modality]
    layout: Layout
    law: Law
    modulation: Modulation = field(default_factory=Joint)
    backbone: Backbone = field(default_factory=DiT)
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    registers: int = 0
    augment: tuple[Augmentation, ...] = ()
    views: tuple[View, ...] = ()
    auxiliary: Mapping[str, Relations] = field(default_factory=dict)
    init: str = "xavier"
    base: str | None = field(default=None, metadata=PATH)
    seed: int = 0

    def __post_init__(self) -> None:
        self.layout.check(self.modalities)
        parts: tuple[Augmentation | View, ...] = (*self.augment, *self.views)
        for part in parts:
            part.check({**self.modalities, **self.conditions})
        looked = [name for view in self.views for name in view.of]
        for name in looked:
            if looked.count(name) > 1:
                raise ValueError(f"{looked.count(name)} views look at {name!r}; one is possible")
        if self.init not in INITS:
            raise unknown("init", self.init, INITS)
        self._check_auxiliary()
        if not self.law.patterns(self.modalities, self.conditions):
            raise ValueError(f"the law of recipe {self.name!r} trains nothing")
        for name, m in self.modalities.items():
            if m.share and m.share not in self.modalities:
                raise unknown(f"modality that {name!r} shares with", m.share, self.modalities)

    def _check_auxiliary(self) -> None:
        for name, objective in self.auxiliary.items():
            if name in self.modalities or name in self.conditions or "." in name:
                raise ValueError(
                    f"an auxiliary objective cannot be called {name!r}: no dots, and no name that is taken"
                )
            if objective.of not in self.modalities:
                raise unknown(f"modality that {name!r} is about", objective.of, self.modalities)

    def signals(self) -> dict[str, Signal]:
        """What the data side must bring, by name."""
        named: dict[str, Modality | Condition | Relations] = {**self.modalities, **self.conditions, **self.auxiliary}
        views = {name: view for view in self.views for name in view.of}
        return {n: views[n].signal(s.signal(n)) if n in views else s.signal(n) for n, s in named.items()}

    def fit(self, data: Columns) -> Recipe:
        """The recipe with codecs fitted to `data` and sizes written `None` read off it.

        Vectors, and features whose codec `fits`: a codec of images brings what it knows. A column that a codec made
        before it was stored says by which one, and that one is taken.
        """
        modalities = {n: _fitted(m, n, data) for n, m in self.modalities.items()}
        conditions = {n: _fitted(c, n, data) for n, c in self.conditions.items()}
        auxiliary = {n: _fitted(a, n, data) for n, a in self.auxiliary.items()}
        return replace(self, modalities=modalities, conditions=conditions, auxiliary=auxiliary)

    def build(self) -> WorldModel:
        """A new model; the same recipe builds the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.seed, "weights"))
            model = WorldModel(
                self.modalities,
                self.layout,
                self.modulation,
                self.backbone,
                self.conditions,
                self.registers,
                self.views,
                self.init,
            )
            for name, objective in self.auxiliary.items():
                model.auxiliary[name] = objective.build(model.width)
        model.recipe = self  # type: ignore[assignment]
        model.patterns = self.law.patterns(self.modalities, self.conditions)
        return model


def _fitted(signal: Named, name: str, data: Columns) -> Named:
    """A modality or condition whose codec has seen its column."""
    from .data.source import noted  # what is not fitted needs no data side

    if signal.signal(name).kind != "vector" and not getattr(signal.codec, "fits", False):
        return signal
    key = signal.key or name
    first = next(iter(data.column(key)), None)
    if first is None:
        raise ValueError(f"cannot fit {name!r}: the data have no column {key!r}")
    codec = signal.codec.fit(Column(lambda: data.column(key), noted(data).made_by(key)))
    if signal.shape[-1] is None:
        frames = signal.signal(name).shape[0]
        one = torch.from_numpy(np.asarray(first[:1], np.float32))[None]
        width = codec.encode(one.expand(1, int(frames or 1), *one.shape[2:])).shape[-1]
        return replace(signal, codec=codec, shape=(*signal.shape[:-1], width))
    return replace(signal, codec=codec)
