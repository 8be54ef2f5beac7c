"""Targets encoded ahead: the same loss to the bit where looks can be kept, and no step runs the autoencoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import moving
from polyclock.codecs import VAE, Chain, MeanStd, WanVAE
from polyclock.data import Cached, Loader, Windows
from polyclock.dice import Dice
from polyclock.encoders import Patches
from polyclock.modality import Condition
from polyclock.model import WorldModel
from polyclock.objective import loss
from polyclock.recipe import Recipe
from polyclock.train import Training
from polyclock.train.ahead import encoded_ahead
from polyclock.train.job import train
from polyclock.views import Jitter, View

diffusers = pytest.importorskip("diffusers")
CELL, SIDE = 4, 8  # pixels of a latent cell, and of what is cut out of the pictures of 16
CROP = View(of=("camera", "video"), crop=(SIDE, SIDE), grid=CELL)
FIXED = View(of=("camera", "video"), crop=(SIDE, SIDE), jitter=Jitter(), fixed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    module = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
    )
    path = tmp_path_factory.mktemp("image") / "vae"
    module.save_pretrained(path)
    return str(path)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the autoencoder's encoder had."""
    found: list[int] = []
    real = diffusers.AutoencoderKL.encode

    def counting(self, x, **settings):
        found.append(len(x))
        return real(self, x, **settings)

    monkeypatch.setattr(diffusers.AutoencoderKL, "encode", counting)
    return found


def recipe(codec, *views: View) -> Recipe:
    """Two future pictures as latents, and the present picture, from a square that moves."""
    whole = moving.recipe().fit(moving.Moving())
    side = views[0].crop[0] if views and views[0].crop else moving.SIDE
    video = replace(whole.modalities["video"], shape=(2, side // CELL, side // CELL, 4), patch=(1, 2, 2), codec=codec)
    camera = Condition(
        key=moving.CAMERA, shape=(1, side, side, 3), encoder=Patches(patch=(8, 8)), route="tokens", required=True
    )
    return replace(
        whole,
        modalities=whole.modalities | {"video": video},
        conditions=whole.conditions | {"camera": camera},
        views=views,
    )


def batches(made: Recipe, folder: Path, training: bool = True, **how) -> tuple[Loader, Loader]:
    """The same samples, their targets as pictures and encoded ahead."""
    data, signals = moving.Moving(), made.signals()
    ahead = encoded_ahead(made, data, [0, 2], folder, training=training, stride=3, device="cpu", **how)
    part = data.only([0, 2])
    return Loader(Windows(part, signals, 3), signals, 6, 0), Loader(Windows(part, signals, 3, ahead), signals, 6, 0)


def told(model: WorldModel, loader: Loader, k: int = 4) -> tuple[dict[str, Tensor], Tensor]:
    """What the model is shown of batch k, and its loss."""
    dice, batch = Dice(0, k, range(6)), loader.batch(k)
    latent = model.encode(batch, dice)
    total, _ = loss(model, latent, model.recipe.law, dice)
    return {n: latent.tensor(n) for n in ("video", "camera", "action")}, total


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("view", [None, FIXED, replace(FIXED, per="batch", plain=("video",))])
@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_the_same_to_the_bit(folder, tmp_path, encodings, sample, view, training) -> None:
    """With one picture at a time: how a convolution rounds depends on how many run at once."""
    made = recipe(VAE(folder=folder, sample=sample, microbatch=1), *([view] if view else []))
    raw, ahead = batches(made, tmp_path, training)
    model = made.build().train(training)
    encodings.clear()
    told_ahead, loss_ahead = told(model, ahead)
    assert encodings == [], "the autoencoder ran in a step"
    told_raw, loss_raw = told(model, raw)
    assert sum(encodings) == 12
    for name, value in told_raw.items():
        assert torch.equal(told_ahead[name], value), name
    assert torch.equal(loss_ahead, loss_raw)


def test_several_pictures_at_a_time_differ_by_rounding(folder, tmp_path) -> None:
    made = recipe(VAE(folder=folder, sample=True, microbatch=7), FIXED)
    raw, ahead = batches(made, tmp_path)
    model = made.build().train()
    for a, b in zip(told(model, raw)[0].values(), told(model, ahead)[0].values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_behind_other_codecs_and_before_them(folder, tmp_path) -> None:
    """Only what the network says is kept: what follows can be fitted anew."""
    image = VAE(folder=folder, microbatch=1)
    codec = Chain(image, MeanStd(mean=torch.zeros(4), std=torch.ones(4)))
    raw, ahead = batches(recipe(codec), tmp_path)
    files = set(tmp_path.glob("*.npy"))
    other = recipe(Chain(image, MeanStd(mean=torch.ones(4), std=2 * torch.ones(4))))
    batches(other, tmp_path)
    assert set(tmp_path.glob("*.npy")) == files and len(files) == 1
    for made, source in ((recipe(codec), raw), (other, raw)):
        model = made.build().train()
        assert torch.equal(told(model, source)[0]["video"], told(model, ahead)[0]["video"])


def test_crops_on_the_grid_are_cut_out_of_the_whole_latents(folder, tmp_path) -> None:
    view = replace(CROP, jitter=Jitter(), plain=("video",))
    made = recipe(VAE(folder=folder), view)
    raw, ahead = batches(made, tmp_path)
    model, dice = made.build().train(), Dice(0, 4, range(6))
    pictures = raw.batch(4).tensor("video")
    look = view.draw(dice, pictures, "video")
    assert look.order is None and view.draw(dice, pictures, "camera").order is not None
    assert {*look.top.tolist(), *look.left.tolist()} == {0, 4, 8}
    whole = VAE(folder=folder).encode(pictures)
    found = told(model, ahead)[0]["video"]
    exact = told(model, raw)[0]["video"]
    for j, (i, k) in enumerate(zip((look.top // CELL).tolist(), (look.left // CELL).tolist(), strict=True)):
        assert torch.allclose(found[j], whole[j, :, i : i + 2, k : k + 2], atol=1e-6)
    # An approximation: the network saw more than the part.
    assert 1e-3 < float((found - exact).norm() / exact.norm()) < 1


def test_training_gives_the_same_weights_and_never_runs_the_network_again(folder, tmp_path, encodings) -> None:
    made = recipe(VAE(folder=folder, sample=True, microbatch=1), FIXED)
    settings = Training(steps=3, batch_size=4, warmup=0, validate_every=3, validation_batches=2, workers=2)
    weights = {}
    for name, latents in (("raw", None), ("first", tmp_path / "kept"), ("second", tmp_path / "kept")):
        encodings.clear()
        run = tmp_path / name
        train(made, moving.Moving(), settings, run, held_out=[3], stride=2, fit=False, device="cpu", latents=latents)
        weights[name] = [(run / "model" / "model.safetensors").read_bytes(), sum(encodings)]
    assert weights["raw"][0] == weights["first"][0] == weights["second"][0]
    # 5 looks at the frames that windows of 3 episodes have, the middle of those of the held-out one, 2 to know shapes.
    steps = {min(79, a + s) for a in range(0, 80, 2) for s in (2, 4)}
    assert weights["first"][1] == 5 * (3 * len(steps) + 1) + len(steps) + 1
    assert weights["second"][1] == 0 and weights["raw"][1] == 2 * (3 * 4 + 2 * 4)


def test_a_run_does_not_go_on_with_another_precision(folder, tmp_path) -> None:
    made = recipe(VAE(folder=folder), FIXED)
    settings = Training(steps=2, batch_size=4, warmup=0, validate_every=0, workers=0)
    how = {"stride": 8, "fit": False, "device": "cpu", "latents": tmp_path / "kept"}
    train(made, moving.Moving(), settings, tmp_path / "run", **how, latents_as="float16")
    with pytest.raises(ValueError, match="ahead"):
        train(made, moving.Moving(), replace(settings, steps=4), tmp_path / "run", **how)


def test_half_precision_is_near(folder, tmp_path) -> None:
    made = recipe(VAE(folder=folder))
    raw, ahead = batches(made, tmp_path, precision="float16")
    model = made.build().train()
    exact, near = (told(model, source)[0]["video"] for source in (raw, ahead))
    assert near.dtype == torch.float32
    assert 0 < float((near - exact).norm() / exact.norm()) < 5e-4


def test_clips_are_kept_window_by_window(tmp_path) -> None:
    torch.manual_seed(0)
    module = diffusers.AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 2], num_res_blocks=1, temperal_downsample=[True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 2.0, 1.0, 1.5],
    )  # fmt: skip
    module.save_pretrained(tmp_path / "wan")
    made = recipe(WanVAE(folder=str(tmp_path / "wan"), sample=True))  # two latent frames, of five pictures
    raw, ahead = batches(made, tmp_path / "kept")
    one = ahead.batch(1)
    assert one.ahead == {"video"} and one.tensor("video").shape == (6, 1, 2, 4, 4, 8)
    model = made.build().train()
    for k in (0, 8):
        a, b = told(model, raw, k), told(model, ahead, k)
        assert torch.allclose(a[0]["video"], b[0]["video"], atol=1e-5) and torch.allclose(a[1], b[1], atol=1e-5)


def test_with_decoded_pictures_beside_them(folder, tmp_path) -> None:
    made = recipe(VAE(folder=folder), FIXED)
    data = moving.Moving()
    cached = Cached(data, {moving.CAMERA: (16, 16)}, tmp_path / "pictures")
    how = {"training": True, "stride": 9, "device": "cpu"}
    a = encoded_ahead(made, cached, [1], tmp_path, **how)["video"]
    b = encoded_ahead(made, data, [1], tmp_path, **how)["video"]
    assert a.path == b.path


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (replace(CROP, grid=1), r"grid=1\) crops 'video' between the cells of its latents, which are 4 pixels"),
        (replace(CROP, jitter=Jitter()), r"changes the colours of 'video' freely.*plain=\('video',\)"),
    ],
)
def test_looks_that_change_freely_are_refused(folder, tmp_path, view, message) -> None:
    with pytest.raises(ValueError, match=message):
        batches(recipe(VAE(folder=folder), view), tmp_path)
    batches(recipe(VAE(folder=folder), view), tmp_path, training=False)


def test_nothing_to_encode_is_said(tmp_path) -> None:
    with pytest.raises(ValueError, match="no codec of the recipe 'moving' is a frozen network"):
        encoded_ahead(moving.recipe(), moving.Moving(), [0], tmp_path, training=True)


def test_what_is_kept_for_training_is_no_use_outside(folder, tmp_path) -> None:
    made = recipe(VAE(folder=folder), FIXED)
    _, ahead = batches(made, tmp_path)
    with pytest.raises(ValueError, match="5 looks of 2 x 2 were encoded ahead, which are not the 1 of 2 x 2"):
        made.build().eval().encode(ahead.batch(0), Dice(0, 0, range(6)))
