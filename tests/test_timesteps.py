"""Laws: what they draw, what they teach, which role patterns they train."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock.density import LogitNormal, Uniform, shifted
from polyclock.dice import Dice
from polyclock.modality import Modality
from polyclock.path import Discrete
from polyclock.query import Query
from polyclock.schedule import Together
from polyclock.timesteps import (
    Drop,
    Fixed,
    Independent,
    Mixture,
    PerFrame,
    Presence,
    Shared,
    Task,
    Without,
)
from worlds import CONDITIONS, MODALITIES, recipe

B = 4000


def presence(size=B, lacks: dict | None = None) -> Presence:
    has = {n: torch.ones(size, dtype=torch.bool) for n in (*MODALITIES, *CONDITIONS)}
    for name, rows in (lacks or {}).items():
        has[name][rows] = False
    return Presence(size, has, MODALITIES, CONDITIONS)


def draw(law, size=B, **k):
    return law(presence(size, **k), Dice(0, 0, range(size)))


def test_independent_clocks_and_their_ends():
    d = draw(Independent(ends=0.1))
    t = d.t["video"]
    assert t.shape == (B, 4) and torch.equal(t, t[:, :1].expand_as(t))
    for end in (0.0, 1.0):
        assert (t[:, 0] == end).float().mean().item() == pytest.approx(0.1, abs=0.02)
    inside = (t > 0) & (t < 1)
    assert torch.equal(d.learn["video"], inside)
    assert abs(torch.corrcoef(torch.stack([t[:, 0], d.t["action"][:, 0]]))[0, 1]) < 0.05


def test_shared_and_per_frame():
    d = draw(Shared())
    assert torch.equal(d.t["video"][:, 0], d.t["action"][:, 3])
    t = draw(PerFrame(ends=0.0)).t["video"]
    assert abs(torch.corrcoef(t.T)[0, 1]) < 0.05


def test_modalities_of_one_clock_share_one_draw():
    mods = {"a": Modality(shape=(2, 1), patch=(1,)), "b": Modality(shape=(2, 1), patch=(1,), clock="a")}
    has = {n: torch.ones(8, dtype=torch.bool) for n in mods}
    for law in (Independent(), PerFrame()):
        d = law(Presence(8, has, mods), Dice(0, 0, range(8)))
        assert torch.equal(d.t["a"], d.t["b"])


def test_densities():
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    t = LogitNormal(mean=0.5, std=2.0)(u)
    logit = torch.log(t / (1 - t))
    assert logit.mean().item() == pytest.approx(0.5, abs=0.05) and logit.std().item() == pytest.approx(2.0, abs=0.05)
    assert Uniform(shift=3.0)(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0, 0.75, 1])
    assert torch.allclose(shifted(u, 1.0), u)


def test_a_task_is_a_query():
    d = draw(Task("depth | video[:2], text"))
    assert (d.t["video"][:, :2] == 0).all() and (d.t["video"][:, 2:] == 1).all()
    assert d.learn["depth"].all() and not d.learn["video"].any() and not d.learn["action"].any()
    assert d.drop["action"].all() and not d.drop["video"].any()
    assert not d.drop["text"].any() and d.drop["state"].all()


def test_what_a_task_leaves_out_stands_at_its_unknown_time():
    mods = {
        "a": Modality(shape=(2, 1), patch=(1,), path=Discrete(unknown=0.91)),
        "b": Modality(shape=(2, 1), patch=(1,)),
    }
    d = Task("b |")(Presence(4, {n: torch.ones(4, dtype=torch.bool) for n in mods}, mods), Dice(0, 0, range(4)))
    assert torch.allclose(d.t["a"], torch.tensor(0.91))


@pytest.mark.parametrize("query", ["video |", "video[1:] | video[:1]", "video | flow[:2]", "video, flow[:2] |"])
def test_a_task_trains_the_times_that_a_question_has(query):
    """What is left out as a whole keeps the time of its clock, where its null does; a part of it stays unknown."""
    mods = {"video": MODALITIES["video"]}
    mods["flow"] = replace(mods["video"], clock="video", null="zero")
    has = {n: torch.ones(1, dtype=torch.bool) for n in mods}
    t = Task(query)(Presence(1, has, mods), Dice(0, 0, range(1))).t
    row = Together(steps=4).rows(Query.parse(query).roles(mods), mods)[1]
    time = t["video"].max()
    for name in mods:
        assert torch.equal(torch.where(t[name][0] == time, 0.75, t[name][0]), row[name]), name


def test_a_task_draws_its_free_names_and_its_absences():
    d = draw(Task("action[k:] | action[:k], -depth"))
    given = (d.t["action"] == 0).sum(1)
    assert set(given.tolist()) == {1, 2, 3}
    assert all((given == k).float().mean().item() == pytest.approx(1 / 3, abs=0.04) for k in (1, 2, 3))
    assert d.absent["depth"].all() and not d.absent["action"].any()


def test_a_mixture_gives_each_sample_what_it_can_answer():
    law = Mixture((0.75, Task("depth | video")), (0.25, Task("action | video")))
    d = draw(law)
    assert d.learn["depth"].any(1).float().mean().item() == pytest.approx(0.75, abs=0.03)
    lacking = torch.arange(0, B, 2)
    d = draw(law, lacks={"depth": lacking})
    assert d.learn["action"][lacking].all() and not d.learn["depth"][lacking].any()
    assert d.learn["depth"][1::2].any(1).float().mean().item() == pytest.approx(0.75, abs=0.04)


def test_drop_replaces_and_teaches_nothing():
    d = draw(Drop(("video", "text"), 0.3, Shared()))
    hit = d.drop["video"]
    assert hit.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not d.learn["video"][hit].any() and d.learn["video"][~hit].any(1).all()
    assert d.drop["text"].float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_regression_learns_at_one():
    d = draw(Fixed(1.0), size=3)
    assert (d.t["action"] == 1).all() and d.learn["action"].all()


@pytest.mark.parametrize(
    "law", [Independent(), PerFrame(), Mixture((1, Shared()), (1, Task("action[k:] | action[:k]")))]
)
def test_a_sample_draws_the_same_wherever_it_stands(law):
    whole = law(presence(6), Dice(3, 7, range(6)))
    part = law(presence(2), Dice(3, 7, [4, 5]))
    for n in MODALITIES:
        assert torch.equal(whole.t[n][4:], part.t[n]) and torch.equal(whole.learn[n][4:], part.learn[n])


COVERED = {
    "action | video": [
        Independent(),
        PerFrame(),
        Task("action | video"),
        Mixture((1, Shared()), (1, Task("action | video"))),
    ],
    "action | video[:2]": [PerFrame(), Task("action | video[:2]")],
    "video, depth, action |": [Independent(), PerFrame(), Shared(), Fixed()],
    "video, action |": [Independent(), PerFrame(), Drop(("depth",), 0.5, Shared())],
    "action[2:] | action[:2]": [PerFrame(), Task("action[k:] | action[:k]")],
    "action | -depth": [Task("action | -depth")],
}
NOT_COVERED = {
    "action | video": [Shared(), Task("action | video[:2]"), Task("video | action")],
    "action | video[:2]": [Independent(), Shared()],
    "action | -depth": [Independent(), PerFrame()],
}


@pytest.mark.parametrize(("table", "expected"), [(COVERED, True), (NOT_COVERED, False)])
def test_patterns_say_which_queries_were_trained(table, expected):
    for query, laws in table.items():
        roles = Query.parse(query).roles(MODALITIES, CONDITIONS)
        for law in laws:
            assert any(p.covers(roles) for p in law.patterns(MODALITIES, CONDITIONS)) is expected, (query, law)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (lambda: Independent(ends=0.5), "ends=0.5"),
        (lambda: Fixed(0.0), "must lie in"),
        (lambda: Mixture(), "at least one"),
        (lambda: recipe(law=Task("acton | video")), "Did you mean 'action'"),
        (lambda: recipe(law=Drop(("vdeo",), 0.1, Shared())), "Did you mean 'video'"),
        (lambda: recipe(law=Task("action[k:j] |")), "2 free names"),
        (lambda: Drop(("video",), 1.5, Shared()), r"Drop\(p=1.5\): p must lie in \[0, 1\]"),
        (lambda: Without(("video",), -0.1, Shared()), r"Without\(p=-0.1\)"),
        (lambda: recipe(law=Without(tuple(MODALITIES), 0.1, Shared())), "no tokens at all"),
    ],
)
def test_faults_are_named(law, message):
    with pytest.raises(ValueError, match=message):
        law()


def test_a_whole_mixture_throws_once_for_the_batch_and_again_at_the_next_step():
    law = Mixture((0.5, Fixed(1.0)), (0.5, Fixed(0.5)), whole=True)
    times = []
    for step in range(40):
        t = law(presence(8), Dice(0, step, range(8))).t["video"]
        assert len(t.unique()) == 1
        part = law(presence(3), Dice(0, step, range(5, 8))).t["video"]
        assert torch.equal(part, t[5:])
        times.append(float(t[0, 0]))
    assert 8 < times.count(1.0) < 32


def test_a_task_gives_clocks_one_time_or_each_its_own():
    one, two = (draw(Task("video, depth | text", times=times)) for times in ("shared", "independent"))
    assert torch.equal(one.t["video"], one.t["depth"])
    pair = torch.stack([two.t[n][:, 0] for n in ("video", "depth")])
    assert abs(torch.corrcoef(pair)[0, 1]) < 0.05
    assert one.learn["depth"].all() and two.learn["depth"].all() and not two.learn["action"].any()
    with pytest.raises(ValueError, match="Possible: shared, independent"):
        Task("video |", times="own")


def test_a_mixture_inside_a_mixture_throws_for_itself():
    inner = Mixture((0.5, Task("depth | video")), (0.5, Task("action | video")))
    d = draw(Mixture((0.5, Shared()), (0.5, Drop(("text",), 0.1, inner))))
    asked = ~d.learn["video"].any(1)
    assert asked.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert d.learn["depth"][asked].any(1).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_what_a_sample_is_without_differs_from_sample_to_sample():
    law = Without(("depth", "action"), 0.5, Independent())
    d = draw(law)
    for name in ("depth", "action"):
        assert d.absent[name].float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (d.absent["depth"] & d.absent["action"]).float().mean().item() == pytest.approx(0.25, abs=0.03)
    query = Query.parse("video | action, -depth").roles(MODALITIES)
    assert any(p.covers(query) for p in law.patterns(MODALITIES, CONDITIONS))
    assert not any(p.covers(query) for p in Independent().patterns(MODALITIES, CONDITIONS))
    with pytest.raises(ValueError, match="Possible: video, depth, action"):
        Without(("text",), 0.5, Shared()).patterns(MODALITIES, CONDITIONS)
