"""Views: one look for all names of a camera, the middle outside training, refusals, and the whole way of a sample."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor

import moving
from polyclock import from_pretrained, sample, save_pretrained
from polyclock.batch import Batch
from polyclock.codecs import Pixels
from polyclock.dice import Dice
from polyclock.encoders import Patches, Vector
from polyclock.layout import Layout, Stream
from polyclock.modality import Condition, Modality
from polyclock.model import WorldModel
from polyclock.recipe import Recipe
from polyclock.timesteps import Independent
from polyclock.train import Training
from polyclock.train.job import train
from polyclock.views import Jitter, Look, View, grey, recoloured, turned
from worlds import BACKBONE, awake

SIDE = 16
VIEW = View(of=("camera", "video"), resize=(24, 20), crop=(SIDE, SIDE), jitter=Jitter())


def small(*views: View) -> Recipe:
    """A camera's present and future pictures, and actions."""
    shape = (2, SIDE, SIDE, 3)
    return Recipe(
        name="viewed",
        modalities={
            "video": Modality(shape=shape, patch=(1, 8, 8), key="cam", codec=Pixels()),
            "action": Modality(shape=(4, 2), patch=(1,)),
        },
        conditions={"camera": Condition(shape=shape, key="cam", encoder=Patches(patch=(8, 8)), route="tokens")},
        layout=Layout(Stream("video"), Stream("action")),
        law=Independent(),
        backbone=BACKBONE,
        views=views,
    )


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def encoded(recipe: Recipe, raw: Tensor, rows: dict[str, list[int]] | None = None, index: list[int] | None = None):
    """What a model in training makes of the same pictures (B, T, H, W, 3) as camera and video: [0, 1] by name."""
    model, size = recipe.build().train(), len(raw)
    where = {n: torch.tensor((rows or {}).get(n, range(size)), dtype=torch.long) for n in ("camera", "video")}
    values = {n: raw[r] for n, r in where.items()} | {"action": torch.zeros(size, 4, 2)}
    index = list(range(size)) if index is None else index
    batch = Batch(torch.tensor(index), values, where | {"action": torch.arange(size)})
    out = model.encode(batch, Dice(0, 3, index)).values
    return {"camera": out["camera"], "video": (out["video"] + 1) / 2}


# ---------------------------------------------------------------- the middle


def shrinking(before: int, after: int) -> Tensor:
    """(after, before): each new pixel is a weighted mean of old ones, weights falling linearly from its middle."""
    scale = before / after
    reach = max(scale, 1.0)
    middle = (torch.arange(after, dtype=torch.float64) + 0.5) * scale
    away = (torch.arange(before, dtype=torch.float64)[None] + 0.5 - middle[:, None]).abs() / reach
    weight = (1 - away).clamp_min(0)
    return weight / weight.sum(1, keepdim=True)


@pytest.mark.parametrize(("stored", "resize"), [((40, 33), (19, 21)), ((12, 60), (19, 21)), ((19, 21), (19, 21))])
def test_outside_training_it_is_the_middle_of_the_resized_picture(stored, resize):
    view = View(of=("video",), resize=resize, crop=(SIDE, SIDE), jitter=Jitter())
    raw = pictures(2, 3, *stored)
    rows, columns = (shrinking(a, b) for a, b in zip(stored, resize, strict=True))
    whole = torch.einsum("ih,bthwc,jw->btijc", rows, raw.double() / 255, columns)
    # 3 rows and 5 columns are left: halves go to the even number, so 1.5 and 2.5 are both 2.
    expected = whole[:, :, 2 : 2 + SIDE, 2 : 2 + SIDE]
    look = view.draw(None, raw)
    assert look.top.tolist() == look.left.tolist() == [2, 2] and look.order is None
    assert (view(raw, look) - expected).abs().max() < 1e-5
    assert (view(raw[:, :, 1:], Look(look.top, look.left)) - expected).abs().max() > 1e-2


def test_without_resize_it_is_cut_out_as_it_is():
    view = View(of=("video",), crop=(4, 6))
    raw = pictures(1, 1, 5, 9)
    assert torch.equal(view(raw, view.draw(None, raw)), raw[:, :, 0:4, 2:8].float() / 255)  # of 0.5 and 1.5


def test_the_model_in_training_draws_and_otherwise_does_not():
    model, raw = small(VIEW).build(), pictures(2, 2, 30, 30)
    rows = {"video": torch.arange(2), "camera": torch.arange(2), "action": torch.arange(2)}
    batch = Batch(torch.arange(2), {"video": raw, "camera": raw, "action": torch.zeros(2, 4, 2)}, rows)
    middle = VIEW(raw, VIEW.draw(None, raw))
    assert torch.equal(model.eval().encode(batch, Dice(0, 0, range(2))).values["camera"], middle)
    changed = model.train().encode(batch, Dice(0, 0, range(2))).values["camera"]
    assert changed.shape == middle.shape and not torch.allclose(changed, middle)


# ---------------------------------------------------------------- training draws


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_all_names_of_a_sample_are_looked_at_alike(per):
    recipe, raw = small(replace(VIEW, per=per)), pictures(3, 2, 30, 28)
    whole = encoded(recipe, raw)
    torch.testing.assert_close(whole["camera"], whole["video"], atol=1e-6, rtol=0)
    some = encoded(recipe, raw, {"camera": [0, 2], "video": [1, 2]})
    torch.testing.assert_close(some["camera"][1], some["video"][1], atol=1e-6, rtol=0)
    assert torch.equal(some["camera"], whole["camera"][[0, 2]]) and torch.equal(some["video"], whole["video"][[1, 2]])


def test_each_sample_has_a_look_of_its_own_and_its_frames_share_it():
    raw = pictures(1, 1, 30, 28).expand(6, 2, -1, -1, -1)
    seen = encoded(small(VIEW), raw)["camera"]
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert all(not torch.allclose(seen[i], seen[j], atol=1e-2) for i in range(6) for j in range(i))


def test_one_look_for_a_batch():
    recipe = small(replace(VIEW, per="batch"))
    raw = pictures(1, 2, 30, 28).expand(6, -1, -1, -1, -1)
    seen = encoded(recipe, raw)["camera"]
    assert torch.equal(seen, seen[:1].expand_as(seen))
    assert not torch.allclose(seen[0], VIEW(raw[:1], VIEW.draw(None, raw[:1]))[0], atol=1e-2)


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_a_batch_cut_in_two_is_looked_at_as_before(per):
    recipe, raw = small(replace(VIEW, per=per)), pictures(5, 2, 30, 28)
    whole = encoded(recipe, raw)["video"]
    parts = [encoded(recipe, raw[i:j], index=list(range(i, j)))["video"] for i, j in ((0, 2), (2, 5))]
    assert torch.equal(torch.cat(parts), whole)


def test_draws_cover_what_they_may_and_no_more():
    raw = torch.zeros(4000, 1, 1, 1, 3, dtype=torch.uint8)
    view = replace(VIEW, jitter=Jitter(brightness=0.3, contrast=0.1, saturation=0.4, hue=0.2))
    look = view.draw(Dice(0, 0, range(4000)), raw)
    assert look.order is not None and look.factors is not None
    for corner, free in ((look.top, 8), (look.left, 4)):
        counts = torch.bincount(corner, minlength=free + 1)
        assert len(counts) == free + 1 and counts.min() > 0.8 * 4000 / (free + 1)
    orders = {tuple(row) for row in look.order.tolist()}
    assert orders == set(permutations(range(4)))
    for i, (middle, far) in enumerate(((1, 0.3), (1, 0.1), (1, 0.4), (0, 0.2))):
        away = look.factors[:, i] - middle
        assert -far <= away.min() < -0.97 * far and 0.97 * far < away.max() <= far
    assert abs(torch.corrcoef(torch.stack([look.top.float(), look.factors[:, 0]]))[0, 1]) < 0.06


def test_fixed_looks_are_few_and_always_the_same_ones():
    view = replace(VIEW, fixed=5)
    raw = pictures(400, 1, 30, 28)
    look, again = (view.draw(Dice(seed, 3, range(400)), raw) for seed in (0, 1))
    looks = lambda look: {  # noqa: E731
        (int(w), int(a), int(b), tuple(o), tuple(f))
        for w, a, b, o, f in zip(
            look.which, look.top, look.left, look.order.tolist(), look.factors.tolist(), strict=True
        )
    }
    assert looks(look) == looks(again) and len(looks(look)) == 5
    assert torch.bincount(look.which).min() > 50
    assert len({one[1:3] for one in looks(look)}) == 5, "the corners are spread"
    other = replace(view, of=("video", "camera"))
    assert looks(other.draw(Dice(0, 3, range(400)), raw)) != looks(look), "another camera has others"


def test_what_is_kept_is_what_would_be_drawn():
    raw = pictures(3, 2, 30, 28)
    for view in (replace(VIEW, fixed=4), replace(VIEW, fixed=4, per="batch"), replace(VIEW, fixed=4, plain=("video",))):
        kept = view.kept("video", raw, training=True)
        assert len(kept) == 4
        look = view.draw(Dice(0, 7, range(3)), raw, "video")
        drawn = view(raw, look)
        assert all(torch.equal(drawn[j], kept[int(look.which[j])][j]) for j in range(3))
        # Numbers of a network that says the pictures themselves.
        ahead = torch.stack(kept, 1)
        assert torch.equal(view.chosen("video", ahead, (SIDE, SIDE), Dice(0, 7, range(3))), drawn)
        (middle,) = view.kept("video", raw, training=False)
        assert torch.equal(middle, view(raw, view.draw(None, raw)))
        assert torch.equal(view.chosen("video", middle[:, None], (SIDE, SIDE), None), middle)


def test_corners_on_a_grid_and_colours_that_stay():
    view = replace(VIEW, resize=(32, 28), grid=4, plain=("video",))
    raw = pictures(300, 1, 40, 40)
    look = view.draw(Dice(0, 0, range(300)), raw, "camera")
    assert set(look.top.tolist()) == {0, 4, 8, 12, 16} and set(look.left.tolist()) == {0, 4, 8, 12}
    stays = view.draw(Dice(0, 0, range(300)), raw, "video")
    assert look.order is not None and stays.order is None and torch.equal(look.top, stays.top)
    (whole,) = view.kept("video", raw[:5], training=True)
    assert whole.shape == (5, 1, 32, 28, 3)
    cut = view.chosen("video", whole[:, None], (SIDE, SIDE), Dice(0, 0, range(5)))
    five = view.draw(Dice(0, 0, range(5)), raw[:5], "video")
    assert torch.equal(cut, view(raw[:5], five))


# ---------------------------------------------------------------- colours


def colour(x: Tensor, order=(0, 1, 2, 3), **factors: float) -> Tensor:
    """x (n, 3, H, W) recoloured; factors that are not named change nothing."""
    four = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0} | factors
    n = len(x)
    return recoloured(x, torch.tensor([order]).expand(n, -1), torch.tensor([list(four.values())]).expand(n, -1))


def pixels(n: int = 2, side: int = 5, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_each_change_is_its_formula():
    x = pixels()
    assert (colour(x) - x).abs().max() < 1e-6
    assert (colour(x, brightness=1.2) - (1.2 * x).clamp(0, 1)).abs().max() < 1e-6
    share = torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)
    gray = (share * x).sum(1, keepdim=True)
    assert torch.allclose(grey(x), gray)
    assert (colour(x, saturation=0.0) - gray.expand_as(x)).abs().max() < 1e-6
    assert (colour(x, saturation=1.3) - (1.3 * x - 0.3 * gray).clamp(0, 1)).abs().max() < 1e-6


def test_contrast_is_around_the_grey_of_each_picture():
    x = torch.cat([0.2 * pixels(1), 0.6 + 0.4 * pixels(1, seed=1)])
    flat = colour(x, contrast=0.0)
    for one, before in zip(flat, x, strict=True):
        assert (one - grey(before[None]).mean()).abs().max() < 1e-6
    assert flat[0].mean() < 0.3 < 0.5 < flat[1].mean()


def test_the_order_of_changes_matters():
    x = pixels()
    factors = {"brightness": 1.2, "contrast": 0.8, "saturation": 1.2, "hue": 0.1}
    a, b = (colour(x, order, **factors) for order in ((0, 1, 2, 3), (3, 2, 1, 0)))
    assert not torch.allclose(a, b, atol=1e-3)
    by_hand = x
    for name in ("hue", "saturation", "contrast", "brightness"):
        by_hand = colour(by_hand, **{name: factors[name]})
    assert (b - by_hand).abs().max() < 1e-5


def test_pictures_of_one_call_may_have_orders_of_their_own():
    x = pixels(3)
    orders, factors = torch.tensor([[0, 1, 2, 3], [3, 1, 0, 2], [2, 0, 3, 1]]), 0.9 + 0.2 * torch.rand(3, 4)
    alone = [recoloured(x[i : i + 1], orders[i : i + 1], factors[i : i + 1]) for i in range(3)]
    assert torch.equal(recoloured(x, orders, factors), torch.cat(alone))


def test_the_hue_turns_round_the_wheel():
    x = pixels(2, 8)
    assert (turned(x, torch.zeros(2, 1, 1, 1)) - x).abs().max() < 1e-6
    red, green = (torch.eye(3)[i].view(1, 3, 1, 1) for i in (0, 1))
    assert (turned(red, torch.full((1, 1, 1, 1), 1 / 3)) - green).abs().max() < 1e-6
    grays = torch.rand(1, 1, 4, 4).expand(-1, 3, -1, -1)
    assert (turned(grays, torch.full((1, 1, 1, 1), 0.3)) - grays).abs().max() < 1e-6
    for by in (-0.2, 0.07, 0.45):
        found = turned(x, torch.full((2, 1, 1, 1), by)).movedim(1, -1).reshape(-1, 3)
        for before, after in zip(x.movedim(1, -1).reshape(-1, 3).tolist(), found.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*before)
            assert after == pytest.approx(colorsys.hsv_to_rgb((hue + by) % 1, saturation, value), abs=1e-5)


# ---------------------------------------------------------------- what is given and what is refused


def test_floats_were_looked_at_already():
    seen = torch.rand(2, 2, SIDE, SIDE, 3)
    look = VIEW.draw(Dice(0, 0, range(2)), seen)
    assert VIEW(seen, look) is seen
    with pytest.raises(ValueError, match="floats were looked at already and must be 16 x 16, not 24 x 20"):
        VIEW(torch.rand(2, 2, 24, 20, 3), look)
    with pytest.raises(ValueError, match=r"must be uint8, or floats .* got torch.int32"):
        VIEW(torch.zeros(2, 2, 24, 20, 3, dtype=torch.int32), look)


def test_pictures_that_are_too_small_are_refused():
    view, raw = View(of=("video",), crop=(SIDE, SIDE)), pictures(1, 2, 20, 12)
    for dice in (None, Dice(0, 0, [0])):
        with pytest.raises(ValueError, match="pictures of 20 x 12 cannot be cropped to 16 x 16: resize them first"):
            view.draw(dice, raw)


def test_the_data_bring_pictures_as_stored_or_of_the_size_of_the_view():
    sizes = lambda *views: {n: s.shape for n, s in small(*views).signals().items()}  # noqa: E731
    own = (2, SIDE, SIDE, 3)
    assert sizes() == {"video": own, "camera": own, "action": (4, 2)}
    assert sizes(VIEW)["camera"] == sizes(VIEW)["video"] == (2, None, None, 3)
    assert sizes(replace(VIEW, size=(48, 64)))["video"] == (2, 48, 64, 3)
    only = sizes(replace(VIEW, of=("video",)))
    assert only["camera"] == own and only["video"] == (2, None, None, 3)
    # Colours alone change no size.
    assert sizes(View(of=("video",), jitter=Jitter()))["video"] == own


@pytest.mark.parametrize("training", [False, True])
def test_given_pictures_of_any_size_are_looked_at(training):
    model = awake(small(VIEW).build()).train(training)
    raw = pictures(2, 2, 37, 51)
    seen = VIEW(raw, VIEW.draw(None, raw))
    for query, values in (
        ("action | camera", {"camera": raw}),
        ("action | video, camera", {"camera": raw, "video": raw}),
    ):
        one = sample(model, query, steps=2, **values)["action"]
        two = sample(model, query, steps=2, **dict.fromkeys(values, seen))["action"]
        other = sample(model, query, steps=2, **{n: 255 - v for n, v in values.items()})["action"]
        assert torch.equal(one, two) and not torch.allclose(one, other, atol=1e-3)
    with pytest.raises(ValueError, match="must be 16 x 16"):
        sample(model, "action | camera", camera=torch.rand(2, 2, 37, 51, 3))


def test_a_batch_without_pictures_has_latents_of_the_right_size():
    model = small(VIEW).build().train()
    rows = {"video": torch.arange(0), "camera": torch.arange(0), "action": torch.arange(2)}
    none = torch.zeros(0, 2, 1, 1, 3, dtype=torch.uint8)  # what the data bring where sizes are not known
    batch = Batch(torch.arange(2), {"video": none, "camera": none, "action": torch.zeros(2, 4, 2)}, rows)
    out = model.encode(batch, Dice(0, 0, range(2)))
    assert out.tensor("video").shape == out.tensor("camera").shape == (0, 2, SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: View(of=()), "a name is needed"),
        (lambda: View(of=("video",), per="frame"), "per is sample or batch"),
        (lambda: View(of=("video",), resize=(8, 32), crop=(16, 16)), r"\(8, 32\) cannot be cropped to \(16, 16\)"),
        (lambda: View(of=("video",), size=(8, 8), crop=(16, 16)), r"\(8, 8\) cannot be cropped"),
        (
            lambda: View(of=("video",), crop=(8, 8), fixed=0),
            r"fixed=0, grid=1, plain=\(\)\): fixed and grid are at least 1",
        ),
        (lambda: View(of=("video",), jitter=Jitter(), plain=("eye",)), "plain names some of video"),
        (lambda: View(of=("video",), resize=(8, 8), grid=8), "grid needs a crop"),
        (lambda: View(of=("video",), crop=(8, 8), plain=("video",)), "plain needs a jitter"),
        (lambda: View(of=("video",), resize=(8, 8), fixed=3), "fixed needs one of these two"),
        (lambda: Jitter(hue=0.6), r"Jitter\(hue=0.6\) must lie in \[0, 0.5\]"),
        (lambda: Jitter(contrast=-0.1), "contrast=-0.1"),
        (lambda: small(View(of=("vidoe",))), "'vidoe', which the recipe does not have; it has video, action, camera"),
        (lambda: small(View(of=("action",))), r"'action', which is no video: its shape is \(4, 2\)"),
        (lambda: small(VIEW, View(of=("video",))), "2 views look at 'video'"),
        (lambda: small(replace(VIEW, crop=(8, 8))).signals(), "makes pictures of 8 x 8; the model works on 16 x 16"),
    ],
)
def test_faults_are_named(fault, message):
    with pytest.raises(ValueError, match=message):
        fault()


def test_colours_of_planes_are_not_changed():
    depth = {"depth": Modality(shape=(2, SIDE, SIDE, 1), patch=(1, 8, 8))}
    plain = replace(small(), modalities=depth, conditions={}, layout=Layout(Stream("depth")))
    assert replace(plain, views=(View(of=("depth",), crop=(SIDE, SIDE)),)).signals()["depth"].shape == (
        2,
        None,
        None,
        1,
    )
    with pytest.raises(ValueError, match="pictures of 'depth' have 1 channels"):
        replace(plain, views=(View(of=("depth",), jitter=Jitter()),)).signals()


# ---------------------------------------------------------------- saved, and trained


def test_views_are_saved_with_the_model(tmp_path: Path):
    model = awake(small(replace(VIEW, size=(48, 48), jitter=Jitter(hue=0.1), per="batch")).build())
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    assert again.recipe is not None and again.recipe.views == model.recipe.views and again.views == model.views
    raw = pictures(1, 2, 40, 40)
    assert torch.equal(*(sample(m, "action | camera", steps=1, camera=raw)["action"] for m in (model, again)))


def test_training_draws_and_validation_takes_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    eye = Condition(key=moving.CAMERA, shape=(1, 12, 12, 3), encoder=Vector(width=8), required=True)
    recipe = replace(moving.recipe(), conditions={"camera": eye}, views=(View(of=("camera",), crop=(12, 12)),))
    found = []

    def looked_at(self: WorldModel, batch: Batch, dice: Dice | None = None) -> Batch:
        out = real(self, batch, dice)
        raw, seen = batch.tensor("camera").float() / 255, out.tensor("camera")
        found.append((self.training, torch.equal(seen, raw[:, :, 2:14, 2:14])))
        return out

    real = WorldModel.looked_at
    monkeypatch.setattr(WorldModel, "looked_at", looked_at)
    settings = Training(steps=2, batch_size=8, warmup=0, validate_every=2, validation_batches=2, workers=0)
    train(recipe, moving.Moving(), settings, tmp_path / "run", held_out=[3], device="cpu")
    assert [f for f in found if f[0]] == [(True, False)] * 2 and [f for f in found if not f[0]] == [(False, True)] * 2
