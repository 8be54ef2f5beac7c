"""Adapters: what a token's numbers pass through on their way in and out, and how newcomers with layers stay silent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from polyclock.adapter import ACTIVATIONS, Adapter
from polyclock.dice import Dice
from polyclock.layout import Layout, Stream
from polyclock.nn.init import silent
from polyclock.objective import loss
from polyclock.timesteps import Shared
from worlds import MODALITIES, VIDEO, batch, recipe


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def ways(adapter: Adapter, channels: int, width: int) -> tuple[nn.Module, nn.Module]:
    return adapter.enter(channels, width), adapter.leave(width, channels)


def test_one_linear_map_each_way_is_the_default():
    into, out = ways(Adapter(), 3, 8)
    assert type(into) is type(out) is nn.Linear
    assert (into.in_features, into.out_features, out.in_features, out.out_features) == (3, 8, 8, 3)


@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize(("hidden", "ratio"), [(1, 4), (2, 1)])
def test_layers_are_as_wide_as_the_wider_end_times_the_ratio(channels, hidden, ratio):
    into, out = ways(Adapter(hidden=hidden, ratio=ratio), channels, 8)
    wide = ratio * max(channels, 8)
    between = (hidden - 1) * (wide * wide + wide)
    assert count(into) == channels * wide + wide + between + wide * 8 + 8
    assert count(out) == 8 * wide + wide + between + wide * channels + channels
    assert into(torch.randn(2, 5, channels)).shape == (2, 5, 8) and out(torch.randn(2, 5, 8)).shape == (2, 5, channels)


def test_the_two_ways_may_differ_and_layers_may_be_like_what_is_behind_them():
    into, out = ways(Adapter(hidden=1, ratio=1, activation="none", like="behind", out=0), 20, 8)
    assert count(into) == 20 * 8 + 8 + 8 * 8 + 8 and type(out) is nn.Linear
    x = torch.randn(4, 20)
    assert torch.allclose(into(x), into[2](into[0](x)))
    with pytest.raises(ValueError, match="Possible: wider, behind"):
        Adapter(like="before")


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("mish", lambda x: x * torch.tanh(torch.log1p(torch.exp(x)))),
        ("silu", lambda x: x / (1 + torch.exp(-x))),
        ("gelu", lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2),
        ("gelu_tanh", lambda x: x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2),
        ("none", lambda x: x),
    ],
)
def test_the_activation_stands_between_the_layers(name, formula):
    into, _ = ways(Adapter(hidden=1, activation=name), 3, 8)
    x = 2 * torch.randn(50, 3)
    by_hand = formula(x @ into[0].weight.T + into[0].bias) @ into[2].weight.T + into[2].bias
    assert torch.allclose(into(x), by_hand, atol=1e-5)
    others = [ACTIVATIONS[n]()(x) for n in ACTIVATIONS if n != name]
    assert not any(torch.allclose(formula(x), other, atol=1e-4) for other in others)


def test_silence_is_in_the_last_layer_alone():
    for module in ways(Adapter(hidden=2), 3, 8):
        silent(module)
        layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
        assert not layers[-1].weight.any() and not layers[-1].bias.any()
        assert all(layer.weight.any() for layer in layers[:-1])


def test_a_newcomer_with_layers_changes_nothing_and_learns():
    adapter = Adapter(hidden=1, activation="mish")
    flow = replace(VIDEO, shape=(4, 4, 4, 2), zero_init=True, null="zero", clock="video", adapter=adapter)
    both = {"video": VIDEO, "flow": flow}
    model = recipe(modalities=both, layout=Layout(Stream("video", "flow")), law=Shared()).build()
    for block in model.backbone.blocks:
        nn.init.normal_(block.modulator.linear.weight, std=0.1)
    b = batch(model, 2)
    x, t = {n: b.tensor(n) for n in both}, dict.fromkeys(both, torch.full((2, 4), 0.3))
    with torch.no_grad():
        alone = model({"video": x["video"]}, {"video": t["video"]})["video"]
        out = model(x, t)
    assert torch.equal(out["video"], alone) and not out["flow"].any()

    total, _ = loss(model, b, Shared(), Dice(0, 0, range(2)))
    total.backward()
    for way in (model.embed["flow"], model.head["flow"]):
        assert way[2].weight.grad.abs().max() > 1e-6, "the silent layer has something to learn from the first step on"
        assert not way[0].weight.grad.any(), "what stands before a silent layer begins one step later"


def test_a_model_has_the_layers_that_a_modality_asks_for():
    action = replace(MODALITIES["action"], adapter=Adapter(hidden=1, ratio=2))
    model = recipe(modalities=MODALITIES | {"action": action}).build()
    assert isinstance(model.embed["video"], nn.Linear) and isinstance(model.head["depth"], nn.Linear)
    assert [tuple(p.shape) for p in model.embed["action"].parameters()] == [(64, 4), (64,), (32, 64), (32,)]
    assert [tuple(p.shape) for p in model.head["action"].parameters()] == [(64, 32), (64,), (4, 64), (4,)]


def test_faults_are_named():
    with pytest.raises(ValueError, match=r"unknown activation 'mich'. Did you mean 'mish'"):
        Adapter(activation="mich")
    with pytest.raises(ValueError, match="hidden=-1"):
        Adapter(hidden=-1)
    with pytest.raises(ValueError, match="ratio=0"):
        Adapter(ratio=0)
