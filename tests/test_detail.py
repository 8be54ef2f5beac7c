"""The path at the scale of pixels: silent at the start, blind to what is absent, local, and sharper than a token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock.layout import Layout, Stream
from polyclock.nn.detail import Detail
from worlds import MODALITIES, awake, batch, recipe

DETAIL = Detail(width=8, depth=1, cell=1)


def layout(detail: Detail | None) -> Layout:
    return Layout(Stream("video", "depth", detail=detail), Stream("action"))


def noisy(model, size=3):
    x = {n: v for n, v in batch(model, size).values.items() if n in model.modalities}
    return x, {n: torch.full((size, model.modalities[n].frames), 0.5) for n in x}


def test_it_says_nothing_at_the_start():
    with_it, without = recipe(layout=layout(DETAIL)).build().eval(), recipe(layout=layout(None)).build().eval()
    with_it.load_state_dict(without.state_dict(), strict=False)
    x, t = noisy(without)
    for name, value in without(x, t).items():
        assert torch.equal(value, with_it(x, t)[name])


def test_samples_that_lack_a_modality_are_answered_as_if_alone():
    model = awake(recipe(layout=layout(DETAIL)).build())
    x, t = noisy(model)
    some = {"video": torch.arange(3), "depth": torch.tensor([0, 2]), "action": torch.arange(3)}
    mixed = model({n: v[some[n]] for n, v in x.items()}, {n: v[some[n]] for n, v in t.items()}, rows=some, size=3)
    alone = model({n: x[n][1:2] for n in ("video", "action")}, {n: t[n][1:2] for n in ("video", "action")})
    torch.testing.assert_close(mixed["video"][1:2], alone["video"], rtol=1e-4, atol=1e-5)
    whole = model(x, t)
    torch.testing.assert_close(mixed["depth"], whole["depth"][[0, 2]], rtol=1e-4, atol=1e-5)


def test_a_pixel_speaks_to_its_neighbours():
    net = awake(DETAIL.build(("video", "depth"), MODALITIES, 32))
    x = {"video": torch.zeros(1, 4, 4, 4, 3), "depth": torch.zeros(1, 4, 4, 4, 1)}
    h, rows = torch.zeros(1, 4, 4, 32), {n: torch.arange(1) for n in x}
    changed = x | {"video": x["video"].index_put((torch.tensor(0),) * 5, torch.tensor(5.0))}
    looked = net.look(torch.cat(list(changed.values()), -1).movedim(-1, 1)) - net.look(
        torch.cat(list(x.values()), -1).movedim(-1, 1)
    )
    assert looked[0, :, :2, :2, :2].abs().min() > 0 and looked[0, :, 2:].abs().max() == 0
    assert net(h, changed, rows, (4, 2, 2)).keys() == x.keys()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Detail(width=6), "4, 8, 12"),
        (lambda: Detail(cell=3).build(("video",), MODALITIES, 32), "cells of 3"),
        (lambda: Detail(cell=1).build(("action",), MODALITIES, 32), "'action'"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_parameter_learns():
    model = recipe(layout=layout(replace(DETAIL, depth=2))).build()
    x, t = noisy(model)
    with torch.no_grad():
        model.detail["video+depth"].out.weight.normal_()
        model.detail["video+depth"].say.weight.normal_()
    sum(v.square().mean() for v in model(x, t).values()).backward()
    assert [n for n, p in model.detail.named_parameters() if p.grad is None or not p.grad.any()] == []
