"""Losses of each task at every checkpoint: `python tools/task_losses.py RUN --data PATH --out FILE [--windows N]`.

All runs are asked about the same windows with the same noise at the same times, uniform in (0, 1), so that two networks
differ by what they say alone. A question about some modalities is asked of samples that have these and no others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from polyclock import Dice, from_pretrained, loss, open_dataset
from polyclock.data import Cached, Windows, collate
from polyclock.density import Uniform
from polyclock.evaluate.held_out import spread
from polyclock.model import WorldModel
from polyclock.query import Query
from polyclock.timesteps import Task

PART = 16  # windows at a time


def losses(model: WorldModel, windows: Windows, count: int) -> dict[str, dict[str, float]]:
    """question -> modality -> mean loss over `count` windows, for every question that the law trains as a query."""
    found = {}
    for text in dict.fromkeys(p.label for p in model.patterns or ()):
        try:
            query = Query.parse(text)
            names = {t.name for t in query.want + query.given}
        except ValueError:  # a law that is no query
            continue
        part = windows.part([*names, *model.conditions])
        places = spread(list(range(len(part))), count)
        total: dict[str, float] = {}
        for begin in range(0, len(places), PART):
            here = places[begin : begin + PART]
            batch = collate([part[i] for i in here], list(here), windows.signals)
            dice = Dice(0, 0, batch.index.tolist())
            _, parts = loss(model, model.encode(batch, dice), Task(text, Uniform()), dice, global_size=len(places))
            for name in (t.name for t in query.want):
                total[name] = total.get(name, 0.0) + float(parts[name])
        found[text] = total
    return found


@torch.no_grad()
def curve(run: Path, data: str, count: int) -> dict:
    """The document: averaged weights where a checkpoint has them."""
    steps: dict[str, dict] = {}
    windows = None
    for folder in sorted((run / "checkpoints").glob("step-*")):
        model = from_pretrained(folder / "model").eval()
        average = folder / "ema.safetensors"
        if average.is_file():
            model.load_state_dict(load_file(average), strict=False)
        if windows is None:
            dataset = open_dataset(data)
            signals = model.recipe.signals()
            windows = Windows(Cached(dataset, signals), signals)
        steps[str(int(folder.name.removeprefix("step-")))] = losses(model, windows, count)
    return {"kind": "task losses", "windows": count, "data": open_dataset(data).fingerprint, "steps": steps}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=48)
    given = parser.parse_args()
    given.out.write_text(json.dumps(curve(given.run, given.data, given.windows), indent=1) + "\n")
