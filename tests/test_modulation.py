"""Times as vectors: the embedding's formula, all clocks in one vector, and a time for each frame on top of it."""

from __future__ import annotations

import math

import pytest
import torch

from polyclock.nn.embed import sinusoid
from polyclock.nn.modulation import Joint, JointLocal
from polyclock.path import Discrete
from worlds import CONDITIONS, awake, noisy, recipe


def sines(places: list[float], count: int, closed: bool) -> torch.Tensor:
    """(n, 2 count): cosines, then sines, of whole places at frequencies from 1 down to 1e-4, in double precision."""
    rates = [1e4 ** (-k / (count - closed)) for k in range(count)]
    return torch.tensor([[f(p * r) for f in (math.cos, math.sin) for r in rates] for p in places])


@pytest.mark.parametrize("closed", [False, True])
def test_embedded_times_are_the_formula(closed):
    t = torch.tensor([0.0, 0.25, 0.5, 1.0])
    assert torch.allclose(sinusoid(t, 16, 200.0, closed), sines([0, 50, 100, 200], 8, closed), atol=5e-5)
    assert torch.allclose(sinusoid(t, 16), sines([0, 250, 500, 1000], 8, False), atol=2e-4)
    last = sinusoid(torch.tensor(1.0), 16, 1.0, closed)[-1]
    assert math.asin(last) == pytest.approx(1e-4 if closed else 1e-4 * 1e4 ** (1 / 8), rel=1e-3)


def test_whole_times_are_those_of_the_table_to_the_bit():
    path, places = Discrete(steps=100), torch.arange(100)
    stamps = path.stamp((places + 1) / 100)
    exact = sinusoid(places.float(), 32, 1.0, closed=True)
    assert torch.equal(sinusoid(stamps, 32, 100.0, closed=True, whole=True), exact)
    assert not torch.equal(sinusoid(stamps, 32, 100.0, closed=True), exact), "a division and back misses some"
    assert torch.allclose(exact, sines(list(range(100)), 16, True), atol=1e-4)


def test_joint_refuses_frames_at_different_times_and_joint_local_learns_them():
    joint, local = (recipe(modulation=m).build() for m in (Joint(), JointLocal()))
    x, t = noisy(joint)
    with pytest.raises(ValueError, match="one time per modality"):
        joint(x, t)
    state = local.state_dict() | joint.state_dict()
    local.load_state_dict(state)
    x, t = noisy(joint, frames="one")
    with torch.no_grad():
        for n in x:
            assert torch.allclose(local(x, t)[n], joint(x, t)[n], atol=1e-6)


def test_joint_is_the_linear_map_of_the_concatenation():
    model = recipe(modulation=Joint(frequencies=32)).build()
    x, t = noisy(model, frames="one")
    m = model.modulation
    rows = {n: torch.arange(3) for n in t}
    ours = m.bias + sum(m.clock_time(c, t, rows, 3) for c in m.clocks)
    weight = torch.cat([m.first[c].weight for c in m.clocks], 1)
    theirs = torch.cat([sinusoid(t[c][:, :1], 32) for c in m.clocks], -1) @ weight.T + m.bias
    assert torch.allclose(ours, theirs, atol=1e-5)


OPTIONS = {"frequencies": 32, "scale": 100.0, "closed": True, "whole": True, "hidden": 48, "width": 20}


def test_the_options_of_joint_make_its_vector():
    model = recipe(modulation=Joint(**OPTIONS, activation="mish")).build()
    m = model.modulation
    assert all(linear.weight.shape == (48, 32) and linear.bias is None for linear in m.first.values())
    assert m.last.weight.shape == (20, 48) and model.conditioner.vector == 20
    assert all(b.modulator.linear.weight.shape == (6 * 32, 20) for b in model.backbone.blocks)
    t = {n: torch.tensor([[0.1], [0.57]]).expand(-1, model.modalities[n].frames) for n in model.modalities}
    rows = {n: torch.arange(2) for n in t}
    glob = torch.randn(2, 20)
    h = m.bias + sum(sines([10, 57], 16, True) @ m.first[n].weight.T for n in t)
    by_hand = m.last(h * torch.tanh(torch.log1p(h.exp()))) + glob
    found = m(t, rows, 2, glob)
    assert torch.allclose(found.c["video"][:, 0], by_hand, atol=1e-4)
    assert found.c["video"] is found.c["registers"]
    with pytest.raises(ValueError, match="unknown activation 'tanh'"):
        Joint(activation="tanh")


def test_joint_local_goes_on_from_any_joint():
    joint, local = (
        awake(recipe(modulation=m(**OPTIONS, activation="mish"), conditions=CONDITIONS).build())
        for m in (Joint, JointLocal)
    )
    for net in local.modulation.local.values():  # as they begin
        torch.nn.init.zeros_(net.last.weight)
        torch.nn.init.zeros_(net.last.bias)
    told = local.load_state_dict(joint.state_dict(), strict=False)
    assert told.unexpected_keys == [] and all(n.startswith("modulation.local.") for n in told.missing_keys)
    x, t = noisy(joint, frames="one")
    with torch.no_grad():
        for n, value in joint(x, t).items():
            assert torch.allclose(local(x, t)[n], value, atol=1e-5)
        apart = {n: v * torch.linspace(0.5, 1, v.shape[1]) for n, v in t.items()}
        local(x, apart)  # a time for each frame
    with pytest.raises(ValueError, match="one time per modality"):
        joint(x, apart)
