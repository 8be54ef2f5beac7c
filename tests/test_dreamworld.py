"""Video with features in its channels: on a tiny random Wan and on exact maps; each choice is a part of the recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polyclock import Dice, Recipe, from_pretrained, loss, sample, save_pretrained
from polyclock.codecs import Chain, Projection, Resample, WanVAE
from polyclock.data.collate import collate
from polyclock.data.source import Sample
from polyclock.density import LogitNormal, Uniform
from polyclock.modality import Modality
from polyclock.model import WorldModel
from polyclock.objective import Annealed, weight_at
from polyclock.recipes import dreamworld, videojam, videorepa
from polyclock.recipes.dreamworld import guides
from polyclock.recipes.videojam import guides as jam_guides
from polyclock.timesteps import Drop, Mixture, Shared

TINY = {"image": (16, 16), "frames": 3}
WIDTH = 20  # of features


class Data:
    """Columns of features on a grid of 3 x 5, of clips of 9 frames."""

    def column(self, key: str):
        g = np.random.default_rng(len(key))
        return iter([g.normal(size=(9, 3, 5, WIDTH)).astype(np.float32) for _ in range(3)])


def raw(name: str, m: Modality, shape: tuple, g: np.random.Generator) -> np.ndarray:
    if name == "video":
        return g.integers(0, 256, shape, dtype=np.uint8)
    if shape[-1] == 2:
        return g.integers(0, 13, shape).astype(np.int32)
    if name == "geometry" and shape[-1] == 1:
        return g.uniform(1, 8, shape).astype(np.float32)
    return g.normal(size=shape).astype(np.float32)


def batch(recipe: Recipe, size: int = 2):
    g, samples = np.random.default_rng(0), []
    for i in range(size):
        values: dict = {}
        for n, s in recipe.signals().items():
            shape = tuple(k or {1: 3, 2: 5, 3: WIDTH}[j] for j, k in enumerate(s.shape))
            values[n] = f"clip {i}" if s.kind == "text" else raw(n, recipe.modalities.get(n), shape, g)
        valid = {n: np.ones(s.shape[0], bool) for n, s in recipe.signals().items() if s.kind != "text"}
        samples.append(Sample(values, valid, f"sample {i}"))
    return collate(samples, list(range(size)), recipe.signals())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from interop.wan_folders import pipeline

    folder = tmp_path_factory.mktemp("base")
    pipeline(folder)
    return str(folder)


def stepped(recipe: Recipe, step: int = 0, law=None) -> tuple[WorldModel, Tensor, dict[str, Tensor]]:
    model = recipe.build()
    b = model.encode(batch(recipe), Dice(0, 0, range(2)))
    total, parts = loss(model, b, law or recipe.law, Dice(0, 0, range(2)), step=step)
    total.backward()
    return model, total, parts


FIRST = "video[1:], flow, semantics, geometry | video[:1], text"
MADE = {
    "dreamworld": (dreamworld(**TINY), "video, flow, semantics, geometry | text"),
    "first": (dreamworld(**TINY, first=0.5, still=True, detail=True), FIRST),
    "dropped": (dreamworld(**TINY, drop=0.5), "video | text"),
    "alone": (dreamworld(**TINY, features=()), "video | text"),
    "dit": (dreamworld(**TINY, network="dit", predict="velocity"), "video, flow, semantics, geometry | text"),
    "videojam": (videojam(**TINY), "video, flow | text"),
    "videorepa": (videorepa(**TINY, hidden=32), "video | text"),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_without_a_base_each_steps_answers_and_is_saved(name: str, tmp_path: Path) -> None:
    recipe, query = MADE[name]
    model, total, parts = stepped(recipe)
    assert torch.isfinite(total) and set(parts) == {*recipe.modalities, *recipe.auxiliary}
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    assert again.recipe.law == recipe.law and again.recipe.auxiliary == recipe.auxiliary
    given = {"video": batch(recipe).values["video"]} if "video[:1]" in query else {}
    out = sample(again, query, strict=True, steps=2, text=["a", "b"], **given)
    signals = recipe.signals()
    for n, v in out.items():
        assert tuple(v.shape[1:]) == signals[n].shape and torch.isfinite(v.float()).all()


def test_the_paper_s_recipe_on_wan(base: str, tmp_path: Path) -> None:
    """Channels, codecs, columns; the base's weights; the video as the base sees it, to the bit; a step; a question."""
    from polyclock.interop import expanded, wan

    recipe = dreamworld(base=base, image=(32, 48), frames=9, drop_text=0.1, scale="channel").fit(Data())
    shapes = {n: m.shape for n, m in recipe.modalities.items()}
    assert shapes == {"video": (3, 4, 6, 4), "flow": (3, 4, 6, 4), "semantics": (3, 4, 6, 8), "geometry": (3, 4, 6, 8)}
    assert list(recipe.layout.streams[0].of) == ["video", "flow", "semantics", "geometry"]
    assert {m.key for m in recipe.modalities.values()} == {"video", "flow", "semantics", "geometry"}
    assert isinstance(recipe.law, Shared) and recipe.conditions["text"].drop == 0.1
    assert all(m.clock == "video" and m.zero_init for n, m in recipe.modalities.items() if n != "video")

    model = recipe.build()
    begin = expanded.Base(base)
    begin(model)
    alone = wan.load(base, frames=3)
    x = {n: torch.randn(2, *s) for n, s in shapes.items()}
    given = [m.conditioner({"text": ["a cat", ""]}, {"text": torch.arange(2)}, 2) for m in (model, alone)]
    with torch.no_grad():
        for time in (1.0, 0.6, 0.2):
            t = {n: torch.full((2, 3), time) for n in x}
            out = model.eval()(x, t, given[0])
            plain = alone({"video": x["video"]}, {"video": t["video"]}, given[1])
            assert torch.equal(out["video"], plain["video"])
            assert not any(out[n].any() for n in out if n != "video")

    total, parts = loss(model, model.encode(batch(recipe), Dice(0, 0, range(2))), recipe.law, Dice(0, 0, range(2)))
    total.backward()
    assert torch.allclose(total, parts["video"] + 0.2 * (parts["flow"] + parts["semantics"] + parts["geometry"]))
    assert all(p.grad is not None for p in model.parameters())
    save_pretrained(model, tmp_path / "ours")
    out = sample(from_pretrained(tmp_path / "ours"), "video, flow, semantics, geometry | text", text=["a cat"],
                 steps=2, guides=guides())  # fmt: skip
    assert out["video"].shape == (1, 9, 32, 48, 3) and out["flow"].shape == (1, 9, 32, 48, 3)
    assert out["semantics"].shape == (1, 9, 4, 6, WIDTH)
    # What it has become goes on as a base, and only for the same sources.
    expanded.save(model, tmp_path / "theirs")
    for part in ("vae", "text_encoder", "tokenizer"):
        (tmp_path / "pipeline").mkdir(exist_ok=True)
        (tmp_path / "pipeline" / part).symlink_to(Path(base) / part)
    (tmp_path / "pipeline" / "transformer").symlink_to(tmp_path / "theirs")
    again = dreamworld(base=str(tmp_path / "pipeline"), image=(32, 48), frames=9).fit(Data())
    second = again.build()
    expanded.Base(str(tmp_path / "pipeline"))(second)
    assert torch.equal(second.head["geometry"].weight, model.head["geometry"].weight)
    other = dreamworld(base=str(tmp_path / "pipeline"), features=("flow",), image=(32, 48), frames=9).build()
    with pytest.raises(ValueError, match="has the sources .* the model has"):
        expanded.Base(str(tmp_path / "pipeline"))(other)


def test_the_weights_fall() -> None:
    """0.2, 0.1, 0 at the start, in the middle and at the end; at the end the gradients are those of the video alone."""
    recipe = dreamworld(**TINY, predict="velocity")
    for name in ("flow", "semantics", "geometry"):
        weight = recipe.modalities[name].weight
        found = [weight_at(weight, s) for s in (0, 500, 1000, 1500, 2000, 3000)]
        assert found == pytest.approx([0.2, 0.1707, 0.1, 0.0293, 0.0, 0.0], abs=1e-4)
        every = [weight_at(weight, s) for s in range(0, 2001, 10)]
        assert every == sorted(every, reverse=True)
    model, total, parts = stepped(recipe, step=2000)
    alone = recipe.build()
    b = alone.encode(batch(recipe), Dice(0, 0, range(2)))
    loss(alone, b, recipe.law, Dice(0, 0, range(2)))[1]["video"].backward()
    assert torch.equal(total, parts["video"]) and parts["flow"] > 0
    for (n, a), b_ in zip(model.named_parameters(), alone.parameters(), strict=True):
        assert torch.allclose(a.grad, torch.zeros_like(a) if b_.grad is None else b_.grad, atol=1e-7), n


# The open choices: what each argument changes, by its number in docs/papers/dreamworld.md.


def weight(recipe: Recipe, name: str) -> object:
    return recipe.modalities[name].weight


def test_choices_of_training() -> None:
    plain = {**TINY, "predict": "velocity"}
    law = dreamworld(**plain, drop=0.15, null="blank", learn_dropped=True)  # 3
    assert isinstance(law.law, Drop) and (law.law.p, law.law.learn) == (0.15, True)
    assert {m.null for n, m in law.modalities.items() if n != "video"} == {"blank"}
    assert dreamworld(**plain, drop_text=0.3).conditions["text"].drop == 0.3  # 4
    held = weight(dreamworld(**plain, hold=400), "flow")  # 6
    assert isinstance(held, Annealed)
    assert [held.at(s) for s in (0, 400, 1200, 2000)] == pytest.approx([0.2, 0.2, 0.1, 0.0])
    assert weight(dreamworld(**plain, annealed=0), "flow") == 0.2
    assert dreamworld(**plain).law == Shared(LogitNormal()) and dreamworld(**plain, shift=3.0).law.density.shift == 3.0
    assert dreamworld(**plain, density="uniform").law == Shared(Uniform())  # 8
    apart = dreamworld(**plain, weights=(("flow", 0.1),), annealed=0)  # 9
    assert (weight(apart, "flow"), weight(apart, "geometry")) == (0.1, 0.2)
    assert isinstance(dreamworld(**plain, first=0.3).law, Mixture)


def test_one_sum_over_all_channels() -> None:
    """With every weight 1, sums of means that count as their channels do are one mean over all of them."""
    recipe = dreamworld(**TINY, predict="velocity", weight=1.0, annealed=0, reduction="sum")
    model, total, _ = stepped(recipe)
    b = model.encode(batch(recipe), Dice(0, 0, range(2)))
    whole, count = 0.0, 0
    dice = Dice(0, 0, range(2))
    draw = recipe.law.__call__  # the times are the law's; the errors by hand
    from polyclock.objective import _noised
    from polyclock.timesteps import Presence

    has = {n: torch.ones(2, dtype=torch.bool) for n in recipe.modalities}
    drawn = draw(Presence(2, has, recipe.modalities), dice)
    rows = torch.arange(2)
    noisy = {n: _noised(n, m, b.tensor(n), rows, drawn, dice) for n, m in recipe.modalities.items()}
    given = model.conditioner({"text": b.values["text"]}, {"text": rows}, 2)
    out = model({n: v[0] for n, v in noisy.items()}, {n: v[1] for n, v in noisy.items()}, given)
    for n, m in recipe.modalities.items():
        whole += ((out[n] - noisy[n][2]) ** 2).sum()
        count += 2 * int(np.prod(m.shape)) if n == "video" else 0
    torch.testing.assert_close(total, whole / count)


def test_choices_of_features(base: str) -> None:
    large = {"base": base, "image": (32, 48), "frames": 9}
    few = dreamworld(**large, components=6, scale="global", pooling="pick", space="area").modalities[
        "semantics"
    ]  # 10, 12
    assert few.shape == (3, 4, 6, 6) and isinstance(few.codec, Chain)
    project, cells = few.codec.codecs
    assert isinstance(project, Projection) and (project.components, project.scale) == (6, "global")
    assert isinstance(cells, Resample) and (cells.time, cells.space) == ("pick", "area")
    flow = dreamworld(**large, reach=0.2, posterior=True).modalities["flow"].codec  # 13, 14
    assert isinstance(flow, Chain) and flow.codecs[1].reach == 0.2 and isinstance(flow.codecs[2], WanVAE)
    assert flow.sample and dreamworld(**large, posterior=True).modalities["video"].codec.sample
    exact = dreamworld(**large, experts="maps").modalities
    assert exact["geometry"].shape == (3, 4, 6, 1) and exact["geometry"].key == "depth"
    with pytest.raises(ValueError, match='experts="features" needs a base with an autoencoder'):
        dreamworld(**TINY, experts="features")
    world = dreamworld(**TINY, cameras=("observation.images.corner2",)).modalities
    assert world["semantics"].key == "observation.segmentation.corner2"


def test_choices_of_guidance() -> None:  # 5, 15
    five = guides()
    assert [(g.weight, *g.drop) for g in five] == [(5, "text"), (1, "flow"), (1, "semantics"), (1, "geometry")]
    text, flow = jam_guides()
    assert (text.weight, flow.weight, text.interval, flow.interval) == (5.0, 3.0, (0.0, 1.0), (0.5, 1.0))
    assert jam_guides(shift=3.0)[1].interval == (0.75, 1.0)
    model = dreamworld(**TINY).build().eval()
    how = {"steps": 2, "text": ["a"], "decode": False}
    query = "video, flow, semantics, geometry | text"
    for change in ({"fill": "blank"}, {"scope": {"video"}}, {"interval": (0.6, 1.0)}, {"every": 2},
                   {"fill": "noise"}, {"fill": "mean"}):  # fmt: skip
        sample(model, query, guides=[replace(g, **change) if "flow" in g.drop else g for g in five], **how)


def test_the_other_recipes() -> None:
    jam = videojam(**TINY)
    assert jam.name == "videojam" and list(jam.modalities) == ["video", "flow"]
    assert isinstance(jam.law, Drop) and (jam.law.names, jam.law.p) == (("flow",), 0.2)
    assert jam.conditions["text"].drop == 0.3 and jam.modalities["flow"].null == "zero"
    repa = videorepa(**TINY, pairs="within", weight=0.45)
    spec = repa.auxiliary["like_semantics"]
    assert (spec.margin, spec.weight, spec.pairs, spec.block, spec.hidden) == (0.1, 0.45, "within", 2, 2048)
    assert repa.signals()["like_semantics"].key == "segmentation" and list(repa.modalities) == ["video"]
    with pytest.raises(ValueError, match="features of one number have no direction"):
        videorepa(**TINY, features=("geometry",))
    with pytest.raises(ValueError, match="unknown feature 'depth'"):
        dreamworld(features=("depth",))
    with pytest.raises(ValueError, match="a token is 8 pixels wide, so 20 is not possible; 16 is"):
        dreamworld(image=(16, 20))


def test_videorepa_on_wan(base: str) -> None:
    latents = videorepa(base=f"{base}/transformer", frames=3)  # which brings no autoencoder
    assert (
        latents.auxiliary["like_semantics"].codec.codecs[1].grid == latents.modalities["video"].shape[1:3] == (480, 832)
    )
    recipe = videorepa(base=base, image=(32, 48), frames=9, width=WIDTH, hidden=32).fit(Data())
    spec = recipe.auxiliary["like_semantics"]
    assert spec.shape == (3, 2, 3, WIDTH) and (spec.block, spec.skip, spec.before) == (2, 1, 1)
    assert recipe.signals()["like_semantics"].shape == (9, None, None, WIDTH)
    _, total, parts = stepped(recipe)
    assert torch.allclose(total, parts["video"] + 0.5 * parts["like_semantics"]) and parts["like_semantics"] > 0
