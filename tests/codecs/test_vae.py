"""VAE codecs on tiny random autoencoders written in diffusers' own format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from polyclock.codecs import VAE, Chain, MeanStd, Pixels, WanVAE
from polyclock.codecs import vae as vae_file
from polyclock.codecs.codec import Codec

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=6,
        scaling_factor=0.5,
        shift_factor=0.25,
    )
    folder = tmp_path_factory.mktemp("image") / "vae"
    module.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    module = diffusers.AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 2],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[0.5, 2.0, 1.0, 1.5],
    )
    folder = tmp_path_factory.mktemp("wan") / "vae"
    module.save_pretrained(folder)
    return folder


def video(b: int, frames: int, height: int = 16, width: int = 24, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (b, frames, height, width, 3), dtype=torch.uint8, generator=generator)


def test_shapes_come_from_the_config_alone(image_folder: Path, wan_folder: Path, tmp_path: Path) -> None:
    for folder, name in ((image_folder, "image"), (wan_folder, "wan")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text((folder / "config.json").read_text())
    image, wan = VAE(folder=str(tmp_path / "image")), WanVAE(folder=str(tmp_path / "wan"))
    assert image.raw_shape((5, 4, 6, 6)) == (5, 16, 24, 3)
    assert image.raw_shape((None, 4, None, 6)) == (
        None,
        16,
        None,
        3,
    )
    assert wan.raw_shape((3, 4, 6, 4)) == (9, 16, 24, 3) and wan.raw_shape((None, 4, 6, 4)) == (None, 16, 24, 3)
    assert [list(image.covers(f)) for f in range(2)] == [[0], [1]]
    assert [list(wan.covers(f)) for f in range(3)] == [[0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert isinstance(image, Codec) and isinstance(wan, Codec) and image.fit([]) is image and wan.fit([]) is wan
    with pytest.raises(ValueError, match="holds no readable safetensors"):
        image.encode(video(1, 1))
    with pytest.raises(ValueError, match="6 latent channels"):
        image.raw_shape((5, 4, 6, 4))


def test_image_latents_equal_those_of_diffusers(image_folder: Path) -> None:
    raw = video(2, 3)
    module = diffusers.AutoencoderKL.from_pretrained(image_folder)
    with torch.no_grad():
        frames = (raw.float() / 127.5 - 1).flatten(0, 1).permute(0, 3, 1, 2)
        expected = (module.encode(frames).latent_dist.mode() - 0.25) * 0.5
        pictures = module.decode(expected / 0.5 + 0.25).sample.permute(0, 2, 3, 1).unflatten(0, (2, 3))
    codec = VAE(folder=str(image_folder))
    x = codec.encode(raw)
    assert x.shape == (2, 3, 4, 6, 6) and x.dtype == torch.float32
    torch.testing.assert_close(x, expected.permute(0, 2, 3, 1).unflatten(0, (2, 3)))
    floats = VAE(folder=str(image_folder), raw="float")
    torch.testing.assert_close(floats.decode(x), pictures, atol=1e-5, rtol=1e-5)
    assert torch.equal(floats.encode(raw.float() / 127.5 - 1), x)
    decoded = codec.decode(x)
    assert decoded.dtype == torch.uint8 and decoded.shape == raw.shape
    assert torch.equal(decoded, Pixels().decode(pictures))


def test_scale_and_shift(image_folder: Path) -> None:
    raw, folder = video(1, 1), str(image_folder)
    z = VAE(folder=folder, scale=1.0, shift=0.0).encode(raw)
    torch.testing.assert_close(VAE(folder=folder).encode(raw), (z - 0.25) * 0.5)
    torch.testing.assert_close(VAE(folder=folder, scale="sdxl", shift=0.0).encode(raw), z * 0.13025)
    torch.testing.assert_close(VAE(folder=folder, scale="sd", shift=2.0).encode(raw), (z - 2) * 0.18215)
    for codec in (VAE(folder=folder), VAE(folder=folder, scale="sd", shift=2.0)):
        assert torch.equal(codec.decode(codec.encode(raw)), VAE(folder=folder, scale=1.0, shift=0.0).decode(z))


def test_channel_statistics_of_the_config(image_folder: Path, tmp_path: Path) -> None:
    config = json.loads((image_folder / "config.json").read_text())
    mean, std = [0.1 * i for i in range(6)], [1.0 + i for i in range(6)]
    config.update(latents_mean=mean, latents_std=std, shift_factor=None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = "diffusion_pytorch_model.safetensors"
    (tmp_path / weights).write_bytes((image_folder / weights).read_bytes())
    raw, codec = video(1, 1), VAE(folder=str(tmp_path))
    z = VAE(folder=str(image_folder), scale=1.0, shift=0.0).encode(raw)
    torch.testing.assert_close(codec.encode(raw), (z - torch.tensor(mean)) * 0.5 / torch.tensor(std))
    assert (
        codec.decode(codec.encode(raw)).int() - VAE(folder=str(image_folder)).decode((z - 0.25) / 2).int()
    ).abs().max() <= 1


@pytest.mark.parametrize("sample", [False, True])
def test_microbatch_changes_nothing(image_folder: Path, wan_folder: Path, sample: bool) -> None:
    for make, raw in ((VAE, video(2, 5)), (WanVAE, video(3, 5))):
        folder = str(image_folder if make is VAE else wan_folder)
        results = []
        for size in (1, 3, 100):
            codec = make(folder=folder, microbatch=size, sample=sample)
            x = codec.encode(raw, torch.Generator().manual_seed(1))
            results.append((x, codec.decode(x).int()))
        for x, decoded in results[1:]:
            torch.testing.assert_close(x, results[0][0], atol=1e-5, rtol=1e-5)
            assert (decoded - results[0][1]).abs().max() <= 1


def test_samples_have_the_posterior_mean_and_spread(image_folder: Path) -> None:
    raw = video(1, 1).expand(1, 400, -1, -1, -1)
    folder = str(image_folder)
    x = VAE(folder=folder, sample=True, scale=1.0, shift=0.0).encode(raw, torch.Generator().manual_seed(0))[0]
    module = diffusers.AutoencoderKL.from_pretrained(folder)
    with torch.no_grad():
        posterior = module.encode(Pixels().encode(raw[0, :1]).permute(0, 3, 1, 2)).latent_dist
    mean, std = posterior.mean[0].permute(1, 2, 0), posterior.std[0].permute(1, 2, 0)
    # Mean and spread of 400 draws, five standard errors.
    assert ((x.mean(0) - mean).abs() / std).max() < 5 / 20
    assert (x.std(0) / std - 1).abs().max() < 5 / 800**0.5
    assert Chain(VAE(folder=folder, sample=True), MeanStd()).sample and not Chain(VAE(folder=folder)).sample
    with pytest.raises(ValueError, match="needs a generator"):
        VAE(folder=folder, sample=True).encode(raw)


def test_wan_latents_equal_those_of_diffusers(wan_folder: Path) -> None:
    raw = video(2, 9)
    module = diffusers.AutoencoderKLWan.from_pretrained(wan_folder)
    mean = torch.tensor([0.1, -0.2, 0.3, 0.0]).reshape(1, 4, 1, 1, 1)
    std = torch.tensor([0.5, 2.0, 1.0, 1.5]).reshape(1, 4, 1, 1, 1)
    with torch.no_grad():
        z = module.encode(Pixels().encode(raw).permute(0, 4, 1, 2, 3)).latent_dist.mode()
        pictures = module.decode(z).sample.permute(0, 2, 3, 4, 1)
    codec = WanVAE(folder=str(wan_folder))
    x = codec.encode(raw)
    assert x.shape == (2, 3, 4, 6, 4)
    torch.testing.assert_close(x, ((z - mean) / std).permute(0, 2, 3, 4, 1), atol=1e-5, rtol=1e-5)
    decoded = codec.decode(x)
    assert decoded.shape == raw.shape and (decoded.int() - Pixels().decode(pictures).int()).abs().max() <= 1


def test_wan_is_causal_on_the_stated_grid(wan_folder: Path) -> None:
    codec, raw = WanVAE(folder=str(wan_folder)), video(1, 9)
    x = codec.encode(raw)
    for frame in (0, 1, 4, 5, 8):
        other = raw.clone()
        other[:, frame] = 255 - other[:, frame]
        changed = (codec.encode(other) - x).abs().amax((0, 2, 3, 4)) > 1e-6
        first = next(f for f in range(3) if frame in codec.covers(f))
        assert not changed[:first].any() and changed[first]
    start = codec.encode(raw[:, :5])
    torch.testing.assert_close(start, x[:, :2], atol=1e-6, rtol=1e-5)


def test_empty_batches(image_folder: Path, wan_folder: Path) -> None:
    image, wan = VAE(folder=str(image_folder)), WanVAE(folder=str(wan_folder))
    assert image.encode(video(0, 3)).shape == (0, 3, 4, 6, 6)
    assert wan.encode(video(0, 9)).shape == (0, 3, 4, 6, 4)
    assert image.decode(torch.zeros(0, 3, 4, 6, 6)).shape == (0, 3, 16, 24, 3)
    out = wan.decode(torch.zeros(0, 3, 4, 6, 4))
    assert out.shape == (0, 9, 16, 24, 3) and out.dtype == torch.uint8


def test_fitted_behind_a_video_vae(wan_folder: Path) -> None:
    # 11 and 6 frames: what is over 4 k + 1 is left out of the fit.
    episodes = [video(1, n, seed=n)[0].numpy() for n in (11, 6)]
    codec = Chain(WanVAE(folder=str(wan_folder)), MeanStd()).fit(iter(episodes))
    wan = WanVAE(folder=str(wan_folder))
    x = torch.cat(
        [wan.encode(torch.from_numpy(e[None, :n])).flatten(0, 3) for e, n in zip(episodes, (9, 5), strict=True)]
    )
    np.testing.assert_allclose(codec.codecs[1].mean, x.mean(0), atol=1e-5)
    assert codec.raw_shape((3, 4, 6, 4)) == (9, 16, 24, 3) and list(codec.covers(1)) == [1, 2, 3, 4]


def test_weights_are_loaded_once_and_frozen(image_folder: Path) -> None:
    a = vae_file.load(str(image_folder), "AutoencoderKL", "cpu")
    assert a is vae_file.load(str(image_folder), "AutoencoderKL", "cpu") and not a.training
    assert not any(p.requires_grad for p in a.parameters())
    assert VAE(folder=str(image_folder)) == VAE(folder=str(image_folder)) and hash(VAE(folder="x"))


def test_mistakes(image_folder: Path, wan_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="config.json does not exist"):
        VAE(folder=str(tmp_path / "nowhere")).raw_shape((1, 1, 1, 1))
    with pytest.raises(ValueError, match="did you mean .*vae"):
        VAE(folder=str(image_folder.parent)).raw_shape((1, 1, 1, 1))
    with pytest.raises(ValueError, match="describes 'AutoencoderKLWan'; possible here: 'AutoencoderKL'"):
        VAE(folder=str(wan_folder)).raw_shape((1, 1, 1, 1))
    with pytest.raises(ValueError, match="unknown scale 'sdx'. Did you mean 'sdxl'"):
        VAE(folder="x", scale="sdx")
    with pytest.raises(ValueError, match="unknown raw values"):
        VAE(folder="x", raw="int8")
    with pytest.raises(ValueError, match="multiples of 4, got 18 x 24"):
        VAE(folder=str(image_folder)).encode(video(1, 1, 18, 24))
    with pytest.raises(ValueError, match=r"1 \+ 4 k frames, got 8; nearest: 5 or 9"):
        WanVAE(folder=str(wan_folder)).encode(video(1, 8))
    with pytest.raises(ValueError, match="pixels that are floats must lie between 0 and 1"):
        VAE(folder=str(image_folder)).encode(video(1, 1).float())
    with pytest.raises(ValueError, match="expects floats"):
        VAE(folder=str(image_folder), raw="float").encode(video(1, 1))
    with pytest.raises(ValueError, match="latent channels"):
        WanVAE(folder=str(wan_folder)).decode(torch.zeros(1, 1, 2, 2, 3))


def test_weights_that_do_not_fit_or_could_run_code_are_refused(image_folder: Path, tmp_path: Path) -> None:
    weights = load_file(image_folder / "diffusion_pytorch_model.safetensors")
    weights.pop("encoder.conv_in.weight")
    for name in ("lacking", "pickled"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text((image_folder / "config.json").read_text())
    save_file(weights, tmp_path / "lacking" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match="missing: .*encoder.conv_in.weight"):
        VAE(folder=str(tmp_path / "lacking")).encode(video(1, 1))
    (tmp_path / "pickled" / "diffusion_pytorch_model.bin").write_bytes(b"not read at all")
    with pytest.raises(ValueError, match="no readable safetensors"):
        VAE(folder=str(tmp_path / "pickled")).encode(video(1, 1))


def test_importing_codecs_and_encoders_loads_no_optional_package() -> None:
    code = "import sys, polyclock.codecs, polyclock.encoders; print({'diffusers', 'transformers'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
