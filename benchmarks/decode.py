"""Frames per second of decoding random 8-frame windows: this package, torchcodec (exact seek), and a seek per frame.

    python benchmarks/decode.py --data FOLDER [--windows 40] [--rounds 5] [--out benchmarks/results/decode.json]

All three keep their decoders open, use one decoding thread, and give uint8 RGB at full size. They take turns window by
window in one process, so that whatever else the machine does falls on all of them. Before anything is timed the three
must give the same pictures, up to the rounding of the conversion to RGB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from polyclock.data.video import pictures_of, read_frames
from polyclock.errors import missing

FILES = {
    "AV1 640x480, key frame every 2": "g1_pick_bottle/videos/chunk-000/observation.images.cam_high/*.mp4",
    "H.264 256x256, key frame every 250": (
        "gr00t_dreams_gr1_sim/demo_data/robot_sim.PickNPlace/videos/chunk-000/observation.images.ego_view/*.mp4"
    ),
}
FRAMES = 8
Read = Callable[[Path, list[int]], np.ndarray]


def ours(path: Path, frames: list[int]) -> np.ndarray:
    """(n, H, W, 3) by this package."""
    return read_frames(path, frames)


class Torchcodec:
    """(n, H, W, 3) by torchcodec with exact seek, one open decoder a file."""

    def __init__(self) -> None:
        self.open: dict[Path, object] = {}

    def __call__(self, path: Path, frames: list[int]) -> np.ndarray:
        if path not in self.open:
            try:
                from torchcodec.decoders import VideoDecoder
            except ImportError:
                raise missing("torchcodec", "codec") from None
            self.open[path] = VideoDecoder(str(path), seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC")
        return self.open[path].get_frames_at(frames).data.numpy()  # type: ignore[attr-defined]


class SeekPerFrame:
    """(n, H, W, 3) by seeking to each frame with PyAV and decoding up to it, one open container a file."""

    def __init__(self) -> None:
        self.open: dict[Path, av.container.InputContainer] = {}

    def __call__(self, path: Path, frames: list[int]) -> np.ndarray:
        if path not in self.open:
            self.open[path] = av.open(str(path))
            self.open[path].streams.video[0].codec_context.thread_count = 1
        container = self.open[path]
        stream = container.streams.video[0]
        out = []
        for i in frames:
            due = int(Fraction(i) / stream.average_rate / stream.time_base)
            container.seek(due, stream=stream, backward=True)
            picture = next(f for f in container.decode(stream) if f.pts >= due)
            out.append(picture.to_ndarray(format="rgb24"))
        return np.stack(out)


def windows_of(paths: list[Path], count: int, spacing: int, rng: np.random.Generator) -> list[tuple[Path, list[int]]]:
    """`count` random windows of FRAMES frames, `spacing` apart."""
    chosen = []
    for _ in range(count):
        path = paths[int(rng.integers(len(paths)))]
        first = int(rng.integers(len(pictures_of(path)) - (FRAMES - 1) * spacing))
        chosen.append((path, [first + i * spacing for i in range(FRAMES)]))
    return chosen


def check(readers: dict[str, Read], paths: list[Path]) -> dict[str, float]:
    """Largest mean absolute difference to our pictures, by reader; an error where a frame is another one."""
    apart = dict.fromkeys(readers, 0.0)
    for path in paths:
        frames = [1, 2, 50, len(pictures_of(path)) - 1]
        mine = readers["ours"](path, frames).astype(int)
        for name, read in readers.items():
            apart[name] = max(apart[name], float(np.abs(read(path, frames).astype(int) - mine).mean((1, 2, 3)).max()))
            if apart[name] > 1.0:
                raise SystemExit(f"{name} gives other pictures of {path}: {apart[name]:.2f} levels apart")
    return apart


def measure(readers: dict[str, Read], windows: list[tuple[Path, list[int]]]) -> dict[str, float]:
    """Frames per second of each reader over the same windows, taking turns."""
    spent = dict.fromkeys(readers, 0.0)
    names = list(readers)
    for turn, (path, frames) in enumerate(windows):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begun = time.perf_counter()
            readers[name](path, frames)
            spent[name] += time.perf_counter() - begun
    return {name: len(windows) * FRAMES / seconds for name, seconds in spent.items()}


def summarise(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median, least and most over rounds: frames/s, and ours divided by each of the others within a round."""
    summary: dict[str, dict[str, float]] = {}
    for name in rounds[0]:
        ratios = [r["ours"] / r[name] for r in rounds]
        series = {"frames_per_second": [r[name] for r in rounds], "ours_divided_by_it": ratios}
        summary[name] = {}
        for what, values in series.items():
            for how, value in (("median", np.median(values)), ("least", min(values)), ("most", max(values))):
                summary[name][f"{what}_{how}"] = round(float(value), 3)
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("POLYCLOCK_DATA", "../shared/data")))
    parser.add_argument("--windows", type=int, default=40, help="windows per set of files, spacing and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    import torch
    import torchcodec

    torch.set_num_threads(1)
    readers: dict[str, Read] = {"ours": ours, "torchcodec": Torchcodec(), "seek per frame": SeekPerFrame()}
    load = os.getloadavg()
    results = []
    for title, pattern in FILES.items():
        paths = sorted(args.data.glob(pattern))
        if not paths:
            raise SystemExit(f"no files {pattern} in {args.data}; set --data or POLYCLOCK_DATA")
        apart = check(readers, paths)
        for spacing in (1, 4):
            rng = np.random.default_rng([args.seed, spacing])
            rounds = [measure(readers, windows_of(paths, args.windows, spacing, rng)) for _ in range(args.rounds)]
            summary = summarise(rounds)
            result = {"files": title, "spacing": spacing, "readers": summary, "pixels_apart": apart, "rounds": rounds}
            results.append(result)
            print(f"\n{title}, windows of {FRAMES} frames, {spacing} apart")
            print(f"  {'':16s} {'frames/s':>10s} {'ours / it':>10s}   least to most")
            for name, s in summary.items():
                ratios = [s[f"ours_divided_by_it_{h}"] for h in ("median", "least", "most")]
                rate = s["frames_per_second_median"]
                print(f"  {name:16s} {rate:10.0f} {ratios[0]:10.2f}   {ratios[1]:.2f} to {ratios[2]:.2f}")
    if args.out:
        record = {
            "command": " ".join(["python", "benchmarks/decode.py", *sys.argv[1:]]),
            "what": f"random windows of {FRAMES} frames, full size, uint8 RGB, one decoding thread each, taking turns",
            "versions": {
                "python": platform.python_version(), "av": av.__version__, "torchcodec": torchcodec.__version__,
                "torch": torch.__version__, "numpy": np.__version__,
            },
            "machine": {"processors": os.cpu_count(), "kind": platform.machine()},
            "load_before": load,
            "load_after": os.getloadavg(),
            "windows": args.windows,
            "rounds": args.rounds,
            "results": results,
        }  # fmt: skip
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
