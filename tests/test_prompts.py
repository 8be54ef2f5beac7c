"""Prompts in context: each stream is told which modality it holds, and the sample's own text where there is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock import Dice, loss, sample
from polyclock.conditioning import filled
from polyclock.encoders import Bytes
from polyclock.layout import Layout, Stream, after, one_of
from polyclock.modality import Condition
from polyclock.timesteps import Mixture, Task
from worlds import MODALITIES, VIDEO, awake, batch, recipe

MAPS = {"depth": VIDEO, "flow": VIDEO, "masks": VIDEO}
PROMPTS = {"depth": "depth map", "flow": "optical flow", "masks": "masks of {all objects}"}
TEXT = Condition(encoder=Bytes(width=16, depth=1, heads=2), route="context", to=("video",))
SLOT = "depth+flow+masks"


def switching(**changes):
    """Video, and one of three maps after it; each stream attends to a text of its own."""
    prompt = replace(TEXT, to=(SLOT,), share="text", prompts=PROMPTS)
    parts = {
        "modalities": {"video": MODALITIES["video"], **MAPS},
        "conditions": {"text": TEXT, "prompt": prompt},
        "layout": Layout(Stream("video"), Stream(one_of(*MAPS), at=after("video"))),
        "law": Mixture(*((1.0, Task(f"{n} | video")) for n in MAPS)),
    }
    return recipe(**(parts | changes))


def read(model) -> list[list[str]]:
    """What the text encoder is asked to read from now on, one list for each time."""
    seen: list[list[str]] = []
    model.conditioner.encoder["text"].register_forward_pre_hook(lambda _, given: seen.append(list(given[0])))
    return seen


def test_own_text_takes_the_place_of_braces():
    assert filled("masks of {all objects}", None) == "masks of all objects"
    assert filled("masks of {all objects}", "two persons") == "masks of two persons"
    assert filled("depth map", "two persons") == "depth map" and filled("{}", "two persons") == "two persons"


def test_a_sample_is_told_the_prompt_of_what_it_has():
    model = switching().build()
    seen = read(model)
    raw = batch(model, 4, rows={"depth": [0, 3], "flow": [1], "masks": [2], "prompt": [2]}, prompt=["two persons"])
    loss(model, raw, model.recipe.law, Dice(0, 0, range(4)))[0].backward()
    assert sorted(seen[-1]) == ["depth map", "masks of two persons", "optical flow"], "each text is read once"
    given = model.conditioner({}, {"depth": torch.tensor([0, 3]), "masks": torch.tensor([2])}, 4)
    assert sorted(seen[-1]) == ["depth map", "masks of all objects"]
    features = given.features["prompt"]
    assert torch.equal(features[0], features[3]) and not torch.allclose(features[0], features[2])
    assert torch.equal(features[1, 0], model.conditioner.null["prompt"]), "a sample that has none of them"


def test_what_is_asked_says_the_prompt_without_being_told():
    model = awake(switching().build())
    video = torch.randn(2, 4, 4, 4, 3)

    def ask(query, **values):
        return sample(model, query, steps=2, strict=True, decode=False, video=video, **values)

    seen = read(model)
    ask("depth | video")
    assert seen == [["depth map"]]
    plain = ask("masks | video")["masks"]
    named = ask("masks | video, prompt", prompt=["two persons"] * 2)["masks"]
    assert seen[1:] == [["masks of all objects"], ["masks of two persons"]]
    assert not torch.allclose(plain, named)
    with pytest.raises(ValueError, match="needs a value for 'prompt'"):
        ask("masks | video, prompt")


def test_each_stream_has_a_prompt_of_its_own_where_samples_have_several():
    prompts = {f"prompt.{n}": replace(TEXT, to=(n,), share="text", prompts={n: PROMPTS[n]}) for n in MAPS}
    model = awake(
        switching(
            conditions={"text": TEXT, **prompts},
            layout=Layout(*(Stream(n) for n in ("video", *MAPS))),
            law=Task("depth, masks | video, -flow"),
        ).build()
    )
    seen = read(model)
    out = sample(model, "depth, masks | video, -flow", steps=2, video=torch.randn(1, 4, 4, 4, 3), decode=False)
    assert [t for texts in seen for t in texts] == ["depth map", "masks of all objects"] and set(out) == {
        "depth",
        "masks",
    }


def test_prompts_of_several_that_share_a_stream_are_said_one_after_the_other():
    prompt = replace(TEXT, to=("video+depth+flow+masks",), prompts=PROMPTS)
    model = switching(conditions={"text": prompt}, layout=Layout(Stream("video", *MAPS))).build()
    seen = read(model)
    model.conditioner({}, {"depth": torch.tensor([0, 1]), "masks": torch.tensor([1])}, 2)
    assert seen == [["depth map", "depth map, masks of all objects"]]


def test_a_prompt_is_dropped_only_where_its_own_rate_says_so():
    never = switching()
    often = replace(
        never, conditions=never.conditions | {"prompt": replace(never.conditions["prompt"], drop=0.9, null="empty")}
    )
    for made, dropped in ((never, False), (often, True)):
        model = made.build()
        drops = []
        model.conditioner.register_forward_pre_hook(lambda _, given: drops.append(given[3]))  # noqa: B023
        loss(model, batch(model, 40, rows={"depth": list(range(40)), "flow": [], "masks": [], "prompt": []}),
             model.recipe.law, Dice(0, 0, range(40)))  # fmt: skip
        share = drops[0]["prompt"].float().mean().item() if "prompt" in drops[0] else 0.0
        assert share == pytest.approx(0.9 if dropped else 0.0, abs=0.15)


@pytest.mark.parametrize("change", [{"required": True}, {"shape": (2, 3)}])
def test_prompts_are_for_texts_that_may_be_missing(change):
    with pytest.raises(ValueError, match="prompts are texts"):
        replace(TEXT, prompts=PROMPTS, **change)


def test_a_prompt_of_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match="unknown modality with a prompt of condition 'text' 'pose'"):
        switching(conditions={"text": replace(TEXT, prompts={"pose": "a pose"})}).build()
