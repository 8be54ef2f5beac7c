"""A world model as a training job: short clips, of which every third has a depth, and a text."""

from __future__ import annotations

from dataclasses import replace

import torch
from standin import Loader, Numbers
from torch import Tensor

from polyclock import Condition, Independent, Layout, Local, Modality, Recipe, Stream
from polyclock.backbones.wan import Wan
from polyclock.batch import Batch
from polyclock.dice import Dice, seed_of
from polyclock.encoders import Numbers as Features
from polyclock.model import WorldModel
from polyclock.objective import loss
from polyclock.pretrained import save_pretrained
from polyclock.train.loop import Job
from polyclock.train.settings import Training

VIDEO = Modality(shape=(2, 4, 4, 3), patch=(1, 2, 2))
RECIPE = Recipe(
    name="clips",
    modalities={"video": VIDEO, "depth": replace(VIDEO, zero_init=True)},
    conditions={"text": Condition(encoder=Features(), route="context", shape=(3, 5), required=True)},
    layout=Layout(Stream("video"), Stream("depth")),
    law=Independent(),
    modulation=Local(shared=True, table=True),
    backbone=Wan(width=24, depth=2, heads=2, feedforward=48),
    registers=1,
)
SETTINGS = Training(
    steps=6, batch_size=4, lr=0.01, warmup=2, ema=0.9, validate_every=3, validation_batches=1, checkpoint_every=3,
    keep=2, log_every=1, workers=0, seed=5,
)  # fmt: skip


class ClipLoader(Loader):
    def batch(self, k: int) -> Batch:
        share = range(self.batch_size * self.rank // self.world, self.batch_size * (self.rank + 1) // self.world)
        ids = [self.ids(k)[j] for j in share]
        every, some = torch.arange(len(ids)), [place for place, i in enumerate(ids) if i % 3 == 0]
        values = {"video": [draw(i, "video", 2, 4, 4, 3) for i in ids], "text": [draw(i, "text", 3, 5) for i in ids]}
        depth = [draw(ids[place], "depth", 2, 4, 4, 3) for place in some]
        stacked = {n: torch.stack(v) for n, v in values.items()}
        stacked["depth"] = torch.stack(depth) if depth else torch.zeros(0, 2, 4, 4, 3)
        rows = {"video": every, "text": every, "depth": torch.tensor(some, dtype=torch.long)}
        return Batch(torch.tensor(list(share)), stacked, rows)


def draw(i: int, name: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed_of(name, i)))


def step_loss(model: WorldModel, latent: Batch, dice: Dice, *, step: int, global_size: int):
    return loss(model, latent, RECIPE.law, dice, step=step, global_size=global_size)


def make_job(recipe: Recipe = RECIPE) -> Job:
    return Job(
        build=recipe.build, loss=step_loss, loader=ClipLoader, save=save_pretrained, source=Numbers(24),
        held_out=Numbers(8), facts={"recipe": recipe.name},
    )  # fmt: skip
