"""The union: six questions of one network, new or on a tiny random Wan; the policy steered by what it predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polyclock import Dice, Guide, Recipe, from_pretrained, loss, sample, save_pretrained
from polyclock.data.collate import collate
from polyclock.data.source import Sample
from polyclock.recipes import union
from polyclock.recipes.union import questions

SMALL = {"image": (16, 16), "horizon": 4, "expert": 24, "shift": 1}


class Data:
    def column(self, key: str):
        return iter([np.random.default_rng(len(key)).normal(size=(60, 4)).astype(np.float32)])


def raw(name: str, shape: tuple, g: np.random.Generator) -> np.ndarray:
    if name in ("video", "camera"):
        return g.integers(0, 256, shape, dtype=np.uint8)
    if name == "depth":
        return g.uniform(1, 8, shape).astype(np.float32)
    if name == "semantics":
        return g.integers(0, 13, shape).astype(np.int32)
    return g.normal(size=shape).astype(np.float32)


def batch(recipe: Recipe, size: int = 3):
    g, samples = np.random.default_rng(0), []
    for i in range(size):
        values = {n: "open it" if s.kind == "text" else raw(n, s.shape, g) for n, s in recipe.signals().items()}
        valid = {n: np.ones(s.shape[0], bool) for n, s in recipe.signals().items() if s.kind != "text"}
        samples.append(Sample(values, valid, f"sample {i}"))
    return collate(samples, list(range(size)), recipe.signals())


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from interop.wan_folders import pipeline, text_encoder, transformer

    latents, pixels = (tmp_path_factory.mktemp(n) for n in ("latents", "pixels"))
    pipeline(latents)
    transformer(3, patch_size=(1, 8, 8)).save_pretrained(pixels / "transformer")
    encoder, tokenizer = text_encoder()
    encoder.save_pretrained(pixels / "text_encoder")
    tokenizer.save_pretrained(pixels / "tokenizer")
    return {"latents": str(latents), "pixels": str(pixels)}


def made(kind: str, bases: dict[str, str]) -> Recipe:
    size = {"image": (32, 32)} if kind == "latents" else {}
    return union(**SMALL | size, base=bases.get(kind)).fit(Data())


@pytest.mark.parametrize("kind", ["new", "latents", "pixels"])
def test_it_builds_steps_and_answers_all_six(kind: str, bases: dict[str, str], tmp_path: Path) -> None:
    recipe = made(kind, bases)
    model = recipe.build()
    if recipe.base:
        from polyclock.interop.expanded import Base

        before = model.backbone.blocks[0].attention.qkv.weight.clone()
        Base(recipe.base)(model)
        assert not torch.equal(model.backbone.blocks[0].attention.qkv.weight, before)
    assert model.backbone.narrow == ("action",) and model.backbone.experts["action"].enter.out_features == 24
    b = batch(recipe)
    dice = Dice(0, 0, range(3))
    latent = model.encode(b, dice)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for step in range(8):
        total, parts = loss(model, latent, recipe.law, dice, step=step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert set(parts) == {"video", "depth", "flow", "semantics", "action"} and losses[-1] < losses[0]
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    save_pretrained(model, tmp_path)
    model = from_pretrained(tmp_path)
    asked = questions()
    assert list(asked) == ["policy", "forward", "inverse", "estimate", "control", "joint"]
    for name, query in {
        **asked,
        "scene": "video | flow, text",
        "motion": "depth, action | video[:1], flow, text",
    }.items():
        right = query.partition("|")[2].split(", ")
        given = {n.strip().partition("[")[0] for n in right}
        out = sample(model, query, strict=name in asked, steps=2, **{n: b.values[n] for n in given})
        wanted = {n.strip().partition("[")[0] for n in query.partition("|")[0].split(",")}
        assert set(out) == wanted, name
        assert all(torch.isfinite(v.float()).all() and len(v) == 3 for v in out.values())
        if "action" in out:
            assert out["action"].shape == (3, 4, 4)


def test_what_the_base_does_not_have_is_trained_beside_low_rank_changes(bases: dict[str, str]) -> None:
    """Actions, their blocks and what is given join the base; its video and its text are left as they are."""
    pytest.importorskip("peft")
    from polyclock.interop.expanded import Base
    from polyclock.train.job import recipe_job
    from polyclock.train.lora import add_lora
    from polyclock.train.settings import Training
    from polyclock.train.state import make_optimizer

    recipe = made("pixels", bases)
    model = recipe_job(recipe, [], data={}, begin=Base(recipe.base)).build()
    every = {n for n, p in model.named_parameters() if p.numel()}
    joined = ("embed.depth", "embed.flow", "embed.semantics", "embed.action", "head.depth", "head.flow",
              "head.semantics", "head.action", "modulation.constant", "modulation.time.action", "modulation.time.depth",
              "modulation.time.flow", "modulation.time.semantics", "backbone.experts", "conditioner.encoder.camera",
              "conditioner.encoder.state", "conditioner.project.camera", "conditioner.project.state",
              "conditioner.null")  # fmt: skip
    new = {n for n in every if n.startswith(joined)}
    assert model.newcomers() == new and "head.action.weight" in new
    add_lora(model, 2, seed=0)
    names = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    changes = {n for n in names.values() if "lora" in n}
    assert set(names.values()) - changes == new and all(n.startswith("backbone.blocks.") for n in changes)
    groups = make_optimizer(model, Training(lora=2, lr_new=10.0)).param_groups
    assert {names[id(p)] for g in groups if g["factor"] == 10.0 for p in g["params"]} == new
    assert recipe_job(recipe, [], data={}, weights=recipe.build().state_dict()).build().newcomers() < new


def test_the_policy_is_steered_by_what_it_predicts_itself() -> None:
    recipe = made("new", {})
    model = recipe.build().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if not p.any():
                p.normal_(0, 0.1)
    b = batch(recipe)
    query = questions()["joint"]
    given = {n: b.values[n] for n in ("video", "camera", "state", "text")}
    plain = sample(model, query, steps=3, **given)
    guide = Guide(weight=2.0, drop={"depth", "flow", "semantics"}, scope={"action"})
    steered = sample(model, query, steps=3, guides=[guide], **given)
    assert not torch.allclose(steered["action"], plain["action"], atol=1e-4)
    # Nothing of the features was given: what guides is the network's own, and is left as it would have been.
    first = [sample(model, query, steps=1, guides=g, **given)["depth"] for g in ((), (guide,))]
    assert torch.equal(*first)


def test_an_evaluation_asks_under_guides_where_they_withhold_something() -> None:
    from types import SimpleNamespace

    from polyclock.evaluate.asking import Asking
    from polyclock.evaluate.questions import Question

    recipe = made("new", {})
    model = recipe.build().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if not p.any():
                p.normal_(0, 0.1)
    found = {}
    names, told = tuple(recipe.modalities), ("camera", "state", "text")
    for name in ("joint", "policy"):
        wanted = {"action": 0} if name == "policy" else {n: 1 if n == "video" else 0 for n in names}
        asked = Question(name=name, query=questions()[name], wanted=wanted, given=("video",), of=(), conditions=told,
                         tokens=names)  # fmt: skip
        for guides in ((), (Guide(weight=2.0, drop={"depth"}, scope={"action"}),)):
            places = [SimpleNamespace(number=i) for i in range(3)]
            asking = Asking(model, places, batch(recipe), steps=2, guides=guides)
            found[name, bool(guides)] = asking.ask(asked)["action"]
    assert not torch.allclose(found["joint", True], found["joint", False], atol=1e-4)
    assert torch.equal(found["policy", True], found["policy", False])


def test_variants() -> None:
    shared = union(**SMALL | {"expert": 0}, features=("flow",), state=None, camera=False).fit(Data())
    model = shared.build()
    assert model.backbone.narrow == () and list(shared.modalities) == ["video", "flow", "action"]
    total, _ = loss(model, model.encode(batch(shared)), shared.law, Dice(0, 0, range(3)))
    assert torch.isfinite(total)
