"""Ask a model its questions about held-out episodes, and say how sure the answers are: one JSON-ready document."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ..batch import Batch
from ..data.source import Dataset, spans
from ..dice import Dice
from ..errors import unknown
from ..modality import Signal
from ..model import WorldModel
from ..solver import sample
from ..train.state import versions
from .baselines import Spread, baselines, spread_of
from .compare import MODEL, SHUFFLED, Table, compare
from .held_out import APART, HeldOut, Place
from .intervals import RESAMPLES, block_interval
from .metrics import measure, unit
from .questions import Question, questions

FEW = 5  # blocks; with fewer an interval says little
FAR = 5  # times the spread of the training data
Document = dict[str, Any]


def evaluate(
    model: WorldModel,
    dataset: Dataset,
    *,
    episodes: Sequence[int],
    training: Dataset | None = None,
    only: Sequence[str] | None = None,
    stride: int | None = None,
    steps: int = 10,
    batch_size: int = 16,
    seed: int = 0,
    resamples: int = RESAMPLES,
    about: Mapping[str, Any] | None = None,
) -> Document:
    """Errors of `model` on the held-out `episodes` of `dataset`, beside baselines, with paired 95 % intervals.

    training   what it was trained on, for the unit of errors and the mean baseline; None: the other episodes
    only       names of questions to ask; None: all that make sense
    stride     data frames between windows; None: about six windows a second
    steps      solver steps; batch_size: windows at a time, which changes nothing but rounding
    about      plain data to be put under "about": the command, sha256 of the model, the run's step

    Errors: ValueError for an unknown episode or question, data that lack what the model must be given, or where no
    training episode is left to take the unit of errors from.
    """
    began = time.monotonic()
    fps = dataset.facts.fps
    stride = stride or max(1, round(fps / 6))
    signals = model.recipe.signals()  # type: ignore[union-attr]
    held = HeldOut(dataset, signals, list(model.modalities), episodes, stride)
    asked, skipped = questions(model, fps, held.absent)
    asked = chosen(asked, only)
    spreads = _spreads(model, held, dataset.without(episodes) if training is None else training)
    scores = Scores(signals, spreads)
    strangers = held.strangers(seed)
    for places, batch, data in held.batches(batch_size):
        asking = Asking(model, places, batch, steps, seed)
        for question in asked:
            scores.answered(question, asking, data)
            if question.name == "forward":
                scores.shuffled(question, asking, held, strangers)
    document: Document = {
        "kind": "evaluation",
        "model": {"recipe": model.recipe.name, "parameters": sum(p.numel() for p in model.parameters())},  # type: ignore[union-attr]
        "data": {"fingerprint": dataset.fingerprint, "episodes": [e.index for e in held.dataset.episodes],
                 "windows": len(held.places), "blocks": len({held.block(p) for p in held.places})},
        "settings": {"stride": stride, "steps": steps, "batch_size": batch_size, "seed": seed,
                     "resamples": resamples, "device": str(model.device)},
        "questions": {q.name: _answers(q, scores.table, held, seed, resamples) for q in asked},
    }  # fmt: skip
    document["comparisons"], lost = compare(asked, scores.table, held.block, seed=seed, resamples=resamples)
    document["notes"] = [*lost, *skipped, *_remarks(held, spreads, strangers)]
    document["about"] = dict(about or {})
    document["versions"] = versions()
    document["seconds"] = round(time.monotonic() - began, 1)
    return document


def chosen(asked: Sequence[Question], only: Sequence[str] | None) -> tuple[Question, ...]:
    """The questions named in `only`, in the order of `asked`; None: all. Errors: ValueError for an unknown name."""
    for name in only or ():
        if name not in [q.name for q in asked]:
            raise unknown("question", name, [q.name for q in asked])
    return tuple(q for q in asked if only is None or q.name in only)


@dataclass
class Asking:
    """Questions about one batch: encoded once, its noise a function of (seed, window) alone."""

    model: WorldModel
    places: Sequence[Place]
    batch: Batch
    steps: int = 10
    seed: int = 0
    latent: Batch = field(init=False)

    def __post_init__(self) -> None:
        self.dice = Dice(self.seed, 0, [p.number for p in self.places], self.model.device)
        self.latent = self.model.encode(self.batch, self.dice)

    def ask(self, question: Question, instead: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """name -> raw (B, T', *S', C') on the CPU for everything wanted; `instead` replaces given latents by name."""
        model = self.model
        values = {n: self.latent.values[n] for n in question.given} | dict(instead or {})
        # Conditions are taken raw whatever the modalities are.
        values |= {n: self.batch.values[n] for n in question.conditions}
        shapes = {n: [int(s or 0) for s in model.modalities[n].shape] for n in question.tokens}
        noise = {n: self.dice.normal(f"start.{n}", *shape) for n, shape in shapes.items()}
        out = sample(model, question.query, steps=self.steps, seed=self.seed, noise=noise, decode=False, **values)
        return {n: model.codec(n).decode(x).cpu() for n, x in out.items()}


class Scores:
    """Collects measures by window: table[question, series]["video.mse"][place]."""

    def __init__(self, signals: Mapping[str, Signal], spreads: Mapping[str, Spread]) -> None:
        self.signals, self.spreads = signals, spreads
        self.table: Table = {}

    def add(
        self,
        question: Question,
        series: str,
        places: Sequence[Place],
        answer: Mapping[str, Tensor],
        true: Mapping[str, Tensor | list[str]],
    ) -> None:
        """Score answer[name] (B, T', *S', C') against true[name] on the frames that the question wants."""
        rows = self.table.setdefault((question.name, series), {})
        for name, guess in answer.items():
            first, value = question.wanted[name], true[name]
            assert isinstance(value, Tensor)
            scale = self.spreads[name].std if name in self.spreads else None
            for kind, numbers in measure(guess[:, first:], value[:, first:], scale).items():
                rows.setdefault(f"{name}.{kind}", {}).update(zip(places, numbers.tolist(), strict=True))

    def answered(self, question: Question, asking: Asking, data: Dataset) -> None:
        """Ask, and score the answer and its baselines."""
        true = {n: asking.batch.values[n] for n in question.wanted}
        self.add(question, MODEL, asking.places, asking.ask(question), true)
        for name, value in true.items():
            beside = baselines(name, self.signals[name], value, asking.places, data, self.spreads)
            for series, guess in beside.items():
                self.add(question, series, asking.places, {name: guess}, {name: value})

    def shuffled(self, forward: Question, asking: Asking, held: HeldOut, strangers: Mapping[Place, Place]) -> None:
        """Ask forward again with the actions of strangers and the same noise; windows without one do not count."""
        keep = [j for j, p in enumerate(asking.places) if p in strangers]
        if not keep:
            return
        model = asking.model
        others = [strangers.get(p, p) for p in asking.places]
        actions = [n for n in forward.given if n == "action" or n.startswith("action.")]
        instead = {n: model.codec(n).encode(held.numbers(n, others).to(model.device)) for n in actions}
        answer = {n: v[keep] for n, v in asking.ask(forward, instead).items()}
        true = {n: asking.batch.values[n][keep] for n in answer}
        self.add(forward, SHUFFLED, [asking.places[j] for j in keep], answer, true)


def _spreads(model: WorldModel, held: HeldOut, training: Dataset) -> dict[str, Spread]:
    here = [n for n in model.modalities if n not in held.absent and held.signals[n].kind == "vector"]
    return {n: spread_of(training, held.signals[n].key) for n in here}


def _answers(question: Question, table: Table, held: HeldOut, seed: int, resamples: int) -> Document:
    """The errors of one question and of what stands beside it."""

    def interval(rows: Mapping[Place, float], key: str) -> Document:
        values, blocks = np.array(list(rows.values())), [held.block(p) for p in rows]
        found = block_interval(values, blocks, seed=seed, resamples=resamples)
        return found.plain() | {"unit": unit(key)}

    series = {
        name: {key: interval(rows, key) for key, rows in measures.items()}
        for (asked, name), measures in table.items()
        if asked == question.name
    }
    return {"query": question.query, "errors": series.pop(MODEL), "beside": series}


def _remarks(held: HeldOut, spreads: Mapping[str, Spread], strangers: Mapping[Place, Place]) -> list[str]:
    """What a reader of the numbers must know."""
    remarks = []
    for name, spread in spreads.items():
        still = [i for i, s in enumerate(spread.std.tolist()) if s == 0]
        if still:
            remarks.append(f"{name}: dimensions {spans(still)} never move in the training data; errors leave them out")
        beyond = spread_of(held.dataset, held.signals[name].key).std > FAR * spread.std
        far = [i for i, f in enumerate((beyond & (spread.std > 0)).tolist()) if f]
        if far:
            remarks.append(
                f"{name}: dimensions {spans(far)} move more than {FAR} times as far in the held-out episodes as in the "
                "training data, so they weigh heavily in the mean error; rmse has no such unit"
            )
    blocks = len({held.block(p) for p in held.places})
    if blocks < FEW:
        remarks.append(f"only {blocks} blocks of one second: the intervals say little")
    alone = len(held.places) - len(strangers)
    if "action" in held.signals and "action" not in held.absent and alone:
        remarks.append(
            f"{alone} of {len(held.places)} windows have no other at least {APART:g} s away in their episode and are "
            "not part of the comparison with shuffled actions"
        )
    return remarks
