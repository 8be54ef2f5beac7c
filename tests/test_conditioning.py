"""Features beside the modulation vectors, encoders that conditions share, and nulls in both."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock import Guide, sample
from polyclock.adapter import Adapter
from polyclock.batch import Batch
from polyclock.codecs import Pixels
from polyclock.conditioning import Conditioner, stack
from polyclock.dice import Dice
from polyclock.encoders import Bytes, Numbers, Patches, ResNet, Vector
from polyclock.guidance import Guided
from polyclock.modality import Condition
from polyclock.nn.block import Modulator
from polyclock.nn.modulation import Joint, JointLocal, Local
from polyclock.objective import loss
from polyclock.path import Linear
from polyclock.timesteps import PerFrame, Shared
from worlds import VIDEO, awake, batch, recipe

EYE = Condition(encoder=Vector(width=8), shape=(2, 3), route="beside", drop=0.2)
BESIDE = {
    "eye": EYE,
    "state": Condition(encoder=Numbers(), shape=(1, 5), route="beside", required=True),
    "eye.left": replace(EYE, share="eye"),
    "goal": Condition(encoder=Vector(width=8), shape=(1, 3)),
}
MODULATIONS = pytest.mark.parametrize(
    "modulation", [Local(), Joint(width=24), JointLocal()], ids=lambda m: type(m).__name__
)


def asked(model, size: int = 3, rows: dict | None = None):
    """(x, t, the encoded conditions) of a batch of which some samples may lack some conditions."""
    b = batch(model, size, rows)
    x = {n: b.tensor(n) for n in model.modalities}
    t = {n: torch.full((len(v), model.modalities[n].frames), 0.3) for n, v in x.items()}
    return x, t, model.conditioner({n: b.values[n] for n in model.conditions}, b.rows, size)


def test_what_stands_beside_is_the_features_as_they_are_in_the_order_of_the_recipe():
    model = recipe(conditions=BESIDE).build()
    b = batch(model, 3)
    given = model.conditioner({n: b.values[n] for n in BESIDE}, b.rows, 3)
    eye = model.conditioner.encoder["eye"]
    parts = [eye(b.tensor("eye")), b.tensor("state"), eye(b.tensor("eye.left"))]
    assert torch.equal(model.conditioner.together(given), torch.cat([p.flatten(1) for p in parts], 1))
    assert model.conditioner.beside == 16 + 5 + 16 and set(model.conditioner.project) == {"goal"}
    assert recipe().build().conditioner.together(given.__class__()) is None


def test_a_modulator_is_one_linear_map_of_what_stands_together():
    modulator = Modulator(4, 6, vector=3, beside=5)
    assert not any(p.any() for p in modulator.parameters()), "silent at the start"
    for p in modulator.parameters():
        torch.nn.init.normal_(p)
    c, numbers = torch.randn(2, 7, 3), torch.randn(2, 5)
    matrix = torch.cat([modulator.beside.weight, modulator.linear.weight], 1)
    wide = torch.cat([numbers[:, None].expand(-1, 7, -1), c], -1)
    by_hand = torch.nn.functional.silu(wide) @ matrix.T + modulator.linear.bias
    six = modulator(c, modulator.ahead(numbers))
    assert torch.allclose(torch.cat([v[:, :, 0] for v in six], -1), by_hand, atol=1e-5) and len(six) == 6
    assert Modulator(4, 6, vector=3, beside=0).ahead(None) is None


@MODULATIONS
def test_features_are_silent_until_they_are_trained(modulation):
    model = recipe(conditions=BESIDE, modulation=modulation).build()
    x, t, given = asked(model)
    other = replace(
        given, features={n: v + 1 for n, v in given.features.items() if n != "goal"} | {"goal": given.features["goal"]}
    )
    with torch.no_grad():
        for name, value in model(x, t, given).items():
            assert torch.equal(value, model(x, t, other)[name])
        awake(model)
        assert any(not torch.allclose(v, model(x, t, other)[n], atol=1e-3) for n, v in model(x, t, given).items())


@MODULATIONS
def test_what_is_computed_ahead_is_what_is_computed_in_place(modulation):
    model = awake(recipe(conditions=BESIDE, modulation=modulation).build())
    x, t, given = asked(model)
    ready = model.prepared(given)
    assert len(ready.ahead) == model.backbone.depth + 1 and given.ahead == ()
    with torch.no_grad():
        one, two = model(x, t, given), model(x, t, ready)
        assert all(torch.allclose(one[n], two[n], atol=1e-6) for n in one)
        # Of stacked ones too.
        both = stack([ready, model.prepared(asked(model, rows={"eye": []})[2])])
        twice = model(
            {n: v.repeat(2, *[1] * (v.ndim - 1)) for n, v in x.items()}, {n: v.repeat(2, 1) for n, v in t.items()}, both
        )
    assert len(both.ahead) == len(ready.ahead)
    assert all(torch.allclose(twice[n][:3], one[n], atol=1e-5) for n in one)
    assert any(not torch.allclose(twice[n][3:], one[n], atol=1e-3) for n in one)


def test_a_call_of_many_steps_maps_what_stands_beside_once(monkeypatch: pytest.MonkeyPatch):
    model = awake(recipe(conditions=BESIDE, law=Shared()).build())
    seen = []
    real = Modulator.ahead
    monkeypatch.setattr(Modulator, "ahead", lambda self, numbers: seen.append(self) or real(self, numbers))
    values = {n: torch.randn(2, *BESIDE[n].shape) for n in BESIDE}
    out = sample(model, f"video, depth, action | {', '.join(BESIDE)}", steps=4, **values)
    assert len(seen) == model.backbone.depth + 1
    other = sample(model, f"video, depth, action | {', '.join(BESIDE)}", steps=4, **values | {"eye": -values["eye"]})
    assert not torch.allclose(out["action"], other["action"], atol=1e-3)


def test_samples_that_lack_what_is_optional_have_its_null():
    model = awake(recipe(conditions=BESIDE).build())
    rows = {"eye": [0, 2], "eye.left": [], "goal": [1]}
    x, t, given = asked(model, 3, rows)
    null = model.conditioner.null
    assert set(null) == {"eye", "eye/left", "goal"} and null["eye"].shape == null["eye/left"].shape == (16,)
    assert torch.equal(given.features["eye"][1], null["eye"]) and not torch.equal(given.features["eye"][0], null["eye"])
    assert torch.equal(given.features["eye.left"], null["eye/left"].expand(3, -1))
    with torch.no_grad():
        whole = model(x, t, given)
        for j in range(3):
            alone = replace(given, features={n: v[j : j + 1] for n, v in given.features.items()},
                            masks={n: v[j : j + 1] for n, v in given.masks.items()})  # fmt: skip
            one = model({n: v[j : j + 1] for n, v in x.items()}, {n: v[j : j + 1] for n, v in t.items()}, alone)
            assert all(torch.allclose(one[n][0], whole[n][j], atol=1e-5) for n in one)


@pytest.mark.parametrize("lacks", [{}, {"eye": [], "eye.left": [], "goal": []}, {"eye": [0], "action": []}], ids=str)
def test_every_parameter_has_a_gradient_whatever_a_batch_lacks(lacks):
    model = awake(recipe(conditions=BESIDE, law=PerFrame()).build())
    total, _ = loss(model, batch(model, 2, lacks), PerFrame(), Dice(0, 0, range(2)))
    total.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_guidance_takes_away_what_was_computed_ahead():
    model = awake(recipe(conditions=BESIDE).build())
    x, t, given = asked(model)
    ready = model.prepared(given)
    without = model.conditioner.without(ready, ["eye"])
    assert without.ahead == () and torch.equal(without.features["eye"], model.conditioner.null["eye"].expand(3, -1))
    with pytest.raises(ValueError, match="'state' is required and has no null"):
        model.conditioner.without(ready, ["state"])
    guide = Guide(weight=1.5, drop={"eye"})
    with torch.no_grad():
        full, less = model(x, t, given), model(x, t, model.conditioner.without(given, ["eye"]))
        for stacked in (1, 2):
            out = Guided(model, ready, [guide], batch=stacked)(x, t, 0.5)
            for n in full:
                assert torch.allclose(out[n], full[n] + 1.5 * (full[n] - less[n]), atol=1e-4)
                assert not torch.allclose(out[n], full[n], atol=1e-4)


# ---------------------------------------------------------------- one encoder for several conditions


@pytest.mark.parametrize("route", ["beside", "global", "tokens"])
def test_conditions_that_share_have_one_set_of_weights(route):
    one, two = replace(EYE, route=route, drop=0.0), replace(EYE, route=route, drop=0.0, share="a")
    alone, both = Conditioner({"a": one}, 16, 24), Conditioner({"a": one, "b": two}, 16, 24)
    assert [n for n in both.state_dict() if "null" not in n] == [n for n in alone.state_dict() if "null" not in n]
    values, rows = torch.randn(3, 2, 3), torch.arange(3)
    given = both({"a": values, "b": values}, {"a": rows, "b": rows}, 3)
    assert torch.equal(given.features["a"], given.features["b"])
    other = both({"a": values, "b": values + 1}, {"a": rows, "b": rows}, 3)
    assert torch.equal(other.features["a"], given.features["a"])
    assert not torch.allclose(other.features["b"], given.features["b"])


def test_the_weights_learn_from_both():
    model = awake(recipe(conditions=BESIDE, law=Shared()).build())
    weight = model.conditioner.encoder["eye"].layers[0].weight

    def gradient(rows: dict) -> torch.Tensor:
        model.zero_grad()
        b = batch(model, 2, rows)
        loss(model, Batch(b.index, b.values, b.rows), Shared(), Dice(0, 0, range(2)))[0].backward()
        return weight.grad.clone()

    left, right, none = gradient({"eye": []}), gradient({"eye.left": []}), gradient({"eye": [], "eye.left": []})
    assert left.any() and right.any() and not none.any() and not torch.allclose(left, right)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"b": replace(EYE, share="a"), "a": EYE}, "named before 'b', that it shares with 'a'"),
        ({"a": EYE, "b": replace(EYE, share="eya")}, "shares with 'eya'"),
        ({"a": EYE, "b": replace(EYE, share="b")}, "shares with 'b'"),
        ({"a": EYE, "b": replace(EYE, share="a"), "c": replace(EYE, share="b")}, "shares with 'b'"),
        (
            {"a": EYE, "b": replace(EYE, share="a", encoder=Vector(width=4))},
            "they differ in encoder, route",
        ),
        ({"a": EYE, "b": replace(EYE, share="a", route="global")}, "they differ in encoder, route"),
        ({"a": EYE, "b": replace(EYE, share="a", shape=(1, 3))}, "they differ in encoder, route"),
        ({"a": Condition(encoder=Bytes(width=8, depth=1, heads=2), route="beside")}, "must have a fixed length"),
    ],
)
def test_what_cannot_be_shared_is_refused(conditions, message):
    with pytest.raises(ValueError, match=message):
        recipe(conditions=conditions).build()


def test_cameras_that_share_an_encoder_are_read_in_one_go():
    """As one batch where their pictures are of one size, and with the same features as alone."""
    eye = ResNet(size="mini", width=16)
    first = Condition(encoder=eye, shape=(1, None, None, 3), route="beside")
    model = recipe(conditions={"left": first, "right": replace(first, share="left")}).build()
    reader, seen = model.conditioner.encoder["left"], []
    reader.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape)))
    pictures = {n: torch.rand(2, 1, 32, 32, 3) for n in ("left", "right")}
    rows = {n: torch.arange(2) for n in pictures}
    both = model.conditioner(pictures, rows, 2).features
    assert seen == [(4, 1, 32, 32, 3)]
    for name in pictures:
        alone = model.conditioner({name: pictures[name]}, rows, 2).features[name]
        torch.testing.assert_close(alone, both[name], rtol=1e-4, atol=1e-5)
    del seen[:]
    model.conditioner(pictures | {"right": torch.rand(2, 1, 64, 32, 3)}, rows, 2)
    assert seen == [(2, 1, 32, 32, 3), (2, 1, 64, 32, 3)]


def test_the_null_of_a_text_may_be_what_its_encoder_says_of_no_text():
    text = Condition(encoder=Bytes(width=16, depth=1, heads=2), route="context", drop=0.2, null="empty")
    wide = replace(text, adapter=Adapter(hidden=1, activation="gelu_tanh", like="behind", ratio=1))
    model = recipe(conditions={"text": wide}).build().eval()
    assert not len(model.conditioner.null) and len(model.conditioner.project["text"]) == 3
    rows = {"text": torch.tensor([0, 2])}
    given = model.conditioner({"text": ["pick up the cup", "a"]}, rows, 3)
    empty = model.conditioner({"text": [""]}, {"text": torch.tensor([0])}, 1)
    length = int(empty.masks["text"].sum())
    assert torch.allclose(given.features["text"][1, :length], empty.features["text"][0, :length], atol=1e-6)
    assert given.masks["text"][1].sum() == length < given.masks["text"][0].sum()
    dropped = model.conditioner.without(given, {"text"})
    assert (dropped.masks["text"].sum(1) == length).all()
    with pytest.raises(ValueError, match="for texts empty"):
        replace(EYE, null="empty")


NOW = Condition(encoder=Patches(patch=(2, 2)), shape=(1, 4, 4, 3), route="fuse:video", required=True, codec=Pixels())


def near_model(spread: float = 0.1):
    film = replace(VIDEO, codec=Pixels(), path=Linear(predict="data", spread=spread), near="now")
    return recipe(modalities={"video": film}, conditions={"now": NOW}, law=Shared()).build()


def test_what_is_near_to_a_condition_is_shown_and_told_as_the_difference():
    model = near_model()
    now = torch.rand(2, 1, 4, 4, 3) * 2 - 1
    given = model.conditioner({"now": now}, {"now": torch.arange(2)}, 2)
    t = torch.full((2, 4), 0.4)
    torch.nn.init.zeros_(model.head["video"].weight)
    out = model({"video": torch.randn(2, 4, 4, 4, 3)}, {"video": t}, given)["video"]
    assert torch.allclose(out, now.expand_as(out)), "a network that says nothing says that all stays as it is"

    path, x = model.modalities["video"].path, now + 0.1 * torch.randn(2, 4, 4, 4, 3)
    eps = torch.randn_like(x)
    for time in (0.0, 0.3, 0.7, 1.0):
        wide = torch.full((2, 4, 1, 1, 1), time)
        seen = path.seen(path.noise(x, eps, wide), wide, now)
        a, s = 1 - time, time
        best = a * 0.1**2 / (a**2 * 0.1**2 + s**2) * (a * (x - now) + s * eps)
        assert torch.allclose(0.1 * seen, best, atol=1e-5), "the best linear estimate of the difference"
    assert torch.allclose(0.1 * path.seen(x, torch.zeros(()), now), x - now, atol=1e-6)


def test_what_is_near_is_learnt_and_sampled_as_it_is():
    model = near_model(spread=0.5)
    raw = {"video": torch.randint(0, 256, (2, 4, 4, 4, 3)).byte(), "now": torch.randint(0, 256, (2, 1, 4, 4, 3)).byte()}
    rows = {n: torch.arange(2) for n in raw}
    b = model.encode(Batch(index=torch.arange(2), values=raw, rows=rows), Dice(0, 0, range(2)))
    torch.nn.init.zeros_(model.head["video"].weight)
    total, _ = loss(model, b, Shared(), Dice(0, 0, range(2)))
    gap = b.tensor("video") - b.tensor("now")
    assert total.item() == pytest.approx(gap.square().mean().item()), "who says nothing errs by the difference"
    answer = sample(model, "video |", now=raw["now"], steps=1)["video"]
    assert answer.shape == raw["video"].shape and answer.dtype == torch.uint8


def test_what_can_be_near_is_a_required_condition():
    film = replace(VIDEO, path=Linear(predict="data", spread=0.1), near="now")
    with pytest.raises(ValueError, match="required condition that 'video' is near to"):
        recipe(modalities={"video": film}, conditions={"now": replace(NOW, required=False)}).build()
    with pytest.raises(ValueError, match="needs a path with a spread"):
        replace(film, path=Linear())
