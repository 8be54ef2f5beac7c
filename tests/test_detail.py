"""The path at the scale of pixels: silent at the start, blind to what is absent, local, and sharper than a token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock.layout import Layout, Stream
from polyclock.nn.detail import Detail
from worlds import MODALITIES, awake, batch, recipe

DETAIL = Detail(width=8)


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


def test_a_pixel_speaks_to_its_neighbours_its_token_and_the_frames_beside():
    eight = replace(MODALITIES["video"], shape=(3, 16, 16, 3), patch=(1, 8, 8))
    net = awake(DETAIL.build(("video",), {"video": eight}, 32))
    rows = {"video": torch.arange(1)}
    x = {"video": torch.zeros(1, 3, 16, 16, 3, requires_grad=True)}
    tokens, levels = net.see(x, rows, 1)
    assert [tuple(y.shape) for y in levels] == [(3, 8, 16, 16), (3, 16, 8, 8), (3, 32, 4, 4)]
    assert tokens.shape == (1, 3, 4, 32)
    looked = net.look(x["video"].flatten(0, 1).movedim(-1, 1))[1, :, 5, 5].square().sum()
    (reach,) = torch.autograd.grad(looked, x["video"])
    assert reach[0, 1, 4:7, 4:7].any(-1).all() and not reach[0, [0, 2]].any() and not reach[0, 1, 8:].any()
    (near,) = torch.autograd.grad(tokens[0, 0, 0].square().sum(), x["video"], retain_graph=True)
    assert near[0, 1, 3, 3].any()
    out = net(torch.zeros(1, 3, 4, 32), levels, rows, (3, 2, 2))["video"]
    assert out.shape == x["video"].shape and out[0, 0].std((0, 1)).min() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Detail(width=6), "a multiple of 8"),
        (lambda: DETAIL.build(("video",), {"video": replace(MODALITIES["video"], patch=(2, 2, 2))}, 32), "1 x 2 x 2"),
        (lambda: DETAIL.build(("video",), {"video": replace(MODALITIES["video"], patch=(1, 1, 1))}, 32), "1 x 2 x 2"),
        (lambda: DETAIL.build(("action",), MODALITIES, 32), "'action'"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_parameter_learns():
    model = recipe(layout=layout(DETAIL)).build()
    x, t = noisy(model)
    with torch.no_grad():
        model.detail["video+depth"].out.weight.normal_()
        model.detail["video+depth"].fold.weight.normal_()
    sum(v.square().mean() for v in model(x, t).values()).backward()
    assert [n for n, p in model.detail.named_parameters() if p.grad is None or not p.grad.any()] == []
