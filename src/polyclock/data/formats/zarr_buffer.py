"""Replay buffers in zarr v2, in a folder or a zip: arrays of all episodes one after the other, and where each ends."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...codecs.codec import Shape
from ...errors import missing
from ...recent import Recent
from ..source import Episode, UntidyData
from .options import Options
from .recordings import is_picture, named

OPTIONS = ("fps", "flip", "state", "action", "task")
ENDS = "meta/episode_ends"
BUDGET = 512 * 2**20  # bytes of decoded chunks that are kept; those that hold a single frame never are
LARGEST = 2**31  # bytes of a chunk
COUNTED = 4096  # chunks of an array up to which the sizes of its files go into the fingerprint
# What turns bytes into bytes or numbers and can do nothing else; "pickle" and its like are no data.
CODECS = ("blosc", "zlib", "gzip", "bz2", "lzma", "lz4", "zstd", "shuffle", "delta", "fixedscaleoffset", "bitround",
          "quantize", "astype", "packbits", "crc32", "crc32c", "adler32", "fletcher32")  # fmt: skip


def is_buffer(root: Path) -> bool:
    """Whether this is a zarr folder or a zip that may hold one."""
    if root.is_dir():
        return (root / ".zgroup").is_file() or (root / "zarr.json").is_file() or (root / ENDS / ".zarray").is_file()
    return root.suffix.lower() == ".zip" and zipfile.is_zipfile(root)


class Files:
    """The files of a zarr hierarchy by name, in a folder or below `prefix` of a zip."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._zip: zipfile.ZipFile | None = None
        self._sizes: dict[str, int] = {}
        if root.is_file():
            try:
                self._zip = zipfile.ZipFile(root)
            except (OSError, zipfile.BadZipFile) as error:
                raise ValueError(f"{root} cannot be read as a zip: {error}") from None
            names = [i.filename for i in self._zip.infolist() if i.filename.endswith(f"{ENDS}/.zarray")]
            self.prefix = names[0].removesuffix(f"{ENDS}/.zarray") if len(names) == 1 else ""
            self._sizes = {
                i.filename.removeprefix(self.prefix): i.file_size
                for i in self._zip.infolist()
                if i.filename.startswith(self.prefix)
            }

    def read(self, name: str) -> bytes | None:
        """The content of a file, None where it is not there; ValueError where it cannot be read."""
        try:
            if self._zip is not None:
                return self._zip.read(self.prefix + name) if name in self._sizes else None
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
            raise ValueError(f"{self.root}: {name} cannot be read: {error}") from None

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where it is not there."""
        if self._zip is not None:
            return self._sizes.get(name)
        path = self.root / name
        return path.stat().st_size if path.is_file() else None

    def arrays(self, group: str) -> list[str]:
        """Names of the arrays below a group, those of its groups with them; no chunk is listed in a folder."""
        if self._zip is not None:
            ends = [n for n in self._sizes if n.startswith(f"{group}/") and n.endswith("/.zarray")]
            return sorted(n.removesuffix("/.zarray").removeprefix(f"{group}/") for n in ends)
        found: list[str] = []
        for path in sorted((self.root / group).iterdir()) if (self.root / group).is_dir() else []:
            if (path / ".zarray").is_file():
                found.append(path.name)
            elif (path / ".zgroup").is_file():
                found += [f"{path.name}/{name}" for name in self.arrays(f"{group}/{path.name}")]
        return found


@dataclass(frozen=True, eq=False)
class Grid:
    """An array's document: shape, chunks, numbers, and how chunks are packed. Chunk files are `name/0.0.0`."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    order: str
    separator: str
    fill: Any
    packed: tuple[dict[str, Any], ...]  # codecs in the order in which they were applied

    def file(self, place: tuple[int, ...]) -> str:
        """The file of the chunk at a place of the grid."""
        return f"{self.name}/{self.separator.join(map(str, place))}"

    def places(self, rows: int) -> Iterator[tuple[int, ...]]:
        """All chunks that hold some of the first `rows` rows."""
        sizes = (rows, *self.shape[1:])
        return itertools.product(*(range(-(-n // c)) for n, c in zip(sizes, self.chunks, strict=True)))

    @cached_property
    def codecs(self) -> list[Any]:
        """In the order in which they were applied."""
        if not self.packed:
            return []
        try:
            import numcodecs
        except ImportError:
            raise missing("numcodecs", "formats") from None
        return [numcodecs.get_codec(dict(c)) for c in self.packed]


def read_grid(files: Files, name: str) -> Grid:
    """The document of an array. Errors: ValueError for what is not numbers, or packed by a codec not in `CODECS`."""
    where = f"{files.root}: {name}"
    stored = files.read(f"{name}/.zarray")
    if stored is None:
        raise ValueError(f"{where} is not there (no .zarray)")
    try:
        plain = json.loads(stored)
        shape, chunks = (tuple(int(n) for n in plain[k]) for k in ("shape", "chunks"))
        kind = plain["dtype"]
        number = np.dtype(kind) if isinstance(kind, str) else None
        packed = [*(plain.get("filters") or []), *([plain["compressor"]] if plain.get("compressor") else [])]
        identities = [str(c["id"]) for c in packed]
        order, separator = str(plain.get("order", "C")), str(plain.get("dimension_separator", "."))
        good = plain["zarr_format"] == 2 and order in "CF" and separator in (".", "/")
        good = good and len(shape) == len(chunks) >= 1 and min(shape) >= 0 and min(chunks) >= 1
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}/.zarray is no zarr v2 array: {error!r}") from None
    if not good:
        raise ValueError(f"{where}/.zarray is no zarr v2 array: format {plain['zarr_format']}, shape {shape}")
    if number is None or number.kind not in "biuf":
        raise ValueError(f"{where} holds {kind}, not numbers")
    if math.prod(chunks) * number.itemsize > LARGEST:
        raise ValueError(f"{where} has chunks of {chunks}, more than {LARGEST} bytes")
    for identity in identities:
        if identity not in CODECS:
            raise ValueError(f"{where} is packed by {identity!r}; possible: {', '.join(CODECS)}")
    return Grid(name, shape, chunks, number, order, separator, plain.get("fill_value"), tuple(packed))


class Buffer:
    """A replay buffer: `data/<name>` (n, *S) of all episodes, `meta/episode_ends` (E,) rows, which may be fewer than n.

    Pictures are uint8 (H, W, 1 or 3), or floating numbers of 0 to 255 of that shape, which are given as uint8.
    Errors: ValueError naming the array where the hierarchy is not as it should be.
    """

    def __init__(self, root: Path, options: Options) -> None:
        self.format, self.root = "zarr replay buffer", root
        self.fps: float | None = None
        self.notes: list[str] = []
        self.files = Files(root)
        self._recent: Recent[np.ndarray] = Recent(BUDGET)
        self._told: set[str] = set()
        if self.files.read("zarr.json") is not None:
            raise ValueError(f"{root} is of zarr format 3; replay buffers are read in format 2")
        if self.files.size(f"{ENDS}/.zarray") is None:
            raise ValueError(f"{root} is no replay buffer: it has no {ENDS}")
        ends = self._array(read_grid(self.files, ENDS)).astype(np.int64).ravel()
        if not len(ends) or (np.diff(ends, prepend=0) < 0).any():
            raise ValueError(f"{root}: {ENDS} must rise from the first episode on, got {ends[:8].tolist()}")
        self._starts = np.concatenate([[0], ends[:-1]])
        self._ends = ends
        self.episodes = tuple(
            Episode(index=i, length=int(b - a))
            for i, (a, b) in enumerate(zip(self._starts, ends, strict=True))
            if b > a
        )
        names = self.files.arrays("data")
        if not names:
            raise ValueError(f"{root} has no arrays below data/")
        self.grids: dict[str, Grid] = {}
        self.columns: dict[str, Shape] = {}
        cameras: list[str] = []
        for name in names:
            grid = read_grid(self.files, f"data/{name}")
            if grid.shape[0] < ends[-1]:
                raise ValueError(f"{root}: data/{name} has {grid.shape[0]} rows, the episodes end at {ends[-1]}")
            picture = is_picture(grid.shape[1:], grid.dtype) or self._is_floating_picture(grid)
            column = named(name.removeprefix("obs.").removeprefix("obs/"), picture)
            self.grids[column], self.columns[column] = grid, grid.shape[1:] or (1,)
            cameras += [column] if picture else []
        self.cameras = tuple(cameras)
        self.digest = self._digest()

    def _digest(self) -> str:
        """Documents, ends of episodes, and sizes: of the zip, or of the chunk files of arrays that have few."""
        whole = hashlib.sha256(self._ends.tobytes())
        for grid in self.grids.values():
            whole.update(f"{grid.name}\n".encode() + (self.files.read(f"{grid.name}/.zarray") or b""))
            places = (
                [] if self.root.is_file() else list(itertools.islice(grid.places(int(self._ends[-1])), COUNTED + 1))
            )
            if len(places) <= COUNTED:
                whole.update(f"{[self.files.size(grid.file(p)) for p in places]}".encode())
        if self.root.is_file():
            whole.update(f"{self.root.stat().st_size}".encode())
        return whole.hexdigest()

    def _is_floating_picture(self, grid: Grid) -> bool:
        """Whether three frames hold numbers of 0 to 255 and not only of 0 to 1; a black data set is no picture."""
        if grid.dtype.kind != "f" or len(grid.shape) != 4 or grid.shape[-1] not in (1, 3) or min(grid.shape) < 1:
            return False
        last = int(self._ends[-1]) - 1
        seen = self._take(grid, np.unique([0, last // 2, last]))
        return bool(seen.min() >= 0 and 1 < seen.max() <= 255)

    def file(self, episode: int) -> Path:
        """All episodes lie in one buffer."""
        return self.root

    def has(self, episode: int, key: str) -> bool:
        """Every array holds every episode."""
        return key in self.grids

    def sentence(self, episode: int, frame: int) -> str:
        """A buffer has no sentences."""
        return ""

    def rows(self, episode: int, key: str, frames: np.ndarray) -> np.ndarray:
        """(n, *S): only the chunks that hold `frames` are read."""
        grid = self.grids[key]
        rows = self._take(grid, frames + self._starts[episode])
        if key in self.cameras and rows.dtype != np.uint8:
            odd = [f for f, row in zip(frames.tolist(), rows, strict=True) if not (row.min() >= 0 and row.max() <= 255)]
            if odd:
                raise ValueError(f"{self.root}: {grid.name}, frame {odd[0]}: a picture holds numbers outside 0 to 255")
            rows = np.rint(rows).astype(np.uint8)
        return rows[:, None] if rows.ndim == 1 else rows

    def _array(self, grid: Grid) -> np.ndarray:
        return self._take(grid, np.arange(grid.shape[0]))

    def _take(self, grid: Grid, rows: np.ndarray) -> np.ndarray:
        """(n, *S) of rows of the whole array."""
        out = np.empty((len(rows), *grid.shape[1:]), grid.dtype.newbyteorder("="))
        along, inside = rows // grid.chunks[0], rows % grid.chunks[0]
        across = list(zip(grid.shape[1:], grid.chunks[1:], strict=True))
        rest = list(itertools.product(*(range(-(-n // c)) for n, c in across)))
        for first in np.unique(along):
            here = np.flatnonzero(along == first)
            for place in rest:
                block = self._chunk(grid, (int(first), *place))[inside[here]]
                target: tuple[Any, ...] = tuple(
                    slice(p * c, (p + 1) * c) for p, (_, c) in zip(place, across, strict=True)
                )
                # The last chunk of a row passes the array's edge.
                source = tuple(slice(0, n - p * c) for p, (n, c) in zip(place, across, strict=True))
                out[(here, *target)] = block[(slice(None), *source)]
        return out

    def _chunk(self, grid: Grid, place: tuple[int, ...]) -> np.ndarray:
        """One chunk, kept in memory where it holds several frames."""
        name = grid.file(place)
        if grid.chunks[0] == 1:
            return self._decode(grid, name)
        return self._recent.get(name, lambda: self._decode(grid, name))

    def _decode(self, grid: Grid, name: str) -> np.ndarray:
        stored: Any = self.files.read(name)
        if stored is None:
            if grid.name not in self._told:
                self._told.add(grid.name)
                warnings.warn(f"{self.root.name}: {name} is not there; its rows are read as {grid.fill or 0}, as the "
                              "format has it.", UntidyData, stacklevel=2)  # fmt: skip
            return np.full(grid.chunks, grid.fill or 0, grid.dtype.newbyteorder("="))
        codecs = grid.codecs
        try:
            for codec in reversed(codecs):
                _check_blosc(codec, stored)
                stored = codec.decode(stored)
            numbers = np.frombuffer(stored, np.uint8)
            due = math.prod(grid.chunks) * grid.dtype.itemsize
            if numbers.size != due:
                raise ValueError(f"{numbers.size} bytes, {due} are due")
        except Exception as error:  # codecs raise what they please on damaged bytes
            raise ValueError(f"{self.root}: {name} cannot be decoded: {error}") from None
        shaped = numbers.view(grid.dtype).reshape(grid.chunks, order="F" if grid.order == "F" else "C")
        return shaped.astype(grid.dtype.newbyteorder("="), copy=False)

    def check(self) -> Iterator[tuple[Path, int | None, int | None, str]]:
        """Chunks that are not there, by the first frame that they hold."""
        for grid in self.grids.values():
            for place in grid.places(int(self._ends[-1])):
                if self.files.size(grid.file(place)) is None:
                    row = place[0] * grid.chunks[0]
                    episode = int(np.searchsorted(self._ends, row, side="right"))
                    what = f"is not there: its rows are read as {grid.fill or 0} (or a writer left out an empty chunk)"
                    yield self.root / grid.file(place), episode, row - int(self._starts[episode]), what


def _check_blosc(codec: Any, stored: Any) -> None:
    """Errors: the length in the head is not that of the bytes, which the library itself reads past the end of."""
    if codec.codec_id != "blosc":
        return
    head = bytes(memoryview(stored)[:16])
    said, large = int.from_bytes(head[12:16], "little"), int.from_bytes(head[4:8], "little")
    if len(head) < 16 or said != len(stored) or large > LARGEST:
        raise ValueError(f"{len(stored)} bytes, its head says {said}")
