"""Small models for tests: a few modalities, random weights that are zero nowhere."""

from __future__ import annotations

from dataclasses import replace

import torch

from polyclock.backbones.dit import DiT
from polyclock.batch import Batch
from polyclock.encoders import Bytes, Vector
from polyclock.layout import Layout, Stream
from polyclock.modality import Condition, Modality
from polyclock.nn.modulation import Local
from polyclock.recipe import Recipe
from polyclock.timesteps import PerFrame

VIDEO = Modality(shape=(4, 4, 4, 3), patch=(1, 2, 2))
MODALITIES = {
    "video": VIDEO,
    "depth": replace(VIDEO, shape=(4, 4, 4, 1)),
    "action": Modality(shape=(8, 2), patch=(2,), rate=2.0),
}
BACKBONE = DiT(width=32, depth=2, heads=2)
CONDITIONS = {
    "state": Condition(encoder=Vector(width=16), shape=(1, 3)),
    "text": Condition(encoder=Bytes(width=16, depth=1, heads=2), route="context", drop=0.2),
}


def recipe(**changes) -> Recipe:
    """A recipe of three modalities side by side, changed as asked."""
    parts = {
        "name": "small",
        "modalities": MODALITIES,
        "layout": Layout(*(Stream(n) for n in changes.get("modalities", MODALITIES))),
        "law": PerFrame(),
        "modulation": Local(),
        "backbone": BACKBONE,
        "registers": 2,
    }
    return Recipe(**(parts | changes))


def awake(model, seed: int = 0):
    """The model with every parameter that begins at zero set to small random numbers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if not p.any():
                p.normal_(0, 0.1, generator=generator)
    return model.eval()


def batch(model, size: int = 4, rows: dict | None = None, seed: int = 0, **values) -> Batch:
    """A latent batch of random values; `rows` says which samples have a name (default: all)."""
    generator = torch.Generator().manual_seed(seed)
    everyone = list(range(size))
    out, where = {}, {}
    for name, m in model.modalities.items():
        where[name] = torch.tensor((rows or {}).get(name, everyone), dtype=torch.long)
        full = torch.randn(size, *m.shape, generator=generator)
        out[name] = full[where[name]]
    for name, c in model.conditions.items():
        where[name] = torch.tensor((rows or {}).get(name, everyone), dtype=torch.long)
        if c.kind == "text":
            out[name] = [f"sentence {int(i)}" for i in where[name]]
        else:
            out[name] = torch.randn(size, *c.shape, generator=generator)[where[name]]
    return Batch(index=torch.arange(size), values=out | values, rows=where)


def noisy(model, names=None, size=3, frames="own", seed=0):
    """(x, t) of random values and times; frames="own": each frame has a time, else each sample."""
    g = torch.Generator().manual_seed(seed)
    x = {n: torch.randn(size, *m.shape, generator=g) for n, m in model.modalities.items()}
    t = {n: torch.rand(size, m.frames if frames == "own" else 1, generator=g) for n, m in model.modalities.items()}
    t = {n: v.expand(-1, model.modalities[n].frames) for n, v in t.items()}
    keep = names or list(x)
    return {n: x[n] for n in keep}, {n: t[n] for n in keep}
