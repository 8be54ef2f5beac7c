"""Names and shapes of the weights in the authors' Unified World Models code, by part: facts of their file format."""

from __future__ import annotations

import math

Shapes = dict[str, tuple[int, ...]]

NETWORK, EYE, TEXT = "noise_pred_net.", "obs_encoder.img_encoder.model.", "obs_encoder.text_encoder."
LATENTS, AUTOENCODER = "obs_encoder.vae.", "obs_encoder.vae.vae."
RATIO = 4  # of every hidden layer's width to its block's


def network(
    *, embed: int, depth: int, action: int, registers: int, places: int, latent: int, patch: tuple[int, ...],
    time: int, condition: int,
) -> Shapes:  # fmt: skip
    """The transformer: `places` learnt positions, `condition` numbers in the vector that modulates every block."""
    hidden = RATIO * max(action, embed)
    out: Shapes = {"registers": (1, registers, embed), "pos_embed": (1, places, embed)}
    out |= _layer("obs_patchifier.patch_encoder", (embed, latent, *patch))
    out |= _layer("obs_patchifier.patch_decoder", (latent * math.prod(patch), embed))
    out |= _layer("action_encoder.0", (hidden, action)) | _layer("action_encoder.2", (embed, hidden))
    out |= _layer("action_decoder.0", (hidden, embed)) | _layer("action_decoder.2", (action, hidden))
    out |= _layer("timestep_embedding.proj.0", (RATIO * time, 2 * time))
    out |= _layer("timestep_embedding.proj.2", (time, RATIO * time))
    for i in range(depth):
        at = f"blocks.{i}"
        out |= _layer(f"{at}.attn.qkv", (3 * embed, embed)) | _layer(f"{at}.attn.proj", (embed, embed))
        out |= _layer(f"{at}.mlp.fc1", (RATIO * embed, embed)) | _layer(f"{at}.mlp.fc2", (embed, RATIO * embed))
        out |= _layer(f"{at}.adaLN_modulation.1", (6 * embed, condition))
    out |= _layer("head.linear", (embed, embed)) | _layer("head.adaLN_modulation.1", (2 * embed, condition))
    return {NETWORK + name: shape for name, shape in out.items()}


def eye(feature: int) -> Shapes:
    """ResNet-18 behind group norms (named bn, without running statistics) and a linear to `feature` numbers."""
    out: Shapes = {"conv1.weight": (64, 3, 7, 7)} | _norm("bn1", 64)
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            at = f"layer{stage}.{block}"
            out |= {f"{at}.conv1.weight": (width, before, 3, 3), f"{at}.conv2.weight": (width, width, 3, 3)}
            out |= _norm(f"{at}.bn1", width) | _norm(f"{at}.bn2", width)
            if before != width:
                out |= {f"{at}.downsample.0.weight": (width, before, 1, 1)} | _norm(f"{at}.downsample.1", width)
            before = width
    return {EYE + name: shape for name, shape in (out | _layer("fc", (feature, 512))).items()}


def latents(latent: int) -> Shapes:
    """How latents are shifted and scaled, by channel."""
    return {f"{LATENTS}{name}": (1, latent, 1, 1) for name in ("shift", "scale")}


def autoencoder(widths: tuple[int, ...], layers: int, latent: int) -> Shapes:
    """diffusers' AutoencoderKL: `layers` residual blocks a level going down, one more going up, attention between."""
    out = _convolution("encoder.conv_in", 3, widths[0])
    before = widths[0]
    for level, width in enumerate(widths):
        for i in range(layers):
            out |= _residual(f"encoder.down_blocks.{level}.resnets.{i}", before, width)
            before = width
        if level < len(widths) - 1:
            out |= _convolution(f"encoder.down_blocks.{level}.downsamplers.0.conv", width, width)
    out |= _middle("encoder.mid_block", before) | _norm("encoder.conv_norm_out", before)
    out |= _convolution("encoder.conv_out", before, 2 * latent)
    out |= _convolution("decoder.conv_in", latent, before) | _middle("decoder.mid_block", before)
    for level, width in enumerate(reversed(widths)):
        for i in range(layers + 1):
            out |= _residual(f"decoder.up_blocks.{level}.resnets.{i}", before, width)
            before = width
        if level < len(widths) - 1:
            out |= _convolution(f"decoder.up_blocks.{level}.upsamplers.0.conv", width, width)
    out |= _norm("decoder.conv_norm_out", before) | _convolution("decoder.conv_out", before, 3)
    out |= _convolution("quant_conv", 2 * latent, 2 * latent, 1) | _convolution("post_quant_conv", latent, latent, 1)
    return {AUTOENCODER + name: shape for name, shape in out.items()}


def _layer(name: str, shape: tuple[int, ...]) -> Shapes:
    """A linear map or a convolution with a bias; `shape` is its weight's."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _convolution(name: str, before: int, after: int, size: int = 3) -> Shapes:
    return _layer(name, (after, before, size, size))


def _residual(at: str, before: int, after: int) -> Shapes:
    out = _norm(f"{at}.norm1", before) | _convolution(f"{at}.conv1", before, after)
    out |= _norm(f"{at}.norm2", after) | _convolution(f"{at}.conv2", after, after)
    return out | (_convolution(f"{at}.conv_shortcut", before, after, 1) if before != after else {})


def _middle(at: str, width: int) -> Shapes:
    out = _norm(f"{at}.attentions.0.group_norm", width)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        out |= _layer(f"{at}.attentions.0.{name}", (width, width))
    return out | _residual(f"{at}.resnets.0", width, width) | _residual(f"{at}.resnets.1", width, width)
