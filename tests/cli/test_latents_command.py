"""`polyclock train --latents`: what the autoencoder says is computed once, for any number of runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy

from polyclock.cli import main

diffusers = pytest.importorskip("diffusers")
SMALL = ["--batch-size", "4", "--warmup", "0", "--workers", "0", "--stride", "3", "--cameras", toy.CAMERA]
NARROW = ["--width", "32", "--depth", "1", "--heads", "2", "--time", "16", "--rate", "10", "--horizon", "4"]
VIEW = ["--resize", "40,40", "--crop", "32,32"]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data, a data set, and vae, an autoencoder with 4 pixels to a cell."""
    folder = tmp_path_factory.mktemp("latents")
    toy.write(folder / "data")
    torch.manual_seed(0)
    diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
    ).save_pretrained(folder / "vae")
    return folder


def train(there: Path, out: Path, steps: int, *words: str) -> int:
    named = ["--data", str(there / "data"), "--vae", str(there / "vae"), "--out", str(out), "--steps", str(steps)]
    return main(["train", "uwm_official", *named, *SMALL, *NARROW, *VIEW, *words])


def test_two_runs_encode_once(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    seen: list[int] = []
    real = diffusers.AutoencoderKL.encode
    monkeypatch.setattr(
        diffusers.AutoencoderKL, "encode", lambda self, x, **how: (seen.append(len(x)), real(self, x, **how))[1]
    )
    latents = ["--latents", str(tmp_path / "latents"), "--looks", "3", "--latents-as", "float16"]
    assert train(there, tmp_path / "one", 2, *latents) == 0
    # Frames that windows of two training episodes have, each with 3 looks, those of the held-out one, 2 to know shapes.
    frames = len({min(39, a + s) for a in range(0, 40, 3) for s in (4, 5)})
    assert sum(seen) == 3 * (2 * frames + 1) + frames + 1
    seen.clear()
    assert train(there, tmp_path / "two", 2, *latents) == 0
    assert train(there, tmp_path / "one", 3, *latents) == 0
    assert seen == []
    capsys.readouterr()
    assert train(there, tmp_path / "one", 4, "--looks", "3") == 2
    assert "ahead" in capsys.readouterr().err


def test_what_cannot_be_kept_is_said(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for words, message in (
        ((), "changes the colours of 'video' freely"),
        (("--no-recoloured",), "grid=1) crops 'video' between the cells of its latents, which are 4 pixels"),
    ):
        assert train(there, tmp_path / "run", 2, "--latents", str(tmp_path / "latents"), *words) == 2
        assert message in capsys.readouterr().err
