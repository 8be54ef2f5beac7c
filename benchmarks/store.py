"""Which store for latents, and what it saves: random windows of random clips, and clips a second with and without it.

    python benchmarks/store.py [--clips 120] [--windows 100] [--rounds 5] [--folder DIR] [--out FILE.json]
    python benchmarks/store.py --part pipeline [--networks base] [--pixels 240x416] [--clip-frames 17] [--pairs 4]

**stores**: windows of `--window` latent frames out of `--frames`, (F, h, w, C) float16 of three modalities, as a
training step reads them. Each store holds the same random numbers and must give the same windows before anything is
timed. Stores take turns by passes. Before a cold pass the kernel is asked to forget the store's files; a warm pass
follows one that has read them all. zarr and Lance (`pip install pylance`) are left out where they are not installed.

**pipeline**: clips a second on their way to a training step: read from what `polyclock annotate --for` stored, against
decoding the video and asking experts and autoencoder each time; both give the same latents. `tiny` networks are far
smaller than published ones, so their ratio is the least that a store saves; `base` has the published sizes of DINOv2-B
and of Wan's autoencoder, with random weights. Bytes are those on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from polyclock import DiT, Layout, Local, Modality, Recipe, Shared, Stream
from polyclock.codecs import Chain, FlowColor, FlowFrames, Projection, Resample, WanVAE
from polyclock.data import Latents
from polyclock.data.source import Episode

NAMES = ("video", "flow", "features")
Window = list[np.ndarray]  # (F, h, w, C) float16 of each name


@dataclass(frozen=True)
class Size:
    """What is stored: clips (frames, height, width, channels) float16 of each name; a window has `window` frames."""

    clips: int
    frames: int
    window: int
    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.frames, self.height, self.width, self.channels

    def clip(self, number: int) -> dict[str, np.ndarray]:
        dice = np.random.default_rng(number)
        return {name: dice.standard_normal(self.shape, np.float32).astype(np.float16) for name in NAMES}


# ---------------------------------------------------------------- the stores


class OneArray:
    """This package's: one memory-mapped .npy for each modality, a row a frame (`polyclock.data.Latents`)."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.size, self.folder = size, folder
        self.stores = {name: Latents(self, folder, {"name": name}, precision="float16") for name in NAMES}  # type: ignore[arg-type]

    @property
    def episodes(self) -> tuple[Episode, ...]:
        return tuple(Episode(index=i, length=self.size.frames) for i in range(self.size.clips))

    fingerprint = "random clips"

    def write(self) -> None:
        for name, store in self.stores.items():
            rows = {i: range(self.size.frames) for i in range(self.size.clips)}
            store.fill(rows, lambda e, rows, name=name: self.size.clip(e)[name][rows][:, None, None], piece=10**6)

    def read(self, clip: int, start: int) -> Window:
        frames = range(start, start + self.size.window)
        return [store.window(clip, start, frames).numbers[0] for store in self.stores.values()]


class FilePerClip:
    """One .npy for each clip and modality, opened for each window: what columns of features lie in."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder, self.size = folder, size

    def write(self) -> None:
        for i in range(self.size.clips):
            for name, array in self.size.clip(i).items():
                np.save(self.folder / f"{i}-{name}.npy", array)

    def read(self, clip: int, start: int) -> Window:
        stop = start + self.size.window
        paths = [self.folder / f"{clip}-{name}.npy" for name in NAMES]
        return [np.array(np.load(path, mmap_mode="r", allow_pickle=False)[start:stop]) for path in paths]


class Safetensors:
    """Shards of eight clips, kept open; a slice of a tensor is read."""

    each = 8

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder, self.size = folder, size
        self._open: dict[int, Any] = {}

    def write(self) -> None:
        from safetensors.numpy import save_file

        for first in range(0, self.size.clips, self.each):
            clips = range(first, min(first + self.each, self.size.clips))
            tensors = {f"{i}/{name}": array for i in clips for name, array in self.size.clip(i).items()}
            save_file(tensors, self.folder / f"{first // self.each}.safetensors")

    def read(self, clip: int, start: int) -> Window:
        from safetensors import safe_open

        shard = clip // self.each
        if shard not in self._open:
            self._open[shard] = safe_open(self.folder / f"{shard}.safetensors", framework="np")
        stop = start + self.size.window
        return [np.array(self._open[shard].get_slice(f"{clip}/{name}")[start:stop]) for name in NAMES]


class Zarr:
    """zarr v3: a chunk a frame, a shard a clip, one array for each modality."""

    compressed = False

    def __init__(self, folder: Path, size: Size) -> None:
        import zarr

        self.zarr, self.folder, self.size = zarr, folder, size
        self.arrays: dict[str, Any] = {}

    def write(self) -> None:
        how = {} if self.compressed else {"compressors": None}
        frames, *rest = self.size.shape
        arrays = {
            name: self.zarr.create_array(
                self.folder / name, shape=(self.size.clips, *self.size.shape), chunks=(1, 1, *rest),
                shards=(1, frames, *rest), dtype="float16", **how,
            )
            for name in NAMES
        }  # fmt: skip
        for i in range(self.size.clips):
            for name, array in self.size.clip(i).items():
                arrays[name][i] = array

    def read(self, clip: int, start: int) -> Window:
        self.arrays = self.arrays or {name: self.zarr.open_array(self.folder / name, mode="r") for name in NAMES}
        return [np.asarray(self.arrays[name][clip, start : start + self.size.window]) for name in NAMES]


class ZarrCompressed(Zarr):
    """The same with zarr's usual compression."""

    compressed = True


class Lance:
    """A table of Lance: a row a frame, a column for each modality."""

    def __init__(self, folder: Path, size: Size) -> None:
        import lance
        import pyarrow

        self.lance, self.arrow, self.folder, self.size = lance, pyarrow, folder, size
        self._table: Any = None

    def write(self) -> None:
        pa = self.arrow
        width = int(np.prod(self.size.shape[1:]))
        kind = pa.list_(pa.float16(), width)
        schema = pa.schema([(name, kind) for name in NAMES])

        def batches() -> Iterator[Any]:
            for i in range(self.size.clips):
                flat = [pa.array(array.ravel(), pa.float16()) for array in self.size.clip(i).values()]
                columns = [pa.FixedSizeListArray.from_arrays(values, width) for values in flat]
                yield pa.record_batch(columns, schema=schema)

        self.lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches()), str(self.folder / "clips.lance"))

    def read(self, clip: int, start: int) -> Window:
        if self._table is None:
            self._table = self.lance.dataset(str(self.folder / "clips.lance"))
        first = clip * self.size.frames + start
        rows = self._table.take(list(range(first, first + self.size.window)))
        shape = (self.size.window, *self.size.shape[1:])
        return [np.array(rows[n].combine_chunks().flatten().to_numpy()).reshape(shape) for n in NAMES]


STORES: dict[str, Callable[[Path, Size], Any]] = {
    "one .npy": OneArray, ".npy per clip": FilePerClip, "safetensors": Safetensors, "zarr": Zarr,
    "zarr, compressed": ZarrCompressed, "lance": Lance,
}  # fmt: skip


def forget(folder: Path) -> None:
    """Ask the kernel to drop what it holds of a folder's files; others' files stay."""
    for path in filter(Path.is_file, folder.rglob("*")):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def taken(folder: Path) -> int:
    """Bytes that the files below a folder take on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def one_pass(store: Any, size: Size, windows: int, seed: int) -> dict[str, float]:
    """Seconds by the wall and of the processor for a window, over `windows` random ones."""
    dice = np.random.default_rng(seed)
    chosen = [
        (int(dice.integers(size.clips)), int(dice.integers(size.frames - size.window + 1))) for _ in range(windows)
    ]
    wall, processor = time.perf_counter(), time.process_time()
    for clip, start in chosen:
        store.read(clip, start)
    return {"wall": (time.perf_counter() - wall) / windows, "processor": (time.process_time() - processor) / windows}


def stores(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    size = Size(args.clips, args.frames, args.window, args.height, args.width, args.channels)
    made, results = {}, {}
    for name, cls in STORES.items():
        place = folder / name.replace(" ", "-").replace(",", "").replace(".", "")
        place.mkdir()
        try:
            store = cls(place, size)
        except ImportError as error:
            results[name] = {"left_out": str(error)}
            continue
        begun = time.perf_counter()
        store.write()
        results[name] = {"write_clips_per_second": size.clips / (time.perf_counter() - begun)}
        results[name]["bytes_per_clip"] = taken(place) / size.clips
        last = size.clips - 1
        for mine, true in zip(store.read(last, 1), size.clip(last).values(), strict=True):
            assert np.array_equal(mine, true[1 : 1 + size.window]), f"{name} gives another window"
        made[name] = (place, cls)
    spent: dict[str, dict[str, list]] = {name: {"cold": [], "warm": []} for name in made}
    names = list(made)
    for k in range(args.rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            place, cls = made[name]
            forget(place)
            spent[name]["cold"].append(one_pass(cls(place, size), size, args.windows, k))
            again = cls(place, size)
            one_pass(again, size, args.windows, k)
            spent[name]["warm"].append(one_pass(again, size, args.windows, k))
    megabytes = 3 * size.window * int(np.prod(size.shape[1:])) * 2 / 2**20
    for name, passes in spent.items():
        for how, rows in passes.items():
            for clock in ("wall", "processor"):
                values = [row[clock] * 1000 for row in rows]
                results[name][f"{how}_ms_per_window_{clock}"] = {
                    "median": round(median(values), 4), "least": round(min(values), 4), "most": round(max(values), 4),
                }  # fmt: skip
        warm, cold = (results[name][f"{how}_ms_per_window_wall"]["median"] for how in ("warm", "cold"))
        print(f"{name:18s} warm {warm:8.3f} ms  cold {cold:8.3f} ms  {megabytes / warm * 1000:8.0f} MiB/s warm")
    return {"size": vars(size), "mebibytes_per_window": megabytes, "stores": results}


# ---------------------------------------------------------------- the pipeline


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


def pipeline(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from polyclock.commands.prepare import prepare
    from polyclock.data import Windows, open_dataset
    from polyclock.experts.annotate import annotate
    from polyclock.experts.dino import Dino
    from polyclock.experts.dis import Dis
    from polyclock.experts.projected import Projected
    from polyclock.experts.vggt import Vggt
    from polyclock.model import encode_signal
    from polyclock.train.ahead import encoded_ahead

    high, wide = (int(n) for n in args.pixels.split("x"))
    frames, device = args.clip_frames, args.device
    vae, dino = networks(folder, args.networks)
    film(folder / "clips", args.pairs, frames, (high, wide))
    grid = (high // 16 * 14, wide // 16 * 14)  # a patch for each token of two by two latent cells
    plain = {
        "semantics": Dino(weights=dino, size=grid, device=device),
        "geometry": Vggt(network=Patches().to(device), name="stand-in", size=grid, device=device),
    }
    out, source = folder / "out", open_dataset(folder / "clips")
    begun = time.perf_counter()
    experts = {"flow": Dis(), **{n: Projected(expert=e) for n, e in plain.items()}}
    annotate(source, str(folder / "clips"), out, experts)
    sizes = {"frames": (frames + 3) // 4, "height": high // 8, "width": wide // 8}
    flags = " ".join(f"--{name} {value}" for name, value in sizes.items())
    words, every = f"{Path(__file__).resolve()}:fused --vae {vae} {flags}", range(args.pairs)
    prepare(
        words, str(out), every, out / "latents", stride=frames, precision="float16", device=device, tell=lambda _: None
    )
    prepared = time.perf_counter() - begun
    dataset = open_dataset(out)
    recipe = fused(vae=vae, **sizes).fit(dataset)
    how: dict[str, Any] = {"training": True, "stride": frames, "precision": "float16", "device": device}
    ahead = encoded_ahead(recipe, dataset, every, out / "latents", **how)
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

    for name, true in anew(0).items():
        off = (cached(0)[name] - true).abs().max() / true.abs().max()
        assert float(off) < 0.02, f"{name}: what is stored differs from what is made by {float(off):.3f}"
    spent: dict[str, list[float]] = {"cached": [], "anew": []}
    for i in every:
        for name, run in (("cached", cached), ("anew", anew)):
            begun = time.perf_counter()
            run(i)
            spent[name].append(time.perf_counter() - begun)
    ratio = [b / a for a, b in zip(spent["cached"], spent["anew"], strict=True)]
    columns = {p.name: taken(p) / args.pairs for p in sorted((out / "columns").iterdir())}
    whole = {n: e(np.asarray(source.read(0, "video", range(2)))).nbytes // 2 * frames // 2 for n, e in plain.items()}
    found = {
        "clip": [frames, high, wide, 3],
        "networks": args.networks,
        "clips_per_second": {n: round(1 / median(v), 3) for n, v in spent.items()},
        "times_as_fast": {
            "median": round(median(ratio), 1),
            "least": round(min(ratio), 1),
            "most": round(max(ratio), 1),
        },
        "seconds_to_prepare_a_clip": round(prepared / args.pairs, 3),
        "bytes_per_clip": {
            "video": taken(folder / "clips") / args.pairs,
            **columns,
            "latents of video and flow, float16": taken(out / "latents") / args.pairs,
            **{f"{n}, whole in float16": size for n, size in whole.items()},
        },
    }
    print(json.dumps(found, indent=1))
    return found


def of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("stores", "pipeline", "both"), default="both")
    for name, value in (("clips", 120), ("windows", 100), ("rounds", 5), ("frames", 21), ("window", 9)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("height", 60), ("width", 104), ("channels", 16), ("clip-frames", 17), ("pairs", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--pixels", default="240x416", help="of the pipeline's clips")
    parser.add_argument("--networks", choices=("tiny", "base"), default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, help="where stores are written [a temporary folder]")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(words)
    load = os.getloadavg()
    results = {}
    for part, run in (("stores", stores), ("pipeline", pipeline)):
        if args.part in (part, "both"):
            folder = Path(tempfile.mkdtemp(dir=args.folder))
            try:
                results[part] = run(args, folder)
            finally:
                shutil.rmtree(folder)
    if args.out:
        packages = ("numpy", "torch", "safetensors", "zarr", "pylance", "pyarrow", "diffusers", "transformers")
        record = {
            "command": " ".join(["python", "benchmarks/store.py", *(sys.argv[1:] if words is None else words)]),
            "versions": {"python": platform.python_version(), **{name: of(name) for name in packages}},
            "machine": {"processors": os.cpu_count(), "kind": platform.machine()},
            "load_before": load,
            "load_after": os.getloadavg(),
            **results,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
