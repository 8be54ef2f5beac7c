"""What targets that were encoded ahead differ by from those encoded in every step.

    python benchmarks/latents.py [--vae FOLDER] [--data DATASET --camera COLUMN] [--out FILE.json]

Two things are not exact: crops cut out of the latents of the whole picture (`View(grid=8)`), since the network sees
more than the part, and numbers kept as float16. Errors are root mean squares over those of the latents, and beside them
stands the spread of the posterior that every step draws from. Fixed looks are exact and need no row.

Without --vae an autoencoder of SDXL's kind with random weights and a quarter of its width stands in, and without
--data smooth random pictures: such numbers say how the network's shape spreads what it sees, no more.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polyclock.codecs import VAE

WHOLE, PART, CELL = 240, 224, 8


def stand_in(folder: Path, width: int = 32) -> Path:
    """An AutoencoderKL like SDXL's with random weights; only its encoder is asked."""
    import diffusers

    torch.manual_seed(0)
    widths = (width, 2 * width, 4 * width, 4 * width)
    module = diffusers.AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        scaling_factor=0.13025,
    )
    module.save_pretrained(folder)
    return folder


def smooth(count: int) -> Tensor:
    """(count, 1, WHOLE, WHOLE, 3) uint8: sums of random waves, the longer the stronger, and sharp-edged boxes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(count, 3, WHOLE, WHOLE)
    for size in (4, 8, 16, 32, 64):
        waves = torch.randn(count, 3, size, size, generator=generator) / size**0.5
        x = x + F.interpolate(waves, (WHOLE, WHOLE), mode="bicubic")
    for one in x:
        for _ in range(6):
            top, left, high, wide = (int(n) for n in torch.randint(8, 160, (4,), generator=generator))
            one[:, top : top + high // 2, left : left + wide // 2] = torch.randn(3, 1, 1, generator=generator)
    return (127.5 + 60 * x).clamp(0, 255).to(torch.uint8).movedim(1, -1)[:, None]


def recorded(path: str, camera: str | None, count: int) -> Tensor:
    """(count, 1, WHOLE, WHOLE, 3) uint8: pictures of a data set, spread over its episodes."""
    from polyclock.data import open_dataset

    data = open_dataset(path)
    column = camera or data.facts.cameras[0]
    some = [data.episodes[i * len(data.episodes) // count] for i in range(count)]
    read = [torch.from_numpy(data.read(e.index, column, [e.length // 2], (WHOLE, WHOLE))) for e in some]
    return torch.stack(read)


def measured(codec: VAE, pictures: Tensor) -> dict[str, Any]:
    """Errors of the nine crops on the grid, by how far a latent cell lies from the crop's border, and of float16."""
    free, size = (WHOLE - PART) // CELL, PART // CELL
    said = codec.ahead(pictures)
    whole, channels = said[..., : said.shape[-1] // 2], said.shape[-1] // 2
    squares, energy, near = 0.0, 0.0, {}
    rows = torch.arange(size)
    edge = torch.minimum(rows, size - 1 - rows)
    away = torch.minimum(edge[:, None], edge[None])
    for i in range(free + 1):
        for j in range(free + 1):
            top, left = CELL * i, CELL * j
            exact = codec.ahead(pictures[:, :, top : top + PART, left : left + PART])[..., :channels]
            error = (whole[:, :, i : i + size, j : j + size] - exact) ** 2
            squares, energy = squares + float(error.mean()), energy + float(exact.var())
            for k in (0, 1, 2, 4, 8, 13):
                near.setdefault(k, []).append(float(error[:, :, away == k].mean()))
    count = (free + 1) ** 2
    norm = (energy / count) ** 0.5
    half = said.half().float()
    spread = (0.5 * said[..., channels:]).exp()
    return {
        "grid crop": round((squares / count) ** 0.5 / norm, 5),
        "grid crop, by cells from its border": {
            str(k): round((sum(v) / len(v)) ** 0.5 / norm, 5) for k, v in near.items()
        },
        "float16": round(float((half - said)[..., :channels].pow(2).mean() ** 0.5) / norm, 7),
        "spread of the posterior": round(float(spread.pow(2).mean() ** 0.5) / norm, 5),
        "standard deviation of the latents": round(norm, 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", help="folder of an AutoencoderKL in diffusers' format")
    parser.add_argument("--data", help="a data set to take pictures from")
    parser.add_argument("--camera", help="its column; the first camera")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    began = time.monotonic()
    pictures = recorded(args.data, args.camera, args.pictures) if args.data else smooth(args.pictures)
    with tempfile.TemporaryDirectory() as folder:
        codec = VAE(folder=str(args.vae or stand_in(Path(folder))), sample=True)
        found = measured(codec, pictures)
    for name, value in found.items():
        print(f"  {name:36s} {value}")
    document = {
        "command": f"python benchmarks/latents.py --pictures {args.pictures}"
        + (" --data DATASET" if args.data else ""),
        "weights": "given" if args.vae else "random, a quarter of SDXL's width",
        "pictures": len(pictures),
        "seconds": round(time.monotonic() - began, 1),
        "load": os.getloadavg(),
        "results": found,
    }
    if args.out:
        args.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
