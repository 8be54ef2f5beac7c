"""Numbers as conditions: as they are or through one linear map, on every route that takes them."""

from __future__ import annotations

import pytest
import torch

from polyclock.conditioning import Conditioner
from polyclock.encoders import Numbers
from polyclock.modality import Condition


def test_numbers_stay_as_they_are() -> None:
    net = Numbers().build((2, 3, 4))
    values = torch.randn(5, 2, 3, 4, dtype=torch.float64)
    out = net(values)
    assert torch.equal(out, values.float().flatten(2)) and out.dtype == torch.float32
    assert net.length == 2 and net.width == 12 and Numbers().length is None
    assert list(net.parameters()) == []


def test_one_linear_map_for_each_frame() -> None:
    net = Numbers(linear=7).build((2, 3))
    values = torch.randn(5, 2, 3)
    assert torch.allclose(net(values), values @ net.out.weight.T + net.out.bias, atol=1e-6)
    assert net.length == 2 and net.width == Numbers(linear=7).width == 7
    assert net(values[:0]).shape == (0, 2, 7)


def test_only_the_number_of_frames_may_be_open() -> None:
    assert Numbers().build((None, 3)).length is None
    for shape in ((2, None), (2,), ()):
        with pytest.raises(ValueError, match="Numbers needs a known shape"):
            Numbers().build(shape)


@pytest.mark.parametrize("linear", [None, 5])
@pytest.mark.parametrize("route", ["beside", "global", "tokens"])
def test_the_conditioner_knows_their_width_on_every_route(route: str, linear: int | None) -> None:
    condition = Condition(encoder=Numbers(linear=linear), shape=(2, 3), route=route, required=True)
    conditioner = Conditioner({"state": condition}, dim=16, vector=24)
    values = torch.randn(4, 2, 3)
    given = conditioner({"state": values}, {"state": torch.arange(4)}, 4)
    wide = 2 * (linear or 3)
    expected = {"beside": (4, wide), "global": (4, 24), "tokens": (4, 2, 16)}[route]
    assert given.features["state"].shape == expected
    if route == "beside" and linear is None:
        assert torch.equal(given.features["state"], values.flatten(1))


def test_a_model_may_be_given_nothing_but_numbers() -> None:
    conditioner = Conditioner(
        {"state": Condition(encoder=Numbers(), shape=(1, 3), route="beside", required=True)}, 8, 8
    )
    assert not list(conditioner.parameters())
    given = conditioner({"state": torch.ones(2, 1, 3)}, {"state": torch.arange(2)}, 2)
    assert torch.equal(given.features["state"], torch.ones(2, 3))
    with pytest.raises(ValueError, match="'state' is required, but 1 of 2 samples lack it"):
        conditioner({"state": torch.ones(1, 1, 3)}, {"state": torch.tensor([1])}, 2)
    with pytest.raises(ValueError, match="route 'beside', so its encoder must have a fixed length"):
        Conditioner({"state": Condition(encoder=Numbers(), shape=(None, 3), route="beside")}, 8, 8)
