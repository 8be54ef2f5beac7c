"""A Wan network of diffusers and a model of ours with the same random weights, for the tests beside it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from polyclock import Condition, Layout, Local, Modality, Recipe, Shared, Stream
from polyclock.backbones.wan import Wan
from polyclock.encoders import Numbers
from polyclock.interop.wan import WORDS, table_of
from polyclock.model import WorldModel

CHANNELS, WORDS_WIDTH = 4, 24


def theirs(heads: int, head: int, depth: int = 2, feedforward: int = 96, cross_norm: bool = True) -> nn.Module:
    """Every weight is random, also those that begin at zero or one."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(heads * head + depth)
    network = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=heads,
        attention_head_dim=head,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=WORDS_WIDTH,
        freq_dim=64,
        ffn_dim=feedforward,
        num_layers=depth,
        cross_attn_norm=cross_norm,
    )
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn_like(p) * (0.5 / p.shape[-1] ** 0.5 if p.ndim > 1 else 0.2))
    return network


def recipe(heads: int, head: int, depth: int = 2, feedforward: int = 96, cross_norm: bool = True) -> Recipe:
    """The same network as a recipe; height and width are open."""
    width = heads * head
    text = Condition(encoder=Numbers(), route="context", adapter=WORDS, shape=(None, WORDS_WIDTH), required=True)
    return Recipe(
        name="pair",
        modalities={"video": Modality(shape=(3, None, None, CHANNELS), patch=(1, 2, 2), rate=16.0)},
        conditions={"text": text},
        layout=Layout(Stream("video")),
        law=Shared(),
        modulation=Local(shared=True, frequencies=64),
        backbone=Wan(width=width, depth=depth, heads=heads, feedforward=feedforward, cross_norm=cross_norm),
    )


def pair(heads: int, head: int, depth: int = 2, **settings: object) -> tuple[nn.Module, WorldModel]:
    """(theirs, ours), with one set of weights."""
    network = theirs(heads, head, depth, **settings)
    model = recipe(heads, head, depth, **settings).build()
    fill(model, network)
    return network, model


def fill(model: WorldModel, network: nn.Module) -> None:
    """Give ours the weights of theirs."""
    state = network.state_dict()
    with torch.no_grad():
        for link in table_of(model):
            model.get_parameter(link.ours).copy_(link.read([state[n] for n in link.theirs]))


def gradient_gap(model: WorldModel, network: nn.Module) -> tuple[float, str]:
    """The largest difference of a weight's gradients and its name, as a share of the weight's largest gradient.

    One that is smaller than a tenth of what is usual in the network is a sum of terms that cancel, whose rounding is
    that of the terms: there the difference is a share of that tenth.
    """
    grads = {n: p.grad for n, p in network.named_parameters()}
    expected = {link.ours: link.read([grads[n] for n in link.theirs]) for link in table_of(model)}
    usual = torch.stack([g.abs().max() for g in expected.values()]).median()
    found = {n: (model.get_parameter(n).grad - g).abs().max() / g.abs().max().clamp_min(usual / 10)
             for n, g in expected.items()}  # fmt: skip
    return max((float(gap), name) for name, gap in found.items())


def values(frames: int = 3, height: int = 6, width: int = 10, size: int = 2) -> tuple[Tensor, Tensor]:
    """Latents (B, T, H, W, C) and features of a text (B, 7, W)."""
    torch.manual_seed(frames * height * width)
    return torch.randn(size, frames, height, width, CHANNELS), torch.randn(size, 7, WORDS_WIDTH)


def ours(model: WorldModel, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
    """Ours at times t (B, F)."""
    given = model.conditioner({"text": text}, {"text": torch.arange(len(x))}, len(x))
    if x.shape[1] != model.modalities["video"].shape[0]:
        model.modalities["video"] = replace(model.modalities["video"], shape=(x.shape[1], None, None, CHANNELS))
    return model({"video": x}, {"video": t}, given)["video"]


def of_theirs(network: nn.Module, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
    """Theirs at times 1000 t, (B,) or (B, tokens)."""
    return network(x.movedim(-1, 1), time, text, return_dict=False)[0].movedim(1, -1)
