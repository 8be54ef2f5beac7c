"""Modalities that join a trained model: begun silent or as copies, found by name, with a learning rate of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock.adapter import Adapter
from polyclock.layout import Layout, Stream
from polyclock.nn.modulation import Local
from polyclock.train.settings import Training
from polyclock.train.state import make_optimizer
from worlds import VIDEO, noisy, recipe

BEHIND = Adapter(hidden=1, ratio=1, activation="none", like="behind", out=0)  # one more map on the way in


def joined(**changes):
    """Video with its depth beside it, which begins as changes say."""
    modalities = {"video": VIDEO, "depth": replace(VIDEO, **changes)}
    return recipe(modalities=modalities, modulation=Local(label=("depth",))).build()


def test_a_copy_begins_as_the_other():
    model = joined(copy="video")
    for ends in (model.embed, model.head):
        assert torch.equal(ends["depth"].weight, ends["video"].weight)
        assert ends["depth"].weight is not ends["video"].weight
    assert torch.equal(model.embed["depth"].bias, model.embed["video"].bias)
    assert not torch.equal(joined().embed["depth"].weight, model.embed["video"].weight)


def test_a_copy_behind_a_silent_map_adds_nothing_until_it_is_trained():
    model = joined(copy="video", zero_init=True, adapter=BEHIND)
    first, _, last = model.embed["depth"]
    assert torch.equal(first.weight, model.embed["video"].weight) and not last.weight.any() and not last.bias.any()
    assert torch.equal(model.head["depth"].weight, model.head["video"].weight), "its way out is a copy all the same"
    h = model.embed["depth"](torch.randn(1, 4, 4, 12))
    assert not h.any()


def test_copies_follow_when_what_they_copy_was_read_from_elsewhere():
    model = joined(copy="video")
    with torch.no_grad():
        model.embed["video"].weight.fill_(0.5)
    model.begin_copies()
    assert (model.embed["depth"].weight == 0.5).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"copy": "flow"}, r"unknown modality that 'depth' shares with \(copy=\) 'flow'"),
        ({"copy": "video", "shape": (4, 4, 4, 1)}, "their tokens have different sizes"),
        ({"copy": "video", "share": "video"}, "name it, or these"),
    ],
)
def test_faults_are_named(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        joined(**changes)


@pytest.mark.parametrize("changes", [{"zero_init": True}, {"copy": "video"}])
def test_newcomers_are_found_and_learn_at_their_own_rate(changes):
    model = joined(**changes)
    new = model.newcomers()
    assert new == {
        *(f"{ends}.depth.{end}" for ends in ("embed", "head") for end in ("weight", "bias")),
        *(f"modulation.time.depth.{layer}.{end}" for layer in ("first", "last") for end in ("weight", "bias")),
        "modulation.label.depth",
    }
    names = {id(p): n for n, p in model.named_parameters()}
    groups = make_optimizer(model, Training(lr_new=10.0)).param_groups
    assert {names[id(p)] for g in groups if g["factor"] == 10.0 for p in g["params"]} == new
    assert {g["factor"] for g in groups} == {1.0, 10.0}


def test_a_map_of_the_blocks_that_a_base_lacks_is_trained_whole():
    pytest.importorskip("peft")
    from polyclock.train.lora import add_lora

    model = joined()
    lacking = {n for n, _ in model.named_parameters() if n.startswith("backbone.blocks.0.mlp.0.")}
    model.begin_as({n for n, _ in model.named_parameters()} - lacking)
    assert model.newcomers() == lacking and len(lacking) == 2
    add_lora(model, 2, seed=0)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert lacking == {n for n in trained if "lora" not in n} and not any(
        "blocks.0.mlp.0." in n for n in trained - lacking
    )


def test_a_rate_for_newcomers_where_there_are_none_is_refused():
    with pytest.raises(ValueError, match="lr_new=10.0 has no effect"):
        make_optimizer(joined(), Training(lr_new=10.0))


def test_a_silent_newcomer_in_the_video_s_stream_leaves_a_trained_model_as_it_was():
    old = recipe(modalities={"video": VIDEO}, layout=Layout(Stream("video")), modulation=Local(shared=True)).build()
    modalities = {"video": VIDEO, "depth": replace(VIDEO, zero_init=True, null="zero", clock="video")}
    switch = Local(shared=True, label=("depth",), table=("depth",), last=("depth",))
    new = recipe(modalities=modalities, layout=Layout(Stream("video", "depth")), modulation=switch).build()
    awake = {n: torch.randn_like(p) * 0.1 for n, p in old.state_dict().items() if n.startswith("backbone")}
    state = {n.replace("video+depth", "video"): v for n, v in (old.state_dict() | awake).items()}
    old.load_state_dict(state)
    missing, unexpected = new.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) == new.newcomers()
    x, t = noisy(new, frames="one")
    t["depth"] = t["video"]
    with torch.no_grad():
        assert torch.equal(new(x, t)["video"], old({"video": x["video"]}, {"video": t["video"]})["video"])
