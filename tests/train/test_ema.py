"""The average of the weights against its definition."""

from __future__ import annotations

import pytest
import torch
from standin import build

from polyclock.train.ema import Average


def test_the_average_follows_its_definition() -> None:
    model = build()
    average = Average(model, 0.9)
    want = model.outer.weight.detach().double()
    for n in range(200):
        with torch.no_grad():
            model.outer.weight.normal_()
        average.update()
        decay = min(0.9, (1 + n) / (10 + n))
        want = decay * want + (1 - decay) * model.outer.weight.detach().double()
    assert average.updates == 200
    assert torch.allclose(average.value["outer.weight"].double(), want, atol=1e-6)
    assert "frozen.weight" not in average.value


def test_swapping_gives_the_weights_back_to_the_bit() -> None:
    model = build()
    average = Average(model, 0.5)
    with torch.no_grad():
        model.outer.weight.add_(1.0)
    mine = model.outer.weight.detach().clone()
    with pytest.raises(KeyboardInterrupt), average.swapped():
        assert torch.equal(model.outer.weight, average.value["outer.weight"])
        raise KeyboardInterrupt
    assert torch.equal(model.outer.weight, mine)


def test_another_models_average_is_refused() -> None:
    average = Average(build(), 0.5)
    value = {name: tensor.clone() for name, tensor in average.value.items()}
    with pytest.raises(ValueError, match="average 'extra' is not in the model"):
        average.load({**value, "extra": torch.zeros(1)}, 1)
    with pytest.raises(ValueError, match=r"average 'outer.bias' has shape \(5,\) in the checkpoint and \(6,\)"):
        average.load({**value, "outer.bias": torch.zeros(5)}, 1)
