"""Equivalences of the model: adding is channel concatenation, newcomers are silent, presence is per sample."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from polyclock.dice import Dice
from polyclock.encoders import Patches
from polyclock.layout import Layout, Stream, after, one_of
from polyclock.modality import Condition, Modality
from polyclock.model import WorldModel
from polyclock.nn.block import Run
from polyclock.nn.embed import patchify, scatter, unpatchify
from polyclock.nn.modulation import Joint, JointLocal, Local
from polyclock.objective import loss
from polyclock.timesteps import Shared
from worlds import BACKBONE, CONDITIONS, MODALITIES, VIDEO, awake, batch, noisy, recipe

FLOW = replace(VIDEO, shape=(4, 4, 4, 2), zero_init=True, null="zero", clock="video")


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 4, 2), (4, 1, 1)])
def test_patchify_round_trip(patch):
    x = torch.randn(2, 4, 8, 8, 3)
    y = patchify(x, patch)
    grid = tuple(n // p for n, p in zip(x.shape[1:4], patch, strict=True))
    assert y.shape == (2, grid[0], grid[1] * grid[2], 3 * patch[0] * patch[1] * patch[2])
    assert torch.equal(unpatchify(y, grid, patch), x)


def test_channel_concat_is_a_sum_of_embeddings():
    a, b, linear = torch.randn(2, 3), torch.randn(2, 4), torch.nn.Linear(7, 5)
    both = torch.nn.functional.linear(a, linear.weight[:, :3]) + torch.nn.functional.linear(
        b, linear.weight[:, 3:], linear.bias
    )
    assert torch.allclose(linear(torch.cat([a, b], -1)), both, atol=1e-6)


@pytest.mark.parametrize(
    "modulation", [Local(), Local(table=True), Joint(), JointLocal()], ids=lambda m: type(m).__name__
)
def test_a_zero_initialised_newcomer_changes_nothing_to_the_bit(modulation):
    model = recipe(
        modalities={"video": VIDEO, "flow": FLOW}, layout=Layout(Stream("video", "flow")), modulation=modulation
    ).build()
    for block in model.backbone.blocks:
        torch.nn.init.normal_(block.modulator.linear.weight, std=0.1)
    x, t = noisy(model, frames="one")
    t["flow"] = t["video"]
    with torch.no_grad():
        alone = model({"video": x["video"]}, {"video": t["video"]})["video"]
        assert torch.equal(model(x, t)["video"], alone)
        assert not model(x, t)["flow"].any()


@pytest.mark.parametrize("modulation", [Local(), Joint(), JointLocal()], ids=lambda m: type(m).__name__)
def test_a_batch_of_mixed_presence_equals_its_samples_alone(modulation):
    model = awake(recipe(conditions=CONDITIONS, modulation=modulation).build())
    rows = {"video": [0, 1, 3], "depth": [1], "action": [0, 2, 3], "state": [0, 1], "text": [1, 2, 3]}
    b = batch(model, 4, rows)
    t = {n: torch.full((len(v), model.modalities[n].frames), 0.3) for n, v in b.values.items() if n in model.modalities}
    x = {n: b.values[n] for n in model.modalities}
    with torch.no_grad():
        given = model.conditioner({n: b.values[n] for n in CONDITIONS}, b.rows, 4)
        whole = model(x, t, given, b.rows, 4)
        for j in range(4):
            mine = {n: (b.rows[n] == j).nonzero().flatten() for n in b.rows}
            one = {n: torch.zeros(len(mine[n]), dtype=torch.long) for n in mine}
            values = {n: [b.values[n][i] for i in mine[n]] if n == "text" else b.values[n][mine[n]] for n in mine}
            alone = model(
                {n: values[n] for n in x if len(mine[n])},
                {n: t[n][mine[n]] for n in x if len(mine[n])},
                model.conditioner({n: values[n] for n in CONDITIONS}, one, 1),
                one,
                1,
            )
            for n in alone:
                assert torch.allclose(alone[n], whole[n][mine[n]], atol=1e-5), (j, n)


def test_every_parameter_has_a_gradient_whatever_a_batch_lacks():
    model = awake(recipe(conditions=CONDITIONS, modulation=Local(table=True)).build())
    b = batch(model, 2, {"depth": [], "text": [], "action": [1]})
    t = {n: torch.full((len(b.values[n]), m.frames), 0.5) for n, m in model.modalities.items()}
    given = model.conditioner({n: b.values[n] for n in CONDITIONS}, b.rows, 2)
    out = model({n: b.values[n] for n in t}, t, given, b.rows, 2)
    sum(v.sum() for v in out.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_sees_hides_streams_from_each_other():
    layout = Layout(Stream("video"), Stream("depth"), Stream("action"), sees={"video": (), "depth": ("video",)})
    model = awake(recipe(layout=layout).build())
    x, t = noisy(model)
    with torch.no_grad():
        before = model(x, t)
        after_ = model(x | {"action": x["action"] + 1}, t)
        changed = model(x | {"video": x["video"] + 1}, t)
    assert torch.equal(before["video"], after_["video"]) and torch.equal(before["depth"], after_["depth"])
    assert not torch.allclose(before["action"], after_["action"])
    assert not torch.allclose(before["depth"], changed["depth"])


def test_one_of_refuses_two_and_serves_either():
    modalities = {"video": VIDEO, "depth": MODALITIES["depth"], "normal": VIDEO}
    layout = Layout(Stream("video"), Stream(one_of("depth", "normal"), at=after("video", axis="W")))
    model = awake(recipe(modalities=modalities, layout=layout).build())
    x, t = noisy(model)
    rows = {"video": torch.arange(3), "depth": torch.tensor([0]), "normal": torch.tensor([1, 2])}
    part = {"video": x["video"], "depth": x["depth"][:1], "normal": x["normal"][1:]}
    times = {"video": t["video"], "depth": t["depth"][:1], "normal": t["normal"][1:]}
    with torch.no_grad():
        out = model(part, times, None, rows, 3)
        alone = model({"video": x["video"][:1], "depth": x["depth"][:1]}, {n: t[n][:1] for n in ("video", "depth")})
    assert torch.allclose(out["depth"], alone["depth"], atol=1e-5)
    with pytest.raises(ValueError, match="more than one of depth, normal"):
        model(x, t)
    video, other = (model.get_buffer(f"positions/{s}") for s in ("video", "depth+normal"))
    assert other[:, 2].min() == video[:, 2].max() + 1 and torch.equal(other[:, :2], video[:, :2])


def test_a_second_camera_shares_weights_and_has_its_own_view():
    modalities = {"video": VIDEO, "video.wrist": replace(VIDEO, share="video", clock="video")}
    model = recipe(modalities=modalities, layout=Layout(Stream("video"), Stream("video.wrist"))).build()
    assert set(model.embed) == {"video"} and "video/wrist" in model.view
    x, t = noisy(model)
    assert model(x, t)["video.wrist"].shape == x["video.wrist"].shape


def test_a_fused_condition_is_channel_concatenation():
    current = Condition(encoder=Patches(patch=(2, 2)), route="fuse:video", shape=(1, 4, 4, 3), required=True)
    model = awake(
        recipe(modalities={"video": VIDEO}, layout=Layout(Stream("video")), conditions={"now": current}).build()
    )
    x, t = noisy(model)
    image = torch.randint(0, 256, (3, 1, 4, 4, 3), dtype=torch.uint8)
    given = model.conditioner({"now": image}, {"now": torch.arange(3)}, 3)
    wide = torch.cat(
        [patchify(x["video"], (1, 2, 2)), patchify(image.float() / 127.5 - 1, (1, 2, 2)).expand(-1, 4, -1, -1)], -1
    )
    e, p = model.embed["video"], model.conditioner.project["now"]
    by_hand = torch.nn.functional.linear(wide, torch.cat([e.weight, p.weight], 1), e.bias + p.bias)
    rows = {"video": torch.arange(3)}
    assert torch.allclose(model._tokens(model.layout.streams[0], x, rows, given, 3), by_hand, atol=1e-5)


def test_text_reaches_only_the_streams_it_is_routed_to():
    text = replace(CONDITIONS["text"], to=("action",), drop=0.0)
    layout = Layout(Stream("video"), Stream("action"), sees={"video": (), "action": ()})
    modalities = {n: MODALITIES[n] for n in ("video", "action")}
    model = awake(recipe(modalities=modalities, layout=layout, conditions={"text": text}, registers=0).build())
    x, t = noisy(model)
    rows = {"text": torch.arange(3)}
    with torch.no_grad():
        a, b = (model(x, t, model.conditioner({"text": [s] * 3}, rows, 3)) for s in ("open", "close"))
    assert torch.equal(a["video"], b["video"]) and not torch.allclose(a["action"], b["action"])


def test_a_required_condition_must_be_there():
    model = recipe(conditions={"state": replace(CONDITIONS["state"], required=True)}).build()
    with pytest.raises(ValueError, match="'state' is required, but 1 of 2 samples lack it"):
        model.conditioner({"state": torch.zeros(1, 1, 3)}, {"state": torch.tensor([1])}, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": Layout(Stream("video"), Stream("depth"))}, "'action' stands in 0 streams"),
        ({"layout": Layout(Stream("video", "action"), Stream("depth"))}, "one token grid"),
        ({"layout": Layout(Stream("vidio"), Stream("depth"), Stream("action"))}, "Did you mean 'video'"),
        ({"conditions": {"video": CONDITIONS["state"]}}, "both a modality and a condition"),
        ({"conditions": {"s": replace(CONDITIONS["state"], route="fuse:vdeo")}}, "Did you mean 'video'"),
    ],
)
def test_faults_of_a_recipe_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        recipe(**change).build()


def test_faults_of_single_parts_are_named():
    with pytest.raises(ValueError, match="does not divide"):
        Modality(shape=(4, 6, 6, 3), patch=(1, 4, 4))
    with pytest.raises(ValueError, match="possible: global"):
        Condition(encoder=CONDITIONS["state"].encoder, route="side")
    with pytest.raises(ValueError, match="must come before"):
        Layout(Stream("depth", at=after("video")), Stream("video"))
    with pytest.raises(ValueError, match="Possible: tiny, S, B, L"):
        type(BACKBONE)(size="XL")


def test_scatter_is_the_identity_when_all_are_there():
    v = torch.randn(3, 2)
    assert scatter(v, torch.arange(3), 3) is v
    assert torch.equal(scatter(v, torch.tensor([0, 2, 3]), 4)[[0, 2, 3]], v)


def test_modulation_is_never_expanded_to_tokens(monkeypatch):
    """Six vectors per frame and block stay (B, F, 1, 6 D): memory for Wan-1.3B would be 1,500 times more per token."""
    seen = []
    import polyclock.nn.block as block

    real = block.Modulator.forward

    def spy(self, c, *more):
        out = real(self, c, *more)
        seen.extend(v.shape for v in out)
        return out

    monkeypatch.setattr(block.Modulator, "forward", spy)
    model = recipe().build()
    model(*noisy(model))
    assert all(s[2] == 1 and s[1] in (1, 4) for s in seen)


def test_the_same_recipe_builds_the_same_weights():
    a, b, c = recipe().build(), recipe().build(), recipe(seed=1).build()
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert any(not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))
    assert isinstance(a, WorldModel)


def test_the_layer_norms_take_the_eps_they_are_given():
    for eps in (1e-6, 0.5):
        model = recipe(backbone=replace(BACKBONE, eps=eps), registers=0).build()
        x, t = noisy(model)
        # Every gate is closed at the start: what comes out is the head of the normalised tokens.
        for n in x:
            tokens = model.embed[n](patchify(x[n], model.modalities[n].patch))
            mean, var = tokens.mean(-1, keepdim=True), tokens.var(-1, unbiased=False, keepdim=True)
            said = model.head[n]((tokens - mean) / (var + eps).sqrt())
            expected = unpatchify(said, model.modalities[n].grid, model.modalities[n].patch)
            assert torch.allclose(model(x, t)[n], expected, atol=1e-5), (n, eps)


@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_a_block_normalises_twice_with_that_eps(eps):
    block = recipe(backbone=replace(BACKBONE, eps=eps)).build().backbone.blocks[0]
    torch.nn.init.ones_(block.modulator.linear.bias)  # every shift, scale and gate is 1
    h, mlp, attention = torch.randn(2, 5, 32), block.mlp, block.attention

    def norm(v):
        return (v - v.mean(-1, keepdim=True)) / (v.var(-1, unbiased=False, keepdim=True) + eps).sqrt() * 2 + 1

    by_hand = h + attention(norm(h), None, None)
    by_hand = by_hand + mlp(norm(by_hand))
    found = block(h, [Run(0, 5, torch.zeros(2, 1, 32), None)], 0, None, None, None, ())
    assert torch.allclose(found, by_hand, atol=1e-5)


def test_a_last_linear_map_is_silent_at_the_start_and_learns():
    model = recipe(backbone=replace(BACKBONE, out=True), law=Shared()).build()
    x, t = noisy(model)
    assert all(not v.any() for v in model(x, t).values())
    loss(model, batch(model, 2), Shared(), Dice(0, 0, range(2)))[0].backward()
    assert model.backbone.out.weight.grad.abs().max() > 1e-4
    torch.nn.init.normal_(model.backbone.out.weight)
    assert all(v.abs().max() > 1e-3 for v in model(x, t).values())


@pytest.mark.parametrize("init", ["xavier", "normal"])
def test_linear_maps_begin_as_the_recipe_says(init):
    model = recipe(init=init).build()
    for linear in (model.embed["video"], model.backbone.blocks[0].mlp[0], model.backbone.blocks[1].attention.qkv):
        rows, columns = linear.weight.shape
        expected = 0.02 if init == "normal" else math.sqrt(2 / (rows + columns))
        assert linear.weight.std().item() == pytest.approx(expected, rel=0.15) and not linear.bias.any()
        # No uniform number lies further out than 1.73 deviations.
        assert (linear.weight.abs().max() > 2 * expected) == (init == "normal")
    assert not any(b.modulator.linear.weight.any() for b in model.backbone.blocks)
    with pytest.raises(ValueError, match=r"unknown init 'norm'. Did you mean 'normal'"):
        recipe(init="norm")


def test_an_embedding_or_a_head_alone_may_be_shared_and_a_mark_tells_its_tokens_apart():
    depth = replace(VIDEO, shape=(4, 4, 4, 1), mark=True)
    parts = {"video": VIDEO, "depth": depth, "mask": replace(depth, embedding="depth")}
    parts["flow"] = replace(depth, head="depth", mark=False)
    model = recipe(modalities=parts, modulation=Local(shared=True)).build()
    assert set(model.embed) == {"video", "depth", "flow"} and set(model.head) == {"video", "depth", "mask"}
    assert set(model.view) == {"depth", "mask"}
    x = {"depth": torch.randn(2, 4, 4, 4, 1)}
    t = torch.full((2, 4), 0.5)
    awake(model)
    with torch.no_grad():
        for p in (*model.view.parameters(), *model.ground.parameters()):
            p.zero_()
        model.head["mask"].load_state_dict(model.head["depth"].state_dict())
        as_depth = model(x, {"depth": t})["depth"]
        as_mask = model({"mask": x["depth"]}, {"mask": t})["mask"]
        assert torch.equal(as_depth, as_mask), "one embedding, the same head"
        model.view["mask"].normal_()
        assert not torch.allclose(model({"mask": x["depth"]}, {"mask": t})["mask"], as_mask, atol=1e-3)
    with pytest.raises(ValueError, match="embedding="):
        recipe(modalities=parts | {"flow": replace(depth, embedding="mask")}).build()
    with pytest.raises(ValueError, match="name it, or these"):
        replace(depth, share="video", head="video")
