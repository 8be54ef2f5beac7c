"""Densities of times: the places of a table, what is learnt at them, and the atoms beside them."""

from __future__ import annotations

import pytest
import torch

from polyclock.density import LogitNormal, Places, Uniform, shifted, with_ends
from polyclock.dice import Dice
from polyclock.path import Discrete
from polyclock.timesteps import Fixed, Independent, PerFrame, Presence, Shared, Task
from worlds import MODALITIES

B = 4000


def draw(law, size: int = B):
    has = {n: torch.ones(size, dtype=torch.bool) for n in MODALITIES}
    return law(Presence(size, has, MODALITIES), Dice(0, 0, range(size)))


def places(t: torch.Tensor, count: int) -> torch.Tensor:
    """(count,) how often each place 1 .. count is drawn. Errors: a time between places, or 0."""
    place = (t * count).round().long()
    assert torch.equal(t, place / count) and place.min() >= 1 and place.max() <= count
    return torch.bincount(place.flatten(), minlength=count + 1)[1:]


def test_every_place_of_the_table_is_as_likely_as_any_other():
    u = (torch.arange(100_000) + 0.5) / 100_000
    assert places(Places(100)(u), 100).tolist() == [1000] * 100
    assert Places(4)(torch.tensor([0.0, 0.2499, 0.25, 0.999999, 1.0])).tolist() == [0.25, 0.25, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("count", [7, 100, 1000])
def test_its_times_are_the_places_of_a_path(count):
    t = Places(count)((torch.arange(count) + 0.5) / count)
    assert Discrete(steps=count).index(t).tolist() == list(range(1, count + 1))


@pytest.mark.parametrize("law", [Independent(Places(10), ends=0.0), PerFrame(Places(10), ends=0.0), Shared(Places(10))])
def test_laws_draw_places_and_learn_at_all_of_them(law):
    found = draw(law)
    for name in MODALITIES:
        t, learn = found.t[name], found.learn[name]
        counts = places(t, 10) / t.numel()
        assert counts.min() > 0.08 and counts.max() < 0.12, name
        assert learn.all(), "also at t = 1, which is a place like any other"
        same_frames = torch.equal(t, t[:, :1].expand_as(t))
        assert same_frames != isinstance(law, PerFrame)
    assert torch.equal(found.t["video"], found.t["depth"]) == isinstance(law, Shared)


@pytest.mark.parametrize("law", [Independent(Places(10), ends=0.1), PerFrame(Places(10), ends=0.1)])
def test_atoms_are_not_learnt_and_the_place_at_one_is(law):
    found = draw(law)
    t, learn = found.t["video"], found.learn["video"]
    assert not learn[t == 0].any() and learn[(t > 0) & (t < 1)].all()
    assert (t == 0).float().mean().item() == pytest.approx(0.1, abs=0.02)
    # A tenth at the atom, and a tenth of the other eight.
    assert (t == 1).float().mean().item() == pytest.approx(0.18, abs=0.02)
    assert learn[t == 1].float().mean().item() == pytest.approx(0.08 / 0.18, abs=0.06)


def test_continuous_densities_learn_wherever_there_is_noise():
    u = torch.tensor([0.0, 0.05, 0.1, 0.5, 0.89, 0.9, 0.95])
    t, learn = with_ends(u, Uniform(), 0.1)
    assert t.tolist() == pytest.approx([0, 0, 0, 0.5, 0.9875, 1, 1])
    assert learn.tolist() == [False, False, False, True, True, False, False]
    t, learn = with_ends(u, LogitNormal(), 0.0)
    assert learn.all() and (t > 0).all() and (t < 1).all()


def test_shift_moves_times_towards_noise_and_keeps_the_ends():
    u = torch.linspace(0, 1, 11)
    assert shifted(u, 3.0)[[0, -1]].tolist() == [0, 1] and (shifted(u, 3.0)[1:-1] > u[1:-1]).all()
    assert torch.allclose(shifted(shifted(u, 3.0), 1 / 3), u, atol=1e-6)


def test_a_task_takes_its_one_time_from_the_table():
    found = draw(Task("action | video", Places(10)))
    assert places(found.t["action"], 10).min() > 0
    assert found.learn["action"].all() and not found.t["video"].any()
    assert (draw(Fixed(1.0)).t["action"] == 1).all()
