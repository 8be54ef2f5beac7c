"""The objective: a batch cut any way adds up, what is not learnt or not valid carries nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock.batch import Batch
from polyclock.dice import Dice
from polyclock.layout import Layout, Stream
from polyclock.modality import Modality
from polyclock.objective import Annealed, loss, null, token_valid, weight_at
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
