"""Tiny random Wan pipelines in diffusers' own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CHANNELS, WORDS = 4, 12


def transformer(channels: int = CHANNELS, **settings: Any) -> nn.Module:
    """Every weight is random, also those that begin at zero or one."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(1)
    usual = {
        "num_attention_heads": 2, "attention_head_dim": 32, "in_channels": channels, "out_channels": channels,
        "text_dim": WORDS, "freq_dim": 64, "ffn_dim": 96, "num_layers": 3,
    }  # fmt: skip
    network = WanTransformer3DModel(**usual | settings)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn_like(p) * (0.5 / p.shape[-1] ** 0.5 if p.ndim > 1 else 0.2))
    return network.eval()


def text_encoder() -> tuple[Any, Any]:
    """UMT5 and its tokenizer, one token a letter."""
    import transformers

    torch.manual_seed(2)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((c, -3.0) for c in LETTERS)]
    tokenizer = transformers.T5Tokenizer(vocab=pieces, extra_ids=0)
    config = transformers.UMT5Config(
        vocab_size=len(pieces), d_model=WORDS, d_kv=6, d_ff=24, num_layers=2, num_heads=2, is_encoder_decoder=False
    )
    return transformers.UMT5EncoderModel(config).eval(), tokenizer


def autoencoder() -> nn.Module:
    """Eight pixels to a side of a latent cell, as in Wan2.1."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(3)
    return AutoencoderKLWan(
        base_dim=8,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[0.5, 2.0, 1.0, 1.5],
    ).eval()


def pipeline(folder: Path, *, image: bool = False, scheduler: Any = None) -> Any:
    """WanPipeline, or with `image` WanImageToVideoPipeline in the mode of Wan2.2-TI2V, saved into `folder`."""
    from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanPipeline

    encoder, tokenizer = text_encoder()
    usual = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    parts = {"tokenizer": tokenizer, "text_encoder": encoder, "transformer": transformer(), "vae": autoencoder()}
    parts |= {"scheduler": scheduler or usual, "expand_timesteps": image}
    made = WanImageToVideoPipeline(**parts) if image else WanPipeline(**parts)
    made.save_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made
