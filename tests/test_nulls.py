"""What a withheld modality looks like: the four nulls, the same in training, in a guide's branch and in a question."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from polyclock import Guide, sample
from polyclock.dice import Dice
from polyclock.layout import Layout, Stream
from polyclock.modality import NULLS, Modality, spread
from polyclock.model import WorldModel
from polyclock.nn.modulation import Local
from polyclock.objective import loss, null
from polyclock.solver import Euler
from polyclock.timesteps import Drop, Mixture, Shared, Task
from worlds import VIDEO, awake, batch, recipe

MEAN = (0.3, -0.2, 0.5)
QUIET = [kind for kind in NULLS if kind != "noise"]


def fused(kind: str, law=None, **changes) -> WorldModel:
    """Video and flow in one stream and on one clock."""
    flow = replace(VIDEO, clock="video", null=kind, mean=MEAN if kind in ("mean", "blank") else (), **changes)
    parts = {"modalities": {"video": VIDEO, "flow": flow}, "layout": Layout(Stream("video", "flow")), "registers": 0}
    return awake(recipe(**parts, law=law or Shared(), modulation=Local(shared=True)).build())


class Spy:
    """A model that notes what it is shown of the flow, and when."""

    def __init__(self, model: WorldModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model, self.forward, self.seen = model, model.forward, []
        monkeypatch.setattr(model, "forward", self)

    def __call__(self, x, t, *rest, **more):
        self.seen.append((x["flow"].clone(), t["flow"].clone()))
        return self.forward(x, t, *rest, **more)


def looks(kind: str, t: Tensor, eps: Tensor) -> Tensor:
    """By hand, on the straight path."""
    mean, wide = torch.tensor(MEAN), spread(t, 5, 1)
    return {
        "noise": eps, "zero": torch.zeros_like(eps), "mean": (1 - wide) * mean.expand_as(eps),
        "blank": (1 - wide) * mean + wide * eps,
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", NULLS)
def test_one_look_in_training_in_a_branch_and_by_hand(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fused(kind, Drop(("flow",), 0.999999, Shared()))
    spy = Spy(model, monkeypatch)
    dice = Dice(0, 3, range(2))
    _, parts = loss(model, batch(model, 2), model.recipe.law, dice)
    x, t = spy.seen[0]
    time = dice.uniform("t", 1).expand(-1, 4)
    eps = dice.normal("eps.flow", *x.shape[1:])
    assert torch.equal(t, torch.ones_like(t) if kind == "noise" else time)
    assert torch.allclose(x, looks(kind, time, eps), atol=1e-6)
    assert parts["flow"] == 0 < parts["video"]
    spy.seen.clear()
    sample(model, "video, flow |", size=2, steps=3, guides=[Guide(weight=1.0, drop={"flow"})])
    eps = Dice(0, 0, range(2)).normal("null.flow", *x.shape[1:])
    for (full, _), (x, t) in zip(spy.seen[::2], spy.seen[1::2], strict=True):
        assert torch.allclose(x, looks(kind, t, eps), atol=1e-6) and not torch.allclose(x, full, atol=0.1)


@pytest.mark.parametrize("kind", NULLS)
def test_a_question_that_does_not_name_it_shows_its_null_at_every_step(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fused(kind)
    model.patterns = None
    spy = Spy(model, monkeypatch)
    sample(model, "video |", size=2, steps=4)
    eps = Dice(0, 0, range(2)).normal("start.flow", *spy.seen[0][0].shape[1:])
    assert len(spy.seen) == 4
    for x, t in spy.seen:
        assert torch.allclose(x, looks(kind, t, eps), atol=1e-6)
    times = [float(t.max()) for _, t in spy.seen]
    assert times == ([1.0] * 4 if kind == "noise" else [1.0, 0.75, 0.5, 0.25])


@pytest.mark.parametrize("kind", QUIET)
def test_what_is_dropped_before_or_after_noising_can_be_learnt_all_the_same(kind: str) -> None:
    without = {}
    for learn in (False, True):
        model = fused(kind, Drop(("flow",), 0.999999, Shared(), learn=learn))
        total, parts = loss(model, batch(model, 2), model.recipe.law, Dice(0, 0, range(2)))
        without[learn] = parts
        total.backward()
        assert bool(model.head["flow"].weight.grad.any()) is learn
    assert without[False]["flow"] == 0 < without[True]["flow"]
    assert without[False]["video"] == without[True]["video"]


def test_drops_inside_a_task_and_a_mixture() -> None:
    """What a task does not name is dropped and not learnt, whatever else may be learnt of it."""
    law = Mixture((1.0, Task("video |")), (1.0, Drop(("flow",), 0.5, Shared(), learn=True)))
    model = fused("zero", law)
    draw = law(_presence(model, 64), Dice(0, 0, range(64)))
    dropped, learnt = draw.drop["flow"], draw.learn["flow"].all(1)
    assert (dropped & learnt).any() and (dropped & ~learnt).any() and not (~dropped & ~learnt).any()


def _presence(model: WorldModel, size: int):
    from polyclock.timesteps import Presence

    has = {n: torch.ones(size, dtype=torch.bool) for n in model.modalities}
    return Presence(size, has, model.modalities)


def test_a_guide_never_changes_what_it_drops_for_new_noise() -> None:
    for kind, guided in (("noise", False), ("zero", True), ("mean", True), ("blank", False)):
        model = fused(kind)
        plain = sample(model, "video, flow |", size=1, steps=1, solver=Euler(), decode=False)
        far = sample(model, "video, flow |", size=1, steps=1, decode=False, guides=[Guide(weight=2.0, drop={"flow"})])
        assert not torch.equal(far["video"], plain["video"])
        assert torch.equal(far["flow"], plain["flow"]) is not guided


def test_nulls_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="unknown null 'zeros'.*Possible: noise, zero, mean, blank"):
        Modality(shape=(2, 3), patch=(1,), null="zeros")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mean has 2 numbers; possible: one, or one for each of 3"):
        Modality(shape=(2, 3), patch=(1,), null="mean", mean=(1.0, 2.0))
    x, eps = torch.ones(2, 2, 3), torch.full((2, 2, 3), 5.0)
    m = Modality(shape=(2, 3), patch=(1,), null="mean", mean=(2.0,))
    out, _ = null(m, x, torch.tensor([[0.0, 0.5]] * 2), eps, torch.tensor([True, False]))
    assert out[0].unique().tolist() == [1.0, 2.0] and torch.equal(out[1], x[1])
