"""What large models need: low-rank changes, blocks that are computed anew, weights that processes share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clips import RECIPE, SETTINGS, ClipLoader, make_job, step_loss
from safetensors.torch import load_file
from standin import Numbers, build, saved
from test_parallel import assert_close, together

from polyclock import DiT, Recipe
from polyclock.commands import run_folder
from polyclock.dice import Dice
from polyclock.model import WorldModel
from polyclock.pretrained import from_pretrained
from polyclock.train import log
from polyclock.train.loop import run
from polyclock.train.parallel import recompute
from polyclock.train.settings import Training

OTHER = replace(RECIPE, backbone=DiT(width=24, depth=2, heads=2))
# Depth has blocks of its own, for which there is no table.
OWN = replace(
    RECIPE,
    backbone=replace(RECIPE.backbone, experts={"depth": 24}),
    modulation=replace(RECIPE.modulation, table=False),
)


def loss_of(model: WorldModel) -> torch.Tensor:
    batch = ClipLoader(Numbers(24), 4, seed=1).batch(0)
    return step_loss(model, batch, Dice(0, 0, range(4)), step=0, global_size=4)[0]


def two(folder: Path, training: Training, recipe: Recipe = RECIPE) -> list[int]:
    return together(lambda rank: run(make_job(recipe), training, folder))


# ---------------------------------------------------------------- blocks computed anew


@pytest.mark.parametrize("recipe", [RECIPE, OTHER, OWN], ids=["wan", "dit", "own blocks"])
def test_blocks_computed_anew_give_the_same_gradients_and_keep_less(recipe) -> None:
    kept: list[int] = []
    grads = []
    for anew in (False, True):
        model = recipe.build()
        if anew:
            recompute(model)
        size = 0

        def count(t: torch.Tensor) -> torch.Tensor:
            nonlocal size
            size += t.numel() * t.element_size()  # noqa: B023
            return t

        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            total = loss_of(model)
        kept.append(size)
        total.backward()
        grads.append({n: p.grad for n, p in model.named_parameters()})
    assert all(torch.equal(g, grads[1][n]) for n, g in grads[0].items()) and len(grads[0]) > 30
    assert kept[1] < 0.5 * kept[0]


def test_it_is_a_setting_that_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    whole = run(make_job(), SETTINGS, tmp_path / "whole")
    run(make_job(), replace(SETTINGS, steps=3, recompute=True, schedule="constant"), tmp_path / "parts")
    with pytest.raises(ValueError, match="training.schedule was"):
        run(make_job(), replace(SETTINGS, steps=3), tmp_path / "parts")
    anew = run(make_job(), replace(SETTINGS, recompute=True), tmp_path / "anew")
    assert_close(whole.checkpoint, anew.checkpoint, atol=0)


def test_a_model_without_blocks() -> None:
    with pytest.raises(ValueError, match="a Net has no backbone with blocks"):
        recompute(build())


# ---------------------------------------------------------------- low-rank changes


def test_only_changes_and_newcomers_are_trained_and_the_merged_model_is_the_same(tmp_path: Path) -> None:
    from polyclock.train.lora import adapted, add_lora, merged

    pytest.importorskip("peft")
    model = RECIPE.build()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    first = loss_of(model)
    add_lora(model, 2, seed=0)
    assert torch.equal(loss_of(model), first), "silent at the start"
    assert adapted(model) and merged(model.state_dict()).keys() == before.keys()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    new = model.newcomers()
    assert new and {n for n in trained if "lora" not in n} == new
    # Six linear maps in each of two blocks and the two of its MLP, each with two small matrices.
    assert len([n for n in trained if "lora" in n]) == 2 * 2 * (2 + 3 + 2)
    optimizer = torch.optim.SGD(trained.values(), lr=0.3)
    for _ in range(3):
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()
    plain = merged(model.state_dict())
    changed = {n for n, v in plain.items() if not torch.equal(v, before[n])}
    weights = {n for n in before if n.startswith("backbone.blocks.") and n.endswith(".weight") and "norm" not in n}
    assert weights <= changed <= weights | new
    other = RECIPE.build()
    other.load_state_dict(plain)
    torch.testing.assert_close(loss_of(other), loss_of(model))
    assert (loss_of(model) - first).abs() > 1e-3


def test_which_maps_change_how_much_and_what_is_trained_beside(tmp_path: Path) -> None:
    from polyclock.train.lora import add_lora, merged, scale

    pytest.importorskip("peft")
    model = RECIPE.build()
    add_lora(model, 2, seed=0, alpha=6.0, of=("attention", "cross"), beside=("embed.video", "head.video"))
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all("attention" in n or "cross" in n for n in trained if "lora" in n)
    assert {n for n in trained if "lora" not in n} - model.newcomers() == {
        f"{end}.video.{part}" for end in ("embed", "head") for part in ("weight", "bias")
    }
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "lora_B" in n:
                p.normal_()
    assert scale(model) == 3.0
    other = RECIPE.build()
    other.load_state_dict(merged(model.state_dict(), scale(model)))
    torch.testing.assert_close(loss_of(other), loss_of(model))
    for settings, message in (
        ({"of": ("attn",)}, "unknown part of the name of a block's map 'attn'"),
        ({"beside": ("embed.vid.",)}, "unknown parameter prefix in lora_beside 'embed.vid.'"),
    ):
        with pytest.raises(ValueError, match=message):
            add_lora(RECIPE.build(), 2, seed=0, **settings)
    with pytest.raises(ValueError, match="lora is 0"):
        replace(SETTINGS, lora_of=("attention",))


def test_a_run_of_changes_goes_on_and_its_model_folder_needs_no_peft(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    training = replace(SETTINGS, lora=2, schedule="constant")
    whole = run(make_job(), training, tmp_path / "whole")
    run(make_job(), replace(training, steps=3), tmp_path / "parts")
    parts = run(make_job(), training, tmp_path / "parts")
    assert_close(whole.checkpoint, parts.checkpoint, atol=0)
    trained = load_file(whole.checkpoint / "trained.safetensors")
    moments = load_file(whole.checkpoint / "optimizer.safetensors")
    assert len(moments) == 3 * len(trained) and any("lora_A" in n for n in trained)
    last = run_folder.load(run_folder.find(tmp_path / "whole", "last"), "cpu").state_dict()
    kept = load_file(whole.checkpoint / "model" / "model.safetensors")
    assert last.keys() == kept.keys() and all(torch.equal(last[n], v) for n, v in kept.items())
    model = from_pretrained(tmp_path / "whole" / "model")
    start = RECIPE.build().state_dict()
    assert torch.equal(model.state_dict()["embed.video.weight"], start["embed.video.weight"])
    name = "backbone.blocks.0.mlp.0.weight"
    assert not torch.equal(model.state_dict()[name], start[name])
    rows = log.read(tmp_path / "whole" / "log.jsonl")
    assert [r["loss"] for r in rows if r["kind"] == "train"][-1] > 0
    with pytest.raises(ValueError, match="training.lora was 2 and is now 3"):
        run(make_job(), replace(training, lora=3), tmp_path / "whole")


# ---------------------------------------------------------------- weights that processes share


@pytest.mark.parametrize(
    ("recipe", "lora"),
    [(RECIPE, 0), pytest.param(RECIPE, 2, marks=pytest.mark.slow), pytest.param(OWN, 0, marks=pytest.mark.slow)],
    ids=["whole", "changes", "own blocks"],
)
def test_two_that_share_all_weights_are_one_and_one_goes_on(tmp_path: Path, recipe: Recipe, lora: int) -> None:
    """Saved by two, resumed by one, and the other way round; some batches of one process lack a modality."""
    if lora:
        pytest.importorskip("peft")
    training = replace(SETTINGS, lora=lora, shards=True, recompute=True, schedule="constant", accumulate=2)
    one = run(make_job(recipe), training, tmp_path / "one")
    assert two(tmp_path / "two", training, recipe) == [0, 0]
    assert_close(one.checkpoint, tmp_path / "two" / "checkpoints" / one.checkpoint.name, atol=2e-5)
    rows, others = (log.read(tmp_path / name / "log.jsonl") for name in ("one", "two"))
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], abs=1e-5)
    for order in ("two then one", "one then two"):
        folder = tmp_path / order
        half = replace(training, steps=3)
        if order == "two then one":
            assert two(folder, half, recipe) == [0, 0]
            run(make_job(recipe), training, folder)
        else:
            run(make_job(recipe), half, folder)
            assert two(folder, training, recipe) == [0, 0]
        assert_close(one.checkpoint, folder / "checkpoints" / one.checkpoint.name, atol=2e-5)
    assert len(saved(one.checkpoint)) > 50
