"""Columns of parquet files as arrays, read once and kept within a budget of bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from av.video.reformatter import VideoReformatter

from ...recent import Recent
from ..video import AREA, nearest

BUDGET = 512 * 2**20


class Columns:
    """Whole columns of parquet files, those used lately kept in memory."""

    def __init__(self) -> None:
        self._recent: Recent[Any] = Recent(BUDGET)

    def stored(self, path: Path, key: str) -> pa.ChunkedArray:
        """The column as it is stored; ValueError naming the file where it cannot be read."""
        return self._recent.get((str(path), key), lambda: read_table(path, [key]).column(key))

    def array(self, path: Path, key: str, shape: tuple[int, ...]) -> np.ndarray:
        """(rows, *shape); floating numbers as float32."""

        def read() -> np.ndarray:
            return to_array(read_table(path, [key]).column(key), shape, f"{path}, column {key}")

        return self._recent.get((str(path), key, shape), read)


def read_table(path: Path, columns: Sequence[str] | Callable[[str], bool] | None = None) -> pa.Table:
    """A parquet file: these columns, those whose name passes, or all; ValueError naming it where it is damaged,
    unfinished or lacks a column."""
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names  # made anew at each look
            wanted = list(filter(columns, names)) if callable(columns) else None if columns is None else list(columns)
            absent = [c for c in wanted or () if c not in names]
            if absent:
                raise ValueError(f"it has no column {absent[0]!r}; possible: {', '.join(names)}")
            return file.read(columns=wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def schema_of(path: Path) -> pa.Schema:
    """The columns of a parquet file; ValueError naming it where it is damaged or unfinished."""
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds one text a row."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def to_array(column: pa.ChunkedArray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """(rows, *shape) of a column of numbers or of (nested) lists of numbers, each row of `shape`."""
    values: Any = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    rows = len(values)
    while True:
        if values.null_count:
            bad = int(pc.index(pc.is_null(values), pa.scalar(True)).as_py()) * rows // max(1, len(values))
            raise ValueError(f"{where}, row {bad}: a value is missing")
        if not (pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or _fixed(values)):
            break
        lengths = None if _fixed(values) else pc.list_value_length(values).to_numpy(zero_copy_only=False)
        if lengths is not None and len(lengths) and (lengths != lengths[0]).any():
            bad = int(np.argmax(lengths != lengths[0])) * rows // len(values)
            raise ValueError(f"{where}, row {bad}: rows of different length")
        values = values.flatten()
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_boolean(values.type)):
        raise ValueError(f"{where} holds {values.type}, not numbers")
    array = values.to_numpy(zero_copy_only=False)
    if rows and array.size != rows * math.prod(shape):
        raise ValueError(f"{where}: rows of {array.size // rows} numbers, the metadata say {math.prod(shape)} {shape}")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    return array.reshape(rows, *shape)


def _fixed(values: pa.Array) -> bool:
    return pa.types.is_fixed_size_list(values.type)


def decode_images(cells: Sequence[Any], size: tuple[int, int] | None, root: Path, where: str) -> np.ndarray:
    """(n, H, W, C) of image cells {"bytes", "path"} (PNG, JPEG, TIFF), resized as videos are."""
    scaler = VideoReformatter()
    pictures = []
    for number, cell in enumerate(cells):
        stored = cell.get("bytes") if isinstance(cell, dict) else cell
        source: Any = io.BytesIO(stored) if stored else _beside(root, cell)
        try:
            with av.open(source) as container:
                frame = next(container.decode(video=0))
        except (av.error.FFmpegError, OSError, StopIteration) as error:
            raise ValueError(f"{where}, image {number} of those asked for cannot be decoded: {error}") from None
        height, width = size or (frame.height, frame.width)
        if frame.format.name.startswith("gray16"):
            plane = frame.to_ndarray()
            pictures.append(nearest(plane.reshape(*plane.shape[:2], 1), (height, width)))
        else:
            form = "gray" if frame.format.name == "gray" else "rgb24"
            made = scaler.reformat(frame, width, height, form, interpolation=AREA, threads=1).to_ndarray()
            pictures.append(made.reshape(height, width, -1))
    return np.stack(pictures)


def _beside(root: Path, cell: Any) -> str:
    name = str(cell.get("path") or "") if isinstance(cell, dict) else ""
    if not name or name.startswith("/") or ".." in Path(name).parts:
        raise ValueError(f"an image cell holds neither bytes nor a plain path inside {root}, but {name!r}")
    return str(root / name)
