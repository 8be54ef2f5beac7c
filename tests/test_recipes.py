"""Recipes: each builds tiny, takes a step, and answers each of its questions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polyclock import Dice, from_pretrained, loss, sample, save_pretrained
from polyclock.data.collate import collate
from polyclock.data.source import Sample
from polyclock.recipes import tiny, unityvideo, unityvideo_released, uwm

CAMERAS = ("observation.images.front", "observation.images.wrist")
QUESTIONS = {
    tiny: [
        "action | video[:1], text",
        "video[1:] | video[:1], action",
        "action[k:] | action[:k], video",
        "video, action |",
    ],
    uwm: ["action |", "video | action", "action | video", "video |", "video, action |"],
    unityvideo: [
        *("depth | video", "skeleton | video", "video | flow, text", "video, surface | text"),
        *("segmentation | video, prompt", "video, segmentation | text, prompt"),
    ],
    unityvideo_released: [
        "depth | video, text",
        "video | skeleton, text",
        "video, flow | text",
        "surface | video, prompt",
    ],
}
ARGUMENTS = {
    tiny: {"cameras": CAMERAS},
    uwm: {"cameras": CAMERAS},
    unityvideo_released: {"image": (32, 32), "frames": 2},
}


class Data:
    def column(self, key):
        return iter([np.random.default_rng(len(key)).normal(size=(60, 7)).astype(np.float32)])


def samples(recipe, n=3, slots=()):
    """Random samples; of the names of a slot sample i has the i-th alone."""
    g = np.random.default_rng(0)
    for i in range(n):
        values = {}
        for name, s in recipe.signals().items():
            rivals = next((slot for slot in slots if name in slot), (name,) * (i + 1))
            if rivals[i % len(rivals)] != name:
                continue
            if s.kind == "text":
                values[name] = f"task {i}"
            elif s.kind == "vector":
                values[name] = g.normal(size=s.shape).astype(np.float32)
            elif name in recipe.modalities:  # what a codec can say is something that it can be told
                m = recipe.modalities[name]
                values[name] = m.codec.decode(torch.rand(1, *m.shape) * 2 - 1)[0].numpy()
            else:
                values[name] = g.integers(0, 256, s.shape, dtype=np.uint8)
        valid = {n: np.ones(s.shape[0], bool) for n, s in recipe.signals().items() if s.kind != "text"}
        yield Sample(values, valid, f"sample {i}")


@pytest.mark.parametrize("make", QUESTIONS, ids=lambda f: f.__name__)
def test_a_recipe_steps_and_answers(make, tmp_path):
    recipe = make(**ARGUMENTS.get(make, {})).fit(Data())
    slots = [group for stream in recipe.layout.streams for group in stream.exclusive]
    learnt, raw = (collate(list(samples(recipe, 3, s)), [0, 1, 2], recipe.signals()) for s in (slots, ()))
    model = recipe.build()
    dice = Dice(0, 0, range(3))
    total, parts = loss(model, model.encode(learnt, dice), recipe.law, dice)
    total.backward()
    assert torch.isfinite(total) and set(parts) == set(recipe.modalities)
    assert [n for n, p in model.named_parameters() if p.grad is None] == []

    save_pretrained(model, tmp_path)
    model = from_pretrained(tmp_path)
    for query in QUESTIONS[make]:
        right = query.partition("|")[2]
        names = [n for n, c in recipe.conditions.items() if c.required or n in right]
        names += [n for n in recipe.modalities if n.partition(".")[0] in right]
        values = {n: raw.values[n] for n in names}
        out = sample(model, query, strict=True, steps=2, size=3, **values, **({"k": 1} if "[k:]" in query else {}))
        for name, value in out.items():
            want = recipe.signals()[name]
            assert tuple(value.shape[1:]) == want.shape, (query, name)
            assert value.dtype == (torch.uint8 if name.startswith("video") else raw.tensor(name).dtype)
        if "video" in query.partition("|")[0] and make is uwm:
            assert set(out) >= {"video", "video.wrist"}


@pytest.mark.parametrize("size", ["S", "B", "L"])
def test_larger_sizes_build_on_no_memory(size):
    recipe = uwm(size=size, cameras=CAMERAS[:1], text=True).fit(Data())
    with torch.device("meta"):
        model = recipe.build()
    assert sum(p.numel() for p in model.parameters()) > 3e7
