"""Merging the per-episode files of a recording into few large ones: rows and packets are copied, nothing is encoded."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .files import lock, make_folder, remove_leftovers, sync
from .formats import lerobot_schema as schema
from .formats.columns import read_table
from .source import load_json, rational
from .templates import fill
from .video import pictures_of

MB = 2**20
Row = dict[str, Any]


def compact(folder: str | Path, out: str | Path | None = None, *, data_mb: float = 100, video_mb: float = 200) -> Path:
    """Merge the files of a v3 data set into `out` (a new folder), or in place; returns the folder.

    Files grow to about `data_mb` and `video_mb`. Frames, values and times are those of before; what no episode refers
    to is left behind. In place, the merged copy is made beside the folder and takes its place at once.

    Errors: ValueError where it is no v3 data set, an episode's file is missing or damaged, or `out` exists.
    """
    folder = Path(folder)
    info = _info(folder)
    target = Path(out) if out is not None else folder.with_name(f".{folder.resolve().name}.compact")
    if out is not None and target.exists():
        raise ValueError(f"{target} exists already; possible: a new folder")
    with ExitStack() as locks:
        locks.callback(os.close, lock(folder))
        shutil.rmtree(target, ignore_errors=True)  # of a killed run: whoever is at it has the lock
        try:
            _merge(folder, target, info, data_mb * MB, video_mb * MB)
            if out is not None:
                return target
            locks.callback(os.close, lock(target))  # it is about to be the folder
            _swap(target, folder)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        shutil.rmtree(target)
    return folder


def _info(folder: Path) -> Row:
    info = load_json(folder / "meta" / "info.json")
    if not str(info.get("codebase_version", "")).startswith("v3"):
        raise ValueError(f"{folder} is {info.get('codebase_version')}; only v3 data sets have files to merge")
    return info


def _merge(folder: Path, target: Path, info: Row, data_bytes: float, video_bytes: float) -> None:
    rows = schema.read_episodes(folder)
    if not rows:
        raise ValueError(f"{folder} has no episodes")
    make_folder(target)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        merged = name.parts[0] in ("data", "videos") or name.parts[:2] == ("meta", "episodes")
        if path.is_file() and not merged:
            make_folder((target / name).parent)
            shutil.copy2(path, target / name)
    remove_leftovers(target)
    _merge_data(folder, target, info, rows, data_bytes)
    for key, entry in info["features"].items():
        if entry["dtype"] == "video" and f"videos/{key}/chunk_index" in rows[0]:
            _merge_videos(folder, target, info, key, rows, video_bytes)
    for row in rows:
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
    path = target / schema.EPISODES_PATH.format(chunk_index=0, file_index=0)
    make_folder(path.parent)
    schema.write_table(path, [schema.episodes_table(rows)])
    for path in sorted(target.rglob("*")):
        sync(path)


# Rows.


def _merge_data(folder: Path, target: Path, info: Row, rows: list[Row], limit: float) -> None:
    """Copy each episode's rows as one row group, starting a new file when the limit is reached."""
    place, size = (0, 0), 0
    writer: pq.ParquetWriter | None = None
    for row, table in _tables(folder, info, rows):
        grown = _stored_bytes(table)
        if writer is not None and (size + grown > limit or not table.schema.equals(writer.schema)):
            writer.close()
            writer, place, size = None, schema.following(*place, info["chunks_size"]), 0
        if writer is None:
            path = target / fill(info["data_path"], chunk_index=place[0], file_index=place[1])
            make_folder(path.parent)
            writer = pq.ParquetWriter(path, table.schema, compression="snappy", use_dictionary=True)
        writer.write_table(table)
        size += grown
        row["data/chunk_index"], row["data/file_index"] = place
    if writer is not None:
        writer.close()


def _tables(folder: Path, info: Row, rows: list[Row]) -> Iterator[tuple[Row, pa.Table]]:
    """Each episode's row of metadata and its rows of data; a file that holds several is read once."""
    held: tuple[Path | None, pa.Table | None] = (None, None)
    for row in rows:
        names = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        path = folder / fill(info["data_path"], **names)
        if held[0] != path:
            try:
                held = (path, read_table(path))
            except ValueError as error:
                raise ValueError(f"episode {row['episode_index']}: {error}") from None
        whole = held[1]
        assert whole is not None
        table = whole.filter(pc.equal(whole["episode_index"], row["episode_index"])).combine_chunks()
        if len(table) != row["length"]:
            raise ValueError(
                f"{path} holds {len(table)} rows of episode {row['episode_index']}, the metadata say {row['length']}"
            )
        yield row, table


def _stored_bytes(table: pa.Table) -> int:
    """How much the table takes in a file, about: what Parquet makes of it, in memory."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="snappy")
    return sink.getvalue().size


# Packets.


@dataclass
class _Reel:
    """An output video: the file, what its packets must share, and how much is in it."""

    place: tuple[int, int]
    file: Any
    stream: Any
    kind: tuple
    tick: Fraction
    ticks: int = 0
    size: int = 0


def _merge_videos(folder: Path, target: Path, info: Row, key: str, rows: list[Row], limit: float) -> None:
    """Copy the packets of each file after those of the one before, and note where each file now begins."""
    fps = rational(info["fps"])
    begins: dict[tuple[int, int], tuple[tuple[int, int], Fraction]] = {}
    reel: _Reel | None = None
    place = (0, 0)
    for row in rows:
        origin = (row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"])
        if origin not in begins:
            path = folder / fill(info["video_path"], video_key=key, chunk_index=origin[0], file_index=origin[1])
            with _open(path, row["episode_index"]) as source:
                if reel is not None and not _fits(reel, source, path.stat().st_size, limit):
                    reel.file.close()
                    reel, place = None, schema.following(*place, info["chunks_size"])
                if reel is None:
                    name = fill(info["video_path"], video_key=key, chunk_index=place[0], file_index=place[1])
                    reel = _begin(target / name, place, source)
                begins[origin] = (place, reel.ticks * reel.tick)
                _copy(reel, source, fps, path)
        new, begin = begins[origin]
        row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"] = new
        for name in (f"videos/{key}/from_timestamp", f"videos/{key}/to_timestamp"):
            # The nearest frame, so that no rounding of earlier files adds up.
            row[name] = float(begin + round(Fraction(row[name]) * fps) / fps)
    if reel is not None:
        reel.file.close()


def _open(path: Path, episode: int) -> Any:
    try:
        return av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path}, episode {episode}: cannot be read: {error}") from None


def _kind(source: Any) -> tuple:
    stream = source.streams.video[0]
    context = stream.codec_context
    return (
        context.name,
        context.width,
        context.height,
        context.pix_fmt,
        stream.time_base,
        bytes(context.extradata or b""),
        stream.sample_aspect_ratio,
        pictures_of(source.name).turn,
    )


def _fits(reel: _Reel, source: Any, size: int, limit: float) -> bool:
    return reel.kind == _kind(source) and reel.size + size <= limit


def _begin(path: Path, place: tuple[int, int], source: Any) -> _Reel:
    make_folder(path.parent)
    stream = source.streams.video[0]
    file = av.open(str(path), "w", format="mp4", options={"video_track_timescale": str(1 / stream.time_base)})
    copied: Any = file.add_stream_from_template(stream, opaque=True)
    copied.time_base = stream.time_base
    return _Reel(place=place, file=file, stream=copied, kind=_kind(source), tick=stream.time_base)


def _copy(reel: _Reel, source: Any, fps: Fraction, path: Path) -> None:
    """Append all packets of `source`, shifted by what is there already."""
    stream = source.streams.video[0]
    step = 1 / fps / reel.tick
    end = 0
    for packet in source.demux(stream):
        if packet.dts is None or not packet.size:
            continue
        end = max(end, packet.pts)
        packet.pts += reel.ticks
        packet.dts += reel.ticks
        packet.duration = packet.duration or int(step)
        packet.stream = reel.stream
        reel.file.mux(packet)
    last = end * reel.tick * fps
    if step.denominator != 1 or last.denominator != 1:
        raise ValueError(f"{path}: its frames do not lie at multiples of 1/{fps} s, so it cannot be joined exactly")
    reel.ticks += int(end + step)
    reel.size += path.stat().st_size


# Places.


def _swap(new: Path, old: Path) -> None:
    """Exchange two folders in one step where the system can; otherwise in two renames."""
    libc = ctypes.CDLL(None, use_errno=True)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    done = -1
    if hasattr(libc, "renameat2"):
        done = libc.renameat2(here, os.fsencode(new), here, os.fsencode(old), exchange)
    if done != 0:
        kept = old.with_name(f".{old.name}.before")
        os.rename(old, kept)
        os.rename(new, old)
        os.rename(kept, new)
    sync(old.parent)
