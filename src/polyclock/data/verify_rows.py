"""Checking the rows of a LeRobot folder: every value of every column of every episode."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .formats.columns import is_text, read_table
from .listing import Listed, Listing

CLOSE = 1e-4  # seconds: the tolerance at which LeRobot refuses a timestamp
Columns = dict[str, np.ndarray]


def verify_rows(found: Listing, here: list[Listed]) -> None:
    """Check the data files of the episodes that are `here`, file by file."""
    files: dict[Path, list[Listed]] = {}
    for episode in here:
        files.setdefault(episode.data, []).append(episode)
    for path, episodes in files.items():
        if not path.is_file():
            for episode in episodes:
                found.report(path, "the data file is missing", episode.index, 0)
            continue
        try:
            table = read_table(path)
        except ValueError as error:
            for episode in episodes:
                found.report(path, str(error).replace(f"{path} ", ""), episode.index, 0)
            continue
        _check_file(found, path, table, episodes)


def _check_file(found: Listing, path: Path, table: pa.Table, episodes: list[Listed]) -> None:
    needed = [k for k, f in found.features.items() if f.get("dtype") != "video"]
    for key in needed:
        if key not in table.column_names:
            # v2 recorders often leave frame_index out; rows are then in the order of the file.
            note = key == "frame_index" and found.version.startswith("v2.")
            found.report(path, f"column {key} is declared but not there", episodes[0].index, None if note else 0, note)
    for episode, part in _parts(found, path, table, episodes):
        columns = {
            key: c
            for key in needed
            if key in part.column_names
            if (c := _numbers(found, episode, part, key)) is not None
        }
        _check_places(found, episode, columns)
        _check_values(found, episode, columns)
        _check_tasks(found, episode, columns)
        check_statistics(found, episode, columns)


def _parts(found: Listing, path: Path, table: pa.Table, episodes: list[Listed]) -> list[tuple[Listed, pa.Table]]:
    """The rows of each episode: blocks one after the other where the lengths add up, else by episode_index."""
    ordered = sorted(episodes, key=lambda e: (e.first if e.first is not None else 0, e.index))
    if sum(e.length for e in ordered) == len(table):
        starts = np.cumsum([0, *(e.length for e in ordered)])
        return [(e, table.slice(int(s), e.length)) for e, s in zip(ordered, starts, strict=False)]
    alone = len(ordered) == 1 or "episode_index" not in table.column_names
    parts = []
    for episode in ordered:
        part = table if alone else table.filter(pc.equal(table["episode_index"], episode.index))
        if len(part) != episode.length:
            frame = min(len(part), episode.length)
            found.report(path, f"holds {len(part)} rows, the metadata say {episode.length}", episode.index, frame)
        parts.append((episode, part))
    return parts


def _numbers(found: Listing, episode: Listed, part: pa.Table, key: str) -> np.ndarray | None:
    """(n, k) numbers of a column, or None for text and pictures and where rows are broken."""
    shape = tuple(int(n) for n in found.features[key].get("shape") or (1,))
    column = part[key].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    if column.null_count:
        frame = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        found.report(episode.data, f"{key} has no value", episode.index, frame)
        return None
    declared = found.features[key].get("dtype")
    if declared == "string" and not is_text(column.type):
        found.report(episode.data, f"{key} holds {column.type}, the metadata say string", episode.index, 0)
    if declared in ("string", "image"):
        return None
    sizes = np.array([_size(row) for row in column]) if _is_list(column.type) else np.ones(len(column), int)
    wrong = np.flatnonzero(sizes != math.prod(shape))
    if len(wrong):
        frame = int(wrong[0])
        what = f"{key} has {int(sizes[frame])} numbers, the metadata say {math.prod(shape)}"
        found.report(episode.data, what + _more(wrong), episode.index, frame)
        return None
    while _is_list(column.type):
        column = column.flatten()
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        found.report(
            episode.data,
            f"{key} holds {column.type}, the metadata say {found.features[key].get('dtype')}",
            episode.index,
            0,
        )
        return None
    return column.to_numpy(zero_copy_only=False).reshape(len(part), -1)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _size(row: Any) -> int:
    values = row.as_py() if isinstance(row, pa.Scalar) else row
    return sum(_size(v) for v in values) if isinstance(values, list) else 1


def _more(frames: np.ndarray) -> str:
    return f" (and {len(frames) - 1} more frames)" if len(frames) > 1 else ""


def _first_wrong(found: Listing, episode: Listed, key: str, got: np.ndarray, due: np.ndarray, off: np.ndarray) -> None:
    wrong = np.flatnonzero(off)
    if len(wrong):
        i = int(wrong[0])
        found.report(episode.data, f"{key} is {got[i]:g}, not {due[i]:g}{_more(wrong)}", episode.index, i)


def _check_places(found: Listing, episode: Listed, columns: Columns) -> None:
    """frame_index counts from 0, index goes on through the data set, timestamp is frame / fps."""
    for key in ("frame_index", "episode_index", "index"):
        if key in columns:
            got = columns[key][:, 0]
            order = np.arange(len(got))
            start = {"frame_index": 0, "episode_index": episode.index, "index": episode.first}[key]
            if start is None:
                offsets, counts = np.unique(got - order, return_counts=True)
                start = int(offsets[np.argmax(counts)])
            due = np.full(len(got), start) if key == "episode_index" else start + order
            _first_wrong(found, episode, key, got, due, got != due)
    if "timestamp" in columns:
        got = columns["timestamp"][:, 0]
        due = np.arange(len(got)) / float(found.info["fps"])
        room = CLOSE + 2 * np.spacing(due.astype(np.float32))
        late = float(got[0]) if len(got) and found.version.startswith("v2.") else 0.0
        if abs(late) > CLOSE and (np.abs(got - late - due) <= room).all():
            what = f"all timestamps lie {late:g} s late; frames are taken by their order"
            found.report(episode.data, what, episode.index, note=True)
            return
        _first_wrong(found, episode, "timestamp", got, due, ~(np.abs(got - due) <= room))


def _check_values(found: Listing, episode: Listed, columns: Columns) -> None:
    for key, values in columns.items():
        if key != "timestamp" and values.dtype.kind == "f":
            wrong = np.flatnonzero(~np.isfinite(values).all(1))
            if len(wrong):
                frame = int(wrong[0])
                place = int(np.argmax(~np.isfinite(values[frame])))
                what = f"{key}[{place}] is {values[frame, place]}{_more(wrong)}"
                found.report(episode.data, what, episode.index, frame)


def _check_tasks(found: Listing, episode: Listed, columns: Columns) -> None:
    if "task_index" not in columns or found.tasks is None:
        return
    numbers = columns["task_index"][:, 0]
    wrong = np.flatnonzero(~np.isin(numbers, list(found.tasks)))
    if len(wrong):
        what = f"task_index {numbers[wrong[0]]} is in no table{_more(wrong)}; possible: {sorted(found.tasks)[:8]}"
        found.report(episode.data, what, episode.index, int(wrong[0]))
        return
    other = [i for i, n in enumerate(numbers) if episode.tasks and found.tasks[int(n)] not in episode.tasks]
    if other:
        sentence = found.tasks[int(numbers[other[0]])]
        found.report(
            episode.data, f"its task is {sentence!r}, the metadata list {episode.tasks}", episode.index, other[0]
        )


# Statistics.


def check_statistics(found: Listing, episode: Listed, columns: Columns) -> None:
    """An episode's statistics are finite, agree with each other, and are those of its rows."""
    path = episode.source
    if found.version.startswith("v2."):
        path = found.root / "meta" / "episodes_stats.jsonl"
    for key, stats in episode.statistics.items():
        fault = fault_of_statistics(stats)
        if fault is None and key in columns and found.features[key].get("dtype") != "video":
            fault = _against(stats, columns[key], found.features[key])
        if fault is not None:
            found.report(path, f"statistics of {key}: {fault}", episode.index)


def fault_of_statistics(stats: Any) -> str | None:
    """What is wrong with one feature's statistics by themselves, or None."""
    if not isinstance(stats, dict):
        return f"are a {type(stats).__name__}"
    try:
        values = {name: np.asarray(value, np.float64) for name, value in stats.items()}
    except (TypeError, ValueError):
        return "are not numbers"
    for name, value in values.items():
        if not np.isfinite(value).all():
            return f"{name} holds NaN or Inf"
    for lower, upper in (("min", "mean"), ("mean", "max"), ("min", "max"), ("q01", "q50"), ("q50", "q99")):
        if lower in values and upper in values:
            if values[lower].shape != values[upper].shape:
                return f"{lower} and {upper} have different shapes"
            room = 1e-5 * (1 + np.abs(values[upper]))
            if (values[lower] > values[upper] + room).any():
                return f"{lower} is above {upper}"
    if "std" in values and (values["std"] < 0).any():
        return "std is negative"
    return None


def _against(stats: dict[str, Any], values: np.ndarray, feature: dict[str, Any]) -> str | None:
    """Compare with the rows; columns of more than one dimension are counted over all but the last."""
    shape = tuple(int(n) for n in feature.get("shape") or (1,))
    flat = values.reshape(-1, shape[-1]).astype(np.float64)
    if not np.isfinite(flat).all():
        return None  # reported with its frame already
    for name, true in (("min", flat.min(0)), ("max", flat.max(0)), ("mean", flat.mean(0))):
        got = np.asarray(stats.get(name, true), np.float64).ravel()
        if got.shape == true.shape and (np.abs(got - true) > 1e-4 * (1 + np.abs(true))).any():
            place = int(np.argmax(np.abs(got - true)))
            return f"{name}[{place}] is {got[place]:g}, the rows give {true[place]:g}"
    count = np.asarray(stats.get("count", len(values))).ravel()
    return None if (count == len(values)).all() else f"count is {count[0]:g}, there are {len(values)} rows"
