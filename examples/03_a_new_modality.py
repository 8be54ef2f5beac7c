"""A new modality is one line: brightness, read off the video, becomes a peer that can be wanted or given.

python examples/03_a_new_modality.py DATASET
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from polyclock import Batch, Dice, Layout, Modality, Stream, loss, open_dataset, sample
from polyclock.codecs import MeanStd
from polyclock.data import Loader, Windows
from polyclock.recipes import tiny


class Brightness:
    """A data set with one more column: the mean brightness of each frame of its first camera."""

    def __init__(self, dataset) -> None:
        self.dataset, self.camera = dataset, dataset.facts.cameras[0]

    def __getattr__(self, name: str):
        return getattr(self.dataset, name)

    @property
    def facts(self):
        facts = self.dataset.facts
        return replace(facts, columns={**facts.columns, "brightness": (1,)})

    def has(self, episode: int, key: str) -> bool:
        return key == "brightness" or self.dataset.has(episode, key)

    def read(self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None):
        if key != "brightness":
            return self.dataset.read(episode, key, frames, size)
        pictures = self.dataset.read(episode, self.camera, frames, (16, 16))
        return pictures.mean((1, 2, 3))[:, None].astype(np.float32)

    def column(self, key: str) -> Iterator[np.ndarray]:
        if key != "brightness":
            return self.dataset.column(key)
        return (self.read(e.index, key, range(0, e.length, 30)) for e in self.dataset.episodes)


if __name__ == "__main__":
    dataset = Brightness(open_dataset(sys.argv[1]))
    recipe = tiny(cameras=dataset.facts.cameras)
    modalities = {**recipe.modalities, "brightness": Modality(shape=(4, 1), patch=(1,), rate=5.0, codec=MeanStd())}
    recipe = replace(recipe, modalities=modalities, layout=Layout(*map(Stream, modalities))).fit(dataset)

    loader = Loader(Windows(dataset, recipe.signals(), stride=5), recipe.signals(), batch_size=16, seed=0)
    model = recipe.build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(60):
        batch: Batch = loader.batch(step)
        dice = Dice(0, step, batch.index.tolist())
        total, parts = loss(model, model.encode(batch, dice), recipe.law, dice, step=step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    print("losses", {n: round(v.item(), 3) for n, v in parts.items()})
    truth = batch.values["brightness"].mean(1).flatten()
    guess = sample(model, "brightness | video", video=batch.values["video"])["brightness"].mean(1).flatten()
    print(f"brightness | video: correlation with the truth {torch.corrcoef(torch.stack([truth, guess]))[0, 1]:.2f}")
