"""Files of `torch.save` read without running anything: tensors, arrays, numbers, texts and what a caller vouches for.

Both layouts are read, the zip archive (torch 1.6 and later) and the older stream. Tensors lie in a private memory map
of the file: pages are read when they are looked at, and writing to a tensor never changes the file.
"""

from __future__ import annotations

import mmap
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .pickles import Known, Machine, Named, Refused, Restored, shown

# A state dict of a thousand tensors and its optimiser take a twentieth of it.
PICKLE_BYTES = 8 << 20
ZIP_START, LEGACY_START = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read(path: str | Path, stand_ins: Mapping[str, Callable[[], Restored]] | None = None) -> Any:
    """What `torch.save` wrote to `path`, all tensors on the CPU.

    `stand_ins` maps a class that the file may hold, "module.Class", to a maker of an empty `Restored` (which may be a
    dict too) that takes the place of its instances. Nothing else is made but dicts, lists, tuples, texts, numbers,
    tensors and numeric arrays. Errors: ValueError, naming file and place, for any other name, a size that is not what
    the file holds, a compressed or damaged archive, a file of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if path.stat().st_size < 16:
        raise ValueError(f"{path} is too short to be a file of torch.save")
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    head = bytes(data[:512])
    if head.startswith(ZIP_START):
        return _Archive(path, data, stand_ins or {}).load()
    if head.startswith(LEGACY_START):
        return _Stream(path, data, stand_ins or {}).load()
    if head[257:262] == b"ustar":
        raise ValueError(f"{path} is a tar archive of torch before 0.2, which is not read; save it anew with torch")
    raise ValueError(f"{path} is no file of torch.save: it begins with {head[:8]!r}")


# ---------------------------------------------------------------- tensors and arrays


@dataclass(frozen=True, eq=False)
class Stored:
    """A stretch of the file that holds `count` numbers; `start` is its first byte, None where nothing is read yet."""

    data: mmap.mmap
    key: str
    dtype: torch.dtype
    count: int
    start: int | None
    cache: dict[str, Tensor]

    def values(self) -> Tensor:
        """(count,) in the memory map; a copy where the file has put it across the borders of its numbers."""
        if self.key not in self.cache:
            assert self.start is not None
            size = self.dtype.itemsize
            if self.start % size:
                part = bytearray(memoryview(self.data)[self.start : self.start + self.count * size])
                self.cache[self.key] = torch.frombuffer(part, dtype=self.dtype)
            else:
                whole = torch.frombuffer(self.data, dtype=self.dtype, count=self.count, offset=self.start)
                self.cache[self.key] = whole
        return self.cache[self.key]


def _whole(numbers: Any, what: str) -> tuple[int, ...]:
    """Sizes as they are. Errors: ValueError for anything but a few whole numbers from 0 on."""
    if not isinstance(numbers, tuple | list) or len(numbers) > 32:
        raise ValueError(f"{what} is {shown(numbers)}, not a few whole numbers")
    for n in numbers:
        if type(n) is not int or not 0 <= n < 1 << 48:
            raise ValueError(f"{what} holds {shown(n)}, which is no whole number from 0 on")
    return tuple(numbers)


def _tensor(
    stored: Any, offset: Any, size: Any, stride: Any, grad: Any = False, hooks: Any = None, metadata: Any = None
) -> Tensor:
    """What torch._utils._rebuild_tensor_v2 makes of a stretch of the file."""
    if not isinstance(stored, Stored):
        raise ValueError(f"a tensor of a {type(stored).__name__}")
    size, stride = _whole(size, "the size"), _whole(stride, "the stride")
    (offset,) = _whole([offset], "the offset")
    if len(size) != len(stride) or hooks or metadata:
        raise ValueError("a tensor with hooks, with marks, or with a stride for another number of axes")
    count = 1
    for n in size:
        count *= n
    if not count:
        return torch.empty(size, dtype=stored.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= stored.count or count > stored.count:
        raise ValueError(f"a tensor of size {size} and stride {stride} at {offset} in {stored.count} stored numbers")
    if stored.start is None:
        return torch.empty(0, dtype=stored.dtype)
    return stored.values().as_strided(size, stride, offset)


def _parameter(data: Any, grad: Any = False, hooks: Any = None) -> Tensor:
    if not isinstance(data, Tensor) or hooks:
        raise ValueError("a parameter that is no plain tensor")
    return data


class _Dtype(Restored):
    """A numeric dtype of numpy; its state says which end its bytes begin with."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or not re.fullmatch("[biufc][0-9]{1,2}", code):
            raise ValueError(f"arrays of {shown(code)}; only numbers are read")
        try:
            self.dtype = np.dtype(code)
        except TypeError as problem:
            raise ValueError(str(problem)) from None

    def restore(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("no state of a numeric dtype")
        if any(part is not None for part in state[2:5]):
            raise ValueError("an array of records; only numbers are read")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(Restored, np.ndarray):
    """An array of numpy that is filled by its state."""

    def restore(self, state: Any) -> None:
        if self.size:
            raise ValueError("an array is filled once")
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise ValueError("an array's state is (version, shape, dtype, order, bytes)")
        _, shape, kind, fortran, raw = state
        shape, count = _whole(shape, "the shape"), kind.dtype.itemsize
        for n in shape:
            count *= n
        if not isinstance(raw, bytes) or len(raw) != count:
            have = len(raw) if isinstance(raw, bytes) else type(raw).__name__
            raise ValueError(f"an array of shape {shape} and {kind.dtype} has {have} of {count} bytes")
        self.__setstate__((1, shape, kind.dtype, bool(fortran), raw))  # type: ignore[arg-type]


def _array(kind: Any, shape: Any, code: Any) -> _Array:
    """What numpy's _reconstruct makes: an empty array, filled by its state."""
    if not isinstance(kind, Named) or kind.text != "numpy.ndarray" or shape != (0,):
        raise ValueError("arrays are made empty and filled by their state")
    return np.empty(0).view(_Array)


def _encoded(text: Any, coding: Any) -> bytes:
    """Bytes as protocol 2 writes them: a text of code points below 256."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise ValueError(f"the coding {shown(coding)}; only latin1 is read")
    return text.encode("latin1")


def _ordered() -> dict[Any, Any]:
    """An empty dict, which keeps its order as an OrderedDict does."""
    return {}


def table(stand_ins: Mapping[str, Callable[[], Restored]]) -> dict[str, Known]:
    """Every name that a file may hold, and what it stands for."""
    names = {f"torch.{name}": Known() for name in STORAGES}
    names |= {
        "collections.OrderedDict": Known(call=_ordered),
        "torch._utils._rebuild_tensor": Known(call=_tensor),
        "torch._utils._rebuild_tensor_v2": Known(call=_tensor),
        "torch._utils._rebuild_parameter": Known(call=_parameter),
        "torch.Size": Known(call=lambda sizes: _whole(sizes, "the size")),
        "numpy.ndarray": Known(),
        "numpy.dtype": Known(call=_Dtype),
        "_codecs.encode": Known(call=_encoded),
    }
    names |= {f"numpy.{core}.multiarray._reconstruct": Known(call=_array) for core in ("core", "_core")}
    return names | {name: Known(new=make) for name, make in stand_ins.items()}


# ---------------------------------------------------------------- the two layouts


class _Saved:
    """What both layouts share: the file, its memory map, and the stretches that were asked for by key."""

    def __init__(self, path: Path, data: mmap.mmap, stand_ins: Mapping[str, Callable[[], Restored]]) -> None:
        self.path, self.data, self.names = path, data, table(stand_ins)
        self.cache: dict[str, Tensor] = {}

    def machine(self, start: int, stop: int, part: str, persistent: Callable[[Any], Any] | None = None) -> Machine:
        stop = min(stop, start + PICKLE_BYTES)
        return Machine(bytes(self.data[start:stop]), self.names, f"{self.path}: {part}", persistent)

    def asked(self, identity: Any, length: int) -> tuple[str, torch.dtype, int]:
        """Key, dtype and number of a persistent id. Errors: ValueError for one that is no plain storage."""
        if not isinstance(identity, tuple) or len(identity) != length or identity[0] != "storage":
            raise ValueError("a persistent id that is no storage")
        _, kind, key, location, count = identity[:5]
        known = isinstance(kind, Named) and kind.text.removeprefix("torch.") in STORAGES
        if not known or not isinstance(key, str) or not isinstance(location, str):
            raise ValueError("a persistent id that is no plain storage")
        (count,) = _whole([count], "the number of a storage")
        if length == 6 and identity[5] is not None:
            raise ValueError("a storage that is a view of another, as torch before 0.4 wrote them")
        return key, STORAGES[kind.text.removeprefix("torch.")], count


class _Archive(_Saved):
    """The zip archive: NAME/data.pkl, and one uncompressed record NAME/data/KEY for each storage."""

    def load(self) -> Any:
        self.records = self._records()
        pickles = [name for name in self.records if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1 or any("/code/" in n or n.endswith("/constants.pkl") for n in self.records):
            raise ValueError(f"{self.path} is a zip archive, but not one of torch.save (a TorchScript program?)")
        self.root = pickles[0].removesuffix("data.pkl")
        order = self.records.get(f"{self.root}byteorder")
        if order and bytes(self.data[order[0] : sum(order)]).decode("latin1") != sys.byteorder:
            raise ValueError(f"{self.path} was written with the other byte order, which is not read")
        start, size = self.records[pickles[0]]
        if size > PICKLE_BYTES:
            raise ValueError(f"{self.path}: data.pkl has {size} bytes; more than {PICKLE_BYTES} are not read")
        return self.machine(start, start + size, "data.pkl", self.storage).load()

    def storage(self, identity: Any) -> Stored:
        key, dtype, count = self.asked(identity, 5)
        record = self.records.get(f"{self.root}data/{key}")
        if record is None:
            raise ValueError(f"the storage {key!r} is not in the file")
        if record[1] != count * dtype.itemsize:
            raise ValueError(f"the storage {key!r} has {record[1]} bytes, not the {count * dtype.itemsize} it says")
        return Stored(self.data, f"{key} {dtype}", dtype, count, record[0], self.cache)

    def _records(self) -> dict[str, tuple[int, int]]:
        """Name -> (first byte, bytes).

        Errors: ValueError for a record that is compressed, double, out of bounds, or that shares bytes with another.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OSError) as problem:
            raise ValueError(f"{self.path} is a damaged zip archive: {problem}") from None
        out: dict[str, tuple[int, int]] = {}
        for entry in entries:
            name, size = entry.filename, entry.file_size
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != size or entry.flag_bits & 1:
                raise ValueError(f"{self.path}: the record {name!r} is compressed or encrypted, which torch never does")
            if name in out:
                raise ValueError(f"{self.path}: the record {name!r} stands there twice")
            header = bytes(self.data[entry.header_offset : entry.header_offset + 30])
            if entry.header_offset < 0 or len(header) < 30 or header[:4] != ZIP_START:
                raise ValueError(f"{self.path} is a damaged zip archive: no record where {name!r} should be")
            start = entry.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
            if start + size > len(self.data):
                raise ValueError(f"{self.path}: the record {name!r} of {size} bytes goes beyond the end of the file")
            out[name] = (start, size)
        end = 0
        for name, (start, size) in sorted(out.items(), key=lambda record: record[1]):
            if start < end:
                raise ValueError(f"{self.path}: the record {name!r} lies within another one")
            end = start + size
        return out


class _Stream(_Saved):
    """The older layout: magic number, version, system, object, keys, then each storage's numbers."""

    def load(self) -> Any:
        place, parts = 0, []
        for _ in range(3):
            machine = self.machine(place, len(self.data), "header")
            parts.append(machine.load())
            place += machine.end
        system = parts[2] if isinstance(parts[2], dict) else {}
        if parts[:2] != [LEGACY_MAGIC, LEGACY_VERSION] or system.get("little_endian") is not True:
            raise ValueError(f"{self.path} is of a version or byte order of torch.save that is not read")
        # Where the numbers lie is known only behind the object, so it is gone through twice.
        self.found: dict[str, tuple[torch.dtype, int]] = {}
        self.starts: dict[str, int] = {}
        first = self.machine(place, len(self.data), "object", self.storage)
        first.load()
        after = self.machine(place + first.end, len(self.data), "keys")
        keys = after.load()
        self._locate(keys, place + first.end + after.end)
        return self.machine(place, len(self.data), "object", self.storage).load()

    def storage(self, identity: Any) -> Stored:
        key, dtype, count = self.asked(identity, 6)
        if self.found.setdefault(key, (dtype, count)) != (dtype, count):
            raise ValueError(f"the storage {key!r} is said to be two different things")
        return Stored(self.data, key, dtype, count, self.starts.get(key), self.cache)

    def _locate(self, keys: Any, place: int) -> None:
        """Finds each storage's first byte, from `place` on."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(self.found):
            raise ValueError(f"{self.path}: the storages at its end are not those that it names")
        for key in keys:
            dtype, count = self.found[key]
            head = bytes(self.data[place : place + 8])
            if key in self.starts or len(head) < 8 or struct.unpack("<q", head)[0] != count:
                raise ValueError(f"{self.path}: the storage {key!r} does not have the {count} numbers it says")
            self.starts[key] = place + 8
            place += 8 + count * dtype.itemsize
            if place > len(self.data):
                raise ValueError(f"{self.path}: the storage {key!r} of {count} numbers goes beyond the end of the file")


__all__ = ["Refused", "Restored", "read"]
