"""The objective: a batch cut any way adds up, what is not learnt or not valid carries nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock.batch import Batch
from polyclock.density import Places
from polyclock.dice import Dice
from polyclock.layout import Layout, Stream
from polyclock.modality import Modality
from polyclock.objective import Annealed, loss, mean_learnt, null, token_valid, weight_at
from polyclock.path import Discrete
from polyclock.timesteps import Drop, Fixed, Independent, Mixture, PerFrame, Shared, Task
from worlds import CONDITIONS, MODALITIES, VIDEO, awake, batch, recipe

LAWS = [
    Independent(),
    PerFrame(),
    Shared(),
    Fixed(),
    Drop(("video",), 0.5, Shared()),
    Mixture((1, Task("depth | video")), (1, Task("action[k:] | action[:k], video[:2], text"))),
]


def part(b: Batch, keep: list[int]) -> Batch:
    values, rows, valid = {}, {}, {}
    for n, r in b.rows.items():
        mine = [i for i, j in enumerate(r.tolist()) if j in keep]
        values[n] = [b.values[n][i] for i in mine] if isinstance(b.values[n], list) else b.values[n][mine]
        rows[n] = torch.tensor([keep.index(int(r[i])) for i in mine], dtype=torch.long)
        if n in b.valid:
            valid[n] = b.valid[n][mine]
    return Batch(index=b.index[keep], values=values, rows=rows, valid=valid)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_losses_of_a_batch_cut_in_two_add_up(law):
    model = awake(recipe(conditions=CONDITIONS, law=law).build())
    b = batch(model, 6, {"depth": [0, 1, 4], "action": [1, 2, 3, 5], "text": [0, 3]})
    whole, parts = loss(model, b, law, Dice(0, 5, range(6)), global_size=6)
    whole.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    total = 0.0
    for keep in ([0, 1], [2, 3, 4, 5]):
        piece, _ = loss(model, part(b, keep), law, Dice(0, 5, keep), global_size=6)
        piece.backward()
        total += piece.item()
    assert total == pytest.approx(whole.item(), rel=1e-5)
    for n, p in model.named_parameters():
        assert torch.allclose(p.grad, grads[n], atol=1e-5), n
    assert set(parts) == set(MODALITIES)


@pytest.mark.parametrize("kind", ["plain", "alone", "watched"])
def test_a_batch_without_tokens_has_no_loss_and_no_slope(kind):
    """It is one process's share of a batch: the others wait for its part of every gradient, and of every number."""
    from polyclock.relations import Relations

    alone = {"modalities": {"video": VIDEO}} if kind == "alone" else {}
    features = Relations(of="video", shape=(4, 2, 2, 5), block=1)
    watched = {"auxiliary": {"features": features}} if kind == "watched" else {}
    model = awake(recipe(conditions=CONDITIONS, **alone, **watched).build())
    nothing = {n: [] for n in model.modalities}
    b = batch(model, 4, {**nothing, "text": [1]})
    full = batch(model, 4)
    if watched:
        for one in (b, full):
            one.values["features"], one.rows["features"] = torch.randn(4, 4, 2, 2, 5), torch.arange(4)
    law = Independent()
    total, parts = loss(model, b, law, Dice(0, 0, range(4)), global_size=8)
    total.backward()
    assert total == 0 and list(parts) == list(loss(model, full, law, Dice(0, 0, range(4)))[1])
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    assert all(v == 0 for v in parts.values())


def test_padding_carries_no_loss():
    law = Fixed(1.0)
    model = awake(recipe(law=law).build())
    b = batch(model, 2)
    valid = {n: torch.ones(2, m.shape[0], dtype=torch.bool) for n, m in MODALITIES.items()}
    valid["action"][:, 5:] = False
    b = replace(b, valid=valid)
    _, before = loss(model, b, law, Dice(0, 0, range(2)))
    wild = {n: v.clone() for n, v in b.values.items()}
    wild["action"][:, 4:] = 1e9  # frames 4 and 5 are one token, of which the second half is padding
    _, after = loss(model, replace(b, values=wild), law, Dice(0, 0, range(2)))
    assert after["action"] == before["action"] > 0
    assert token_valid(valid["action"], MODALITIES["action"])[0].tolist() == [True, True, False, False]


def test_what_is_not_learnt_may_be_anything_and_moves_no_weight():
    out = torch.randn(2, *VIDEO.shape, requires_grad=True)
    target = torch.randn(2, *VIDEO.shape)
    target[:, 0], target[:, 1] = torch.nan, torch.inf
    learn = torch.tensor([[False, False, True, True], [False] * 4])
    error = mean_learnt(out, target, learn, VIDEO)
    assert error[0].item() == pytest.approx((out - target)[0, 2:].square().mean().item()) and error[1] == 0
    error.sum().backward()
    assert out.grad[0, 2:].all() and not out.grad[0, :2].any() and not out.grad[1].any()


def test_weights_may_be_schedules_of_the_step():
    weight = Annealed(start=0.2, steps=100)
    assert [weight_at(weight, s) for s in (0, 50, 100, 200)] == pytest.approx([0.2, 0.1, 0.0, 0.0])
    assert all(weight_at(weight, s) >= weight_at(weight, s + 1) for s in range(100))
    modalities = {"video": VIDEO, "flow": replace(VIDEO, weight=weight)}
    model = awake(recipe(modalities=modalities, layout=Layout(Stream("video"), Stream("flow")), law=Shared()).build())
    total, parts = loss(model, batch(model), Shared(), Dice(0, 0, range(4)), step=50)
    assert total.item() == pytest.approx((parts["video"] + 0.1 * parts["flow"]).item(), rel=1e-5)
    total, parts = loss(model, batch(model), Shared(), Dice(0, 0, range(4)), step=100)
    assert total.item() == parts["video"].item()


def test_nulls():
    x, t, eps = torch.ones(2, 4, 1), torch.full((2, 4), 0.3), torch.full((2, 4, 1), 5.0)
    drop = torch.tensor([True, False])
    zero = Modality(shape=(4, 1), patch=(1,), null="zero")
    noise = Modality(shape=(4, 1), patch=(1,))
    assert null(zero, x, t, eps, drop)[0][:, 0, 0].tolist() == [0, 1]
    assert torch.equal(null(zero, x, t, eps, drop)[1], t)
    values, times = null(noise, x, t, eps, drop)
    assert values[:, 0, 0].tolist() == [5, 1] and times[:, 0].tolist() == pytest.approx([1, 0.3])


def test_what_a_law_makes_absent_has_no_tokens():
    law = Task("action | -video, -depth")
    model = awake(recipe(law=law).build())
    seen = []
    model.backbone.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[1]))
    loss(model, batch(model), law, Dice(0, 0, range(4)))
    assert seen == [2 + 4]  # two registers and four action tokens


def test_raw_batches_become_latents_and_sampling_codecs_use_the_samples_own_dice():
    from polyclock.codecs import Pixels
    from polyclock.codecs.codec import FrameByFrame

    class Noisy(FrameByFrame):
        sample = True

        def encode(self, raw, generator=None):
            return raw.float() + torch.rand(raw.shape, generator=generator)

        def decode(self, x):
            return x

    modalities = {"video": replace(VIDEO, codec=Pixels()), "action": replace(MODALITIES["action"], codec=Noisy())}
    model = recipe(modalities=modalities, layout=Layout(Stream("video"), Stream("action")), law=Shared()).build()
    raw = {"video": torch.randint(0, 256, (4, 4, 4, 4, 3), dtype=torch.uint8), "action": torch.zeros(4, 8, 2)}
    rows = {n: torch.arange(4) for n in raw}
    whole = model.encode(Batch(index=torch.arange(4), values=raw, rows=rows), Dice(0, 0, range(4)))
    assert whole.values["video"].dtype == torch.float32 and whole.values["video"].abs().max() <= 1
    late = Batch(
        index=torch.arange(2, 4), values={n: v[2:] for n, v in raw.items()}, rows={n: torch.arange(2) for n in raw}
    )
    again = model.encode(late, Dice(0, 0, [2, 3]))
    assert torch.equal(again.values["action"], whole.values["action"][2:])


def test_conditions_that_nobody_has_still_give_gradients():
    law = PerFrame()
    model = awake(recipe(conditions=CONDITIONS, law=law).build())
    total, _ = loss(model, batch(model, 2, {"state": [], "text": []}), law, Dice(0, 0, range(2)))
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_open_sizes_train_at_any_size():
    wide = {"video": replace(VIDEO, shape=(4, None, None, 3)), "action": MODALITIES["action"]}
    model = awake(recipe(modalities=wide, layout=Layout(Stream("video"), Stream("action"))).build())
    for height, width in ((4, 4), (6, 2)):
        values = {"video": torch.randn(2, 4, height, width, 3), "action": torch.randn(2, 8, 2)}
        b = Batch(index=torch.arange(2), values=values, rows={n: torch.arange(2) for n in values})
        total, _ = loss(model, b, PerFrame(), Dice(0, 0, range(2)))
        assert torch.isfinite(total)


def told(model, b: Batch, law, dice: Dice) -> dict:
    """What the network is shown and answers while the loss is taken, and the loss: x, t, rows, out, total, parts."""
    seen = {}

    def spy(module, given, out):
        seen.update(zip(("x", "t", "given", "rows"), given, strict=False), out=out)

    hook = model.register_forward_hook(spy)
    seen["total"], seen["parts"] = loss(model, b, law, dice)
    hook.remove()
    return seen


PATHS = [Discrete(steps=100), MODALITIES["action"].path]


def actions(path, absent: str) -> dict[str, Modality]:
    return MODALITIES | {"action": replace(MODALITIES["action"], path=path, absent=absent)}


@pytest.mark.parametrize("path", PATHS, ids=lambda p: type(p).__name__)
def test_samples_that_lack_a_modality_may_learn_its_noise(path):
    law, dice = Independent(Places(100), ends=0.0), Dice(0, 4, range(4))
    model = awake(recipe(modalities=actions(path, "noise"), law=law).build())
    b = batch(model, 4, {"action": [0, 2]})
    found = told(model, b, law, dice)
    x, t, out = (found[part]["action"] for part in ("x", "t", "out"))
    eps = dice.normal("eps.action", 8, 2)
    assert x.shape == (4, 8, 2) and found["rows"]["action"].tolist() == [0, 1, 2, 3]
    assert (t[[1, 3]] == 1).all() and (t[[0, 2]] < 1).all()
    # Its data are zeros, of which nothing is left at t = 1, and the target is what the path makes of them.
    wide = t.repeat_interleave(2, 1)[..., None]
    data = torch.zeros(4, 8, 2).index_copy(0, torch.tensor([0, 2]), b.tensor("action"))
    assert torch.allclose(x, path.noise(data, eps, wide)) and torch.allclose(x[[1, 3]], eps[[1, 3]], atol=1e-6)
    errors = (out - path.target(data, eps, wide)).square().mean((1, 2))
    assert torch.allclose(path.target(data, eps, wide)[[1, 3]], eps[[1, 3]])
    assert torch.allclose(found["parts"]["action"], errors.sum() / 4) and errors.min() > 0


def test_they_learn_it_also_where_others_would_learn_nothing():
    law, dice = Independent(ends=0.499), Dice(0, 0, range(4))
    model = awake(recipe(modalities=actions(PATHS[1], "noise"), law=law).build())
    found = told(model, batch(model, 4, {"action": [0, 2]}), law, dice)
    errors = (found["out"]["action"] - dice.normal("eps.action", 8, 2)).square().mean((1, 2))
    assert set(found["t"]["action"][[0, 2], 0].tolist()) <= {0.0, 1.0}, "others are at an atom"
    assert torch.allclose(found["parts"]["action"], errors[[1, 3]].sum() / 4)


def test_without_it_they_have_no_tokens_and_the_divisor_is_the_whole_batch():
    law, dice = Independent(ends=0.0), Dice(0, 4, range(4))
    model = awake(recipe(law=law).build())
    b = batch(model, 4, {"action": [0, 2]})
    found = told(model, b, law, dice)
    rows = torch.tensor([0, 2])
    assert found["x"]["action"].shape == (2, 8, 2) and torch.equal(found["rows"]["action"], rows)
    target = dice.at(rows).normal("eps.action", 8, 2) - b.tensor("action")  # a velocity
    errors = (found["out"]["action"] - target).square().mean((1, 2))
    assert torch.allclose(found["parts"]["action"], errors.sum() / 4)


def test_where_nobody_lacks_it_both_are_the_same_to_the_bit():
    law = Independent(ends=0.1)
    totals = []
    for absent in ("none", "noise"):
        model = awake(recipe(modalities=actions(PATHS[1], absent), law=law).build())
        total, parts = loss(model, batch(model, 5), law, Dice(0, 1, range(5)))
        totals.append(torch.stack([total, *parts.values()]))
    assert torch.equal(*totals)


def test_padding_stays_without_loss_where_others_learn_noise():
    law, dice = Fixed(0.5), Dice(0, 0, range(3))
    model = awake(recipe(modalities=actions(PATHS[1], "noise"), law=law).build())
    b = batch(model, 3, {"action": [0, 2]})
    valid = torch.ones(2, 8, dtype=torch.bool)
    valid[1, 4:] = False  # the last half of sample 2
    found = told(model, replace(b, valid={"action": valid}), law, dice)
    data = torch.zeros(3, 8, 2).index_copy(0, torch.tensor([0, 2]), b.tensor("action"))
    square = (found["out"]["action"] - (dice.normal("eps.action", 8, 2) - data)).square().mean(2)
    errors = torch.stack([square[0].mean(), square[1].mean(), square[2, :4].mean()])
    assert torch.allclose(found["parts"]["action"], errors.sum() / 3)


def test_a_batch_in_which_nobody_has_it_still_learns_its_noise():
    law = Fixed(0.5)
    model = awake(recipe(modalities=actions(PATHS[0], "noise"), law=law).build())
    found = told(model, batch(model, 2, {"action": []}), law, Dice(0, 0, range(2)))
    assert (found["t"]["action"] == 1).all() and found["parts"]["action"] > 0
    found["total"].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_what_a_law_drops_is_not_learnt_where_it_is_absent_either():
    law = Drop(("action",), 0.999999, Shared())
    model = awake(recipe(modalities=actions(PATHS[1], "noise"), law=law).build())
    _, parts = loss(model, batch(model, 3, {"action": [1]}), law, Dice(0, 0, range(3)))
    assert parts["action"] == 0 < parts["video"]


@pytest.mark.parametrize("rows", [[0, 1, 4], []], ids=str)
def test_a_batch_cut_in_two_adds_up_where_noise_is_learnt(rows):
    law = Independent(Places(100), ends=0.0)
    model = awake(recipe(modalities=actions(PATHS[0], "noise"), law=law).build())
    b = batch(model, 6, {"action": rows})
    whole, _ = loss(model, b, law, Dice(0, 5, range(6)), global_size=6)
    cuts = ([0, 1], [2, 3, 4, 5])
    total = sum(loss(model, part(b, keep), law, Dice(0, 5, keep), global_size=6)[0] for keep in cuts)
    assert total.item() == pytest.approx(whole.item(), rel=1e-5)


def test_other_words_for_absence_are_refused():
    with pytest.raises(ValueError, match="absent='zero'; possible: none, noise"):
        Modality(shape=(4, 1), patch=(1,), absent="zero")
