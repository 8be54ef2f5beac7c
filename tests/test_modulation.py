"""Times as vectors: the embedding's formula, all clocks in one vector, and a time for each frame on top of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from polyclock.layout import Layout, Stream, one_of
from polyclock.nn.embed import sinusoid
from polyclock.nn.modulation import Joint, JointLocal, Local, one_time
from polyclock.path import Discrete
from worlds import CONDITIONS, MODALITIES, VIDEO, awake, noisy, recipe


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


def test_frames_at_two_times_are_never_taken_for_one():
    class Far(torch.Tensor):
        """What a GPU has: looking at it would have to wait."""

        is_cpu = False

    t = torch.tensor([[0.3, 0.3], [0.3, 0.7]])
    assert torch.equal(one_time(t[:1], "video"), t[:1, :1])
    found = one_time(t.as_subclass(Far), "video")
    assert found[0] == t[0, 0] and found[1].isnan()
    with pytest.raises(ValueError, match="the frames of 'video' differ"):
        one_time(t, "video")


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


SWITCHES = {
    "label": {"label": True},
    "table": {"table": True},
    "last": {"last": True},
    "of some": {"label": ("depth",), "table": ("depth",), "last": ("depth", "action")},
}


@pytest.mark.parametrize("switch", SWITCHES.values(), ids=SWITCHES)
def test_a_switcher_is_silent_at_the_start_and_then_tells_modalities_apart(switch):
    plain, switched = (recipe(modulation=Local(shared=True, **s)).build() for s in ({}, switch))
    awake(plain)
    switched.load_state_dict(plain.state_dict(), strict=False)
    x, t = noisy(plain, frames="one")
    t = {n: torch.full_like(v, 0.4) for n, v in t.items()}
    with torch.no_grad():
        for n in x:
            assert torch.equal(plain(x, t)[n], switched.eval()(x, t)[n])
        own = {k: v for k, v in switched.modulation.named_parameters() if k.split(".")[0] in switch}
        names = {k.split(".")[1] for k in own}
        assert names == (set(MODALITIES) if True in switch.values() else {"depth", "action"})
        for name, v in own.items():
            if name.endswith("depth"):
                v.normal_(0, 0.5)
        alone = {"video": x["video"]}, {"video": t["video"]}
        assert torch.equal(plain(*alone)["video"], switched(*alone)["video"]), "others do not see its vectors"
        assert not torch.allclose(plain(x, t)["depth"], switched(x, t)["depth"], atol=1e-3)


def test_a_switch_of_a_modality_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="'flow'.*Possible: video, depth, action"):
        recipe(modulation=Local(table=("flow",))).build()
    with pytest.raises(ValueError, match="Possible: own, highest"):
        Local(times="lowest")


def test_one_time_network_serves_all_streams_and_a_newcomers_own_is_silent():
    flow = replace(VIDEO, shape=(4, 4, 4, 2))
    both = {"video": VIDEO, "flow": flow, "seen": replace(flow, clock="video"), "depth": flow, "mask": flow}
    layout = Layout(Stream("video", "flow", "seen"), Stream(one_of("depth", "mask")))
    m = recipe(modalities=both, layout=layout, modulation=Local(shared=True)).build().modulation
    assert set(m.time) == {"video", "flow"}
    rows = {"video": torch.tensor([0, 2]), "flow": torch.arange(3), "seen": torch.tensor([1, 2])}
    rows |= {"depth": torch.tensor([0]), "mask": torch.tensor([1, 2])}
    t = {n: torch.rand(len(v), 1).expand(-1, 4) for n, v in rows.items()}
    t["seen"] = torch.stack([t["seen"][0], t["video"][1]])
    c = m(t, rows, 3, torch.zeros(3, 32)).c
    video = torch.stack([t["video"][0], t["seen"][0], t["video"][1]])
    assert torch.allclose(c["video+flow+seen"], m.time["video"](video), atol=1e-6), "the newcomer says nothing yet"
    assert torch.allclose(c["depth+mask"], m.time["video"](torch.cat([t["depth"], t["mask"]])), atol=1e-6)
    torch.nn.init.normal_(m.time["flow"].last.weight)
    assert not torch.allclose(m(t, rows, 3, torch.zeros(3, 32)).c["video+flow+seen"], c["video+flow+seen"])


def test_streams_may_all_take_the_highest_time_of_their_sample():
    model = recipe(modulation=Local(shared=True, times="highest")).build()
    t = {"video": torch.tensor([[0.0, 0.2, 0.0, 0.0]]), "depth": torch.full((1, 4), 0.7), "action": torch.zeros(1, 4)}
    rows = {n: torch.arange(1) for n in t}
    c = model.modulation(t, rows, 1, torch.zeros(1, 32)).c
    high = model.modulation.time["video"](torch.tensor([[0.7]]))
    assert all(torch.allclose(c[n], high.expand_as(c[n]), atol=1e-6) for n in t)
    assert not model.modulation.separate, "what a given stream says changes from step to step"
