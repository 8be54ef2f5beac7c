"""Ask a model its questions about held-out episodes, and say how sure the answers are: one JSON-ready document."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.source import Dataset, spans
from ..errors import unknown
from ..guidance import Guide
from ..model import WorldModel
from ..solver import usual_steps
from ..train.state import versions
from .calibration import calibration
from .compare import Plain, compare, losses, pairs, summary
from .consistency import consistency
from .counterfactual import STARTS, counterfactual
from .held_out import APART, HeldOut, Place
from .horizon import horizon
from .intervals import RESAMPLES
from .kinds import kinds_of, unmeasured
from .probing import Probing
from .questions import Question, questions
from .reference import Reference, Spread, spread_of
from .scores import Scores
from .viewed import signals_of, viewed, views_of
from .world import world

COUNTERFACTUAL = "counterfactual"
PROBES = {"consistency": consistency, "horizon": horizon, "calibration": calibration, "world": world}
FEW = 5  # blocks; with fewer an interval says little
FAR = 5  # times the spread of the training data
WINDOWS = 64


def evaluate(
    model: WorldModel,
    dataset: Dataset,
    *,
    episodes: Sequence[int],
    training: Dataset | None = None,
    only: Sequence[str] | None = None,
    stride: int | None = None,
    windows: int | None = None,
    steps: int | None = None,
    spread_steps: int | None = None,
    batch_size: int = 16,
    probes: Sequence[str] = tuple(PROBES),
    probe_windows: int = 16,
    worlds: Sequence[str] = (),
    starts: int = STARTS,
    seed: int = 0,
    resamples: int = RESAMPLES,
    guides: Sequence[Guide] = (),
    about: Mapping[str, Any] | None = None,
) -> Plain:
    """Errors of `model` on the held-out `episodes` of `dataset`, beside baselines, with paired 95 % intervals.

    training   what it was trained on, for the unit of errors and the baselines; None: the other episodes
    only       names of questions to ask; None: all that make sense
    stride     data frames between windows; windows: at most so many of these (of all that there are, without a stride),
               spread evenly. Without either: about six windows a second, at most 64
    steps      solver steps, and spread_steps those of calibration, whose answers have to differ; None: as `sample` does
    batch_size windows at a time, which changes nothing but rounding
    probes     what is measured beside the questions, on at most `probe_windows` windows: consistency, horizon,
               calibration, world
    worlds     simulated worlds, such as metaworld/drawer-open, in which other actions are tried from `starts` states
    guides     each acts on the questions that name something of what it withholds
    about      plain data to be put under "about": the command, sha256 of the model, the run's step

    Errors: ValueError for an unknown episode, question or probe, a count below 1, data that lack what the model must be
    given, or where no training episode is left to take the unit of errors from.
    """
    began = time.monotonic()
    check_probes(probes, worlds)
    check_guides(guides, model)
    check_counts(stride=stride, windows=windows, steps=steps, spread_steps=spread_steps,
                 batch_size=batch_size, probe_windows=probe_windows, starts=starts, resamples=resamples)  # fmt: skip
    fps, steps, spread_steps = dataset.facts.fps, *(n or usual_steps(model) for n in (steps, spread_steps))
    if stride is None:
        stride, windows = (max(1, round(fps / 6)), WINDOWS) if windows is None else (1, windows)
    views, kinds = views_of(model), kinds_of(model, dataset)
    held = HeldOut(dataset, signals_of(model), list(model.modalities), episodes, stride, windows, views)
    every, skipped = questions(model, fps, held.absent, kinds)
    asked = chosen(every, only)
    training = viewed(dataset.without(episodes) if training is None else training, views)
    reference = Reference(training, held, kinds, list(model.modalities))
    probing = Probing(
        model=model, held=held, asked={q.name: q for q in every}, reference=reference, windows=probe_windows,
        steps=steps, spread_steps=spread_steps, batch_size=batch_size, seed=seed, resamples=resamples, guides=guides,
    )  # fmt: skip
    # Worlds come first: what is wrong with their names is then said at once.
    probed = {COUNTERFACTUAL: counterfactual(probing, worlds, starts)} if worlds else {}
    probed |= {name: PROBES[name](probing) for name in probes if name != COUNTERFACTUAL}
    strangers = held.strangers(seed)
    scores = ask_all(probing, asked, strangers)
    rows = compare([*pairs(asked, scores.table)], scores.table, held.block, seed=seed, resamples=resamples)
    document: Plain = {
        "kind": "evaluation",
        "model": {"recipe": model.recipe.name, "parameters": sum(p.numel() for p in model.parameters())},  # type: ignore[union-attr]
        "data": {"fingerprint": dataset.fingerprint, **held_out(held)},
        "settings": {"stride": stride, "windows": windows, "steps": steps, "spread_steps": spread_steps,
                     "batch_size": batch_size, "seed": seed, "resamples": resamples, "probe_windows": probe_windows,
                     "device": str(model.device), "guides": [_said(g) for g in guides]},
        "kinds": {n: kinds[n] for n in model.modalities if n not in held.absent},
        "questions": {
            q.name: {"query": q.query, **summary(scores.table, q.name, held.block, seed=seed, resamples=resamples)}
            for q in asked
        },
        "comparisons": rows, "probes": probed,
    }  # fmt: skip
    lost = [note for n in dict.fromkeys(n for q in asked for n in q.wanted) for note in unmeasured(n, scores.about(n))]
    document["notes"] = [*losses(rows), *skipped, *lost, *_remarks(held, reference.spreads, strangers)]
    spent = round(time.monotonic() - began, 1)
    return document | {"about": dict(about or {}), "versions": versions(), "seconds": spent}


def check_guides(guides: Sequence[Guide], model: WorldModel) -> None:
    """Errors: ValueError for a guide that the model cannot follow."""
    for guide in guides:
        guide.check(model)


def _said(guide: Guide) -> Plain:
    """A guide as plain data."""
    return {
        "weight": guide.weight,
        "drop": sorted(guide.drop),
        "scope": guide.scope and sorted(guide.scope),
        "interval": list(guide.interval),
        "fill": guide.fill,
        "every": guide.every,
    }


def held_out(held: HeldOut) -> Plain:
    """What was asked about, as plain data."""
    return {
        "episodes": [e.index for e in held.dataset.episodes],
        "windows": len(held.places),
        "blocks": len({held.block(p) for p in held.places}),
        "block": "episode" if held.by_episode else "time",
        "block_seconds": None if held.by_episode else held.seconds,
    }


def ask_all(probing: Probing, asked: Sequence[Question], strangers: Mapping[Place, Place]) -> Scores:
    """Every question about every window, beside its baselines and its inputs shuffled."""
    scores, held = probing.scores(), probing.held
    varied = {n for question in asked for n in question.varied}
    for places, batch, data in held.batches(probing.batch_size):
        asking = probing.recorded(places, batch)
        keep = [j for j, p in enumerate(places) if p in strangers]
        others = probing.asking(places, held.gather([strangers.get(p, p) for p in places], varied))
        for question in asked:
            scores.answered(question, asking, data)
            scores.controlled(question, asking, others, keep, data)
    return scores


def check_probes(probes: Sequence[str], worlds: Sequence[str]) -> None:
    """Errors: ValueError for an unknown probe, or one that lacks its world."""
    for name in probes:
        if name not in (*PROBES, COUNTERFACTUAL):
            raise unknown("probe", name, [*PROBES, COUNTERFACTUAL])
    if COUNTERFACTUAL in probes and not worlds:
        raise ValueError("the probe counterfactual needs a world to try other actions in: --world metaworld/TASK")


def check_counts(**counts: int | None) -> None:
    """Errors: ValueError for one below 1."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name}={count}; needed: 1 or more")


def chosen(asked: Sequence[Question], only: Sequence[str] | None) -> tuple[Question, ...]:
    """The questions named in `only`, in the order of `asked`; None: all. Errors: ValueError for an unknown name."""
    for name in only or ():
        if name not in [q.name for q in asked]:
            raise unknown("question", name, [q.name for q in asked])
    return tuple(q for q in asked if only is None or q.name in only)


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
        remarks.append(f"only {blocks} blocks of {held.seconds:.3g} s: the intervals say little")
    alone = len(held.places) - len(strangers)
    if alone:
        remarks.append(
            f"{alone} of {len(held.places)} windows have no other at least {APART:g} s away in their episode and are "
            "not part of the comparisons with shuffled inputs"
        )
    return remarks
