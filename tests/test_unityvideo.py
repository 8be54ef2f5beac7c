"""The recipe's choices: each is a value of a shared part, and what it is meant to change is seen to change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock import Dice, Guide, loss, sample
from polyclock.backbones.dit import DiT
from polyclock.batch import Batch
from polyclock.density import LogitNormal, Uniform
from polyclock.layout import Layout, Stream, after
from polyclock.recipes import unityvideo
from polyclock.timesteps import Mixture, Presence, Task
from worlds import awake, batch

MAPS = ("depth", "flow", "segmentation", "skeleton", "surface")
SLOT = "+".join(MAPS)
SMALL = DiT(width=48, depth=2, heads=2)


def made(**choices):
    """The recipe at 16 px with a smaller network."""
    given = {"image": 16, "patch": 8, "seed": 1} | choices
    return replace(unityvideo(**given), backbone=SMALL)


def latents(model, size=10) -> Batch:
    """Samples of which the i-th has the i-th map, round and round."""
    names = [n for n in model.modalities if n != "video"]
    rows = {n: list(range(i, size, len(names))) for i, n in enumerate(names)}
    return batch(model, size, rows=rows | {c: [] for c in model.conditions if c != "text"})


def drawn(recipe, size=4000):
    """The law's draw for samples that have everything."""
    has = {n: torch.ones(size, dtype=torch.bool) for n in (*recipe.modalities, *recipe.conditions)}
    for i, name in enumerate(MAPS):
        has[name] = torch.arange(size) % len(MAPS) == i
    return recipe.law(Presence(size, has, recipe.modalities, recipe.conditions), Dice(0, 0, range(size)))


def kinds(recipe, size=4000) -> dict[str, torch.Tensor]:
    """Which samples learn which task."""
    d = drawn(recipe, size)
    video = d.learn["video"].all(1)
    own = torch.stack([d.learn[n].all(1) & (torch.arange(size) % len(MAPS) == i) for i, n in enumerate(MAPS)]).any(0)
    return {"control": video & ~own, "estimate": own & ~video, "joint": video & own}


def step(recipe):
    """The gradients of one step, all of them finite."""
    model = recipe.build()
    total, _ = loss(model, latents(model), recipe.law, Dice(0, 0, range(10)))
    total.backward()
    assert torch.isfinite(total) and all(p.grad is not None for p in model.parameters())
    return model


@pytest.mark.parametrize(
    "choices",
    [
        {"routing": "step"},
        {"times": "independent"},
        {"clean": "highest"},
        {"density": "uniform", "shift": 5.0},
        {"place": "same"},
        {"switcher": "none"},
        {"switcher": "token"},
        {"switcher": "table"},
        {"switcher": "table", "switch_video": False},
        {"inputs": "maps", "outputs": "maps"},
        {"inputs": "own", "begin": "silent"},
        {"inputs": "own", "begin": "copy"},
        {"outputs": "all"},
        {"context": "caption"},
        {"context": "none"},
        {"estimate_text": True, "drop_prompt": 0.5},
        {"rendering": "published"},
        {"rendering": "planes", "inputs": "own"},
        {"predict": "velocity"},
        {"detail": True},
        {"maps": ()},
        {"maps": ("depth",)},
    ],
    ids=lambda c: " ".join(f"{n}={v}" for n, v in c.items()),
)
def test_each_choice_takes_a_step(choices):
    step(made(**choices))


def test_tasks_come_in_their_shares_sample_by_sample_or_step_by_step():
    found = {n: k.float().mean().item() for n, k in kinds(made()).items()}
    assert found == pytest.approx({"control": 0.2, "estimate": 0.3, "joint": 0.5}, abs=0.03)
    released = made(control=0.25, estimate=0.25, joint=0.5, routing="step")
    shares = {n: k.float().mean().item() for n, k in kinds(released, 50).items()}
    assert sorted(shares.values()) == [0.0, 0.0, 1.0], "one task for all samples of a step"
    assert set(kinds(made(control=0.0), 500)["control"].tolist()) == {False}


@pytest.mark.parametrize("times", ["shared", "independent"])
def test_times_of_what_is_generated_together(times):
    recipe = made(control=0.0, estimate=0.0, joint=1.0, times=times)
    d = drawn(recipe)
    here = torch.arange(4000) % 5 == 0
    same = torch.equal(d.t["video"][here], d.t["depth"][here])
    assert same == (times == "shared") and bool(d.learn["depth"][here].all())


@pytest.mark.parametrize("clean", ["own", "highest"])
def test_which_time_a_clean_stream_is_modulated_at(clean):
    model = awake(made(clean=clean).build())
    t = {"video": torch.zeros(1, 2), "depth": torch.full((1, 2), 0.7)}
    rows = {n: torch.tensor([0]) for n in t}
    c = model.modulation(t, rows, 1, torch.zeros(1, 48)).c["video"]
    at = torch.full((1, 2), 0.7 if clean == "highest" else 0.0)
    alone = model.modulation({"video": at}, {"video": rows["video"]}, 1, torch.zeros(1, 48)).c["video"]
    assert torch.allclose(c, alone)


def test_the_density_is_that_of_the_tasks():
    for choices, density in (
        ({"shift": 5.0}, LogitNormal(shift=5.0)),
        ({"density": "uniform", "shift": 2.0}, Uniform(2.0)),
    ):
        entries = [law for _, group in made(**choices).law.entries for _, law in group.entries]
        assert {law.density for law in entries} == {density} and all(isinstance(law, Task) for law in entries)


def test_positions_beside_the_video_or_the_same_with_a_mark():
    wide, same = made().build(), made(place="same").build()
    video = wide.get_buffer("positions/video")
    beside = wide.get_buffer(f"positions/{SLOT}")
    assert torch.equal(beside - video, torch.tensor([0.0, 0.0, 2.0]).expand_as(video)), "columns 2 and 3 of 4"
    assert torch.equal(same.get_buffer(f"positions/{SLOT}"), same.get_buffer("positions/video"))
    assert {n for n, _ in same.view.items()} == set(MAPS) and not wide.view


def test_the_order_of_tokens_is_of_no_account_where_they_stand_is():
    """Concatenation along the width or as a sequence: the same attention."""
    recipe = made(maps=("depth",))
    model = awake(recipe.build())
    swapped = replace(recipe, layout=Layout(Stream("depth"), Stream("video"))).build()
    swapped.load_state_dict(model.state_dict())
    swapped.register_buffer("positions/depth", model.get_buffer("positions/depth"), persistent=False)
    g = torch.Generator().manual_seed(0)
    x = {n: torch.randn(2, 2, 16, 16, 3, generator=g) for n in ("video", "depth")}
    t = {n: torch.full((2, 2), 0.5) for n in x}
    given = model.conditioner({}, {n: torch.arange(2) for n in x}, 2)
    with torch.no_grad():
        a, b = model(x, t, given), swapped(x, t, given)
    assert all(torch.allclose(a[n], b[n], atol=1e-5) for n in x)


def test_switchers_begin_silent_and_then_tell_maps_apart():
    for kind, count in (("none", 0), ("token", 5), ("label", 6), ("table", 12)):
        plain, model = made(switcher="none").build(), made(switcher=kind).build()
        own = model.state_dict().keys() - plain.state_dict().keys()
        assert len(own) == count
        state = {n: v + 0.1 * torch.randn(v.shape) for n, v in plain.state_dict().items()}
        plain.load_state_dict(state), model.load_state_dict(state, strict=False)
        x = {n: torch.ones(1, 2, 16, 16, 3) for n in ("video", "depth")}
        t = {n: torch.full((1, 2), 0.5) for n in x}
        with torch.no_grad():
            assert torch.equal(plain(x, t)["video"], model(x, t)["video"]), "nothing changes at the start"
            for n in own:
                model.state_dict()[n].normal_()
            assert kind == "none" or not torch.allclose(plain(x, t)["video"], model(x, t)["video"])
    without = made(switcher="label", switch_video=False).build()
    assert "modulation.label.video" not in without.state_dict()


def test_ends_are_shared_as_far_as_said():
    found = {}
    for inputs in ("own", "maps", "all"):
        model = made(inputs=inputs, outputs=inputs).build()
        found[inputs] = (set(model.embed), set(model.head))
    assert found == {
        "own": ({"video", *MAPS}, {"video", *MAPS}),
        "maps": ({"video", "depth"}, {"video", "depth"}),
        "all": ({"video"}, {"video"}),
    }
    with pytest.raises(ValueError, match="their tokens have different sizes"):
        made(rendering="planes").build()


def test_own_ends_begin_as_the_video_s_behind_a_silent_map_or_not():
    copied, silent = (made(inputs="own", begin=begin).build() for begin in ("copy", "silent"))
    for model, mine in ((copied, copied.embed["flow"]), (silent, silent.embed["flow"][0])):
        assert torch.equal(mine.weight, model.embed["video"].weight)
        assert torch.equal(model.head["flow"].weight, model.head["video"].weight)
    assert not silent.embed["flow"][2].weight.any()
    assert "embed.flow.weight" in copied.newcomers() and "embed.video.weight" not in copied.newcomers()


def test_each_stream_attends_to_its_own_text():
    conditions = made().conditions
    assert conditions["text"].to == ("video",) and conditions["prompt"].to == (SLOT,)
    assert (conditions["text"].drop, conditions["prompt"].drop) == (0.1, 0.0)
    assert made(context="caption").conditions["text"].to is None and "prompt" not in made(context="none").conditions
    rates = made(drop_text=0.3, drop_prompt=0.2).conditions
    assert (rates["text"].drop, rates["prompt"].drop) == (0.3, 0.2)


def test_a_map_is_estimated_with_the_caption_or_without():
    for told in (True, False):
        recipe = made(control=0.0, joint=0.0, estimate=1.0, estimate_text=told)
        assert bool(drawn(recipe, 50).drop["text"].any()) != told
        assert not drawn(recipe, 50).drop["prompt"].any(), "a prompt is always said"


def test_guidance_for_one_stream():
    model = awake(made().build())
    asked = {"steps": 2, "text": ["a person"], "decode": False}
    plain = sample(model, "video, depth | text", **asked)
    guided = sample(model, "video, depth | text", guides=(Guide(weight=4.0, drop={"text"}, scope={"video"}),), **asked)
    assert not torch.allclose(plain["video"], guided["video"])
    one = sample(model, "video, depth | text", guides=(Guide(weight=4.0, drop={"text"}, scope={"depth"}),), **asked)
    assert not torch.allclose(plain["depth"], one["depth"])


def test_losses_of_streams_are_summed_with_weights():
    recipe = made(weight=0.25)
    model = recipe.build()
    total, parts = loss(model, latents(model), recipe.law, Dice(0, 0, range(10)))
    assert total.item() == pytest.approx((parts["video"] + 0.25 * sum(parts[n] for n in MAPS)).item())


@pytest.mark.parametrize("together", ["beside", "fused"])
def test_any_maps_given_any_wanted_of_one_sample(together):
    recipe = made(together=together, maps=MAPS[:3])
    model = recipe.build()
    total, _ = loss(model, batch(model, 6), recipe.law, Dice(0, 0, range(6)))
    total.backward()
    assert torch.isfinite(total)
    model = awake(model)
    video, depth = torch.randn(2, 1, 2, 16, 16, 3).unbind(0)
    out = sample(
        model, "flow, segmentation | video, depth", video=video, depth=depth, steps=2, strict=True, decode=False
    )
    assert set(out) == {"flow", "segmentation"}
    query = "video, flow | depth, text, -segmentation"
    out = sample(model, query, depth=depth, text=["a person"], steps=2, strict=True, decode=False)
    assert set(out) == {"video", "flow"}
    said = sample(model, "depth, flow | video, -segmentation", video=video, steps=2, strict=True, decode=False)
    assert set(said) == {"depth", "flow"}


def test_one_map_for_a_whole_step_where_samples_have_all():
    """One modality a step needs no part of its own: rows make mixed batches cost what they hold."""
    each = Mixture(
        *((1.0, Task(f"{n} | video, {', '.join(f'-{o}' for o in MAPS if o != n)}")) for n in MAPS), whole=True
    )
    recipe = replace(made(), law=each)
    has = {n: torch.ones(8, dtype=torch.bool) for n in (*recipe.modalities, *recipe.conditions)}
    for k in range(6):
        d = each(Presence(8, has, recipe.modalities, recipe.conditions), Dice(0, k, range(8)))
        kept = [n for n in MAPS if not d.absent[n].any()]
        assert len(kept) == 1 and bool(d.learn[kept[0]].all())


def test_a_map_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="unknown map 'normals'. Possible: depth, flow"):
        unityvideo(maps=("normals",))


def test_positions_of_streams_beside_each_other_go_on():
    layout = made(together="beside", maps=MAPS[:2]).layout
    assert [s.at for s in layout.streams] == [None, after("video", "W"), after("depth", "W")]
