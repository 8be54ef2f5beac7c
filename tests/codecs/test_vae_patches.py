"""The autoencoder of Wan2.2-TI2V: patches of pixels before its first layer, so 16 pixels to a side of a latent cell."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polyclock.codecs import WanVAE

diffusers = pytest.importorskip("diffusers")


def test_factor_and_channels_come_from_the_config(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = diffusers.AutoencoderKLWan(
        base_dim=8, decoder_base_dim=8, z_dim=6, dim_mult=[1, 1, 2, 2], num_res_blocks=1, in_channels=12,
        out_channels=12, patch_size=2, is_residual=True, scale_factor_spatial=16,
        temperal_downsample=[False, True, True], latents_mean=[0.1] * 6, latents_std=[0.5] * 6,
    ).eval()  # fmt: skip
    module.save_pretrained(tmp_path)
    codec = WanVAE(folder=str(tmp_path), raw="float")
    assert codec.factor == 16 and codec.raw_shape((3, 2, 3, 6)) == (9, 32, 48, 3)
    clip = torch.rand(1, 9, 32, 48, 3) * 2 - 1
    z = codec.encode(clip)
    with torch.no_grad():
        mean = module.encode(clip.movedim(-1, 1)).latent_dist.mode()
        back = module.decode(mean).sample.movedim(1, -1)
    assert z.shape == (1, 3, 2, 3, 6)
    torch.testing.assert_close(z, (mean.movedim(1, -1) - 0.1) / 0.5, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(codec.decode(z), back, atol=1e-4, rtol=1e-4)
    # Causal: what comes later changes nothing that came before.
    torch.testing.assert_close(codec.encode(clip[:, :5]), z[:, :2], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="multiples of 16"):
        codec.encode(clip[:, :, :24])
