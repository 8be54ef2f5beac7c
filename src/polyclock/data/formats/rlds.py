"""RLDS data sets as TensorFlow Datasets write them, read without TensorFlow: one episode a record, steps laid flat."""

from __future__ import annotations

import hashlib
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...codecs.codec import Shape
from ...errors import unknown
from ..source import Episode, load_json, spans
from ..templates import fill
from . import tfrecord
from .options import Options
from .recordings import PICTURES, RENAMED, is_picture
from .tfrecord import BYTES, FLOATS, INTEGERS, Records

OPTIONS = ("fps", "flip", "state", "action", "task", "split", "instruction")
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
SENTENCES = ("language_instruction", "natural_language_instruction", "instruction")


@dataclass(frozen=True)
class Field:
    """A declared feature. kind: "image", "numbers" or "text"; shape of one step's value; steps: one for each step."""

    name: str
    kind: str
    shape: tuple[int | None, ...]
    dtype: str
    encoding: str
    steps: bool

    @property
    def count(self) -> int:
        """Values of one step in the record's list: one of pictures and packed tensors."""
        return 1 if self.kind == "image" or self.encoding != "none" else math.prod(n or 0 for n in self.shape)

    @property
    def column(self) -> str:
        """ "steps/observation/state" -> "observation.state"."""
        name = self.name.removeprefix("steps/").replace("/", ".")
        if self.kind == "image" and self.dtype == "uint8":
            return PICTURES + name.removeprefix("observation.")
        return RENAMED.get(name, name)


def is_rlds(root: Path) -> bool:
    """Whether a folder is one version of a TensorFlow data set."""
    return (root / "dataset_info.json").is_file()


class Rlds:
    """The shards of one split. Records are found by an index of their places; of a record only the needed bytes are
    read: the list of a column of numbers, or the pictures that are asked for.

    Errors: ValueError for what is no RLDS data set, another split, a file that is not whole or has other records.
    """

    def __init__(self, root: Path, options: Options) -> None:
        self.format, self.root = "RLDS", root
        self.fps: float | None = None
        self.notes: list[str] = []
        info = load_json(root / "dataset_info.json")
        if not (root / "features.json").is_file():
            raise ValueError(f"{root} has no features.json, which says what the records hold; older versions lack it")
        fields, left_out = _fields(load_json(root / "features.json"), root)
        if left_out:
            self.notes.append(f"{', '.join(left_out)}: of a kind that is not read; left out")
        self.fields = {f.column: f for f in fields if f.kind != "text" and f.steps}
        self.columns: dict[str, Shape] = {c: f.shape or (1,) for c, f in self.fields.items()}
        self.cameras = tuple(c for c, f in self.fields.items() if f.kind == "image" and is_picture(f.shape, f.dtype))
        self.text = _sentence_field([f for f in fields if f.kind == "text"], options.instruction, root)
        split, shards = _shards(root, info, options.split)
        self._index(split, shards)
        self._features = lru_cache(512)(self._find_features)
        self._pieces = lru_cache(512)(self._find_pieces)
        self.episodes = tuple(self._episode(number) for number in sorted(self._places))
        self._lengths = {e.index: e.length for e in self.episodes}
        whole = hashlib.sha256((root / "dataset_info.json").read_bytes() + (root / "features.json").read_bytes())
        whole.update(f"{split} {[(r.path.name, len(r.data)) for r in self.shards]}".encode())
        whole.update(f"{[(e.index, e.length, e.tasks) for e in self.episodes]}".encode())
        self.digest = whole.hexdigest()

    def _index(self, split: str, shards: list[tuple[Path, int]]) -> None:
        """Where the records of the shards lie that are here; an episode's number is its record's in the whole split."""
        self.shards: list[Records] = []
        self._places: dict[int, tuple[Records, int]] = {}
        first = 0
        for path, due in shards:
            if path.is_file():
                records = Records(path)
                if len(records.spans) != due:
                    raise ValueError(f"{path} holds {len(records.spans)} records, dataset_info.json says {due}")
                self.shards.append(records)
                self._places.update({first + i: (records, i) for i in range(due)})
            first += due
        if len(self.shards) < len(shards):
            numbers = spans(list(self._places))
            self.notes.append(
                f"{len(self.shards)} of the {len(shards)} files of split {split} are here (episodes {numbers})"
            )
        if not self._places:
            raise ValueError(f"{self.root}: no record of split {split} is here; expected {shards[0][0].name}, ...")

    def file(self, episode: int) -> Path:
        """Where an episode lies."""
        return self._places[episode][0].path

    def has(self, episode: int, key: str) -> bool:
        """Every record must have every declared feature."""
        return key in self.fields

    def _find_features(self, episode: int) -> dict[str, tuple[int, tfrecord.Span]]:
        records, number = self._places[episode]
        return records.features(number)

    def _list(self, episode: int, field: Field) -> tuple[int, tfrecord.Span]:
        """(kind, place) of a feature's list; ValueError where the record lacks it or has another kind."""
        found = self._features(episode)
        kind, span = found.get(field.name, (0, (0, 0)))
        number = np.dtype("int64" if field.kind != "numbers" else field.dtype)
        due = (
            BYTES if field.kind != "numbers" or field.encoding != "none" else FLOATS if number.kind == "f" else INTEGERS
        )
        if kind != due:
            names = {0: "nothing", BYTES: "strings", FLOATS: "floating numbers", INTEGERS: "whole numbers"}
            raise ValueError(
                f"{self._where(episode)} has {names[kind]} as {field.name}; features.json says {names[due]}"
            )
        return kind, span

    def _where(self, episode: int) -> str:
        records, number = self._places[episode]
        return f"{records.path}, record {number}"

    def _episode(self, number: int) -> Episode:
        """Length and sentences, from the shortest list of the steps and the list of sentences."""
        found = self._features(number)
        steps = [f for f in self.fields.values() if f.name in found and found[f.name][0]]
        if not steps:
            raise ValueError(f"{self._where(number)} has none of the features that features.json declares for steps")
        least = min(steps, key=lambda f: found[f.name][1][1] - found[f.name][1][0])
        data = self._places[number][0].data
        values = tfrecord.count(data, *self._list(number, least))
        if not least.count or values % least.count:
            raise ValueError(f"{self._where(number)}: {values} numbers as {least.name}, which has {least.count} a step")
        length = values // least.count
        tasks: list[str] = []
        if self.text is not None:
            pieces = self._pieces(number, self.text)
            tasks = [t for t in dict.fromkeys(self._text(number, a, b) for a, b in pieces.tolist()) if t]
        return Episode(index=number, length=length, tasks=tuple(tasks))

    def _find_pieces(self, episode: int, field: Field) -> np.ndarray:
        """(n, 2): places of a feature's strings."""
        _, span = self._list(episode, field)
        return tfrecord.byte_spans(self._places[episode][0].data, span)

    def _text(self, episode: int, start: int, stop: int) -> str:
        return self._places[episode][0].data[start:stop].decode("utf-8", "replace").strip()

    def sentence(self, episode: int, frame: int) -> str:
        """The sentence of a step, or of the episode."""
        assert self.text is not None
        pieces = self._pieces(episode, self.text)
        if self.text.steps:
            self._agree(episode, self.text, len(pieces))
        return self._text(episode, *pieces[frame if self.text.steps else 0].tolist())

    def _agree(self, episode: int, field: Field, values: int) -> None:
        length = self._lengths[episode]
        if values != length * field.count:
            what = f"{length} steps of {field.count} are due"
            raise ValueError(f"{self._where(episode)}: {values} values as {field.name}; {what}")

    def rows(self, episode: int, key: str, frames: np.ndarray) -> np.ndarray:
        """(n, *S): of pictures and encoded tensors only those of `frames` are decoded."""
        field = self.fields[key]
        data = self._places[episode][0].data
        if field.kind == "numbers" and field.encoding == "none":
            kind, span = self._list(episode, field)
            try:
                values = tfrecord.floats(data, span) if kind == FLOATS else tfrecord.integers(data, span)
            except ValueError as error:
                raise ValueError(f"{self._where(episode)}, {field.name}: {error}") from None
            shape = field.shape or (1,)
            self._agree(episode, field, len(values))
            return values.reshape(-1, *shape)[frames].astype(_dtype(field))
        pieces = self._pieces(episode, field)
        self._agree(episode, field, len(pieces))
        out = []
        for frame in frames.tolist():
            start, stop = pieces[frame].tolist()
            try:
                decode = _picture if field.kind == "image" else _tensor
                out.append(decode(data[start:stop], field))
            except (OSError, ValueError, zlib.error, Image.DecompressionBombError) as error:
                raise ValueError(f"{self._where(episode)}, {field.name}, frame {frame}: {error}") from None
        if not out:
            return np.empty((0, *(n or 0 for n in self.columns[key])), _dtype(field))
        return np.stack(out)

    def check(self) -> Iterator[tuple[Path, int | None, int | None, str]]:
        """The checksums of the records' data."""
        for episode, (records, number) in sorted(self._places.items()):
            if not records.sound(number):
                yield records.path, episode, None, f"the checksum of the data of record {number} does not agree"


def _dtype(field: Field) -> np.dtype:
    dtype = np.dtype(field.dtype)
    return np.dtype(np.float32) if dtype.kind == "f" else dtype


def _picture(stored: bytes, field: Field) -> np.ndarray:
    """(H, W, C) of a JPEG or PNG, of the declared size."""
    try:
        image = Image.open(io.BytesIO(stored), formats=("JPEG", "PNG"))
    except OSError:
        raise ValueError(f"its {len(stored)} bytes are neither JPEG nor PNG") from None
    height, width, channels = field.shape
    if (height or image.height, width or image.width) != (image.height, image.width):
        raise ValueError(f"a picture of {image.height} x {image.width}; features.json says {height} x {width}")
    if field.dtype == "uint16":
        made = np.asarray(image).astype(np.uint16)
    else:
        made = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels or 3]))
    return made.reshape(image.height, image.width, -1)


def _tensor(stored: bytes, field: Field) -> np.ndarray:
    """A tensor that is stored as its bytes, or those packed by zlib."""
    dtype = np.dtype(field.dtype)
    shape = tuple(int(n or 0) for n in field.shape) or (1,)
    due = math.prod(shape) * dtype.itemsize
    if field.encoding == "zlib":
        stored = zlib.decompressobj().decompress(stored, due + 1)
    if len(stored) != due:
        raise ValueError(f"{len(stored)} bytes or more, {due} are due for {dtype} {shape}")
    return np.frombuffer(stored, dtype).reshape(shape).astype(_dtype(field))


def _shards(root: Path, info: dict[str, Any], asked: str | None) -> tuple[str, list[tuple[Path, int]]]:
    """(the split's name, [(file, its records)]). Without `asked` it is "train", or the only one there is.

    Errors: ValueError for another format than TFRecord, and for a split that is not declared.
    """
    kind = str(info.get("fileFormat") or "tfrecord")
    if kind != "tfrecord":
        raise ValueError(f"{root}: the files are {kind}; possible: tfrecord")
    splits = {str(s.get("name")): s for s in info.get("splits") or [] if isinstance(s, dict)}
    if asked is None:
        asked = next(iter(splits)) if len(splits) == 1 else "train"
    if asked not in splits:
        raise unknown(f"split of {root}:", asked, splits)
    split = splits[asked]
    try:
        lengths = [int(n) for n in split.get("shardLengths") or []]
    except (TypeError, ValueError):
        raise ValueError(f"{root / 'dataset_info.json'}: shardLengths of {asked} are no list of numbers") from None
    total = len(lengths)
    if not total:
        raise ValueError(f"{root / 'dataset_info.json'}: split {asked} has no shardLengths")
    template = str(split.get("filepathTemplate") or TEMPLATE)
    name = str(info.get("name") or "")
    paths = []
    for i in range(total):
        words = {"DATASET": name, "SPLIT": asked, "FILEFORMAT": kind, "SHARD_X_OF_Y": f"{i:05d}-of-{total:05d}"}
        words |= {"SHARD_INDEX": f"{i:05d}", "NUM_SHARDS": f"{total:05d}"}
        paths.append(root / fill(template, **words))
    return asked, list(zip(paths, lengths, strict=True))


def _sentence_field(texts: list[Field], asked: str | None, root: Path) -> Field | None:
    """The text that is the episode's sentence: the one asked for, or one that is called a language instruction."""
    by_name = {f.name.removeprefix("steps/").replace("/", "."): f for f in texts}
    if asked is not None:
        if asked not in by_name:
            raise unknown(f"text of {root}:", asked, by_name)
        return by_name[asked]
    return next((f for word in SENTENCES for n, f in by_name.items() if n.rsplit(".", 1)[-1] == word), None)


def _fields(node: dict[str, Any], root: Path) -> tuple[list[Field], list[str]]:
    """(the features that can be read, names of those that cannot) of features.json."""
    fields: list[Field] = []
    left_out: list[str] = []

    def visit(node: Any, name: str, steps: bool) -> None:
        node = node if isinstance(node, dict) else {}
        if "featuresDict" in node:
            for child, inner in (node["featuresDict"].get("features") or {}).items():
                visit(inner, f"{name}/{child}" if name else str(child), steps)
        elif "sequence" in node and name == "steps":
            visit(node["sequence"].get("feature"), name, True)
        elif (field := _leaf(node, name, steps)) is not None:
            fields.append(field)
        elif steps:
            left_out.append(name)

    try:
        visit(node, "", False)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{root / 'features.json'} is not as TensorFlow Datasets write it: {error}") from None
    if not any(f.steps and f.kind != "text" for f in fields):
        raise ValueError(f"{root / 'features.json'} declares no steps: this is no RLDS data set")
    # The order in the file is that of a hash map.
    return sorted(fields, key=lambda f: f.name), left_out


def _leaf(node: dict[str, Any], name: str, steps: bool) -> Field | None:
    """One tensor, picture or text; None for what is not read."""
    kind = next((k for k in ("image", "tensor", "text", "classLabel") if k in node), None)
    if kind is None:
        return None
    entry = node[kind]
    sizes = [int(n) for n in (entry.get("shape") or {}).get("dimensions") or []]
    shape = tuple(None if n < 0 else n for n in sizes)
    dtype = str(entry.get("dtype") or {"image": "uint8", "classLabel": "int64"}.get(kind, "string"))
    if kind == "text" or (dtype == "string" and not shape):
        return Field(name, "text", (), "string", "none", steps)
    if kind == "image":
        good = len(shape) == 3 and shape[2] in (1, 3, 4) and dtype in ("uint8", "uint16")
        return Field(name, "image", shape, dtype, "", steps) if good else None
    encoding = str(entry.get("encoding") or "none").lower()
    try:
        number = np.dtype(dtype)
    except TypeError:
        return None
    good = number.kind in "biuf" and None not in shape and encoding in ("none", "bytes", "zlib")
    return Field(name, "numbers", shape, dtype, encoding, steps) if good else None
