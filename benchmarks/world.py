"""What the measures of a predicted world say of true, wrong and damaged films: the tables of docs/evaluation.md.

    polyclock collect people --clips 12 --flow-steps 4 --out people
    polyclock collect metaworld/plate-slide-side --episodes 14 --noise 0.15 --flow-steps 8 --out tabletop
    python benchmarks/world.py people:main tabletop:corner2 --out benchmarks/results/world.json

Windows of four frames, as far apart as the flow leads, at 64 px: two of each of the first eight episodes. No network is
asked: a measure that cannot tell the recording from these films says nothing of a network's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from polyclock.data import open_dataset
from polyclock.evaluate import agreement
from polyclock.evaluate.kinds import explained_of
from polyclock.evaluate.objects import Sought, mask_errors

SIDE, FRAMES, EPISODES = 64, 4, 8
COLUMNS = {"video": "images", "flow": "flow", "depth": "depth", "segmentation": "segmentation"}


def windows(path: str, camera: str) -> tuple[dict[str, Tensor], list[int]]:
    """(B, FRAMES, SIDE, SIDE, C) of every signal, and the data frames of a window from its first."""
    data = open_dataset(path)
    apart = data.dense[f"observation.flow.{camera}"]["steps"]
    due = [apart * i for i in range(FRAMES)]
    places = [(e.index, start) for e in data.episodes[:EPISODES] for start in (0, e.length // 2)]
    lengths = {e.index: e.length for e in data.episodes}
    found: dict[str, list[Tensor]] = {name: [] for name in COLUMNS}
    for episode, start in places:
        frames = [start + d for d in due]
        if frames[-1] >= lengths[episode]:
            continue
        for name, column in COLUMNS.items():
            values = data.read(episode, f"observation.{column}.{camera}", frames, (SIDE, SIDE))
            found[name].append(torch.from_numpy(np.asarray(values)))
    return {name: torch.stack(rows) for name, rows in found.items()}, due


def films(video: Tensor) -> dict[str, Tensor]:
    """Films by name, uint8 like video (B, T, H, W, 3)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(video.shape, generator=generator) * 0.05 * 255
    flat = video.flatten(0, 1).movedim(-1, 1).float()
    return {
        "true": video,
        "noise of 0.05": (video.float() + noise).clamp(0, 255).to(torch.uint8),
        "blurred 3 x 3": avg_pool2d(flat, 3, 1, 1).movedim(1, -1).view(video.shape).to(torch.uint8),
        "frozen": video[:, :1].expand_as(video),
        "moved by 4 px": video.roll(4, 2),
        "another window's": other(video),
        "red and blue swapped": video.flip(-1),
        "grey": torch.full_like(video, 128),
    }


def other(values: Tensor) -> Tensor:
    """Those of another episode."""
    return values.roll(3, 0)


def mean(values: Tensor) -> float | None:
    """Over windows, or pooled; None where nothing counts."""
    number = float(explained_of(values.nansum(0).numpy())) if values.ndim == 2 else float(values.nanmean())
    return number if np.isfinite(number) else None


def measured(path: str, camera: str) -> dict[str, Any]:
    """{measure: {film or map: number}}."""
    world, due = windows(path, camera)
    steps = agreement.steps(due, due[1], due)
    seen = world["flow"][..., 2] <= 0.5
    moving = world["flow"][..., :2].norm(dim=-1) > 0.5
    found: dict[str, dict[str, float | None]] = {}

    def put(name: str, numbers: dict[str, Tensor]) -> None:
        for measure, values in numbers.items():
            found.setdefault(measure, {})[name] = mean(values)

    objects = Sought(world["video"], world["segmentation"])
    for name, film in films(world["video"]).items():
        put(name, objects.errors(film, 1) | {"flicker": agreement.flicker(film, ~moving)})
    flow = world["flow"]
    flows = {"true": flow, "none": 0 * flow, "another window's": other(flow), "turned round": -flow}
    for name, values in flows.items():
        put(name, agreement.flow_and_pictures(world["video"], values, steps, seen))
        put(name, {"depth_warp": agreement.flow_and_depth(world["depth"], values, steps, seen)})
    depth = world["depth"]
    noise = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)) + 0.5
    depths = {"true": depth, "two frames away": depth.roll(-2, 1), "mirrored": depth.flip(3)}
    depths |= {"another window's": other(depth), "flat": torch.ones_like(depth), "noise": noise}
    for name, values in depths.items():
        put(name, {"edge_agreement": agreement.depth_and_pictures(values, world["video"])})
        put(name, {"edge_agreement_moving": agreement.depth_and_pictures(values, world["video"], moving)})
    masks = world["segmentation"]
    for name, values in {
        "true": masks,
        "frozen": masks[:, :1].expand_as(masks),
        "another window's": other(masks),
    }.items():
        put(name, {f"segmentation.{k}": v for k, v in mask_errors(values, masks, 1).items()})
    return {"windows": len(masks), "objects": len(objects.sample), "measures": found}


def main() -> None:
    """Measure every data set that is named, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="PATH:CAMERA")
    parser.add_argument("--out", metavar="FILE")
    args = parser.parse_args()
    found = {}
    for word in args.data:
        path, _, camera = word.rpartition(":")
        found[Path(path).name] = measured(path, camera) | {"camera": camera}
    text = json.dumps(found, indent=1) + "\n"
    if args.out:
        Path(args.out).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
