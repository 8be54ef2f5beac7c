"""Token-relation distillation: by hand, its variants, and what it trains beside the modalities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from polyclock import from_pretrained, save_pretrained
from polyclock.backbones.wan import Wan
from polyclock.batch import Batch
from polyclock.dice import Dice
from polyclock.layout import Layout, Stream
from polyclock.model import WorldModel
from polyclock.objective import Annealed, loss
from polyclock.relations import Relations, resampled
from polyclock.timesteps import Shared
from worlds import MODALITIES, VIDEO, awake, recipe
from worlds import batch as of_modalities

TEACHER = Relations(of="video", block=2, shape=(3, 2, 2, 5), hidden=16, skip=1, key="features")


def model(**changes) -> WorldModel:
    spec = replace(TEACHER, **changes)
    made = recipe(
        auxiliary={"relations": spec}, law=Shared(), layout=Layout(*map(Stream, ("action", "video", "depth")))
    )
    return awake(made.build())


def batch(of: WorldModel, size: int = 4, have: tuple[int, ...] = (0, 1, 2, 3)) -> Batch:
    b = of_modalities(of, size)
    torch.manual_seed(9)
    values = {**b.values, "relations": torch.randn(size, 3, 2, 2, 5)[list(have)]}
    return replace(b, values=values, rows={**b.rows, "relations": torch.tensor(have, dtype=torch.long)})


def by_hand(of: WorldModel, b: Batch, pairs: str) -> torch.Tensor:
    """The mean over samples, by loops over pairs of tokens."""
    caught: list[torch.Tensor] = []
    hook = of.backbone.blocks[1].register_forward_hook(lambda _, __, out: caught.append(out))
    loss(of, b, of.recipe.law, Dice(0, 0, range(4)))
    hook.remove()
    # Registers, 4 tokens of action, then 4 frames of 2 x 2 of video.
    tokens = caught[0][:, 2 + 4 : 2 + 4 + 16].unflatten(1, (4, 4))[:, 1:]
    a, e = of.auxiliary["relations"].project(tokens), b.tensor("relations").flatten(2, 3)
    costs = []
    for j in range(4):
        mine = []
        for f in range(3):
            for g in range(3):
                if (pairs, f == g) in (("within", False), ("across", True)):
                    continue
                s = F.cosine_similarity(a[j, f][:, None], a[j, g][None], dim=-1)
                r = F.cosine_similarity(e[j, f][:, None], e[j, g][None], dim=-1)
                mine.append(((s - r).abs() - 0.1).clamp_min(0))
        costs.append(torch.stack(mine).mean())
    return torch.stack(costs).mean()


@pytest.mark.parametrize("pairs", ["all", "within", "across"])
def test_by_hand(pairs: str) -> None:
    m = model(pairs=pairs)
    b = batch(m)
    total, parts = loss(m, b, m.recipe.law, Dice(0, 0, range(4)))
    assert torch.allclose(parts["relations"], by_hand(m, b, pairs), atol=1e-6) and parts["relations"] > 0.01
    rest = sum(parts[n] for n in MODALITIES)
    assert torch.allclose(total, rest + 0.5 * parts["relations"], atol=1e-6)


def test_features_of_the_frames_that_are_skipped_have_no_part() -> None:
    """A causal autoencoder's first frame is left out on both sides, so that the others meet frame by frame."""
    m = model(shape=(4, 2, 2, 5), before=1)
    b = batch(m)
    later = b.tensor("relations")
    for first in (torch.zeros(4, 1, 2, 2, 5), 9 * torch.randn(4, 1, 2, 2, 5)):
        whole = replace(b, values={**b.values, "relations": torch.cat([first, later], 1)})
        _, parts = loss(m, whole, m.recipe.law, Dice(0, 0, range(4)))
        assert torch.allclose(parts["relations"], by_hand(m, b, "all"), atol=1e-6)


def test_it_trains_the_network_before_its_block_and_may_fade() -> None:
    m = model(block=1, weight=Annealed(start=0.5, steps=10))
    b = batch(m)
    for step, acts in ((0, True), (10, False)):
        m.zero_grad()
        total, parts = loss(m, b, m.recipe.law, Dice(0, 0, range(4)), step=step)
        (total - sum(parts[n] for n in MODALITIES)).backward()
        first, second = (
            any(p.grad is not None and bool(p.grad.any()) for p in block.parameters()) for block in m.backbone.blocks
        )
        assert first is acts and not second
        assert bool(m.auxiliary["relations"].project[0].weight.grad.any()) is acts


def test_samples_without_features_carry_none_and_cut_batches_add_up() -> None:
    m = model()
    law = m.recipe.law
    _, some = loss(m, batch(m, have=(1, 3)), law, Dice(0, 0, range(4)))
    _, parts = loss(m, batch(m), law, Dice(0, 0, range(4)))
    assert 0 < some["relations"] < parts["relations"] and some["video"] == parts["video"]
    total, none = loss(m, batch(m, have=()), law, Dice(0, 0, range(4)))
    assert none["relations"] == 0
    total.backward()
    assert all(p.grad is not None for p in m.auxiliary.parameters())


def test_it_is_saved_with_the_model_and_no_call_needs_it(tmp_path) -> None:
    m = model()
    save_pretrained(m, tmp_path)
    again = from_pretrained(tmp_path)
    assert again.recipe.auxiliary == m.recipe.auxiliary
    assert torch.equal(again.auxiliary["relations"].project[4].weight, m.auxiliary["relations"].project[4].weight)
    assert m.recipe.signals()["relations"].key == "features"
    assert all(n in m.newcomers() for n, _ in m.named_parameters() if n.startswith("auxiliary"))


def test_faults() -> None:
    for changes, message in (
        ({"of": "vide"}, "unknown modality that 'relations' is about 'vide'"),
        ({"pairs": "some"}, "unknown pairs 'some'"),
        ({"shape": (3, None, 2, 5)}, "all known"),
        ({"block": 0}, "block=0"),
        ({"before": 3}, "before=3 of 3 frames of features"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**changes)
    m = model(block=3)
    with pytest.raises(ValueError, match="'relations' looks behind block 3 of 2"):
        loss(m, batch(m), m.recipe.law, Dice(0, 0, range(4)))
    narrow = recipe(
        auxiliary={"relations": TEACHER}, law=Shared(), layout=Layout(*map(Stream, ("action", "depth", "video"))),
        backbone=Wan(width=32, depth=2, heads=2, experts={"video": 16}),
    ).build()  # fmt: skip
    with pytest.raises(ValueError, match="'relations' looks at tokens of 'video', which pass through blocks of their"):
        loss(narrow, batch(narrow), Shared(), Dice(0, 0, range(4)))
    with pytest.raises(ValueError, match="cannot be called 'video'"):
        recipe(auxiliary={"video": TEACHER}, modalities={"video": VIDEO})
    m = model(skip=4)
    with pytest.raises(ValueError, match="skip=4 leaves none of 4"):
        loss(m, batch(m), m.recipe.law, Dice(0, 0, range(4)))


def test_grids() -> None:
    x = torch.arange(2 * 4.0).reshape(1, 2, 4, 1, 1)
    assert resampled(x, torch.Size((2, 2, 1))).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]
    up = resampled(x, torch.Size((4, 4, 1)))
    assert up[0, :, 0, 0, 0].tolist() == [0.0, 1.0, 3.0, 4.0] and torch.equal(resampled(x, x.shape[1:4]), x)
