"""Losses of each task at every checkpoint: `python tools/task_losses.py RUN --data PATH --out FILE [--windows N]`.

All runs are asked about the same windows with the same noise at the same times, uniform in (0, 1), so that two networks
differ by what they say alone. A question about some modalities is asked of samples that have these and no others. What
is estimated from a picture is also answered in one step, and its errors have the data's units.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from polyclock import Dice, from_pretrained, loss, open_dataset, sample
from polyclock.batch import Batch
from polyclock.data import Cached, Dataset, Windows, collate
from polyclock.density import Uniform
from polyclock.evaluate.held_out import spread
from polyclock.evaluate.intervals import pooled
from polyclock.evaluate.kinds import DENSE, MEASURES, PICTURE, about, kinds_of, measure
from polyclock.model import WorldModel
from polyclock.query import Query
from polyclock.timesteps import Task

PART = 16  # windows at a time


def trained(model: WorldModel) -> Iterator[Query]:
    """Every question that the law trains as a query."""
    for text in dict.fromkeys(p.label for p in model.patterns or ()):
        try:
            yield Query.parse(text)
        except ValueError:  # a law that is no query
            continue


def batches(query: Query, model: WorldModel, windows: Windows, count: int) -> Iterator[tuple[Batch, Dice, int]]:
    """(raw batch, dice, windows in all) of at most `count` windows that have all the modalities of a question."""
    part = windows.part([*(t.name for t in query.want + query.given), *model.conditions])
    places = spread(list(range(len(part))), count)
    for begin in range(0, len(places), PART):
        here = places[begin : begin + PART]
        batch = collate([part[i] for i in here], list(here), windows.signals)
        yield batch, Dice(0, 0, batch.index.tolist()), len(places)


@torch.no_grad()
def losses(model: WorldModel, windows: Windows, count: int) -> dict[str, dict[str, float]]:
    """question -> modality -> mean loss over `count` windows."""
    found = {}
    for query in trained(model):
        total: dict[str, float] = {}
        for batch, dice, size in batches(query, model, windows, count):
            _, parts = loss(model, model.encode(batch, dice), Task(query.text, Uniform()), dice, global_size=size)
            for name in (t.name for t in query.want):
                total[name] = total.get(name, 0.0) + float(parts[name])
        found[query.text] = total
    return found


def estimates(model: WorldModel, windows: Windows, count: int, data: Dataset) -> dict[str, dict[str, float]]:
    """question -> "depth.absrel" and the like of maps that are estimated in one step from pictures alone."""
    kinds, found = kinds_of(model, data), {}
    for query in trained(model):
        wanted, given = ([t.name for t in terms] for terms in (query.want, query.given))
        if {kinds.get(n) for n in given} != {PICTURE} or not {kinds[n] for n in wanted} <= set(DENSE):
            continue
        rows: dict[str, list[np.ndarray]] = {}
        for batch, _, _ in batches(query, model, windows, count):
            seen = {n: batch.tensor(n) for n in given}
            answer = sample(model, query, steps=1, size=batch.size, **seen)
            for name in wanted:
                of = about(windows.signals[name], kinds[name], data, codec=model.codec(name))
                whole = batch.valid[name].all(1)  # windows that run past an episode's end are left out
                for key, numbers in measure(answer[name][whole], batch.tensor(name)[whole], of).items():
                    if MEASURES[key].primary:
                        rows.setdefault(f"{name}.{key}", []).append(numbers.numpy())
        found[query.text] = {key: _mean(key, np.concatenate(parts)) for key, parts in rows.items()}
    return found


def _mean(key: str, numbers: np.ndarray) -> float:
    """Over the windows in which something counts."""
    there = np.isfinite(numbers.reshape(len(numbers), -1)).all(1)
    return pooled(numbers[there], MEASURES[key.rsplit(".", 1)[-1]].pool)


def curve(run: Path, data: str, count: int) -> dict:
    """The document: averaged weights where a checkpoint has them."""
    steps: dict[str, dict] = {}
    answers: dict[str, dict] = {}
    windows, dataset = None, open_dataset(data)
    for folder in sorted((run / "checkpoints").glob("step-*")):
        model = from_pretrained(folder / "model").eval()
        average = folder / "ema.safetensors"
        if average.is_file():
            model.load_state_dict(load_file(average), strict=False)
        if windows is None:
            signals = model.recipe.signals()
            windows = Windows(Cached(dataset, signals), signals)
        step = str(int(folder.name.removeprefix("step-")))
        steps[step] = losses(model, windows, count)
        answers[step] = estimates(model, windows, count, dataset)
    document = {"kind": "task losses", "windows": count, "data": dataset.fingerprint, "steps": steps}
    return document | {"estimates": answers}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=48)
    given = parser.parse_args()
    given.out.write_text(json.dumps(curve(given.run, given.data, given.windows), indent=1) + "\n")
