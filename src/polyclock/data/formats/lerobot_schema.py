"""The columns, types and metadata of a LeRobotDataset v3.0, as lerobot 0.4.4 writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import unknown
from .. import dense
from ..statistics import NAMES, Statistics
from .columns import read_table

VERSION = "v3.0"
CHUNK = 1000  # files in a folder
DATA_MB, VIDEO_MB = 100, 200  # sizes that merged files aim at
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
TASKS_PATH = "meta/tasks.parquet"
TASK_COLUMN = "__index_level_0__"  # what pandas calls an index without a name
ALWAYS = {
    "timestamp": {"dtype": "float32", "shape": (1,), "names": None},
    "frame_index": {"dtype": "int64", "shape": (1,), "names": None},
    "episode_index": {"dtype": "int64", "shape": (1,), "names": None},
    "index": {"dtype": "int64", "shape": (1,), "names": None},
    "task_index": {"dtype": "int64", "shape": (1,), "names": None},
}
NUMBERS = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
Features = Mapping[str, Mapping[str, Any]]


def check_features(features: Features) -> dict[str, dict[str, Any]]:
    """The user's features with tuples as shapes; ValueError for a name, dtype or shape that v3 cannot hold."""
    checked = {}
    for key, entry in features.items():
        if "/" in key or key in ALWAYS or key in ("", "task"):
            raise ValueError(f"feature {key!r}: the name must not hold '/' nor be one of task, {', '.join(ALWAYS)}")
        if entry.get("dtype") not in (*NUMBERS, "string", "video"):
            raise unknown(f"dtype of feature {key!r}:", entry.get("dtype"), (*NUMBERS, "string", "video"))
        shape = tuple(int(n) for n in entry.get("shape", ()))
        if not shape or min(shape) < 1 or len(shape) > 5:
            raise ValueError(
                f"feature {key!r} has shape {shape}; needed: 1 to 5 positive numbers, (1,) for a single number"
            )
        if entry["dtype"] == "video" and dense.BLOCK not in entry and (len(shape) != 3 or shape[2] != 3):
            raise ValueError(f"camera {key!r} has shape {shape}; needed: (height, width, 3)")
        if entry["dtype"] == "video" and dense.BLOCK not in entry and (shape[0] % 2 or shape[1] % 2):
            raise ValueError(f"camera {key!r} has {shape[0]} x {shape[1]} pixels; both numbers must be even")
        if entry["dtype"] == "string" and shape != (1,):
            raise ValueError(f"feature {key!r} holds strings and has shape {shape}; possible: (1,)")
        checked[key] = {**entry, "shape": shape, "names": entry.get("names")}
    return checked


def empty_info(fps: float, features: Features, robot_type: str | None, colour: tuple[str, str]) -> dict[str, Any]:
    """`info.json` of a data set without episodes; `colour` is (codec, pixel format) of the colour cameras."""
    rate: float = int(fps) if float(fps).is_integer() else float(fps)
    entries: dict[str, Any] = {}
    notes = {}
    for key, entry in {**features, **ALWAYS}.items():
        entries[key] = {"dtype": entry["dtype"], "shape": list(entry["shape"]), "names": entry["names"]}
        if dense.BLOCK in entry:
            notes[key] = dict(entry[dense.BLOCK])
        if entry["dtype"] == "video":
            entries[key]["info"] = _video_info(entry, rate, colour)
    info = {
        "codebase_version": VERSION,
        "robot_type": robot_type,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": rate,
        "splits": {},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if any(e["dtype"] == "video" for e in features.values()) else None,
        "features": entries,
    }
    return info | ({dense.BLOCK: {"version": dense.VERSION, "dense": notes}} if notes else {})


def _video_info(entry: Mapping[str, Any], fps: float, colour: tuple[str, str]) -> dict[str, Any]:
    height, width, channels = entry["shape"]
    lossless = dense.BLOCK in entry
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": "ffv1" if lossless else colour[0],
        "video.pix_fmt": ("gray16le" if channels == 1 else "gbrp16le") if lossless else colour[1],
        "video.is_depth_map": lossless and entry[dense.BLOCK]["kind"] == "depth",
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
    }


def stored(features: Features) -> dict[str, Mapping[str, Any]]:
    """The features that are columns of the data files: all but videos."""
    return {key: entry for key, entry in features.items() if entry["dtype"] != "video"}


def data_schema(features: Features) -> pa.Schema:
    """The Arrow schema of a data file, with the metadata by which Hugging Face `datasets` knows its types."""
    columns = stored(features)
    fields = [pa.field(key, _arrow_type(entry["dtype"], tuple(entry["shape"]))) for key, entry in columns.items()]
    named = {key: _hub_type(entry["dtype"], tuple(entry["shape"])) for key, entry in columns.items()}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": named}})})


def _arrow_type(dtype: str, shape: tuple[int, ...]) -> pa.DataType:
    kind = pa.from_numpy_dtype(np.dtype(dtype)) if dtype != "string" else pa.string()
    if shape == (1,):
        return kind
    if len(shape) == 1:
        return pa.list_(kind, shape[0])
    for _ in shape:
        kind = pa.list_(kind)
    return kind


def _hub_type(dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    value = {"dtype": dtype, "_type": "Value"}
    if shape == (1,):
        return value
    if len(shape) == 1:
        return {"feature": value, "length": shape[0], "_type": "List"}
    return {"shape": list(shape), "dtype": dtype, "_type": f"Array{len(shape)}D"}


def data_table(columns: Mapping[str, np.ndarray | Sequence[str]], schema: pa.Schema) -> pa.Table:
    """One episode's rows; numbers are (n,) or (n, *S) arrays of the right dtype."""
    arrays = []
    for field in schema:
        values = columns[field.name]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            arrays.append(pa.array(values.tolist() if isinstance(values, np.ndarray) else values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def write_table(path: Path, tables: Sequence[pa.Table]) -> None:
    """Write tables of one schema to a Parquet file, one row group each."""
    with pq.ParquetWriter(path, tables[0].schema, compression="snappy", use_dictionary=True) as writer:
        for table in tables:
            writer.write_table(table)


def tasks_table(tasks: Mapping[int, str]) -> pa.Table:
    """`tasks.parquet` of {task_index: sentence}: the number, and the sentence as the index that pandas restores."""
    index = {
        "name": None,
        "field_name": TASK_COLUMN,
        "pandas_type": "unicode",
        "numpy_type": "object",
        "metadata": None,
    }
    number = {
        "name": "task_index",
        "field_name": "task_index",
        "pandas_type": "int64",
        "numpy_type": "int64",
        "metadata": None,
    }
    header = {**index, "field_name": None, "metadata": {"encoding": "UTF-8"}}
    note = {
        "index_columns": [TASK_COLUMN],
        "column_indexes": [header],
        "columns": [number, index],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.3",
    }
    schema = pa.schema([("task_index", pa.int64()), (TASK_COLUMN, pa.string())], metadata={"pandas": json.dumps(note)})
    return pa.table({"task_index": list(tasks), TASK_COLUMN: list(tasks.values())}, schema=schema)


def read_tasks(path: Path) -> dict[int, str]:
    """{task_index: sentence} of a `tasks.parquet`, whatever its index is called; empty where there is no file."""
    if not path.is_file():
        return {}
    table = read_table(path)
    words = next(name for name in table.column_names if name != "task_index")
    return dict(zip(table["task_index"].to_pylist(), table[words].to_pylist(), strict=True))


def episodes_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """`meta/episodes`: one row per episode; values are numbers, strings, lists or arrays."""
    names = list(rows[0])
    arrays = {n: pa.array([r[n].tolist() if isinstance(r[n], np.ndarray) else r[n] for r in rows]) for n in names}
    return pa.table(arrays)


def read_episodes(folder: Path) -> list[dict[str, Any]]:
    """All rows of `meta/episodes`, in rising episode number."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("meta/episodes/*/*.parquet")):
        rows += read_table(path).to_pylist()
    return sorted(rows, key=lambda row: row["episode_index"])


def row_of_statistics(found: Mapping[str, Statistics]) -> dict[str, np.ndarray]:
    """{feature: statistics} -> the columns `stats/FEATURE/NAME`."""
    return {f"stats/{key}/{name}": values[name] for key, values in found.items() for name in NAMES}


def statistics_of_row(row: Mapping[str, Any]) -> dict[str, Statistics]:
    """The columns `stats/FEATURE/NAME` -> {feature: statistics}."""
    found: dict[str, Statistics] = {}
    for column, value in row.items():
        if column.startswith("stats/") and value is not None:
            _, key, name = column.split("/")
            found.setdefault(key, {})[name] = np.array(value)
    return found


def following(chunk: int, file: int, chunk_size: int = CHUNK) -> tuple[int, int]:
    """The chunk and file number after these."""
    return (chunk + 1, 0) if file >= chunk_size - 1 else (chunk, file + 1)
