"""Clips on their way to a training step: read from what was stored ahead, or decoded and asked about each time.

A part of benchmarks/store.py, which runs it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from polyclock import DiT, Layout, Local, Modality, Recipe, Shared, Stream
from polyclock.codecs import Chain, FlowColor, FlowFrames, Projection, Resample, WanVAE
from polyclock.commands.prepare import prepare
from polyclock.data import Dataset, Latents, Windows, open_dataset
from polyclock.experts.annotate import annotate
from polyclock.experts.dino import Dino
from polyclock.experts.dis import Dis
from polyclock.experts.expert import Expert
from polyclock.experts.projected import Projected
from polyclock.experts.vggt import Vggt
from polyclock.model import encode_signal
from polyclock.train.ahead import encoded_ahead


def taken(folder: Path) -> int:
    """Bytes that the files below a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def fused(*, vae: str, frames: int = 5, height: int = 30, width: int = 52, channels: int = 16) -> Recipe:
    """Video, its flow drawn in colour, and two kinds of features, in one stream."""
    shape = (frames, height, width)
    drawn = FlowColor(style="hsv", range="diagonal", reach=0.15, turn=0.5)
    features = Chain(Projection(components=8), Resample(size=(height, width)))
    modalities = {
        "video": Modality(shape=(*shape, channels), patch=(1, 2, 2), codec=WanVAE(folder=vae)),
        "flow": Modality(
            shape=(*shape, channels), patch=(1, 2, 2), codec=Chain(FlowFrames(), drawn, WanVAE(folder=vae, raw="float"))
        ),
        "semantics": Modality(shape=(*shape, 8), patch=(1, 2, 2), codec=features),
        "geometry": Modality(shape=(*shape, 8), patch=(1, 2, 2), codec=features),
    }
    return Recipe(
        name="fused", modalities=modalities, layout=Layout(Stream(*modalities)), law=Shared(), modulation=Local(),
        backbone=DiT(),
    )  # fmt: skip


def networks(folder: Path, which: str) -> tuple[str, str]:
    """Folders of a random Wan autoencoder and a random DINOv2 with registers."""
    import diffusers
    import transformers as tf

    torch.manual_seed(0)
    tiny = which == "tiny"
    sizes: dict[str, Any] = {"base_dim": 8, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1} if tiny else {}
    diffusers.AutoencoderKLWan(**sizes).save_pretrained(folder / "vae")
    small: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2} if tiny else {}
    config = tf.Dinov2WithRegistersConfig(**small, image_size=518, patch_size=14)
    tf.Dinov2WithRegistersModel(config).save_pretrained(folder / "dino")
    return str(folder / "vae"), str(folder / "dino")


class Patches(torch.nn.Module):
    """Stands in for VGGT's aggregator: tokens of its layout and width, of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Conv2d(3, 2048, 14, 14)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, int]:
        return self.embed(pictures[0]).flatten(2).mT[None], 0


def film(folder: Path, clips: int, frames: int, size: tuple[int, int]) -> None:
    """Clips of a smooth random texture that moves."""
    from polyclock.data.encode import VideoCodec, encode_video

    folder.mkdir()
    for i in range(clips):
        dice = np.random.default_rng(i)
        coarse = torch.from_numpy(dice.uniform(0, 255, (1, 3, 24, 40)).astype(np.float32))
        large = torch.nn.functional.interpolate(coarse, (size[0] + 64, size[1] + 64), mode="bicubic")[0].movedim(0, -1)
        moved = [large[t * 2 % 64 : t * 2 % 64 + size[0], t % 64 : t % 64 + size[1]] for t in range(frames)]
        pictures = torch.stack(moved).clamp(0, 255).byte().numpy()
        encode_video(folder / f"{i}.mp4", pictures, 16.0, VideoCodec(encoder="h264", group=12, crf=18))


def readers(
    out: Path,
    source: Dataset,
    plain: dict[str, Expert],
    recipe: Recipe,
    ahead: dict[str, Latents],
    frames: int,
    device: str,
) -> dict[str, Callable[[int], dict[str, torch.Tensor]]]:
    """Two ways to the latents of clip i: read from what was stored, and made anew from its pictures."""
    dataset = open_dataset(out)
    windows = Windows(dataset, recipe.signals(), frames, ahead)
    codecs = {n: m.codec for n, m in recipe.modalities.items()}

    def cached(i: int) -> dict[str, torch.Tensor]:
        found = {}
        for name, value in windows[i].values.items():
            kept = name in ahead
            raw = torch.from_numpy(np.asarray(value.numbers[0] if kept else value)).to(device)[None].float()  # type: ignore[union-attr]
            found[name] = encode_signal(codecs[name], raw, name, None, kept)
        return found

    def anew(i: int) -> dict[str, torch.Tensor]:
        pictures = np.asarray(source.read(i, "video", range(frames)))
        raw = {"video": pictures, "flow": Dis()(pictures)}
        for name, expert in plain.items():
            features = torch.from_numpy(expert(pictures)).to(device)[None]
            raw[name] = dataset.made_by(name).project(features)[0]  # type: ignore[union-attr]
        return {n: encode_signal(codecs[n], torch.as_tensor(v).to(device)[None], n, None) for n, v in raw.items()}

    return {"cached": cached, "anew": anew}


def clocked(ways: dict[str, Callable[[int], dict[str, torch.Tensor]]], clips: int) -> dict[str, list[float]]:
    """Seconds of each clip by each way, taking turns. Both must give the same latents."""
    for name, true in ways["anew"](0).items():
        off = float((ways["cached"](0)[name] - true).abs().max() / true.abs().max())
        assert off < 0.02, f"{name}: what is stored differs from what is made by {off:.3f}"
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(clips):
        for name, run in ways.items():
            begun = time.perf_counter()
            run(i)
            spent[name].append(time.perf_counter() - begun)
    return spent


def pipeline(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Clips of random films, annotated and encoded ahead; how fast they are read, and the room that they take."""
    high, wide = (int(n) for n in args.pixels.split("x"))
    frames, device, every = args.clip_frames, args.device, range(args.pairs)
    vae, dino = networks(folder, args.networks)
    film(folder / "clips", args.pairs, frames, (high, wide))
    grid = (high // 16 * 14, wide // 16 * 14)  # a patch for each token of two by two latent cells
    plain: dict[str, Expert] = {
        "semantics": Dino(weights=dino, size=grid, device=device),
        "geometry": Vggt(network=Patches().to(device), name="stand-in", size=grid, device=device),
    }
    out, source = folder / "out", open_dataset(folder / "clips")
    begun = time.perf_counter()
    annotate(source, str(folder / "clips"), out, {"flow": Dis(), **{n: Projected(expert=e) for n, e in plain.items()}})
    sizes = {"frames": (frames + 3) // 4, "height": high // 8, "width": wide // 8}
    flags = " ".join(f"--{name} {value}" for name, value in sizes.items())
    words, store = f"{Path(__file__).resolve()}:fused --vae {vae} {flags}", out / "latents"
    prepare(words, str(out), every, store, stride=frames, precision="float16", device=device, tell=lambda _: None)
    prepared = time.perf_counter() - begun
    dataset = open_dataset(out)
    recipe = fused(vae=vae, **sizes).fit(dataset)
    how: dict[str, Any] = {"training": True, "stride": frames, "precision": "float16", "device": device}
    ahead = encoded_ahead(recipe, dataset, every, store, **how)
    spent = clocked(readers(out, source, plain, recipe, ahead, frames, device), args.pairs)
    ratio = [b / a for a, b in zip(spent["cached"], spent["anew"], strict=True)]
    whole = {n: e(np.asarray(source.read(0, "video", range(2)))).nbytes // 2 * frames // 2 for n, e in plain.items()}
    found = {
        "clip": [frames, high, wide, 3],
        "networks": args.networks,
        "clips_per_second": {n: round(1 / median(v), 3) for n, v in spent.items()},
        "times_as_fast": {n: round(f(ratio), 1) for n, f in (("median", median), ("least", min), ("most", max))},
        "seconds_to_prepare_a_clip": round(prepared / args.pairs, 3),
        "bytes_per_clip": {
            "video": taken(folder / "clips") / args.pairs,
            **{p.name: taken(p) / args.pairs for p in sorted((out / "columns").iterdir())},
            "latents of video and flow, float16": taken(store) / args.pairs,
            **{f"{n}, whole in float16": size for n, size in whole.items()},
        },
    }
    print(json.dumps(found, indent=1))
    return found
