"""Questions asked of a model about a batch of windows, with noise that depends on each window alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..batch import Batch
from ..codecs.codec import encode_signal
from ..dice import Dice
from ..guidance import Guide
from ..model import WorldModel
from ..recent import Recent
from ..solver import sample
from .held_out import Place
from .questions import Question

Values = Mapping[str, Tensor | list[str]]
Answer = dict[str, Tensor]


class Answered(dict[str, Tensor]):
    """An answer that was given, and the bytes that it takes."""

    @property
    def nbytes(self) -> int:
        return sum(v.nbytes for v in self.values())


@dataclass
class Asking:
    """Questions about one batch: encoded once, its noise a function of (seed, window, turn) alone.

    Pictures of the batch are as the model works on them; it does not look at them again. A question is answered under
    those of `guides` that withhold something which it names. `known`: answers about batches of the data as they are,
    of which this is one, so that none is worked out twice; None: it is not.
    """

    model: WorldModel
    places: Sequence[Place]
    batch: Batch
    steps: int = 10
    seed: int = 0
    guides: Sequence[Guide] = ()
    known: Recent[Answered] | None = None
    seen: Batch = field(init=False)
    latent: Batch = field(init=False)

    def __post_init__(self) -> None:
        pictures = {n: self.batch.tensor(n).float() / 255 for n in self.model.views if n in self.batch.values}
        self.seen = replace(self.batch, values={**self.batch.values, **pictures})
        self.latent = self.model.encode(self.seen, self._dice(0))

    def _dice(self, turn: int) -> Dice:
        return Dice(self.seed, turn, [p.number for p in self.places], self.model.device)

    def ask(self, question: Question, instead: Values | None = None, turn: int = 0) -> Answer:
        """name -> raw (B, T', *S', C') on the CPU for everything wanted that the data have.

        `instead` replaces what is given, as `values` has it; each turn has its own noise.
        """
        if instead or self.known is None:
            return self._asked(question, instead or {}, turn)
        key = (question.query, tuple(question.wanted), question.conditions, tuple(self.places), self.steps, turn)
        return self.known.get(key, lambda: Answered(self._asked(question, {}, turn)))

    def _asked(self, question: Question, instead: Values, turn: int) -> Answer:
        model, dice = self.model, self._dice(turn)
        values = self.values((*question.given, *question.conditions)) | dict(instead)
        noise = {n: dice.normal(f"start.{n}", *self._shape(n)) for n in question.tokens}
        named = {*question.wanted, *question.given, *question.conditions}
        guides = [
            g for g in self.guides if named & set(g.drop) and (g.scope is None or set(question.wanted) & set(g.scope))
        ]
        out = sample(
            model, question.query, steps=self.steps, seed=self.seed, noise=noise, guides=guides, decode=False, **values
        )
        return {n: model.codec(n).decode(out[n]).cpu() for n in question.wanted}

    def _shape(self, name: str) -> list[int]:
        """(T, *S, C) of a modality; what the model leaves open is as the data have it. Errors: they lack it."""
        shape, here = self.model.modalities[name].shape, self.latent.values.get(name)
        if None in shape and isinstance(here, Tensor) and len(here):
            return list(here.shape[1:])
        if None in shape:
            raise ValueError(f"the size of {name!r} is open, {shape}, and the data do not show it")
        return [int(n or 0) for n in shape]

    def values(self, names: Sequence[str]) -> dict[str, Tensor | list[str]]:
        """name -> what `ask` gives: latents of modalities, raw values of conditions (these are always taken raw)."""
        return {n: (self.latent if n in self.model.modalities else self.seen).values[n] for n in names}

    def encoded(self, name: str, raw: Tensor) -> Tensor:
        """Raw (B, T', *S', C') of a modality -> its latent on the model's device."""
        return encode_signal(self.model.codec(name), raw.to(self.model.device), name, self._dice(0))
