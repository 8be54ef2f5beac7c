"""UWM's options and the systems beside it: each takes a step, answers what it was trained for, and acts by itself."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polyclock import Dice, from_pretrained, loss, sample, save_pretrained
from polyclock.backbones.dit import DiT
from polyclock.batch import Batch
from polyclock.data.collate import collate
from polyclock.data.source import Sample
from polyclock.model import WorldModel
from polyclock.path import Discrete
from polyclock.recipe import Recipe
from polyclock.recipes import diffusion_policy, gr1, pad, uwm
from polyclock.rollout import Policy, policy_query

sys.path.append(str(Path(__file__).parent / "rollout"))
import reaching  # noqa: E402

SMALL = {"cameras": (reaching.CAMERA,), "image": 16, "horizon": 4, "text": True}
BASELINES = (diffusion_policy, pad, gr1)
ACTS = {diffusion_policy: "action | text", pad: "video, action | text", gr1: "video, action | text"}
OPTIONS = [
    ({}, ("action | text", "video | action, text", "action | video, text", "video | text")),
    ({"path": "ddpm"}, ("action | text", "video | action, text")),
    ({"times": "shared"}, ("video, action | text",)),
    ({"times": "shared", "path": "ddpm"}, ("video, action | text",)),
    ({"target": "current", "future": 2}, ("action | text",)),
    ({"target": "none"}, ("action | text",)),
    ({"spans": 0.3}, ("action[k:] | action[:k], text", "action | text")),
    ({"alone": 0.6}, ("action | -video, text", "video | action, text")),
    ({"given": "tokens", "still": True, "spread": 0.5}, ("action | text",)),
    ({"given": "context", "registers": 0}, ("action | text",)),
    ({"margin": 4, "jitter": True, "looks": 2}, ("action | text", "action | video, text")),
    ({"optional": True}, ("action | state, text", "action | text", "video | action, state, text")),
]


class Data:
    def column(self, key: str):
        return iter([np.random.default_rng(len(key)).normal(size=(60, 2)).astype(np.float32)])


def fitted(make, **more) -> Recipe:
    recipe = make(**SMALL | more).fit(Data())
    return replace(recipe, backbone=DiT(width=48, depth=2, heads=2))


def samples(recipe: Recipe, count: int = 3) -> list[Sample]:
    g, out = np.random.default_rng(0), []
    for i in range(count):
        values: dict[str, np.ndarray | str] = {}
        for name, s in recipe.signals().items():
            if s.kind == "text":
                values[name] = f"task {i}"
            elif s.kind == "video":
                values[name] = g.integers(0, 256, s.shape, dtype=np.uint8)
            else:
                values[name] = g.normal(size=s.shape).astype(np.float32)
        out.append(Sample(values, {}, f"sample {i}"))
    return out


def batch_of(recipe: Recipe) -> Batch:
    return collate(samples(recipe), [0, 1, 2], recipe.signals())


def losses(model: WorldModel, raw: Batch, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    dice = Dice(0, step, range(raw.size))
    assert model.recipe is not None
    return loss(model, model.encode(raw, dice), model.recipe.law, dice)


def given(raw: Batch, recipe: Recipe, query: str) -> dict[str, Tensor | list[str]]:
    right = query.partition("|")[2].replace("-video", "").replace("[", " ").replace(",", " ").split()
    names = [n for n, c in recipe.conditions.items() if c.required or n in right]
    return {n: raw.values[n] for n in (*names, *(n for n in recipe.modalities if n in right))}


@pytest.mark.parametrize(
    ("make", "more", "queries"),
    [(uwm, *row) for row in OPTIONS] + [(make, {}, (query,)) for make, query in ACTS.items()],
    ids=lambda v: v.__name__ if callable(v) else ",".join(v) if isinstance(v, dict) else "",
)
def test_every_option_learns_and_answers(make, more: dict, queries: tuple[str, ...], tmp_path: Path) -> None:
    recipe = fitted(make, **more)
    model, raw = recipe.build(), batch_of(recipe)
    total = sum(losses(model, raw, step)[0] for step in range(3))
    total.backward()
    assert torch.isfinite(total) and total > 0
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    save_pretrained(model, tmp_path)
    model = from_pretrained(tmp_path)
    for query in queries:
        free = {"k": 1} if "k" in query else {}
        out = sample(model, query, strict=True, **given(raw, recipe, query), **free)
        for name, value in out.items():
            m = recipe.modalities[name]
            assert value.shape == (3, *m.shape) and torch.isfinite(value.float()).all()


@pytest.mark.parametrize("make", (uwm, *BASELINES), ids=lambda f: f.__name__)
def test_each_acts_by_the_query_that_its_law_trains(make) -> None:
    model = fitted(make, history=1).build() if make is not pad else fitted(make).build()
    query = policy_query(model)
    assert query == ACTS.get(make, "action | text")
    policy = Policy(model, query, execute=2)
    assert policy.steps == (1 if make is gr1 else 10)
    env = reaching.open_env("toy/reach", cameras=("corner2",))
    start = reaching.starts("toy/reach", count=1)[0]
    seen, acting = env.reset(start), policy.begin(env, start)
    for _ in range(3):
        action = acting(seen)
        assert action.shape == (2,) and np.isfinite(action).all()
        seen, _ = env.step(action)
    assert len(acting.latency) == 2


def test_the_backbone_is_the_same_and_only_the_named_parts_differ() -> None:
    whole, alone, joint, regressed = (fitted(make) for make in (uwm, diffusion_policy, pad, gr1))
    for other in (alone, joint, regressed):
        assert (other.backbone, other.modulation, other.registers) == (whole.backbone, whole.modulation, 8)
        assert {n: c for n, c in whole.conditions.items() if n in other.conditions} == dict(other.conditions)
    assert set(whole.conditions) - set(alone.conditions) == {"current"}, "what joins the video's tokens"
    assert set(whole.conditions) - set(joint.conditions) == {"camera"}, "its pictures come by the channels alone"
    assert set(whole.conditions) == set(regressed.conditions)
    assert joint.modalities == whole.modalities and list(alone.modalities) == ["action"]
    shared = joint.law(presence(joint), Dice(0, 0, range(5)))
    assert torch.equal(shared.t["action"][:, 0], shared.t["video"][:, 0])


def presence(recipe: Recipe):
    from polyclock.timesteps import Presence

    has = {n: torch.ones(5, dtype=torch.bool) for n in (*recipe.modalities, *recipe.conditions)}
    return Presence(5, has, recipe.modalities, recipe.conditions)


def test_regression_is_one_step_and_knows_no_noise() -> None:
    recipe = fitted(gr1)
    model, raw = recipe.build(), batch_of(recipe)
    torch.nn.init.normal_(model.head["action"].weight)
    values = given(raw, recipe, ACTS[gr1])
    first, second = (sample(model, ACTS[gr1], seed=seed, **values) for seed in (0, 1))
    assert torch.equal(first["action"], second["action"]) and first["action"].std() > 0
    with pytest.raises(ValueError, match="trained at t = 1 alone"):
        sample(model, ACTS[gr1], steps=10, **values)


def test_the_table_begins_at_its_last_place_and_learns_it() -> None:
    path = fitted(uwm, path="ddpm").modalities["action"].path
    assert isinstance(path, Discrete)
    assert path.rows(10).tolist() == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
    assert float(path.alpha(torch.ones(()))) < 1e-3 and path.unknown == 1.0
    law = uwm(**SMALL, path="ddpm", asked=0.0, ends=0.0).law
    recipe = fitted(uwm)
    has = {n: torch.ones(2000, dtype=torch.bool) for n in (*recipe.modalities, *recipe.conditions)}
    draw = law(replace(presence(recipe), size=2000, has=has), Dice(0, 0, range(2000)))
    last = draw.t["action"] == 1.0
    assert 0.002 < last.float().mean() < 0.02 and draw.learn["action"][last].all()


def test_actions_teach_only_where_they_are() -> None:
    recipe = fitted(uwm, optional=True)
    model, whole = recipe.build(), samples(recipe)
    torch.nn.init.normal_(model.head["action"].weight)
    torch.nn.init.normal_(model.head["video"].weight, std=0.1)
    lost = ("action", "state")
    films = [replace(s, values={n: v for n, v in s.values.items() if n not in lost}) for s in whole[1:]]
    raw = collate([whole[0], *films], [0, 1, 2], recipe.signals())
    steps = range(6)  # of which some draw the atoms, where nothing is learnt
    with torch.no_grad():
        alone = [losses(model, collate([whole[0]], [0], recipe.signals()), s)[1] for s in steps]
        found = [losses(model, raw, s)[1] for s in steps]
    for one, three in zip(alone, found, strict=True):
        assert float(three["action"]) == pytest.approx(float(one["action"]) / 3, rel=1e-4), "a mean over the batch"
    assert any(f["video"] > 1.01 * a["video"] / 3 for f, a in zip(found, alone, strict=True)), "the films teach too"


def test_what_lies_behind_an_episode_teaches_nothing() -> None:
    recipe = fitted(uwm)
    model, (one, *_) = recipe.build(), samples(recipe, 1)
    for head in model.head.values():  # that says nothing, whatever stands behind the end
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    action, video = (one.values[n].copy() for n in ("action", "video"))
    action[2:], video[2:] = 50.0, 0
    other = replace(one, values=one.values | {"action": action, "video": video})
    valid = {n: np.array([True, True, False, False]) for n in ("action", "video")}
    whole, ended = ([replace(s, valid=v) for s in (one, other)] for v in ({}, valid))

    def found(s: Sample, step: int) -> dict[str, float]:
        parts = losses(model, collate([s], [0], recipe.signals()), step)[1]
        return {n: float(v.detach()) for n, v in parts.items()}

    for pair, alike in ((whole, False), (ended, True)):
        sums = [{n: sum(found(s, step)[n] for step in range(8)) for n in ("action", "video")} for s in pair]
        for name in ("action", "video"):
            assert sums[0][name] > 0 and (sums[0][name] == sums[1][name]) == alike


def test_pictures_of_one_camera_are_cropped_alike_and_each_sample_anew() -> None:
    recipe = fitted(uwm, margin=8, history=1)
    assert {s.shape[1:3] for s in recipe.signals().values() if s.kind == "video"} == {(24, 24)}
    one = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    shown = [
        replace(s, values={n: np.stack([one] * len(v)) if np.ndim(v) == 4 else v for n, v in s.values.items()})
        for s in samples(recipe)
    ]
    raw = collate(shown, [0, 1, 2], recipe.signals())
    model = recipe.build()
    for training, places in ((True, 3), (False, 1)):
        latent = model.train(training).encode(raw, Dice(0, 0, range(3)))
        video, camera, current = (latent.tensor(n) for n in ("video", "camera", "current"))
        assert video.shape[2:4] == (16, 16)
        assert torch.allclose(video[:, 0], 2 * camera[:, 0] - 1, atol=1e-5) and torch.equal(camera, current)
        assert torch.allclose(video, video[:, :1].expand_as(video)), "all frames of a sample alike"
        assert len({tuple(v.flatten().tolist()) for v in video[:, 0]}) == places
    assert not uwm(**SMALL).views


def test_crops_of_a_fixed_set_are_few_and_the_same_in_every_step() -> None:
    def corners(**more) -> set[tuple[int, int]]:
        recipe = fitted(uwm, margin=8, **more)
        (view,) = recipe.views
        shown, found = torch.zeros(64, 1, 24, 24, 3, dtype=torch.uint8), set()
        for step in range(4):
            look = view.draw(Dice(0, step, range(64)), shown)
            found |= set(zip(look.top.tolist(), look.left.tolist(), strict=True))
        return found

    assert len(corners(looks=3)) == 3 and len(corners()) > 60, "81 are possible"
    with pytest.raises(ValueError, match="looks=3 has no effect without margin or jitter"):
        uwm(**SMALL, looks=3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"asked": 1.0}, "asked=1.0 is a share"),
        ({"asked": 0.6, "spans": 0.5}, "asked [+] spans"),
        ({"times": "shared", "spans": 0.2}, "independent"),
        ({"target": "none", "alone": 0.5}, "video to be left out"),
    ],
)
def test_settings_that_contradict_each_other(more: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        uwm(**SMALL, **more)
