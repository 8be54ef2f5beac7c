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

from polyclock.data import Latents
from polyclock.data.source import Episode

sys.path.insert(0, str(Path(__file__).resolve().parent))
from prepared import pipeline, taken  # noqa: E402

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
