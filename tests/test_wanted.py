"""Only what is wanted is computed to the end, and it is the same as when everything is."""

from __future__ import annotations

import pytest
import torch

from polyclock.backbones.dit import DiT
from polyclock.layout import Layout, Stream
from polyclock.nn.block import Context, Run, kept, kept_contexts
from polyclock.nn.modulation import Joint
from worlds import CONDITIONS, MODALITIES, awake, recipe

VARIANTS = {
    "a time per frame": {},
    "one vector for all": {"modulation": Joint()},
    "who sees whom": {"layout": Layout(*map(Stream, MODALITIES), sees={"action": ("depth",)})},
    "a sentence": {"conditions": CONDITIONS},
    "no rotation, a layer behind": {"backbone": DiT(width=32, depth=2, heads=2, rope=False, out=True)},
    "fused": {"layout": Layout(Stream("video", "depth"), Stream("action"))},
}


def test_stretches_of_runs_are_laid_out_anew():
    c = torch.zeros(1, 1, 2)
    runs = [Run(0, 3, c, None), Run(3, 11, c, None), Run(11, 14, c, None)]
    found = [(i, run.start, run.stop) for i, run in kept(runs, [(4, 6), (8, 13)])]
    assert found == [(1, 0, 2), (1, 2, 5), (2, 5, 7)]
    contexts = [Context(3, 5, c, c), Context(11, 14, c, c)]
    assert [(c.start, c.stop) for c in kept_contexts(contexts, [(4, 6), (8, 13)])] == [(0, 1), (5, 7)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("wanted", [["video"], ["depth"], ["action"], ["video", "action"]])
def test_the_answer_is_that_of_the_whole(variant: str, wanted: list[str]):
    model = awake(recipe(**VARIANTS[variant]).build())
    x = {n: torch.randn(2, *m.shape) for n, m in MODALITIES.items()}
    t = {n: torch.rand(2, m.frames) for n, m in MODALITIES.items()}
    if variant == "one vector for all":
        t = {n: v[:, :1].expand_as(v) for n, v in t.items()}
    given = None
    if variant == "a sentence":
        values = {"state": torch.randn(2, 1, 3), "text": ["lift", "open the drawer"]}
        given = model.conditioner(values, {n: torch.arange(2) for n in values}, 2)
    with torch.no_grad():
        whole, part = model(x, t, given), model(x, t, given, wanted=wanted)
    assert set(whole) == set(x)
    mates = {n for s in model.layout.streams if set(s.of) & set(wanted) for n in s.of}
    assert set(part) == mates
    for name in wanted:
        torch.testing.assert_close(part[name], whole[name], rtol=1e-4, atol=1e-5)
