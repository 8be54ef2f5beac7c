"""The tabletop recipe: its fused stream learns from raw maps, its questions are answered in raw units, it is small."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polyclock import Dice, from_pretrained, loss, sample, save_pretrained
from polyclock.data.collate import collate
from polyclock.data.source import Sample
from polyclock.recipes import tabletop
from polyclock.timesteps import Mixture

MAPS = ("depth", "flow", "segmentation", "skeleton")
ALONE = ", ".join(f"-{name}" for name in ("video", *MAPS))
QUERIES = {
    f"action | camera, state, text, {ALONE}": ("action",),
    "depth, flow, segmentation, skeleton | video": MAPS,
    "depth | video": ("depth",),
    "video[1:] | video[:1], action, camera, state, text": ("video",),
    "action | video, camera, state, text": ("action",),
    "video | depth, flow, segmentation, skeleton, text": ("video",),
}


class Data:
    def column(self, key):
        return iter([np.random.default_rng(len(key)).normal(size=(60, 4)).astype(np.float32)])


def raw(name: str, shape: tuple, g: np.random.Generator) -> np.ndarray:
    """Values of one sample as a data set brings them."""
    if name in ("video", "camera"):
        return g.integers(0, 256, shape, dtype=np.uint8)
    if name == "depth":
        return g.uniform(0, 8, shape).astype(np.float32)
    if name == "segmentation":
        return g.integers(0, 13, shape).astype(np.int32)
    if name == "skeleton":
        return np.concatenate([g.uniform(0, 128, (*shape[:2], 2)), np.ones((*shape[:2], 1))], -1).astype(np.float32)
    return g.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def built():
    recipe = tabletop(image=16, width=64, depth=1, shift=1).fit(Data())
    samples = []
    g = np.random.default_rng(0)
    for i in range(3):
        signals = recipe.signals().items()
        values = {n: "open it" if s.kind == "text" else raw(n, s.shape, g) for n, s in signals}
        valid = {n: np.ones(s.shape[0], bool) for n, s in signals if s.kind != "text"}
        samples.append(Sample(values, valid, f"sample {i}"))
    return recipe, collate(samples, [0, 1, 2], recipe.signals())


def test_every_entry_of_its_law_takes_a_step(built):
    recipe, batch = built
    model = recipe.build()
    dice = Dice(0, 0, range(3))
    latent = recipe.augment[0](model.encode(batch, dice), dice)
    assert isinstance(recipe.law, Mixture) and recipe.law.whole
    for _, law in recipe.law.entries:
        model.zero_grad()
        total, parts = loss(model, latent, law, dice)
        total.backward()
        assert torch.isfinite(total) and total > 0
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        learnt = {n for n, value in parts.items() if value > 0}
        assert learnt and learnt != {"camera"}


def test_it_answers_in_raw_units_after_a_round_trip_in_half_precision(built, tmp_path):
    recipe, batch = built
    save_pretrained(recipe.build(), tmp_path, half=True)
    model = from_pretrained(tmp_path)
    signals = recipe.signals()
    for query, wanted in QUERIES.items():
        right = query.partition("|")[2]
        names = [n for n in signals if n in right.replace(":", " ").replace(",", " ").replace("[", " ").split()]
        given = {n: batch.values[n] for n in names}
        given |= {"video": batch.values["video"][:, :1]} if "video[:1]" in query else {}
        out = sample(model, query, strict=True, steps=2, **given)
        assert set(out) == set(wanted)
        for name, value in out.items():
            assert tuple(value.shape) == (3, *signals[name].shape)
    # One step from t = 1 cannot leave the range that a codec decodes to.
    depth = sample(model, "depth | video", video=batch.values["video"], steps=1)["depth"]
    assert ((depth == 0) | ((depth >= 0.99) & (depth <= 7.01))).all()


def test_the_network_for_actions_alone_is_the_same_trunk():
    whole, acting = tabletop().fit(Data()), tabletop(pictures=False).fit(Data())
    assert list(acting.modalities) == ["action"] and acting.backbone == whole.backbone
    assert acting.conditions.keys() == whole.conditions.keys()
    size = sum(p.numel() for p in whole.build().parameters())
    assert size * 2 < 10e6  # bytes in half precision
