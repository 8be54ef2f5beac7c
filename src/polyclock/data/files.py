"""Writing files so that a kill at any moment leaves the old file or the new one: aside, fsync, rename."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ASIDE = ".partial"


def _pass(_: str) -> None:
    return None


# Called with "written NAME", "synced NAME" and "renamed NAME"; tests kill the process here.
hook: Callable[[str], None] = _pass


def aside(path: Path) -> Path:
    """Where the new content of `path` is written: a hidden neighbour, so that the rename stays on one file system."""
    return path.with_name(f".{path.name}{ASIDE}")


def sync(path: Path) -> None:
    """Ask the disk to hold the file or folder `path`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def commit(path: Path) -> None:
    """Put the finished `aside(path)` in the place of `path`."""
    hook(f"written {path.name}")
    sync(aside(path))
    hook(f"synced {path.name}")
    os.replace(aside(path), path)
    sync(path.parent)
    hook(f"renamed {path.name}")


def make_folder(path: Path) -> None:
    """Make `path` and what is missing above it, each entry held by the disk."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; on leaving without an error it takes the place of `path`, else it is removed."""
    make_folder(path.parent)
    temporary = aside(path)
    try:
        yield temporary
        commit(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def rows_of(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy of rows (n,) of a memory-mapped array.

    Rows that lie together are asked of the disk in one go: page by page a disk is an order of magnitude slower
    (`benchmarks/store.py`, cold).
    """
    mapped, advice = getattr(array, "_mmap", None), getattr(mmap, "MADV_WILLNEED", None)
    if len(rows) and mapped is not None and advice is not None:
        first, last, size = int(rows.min()), int(rows.max()) + 1, array[:1].nbytes
        begin = (array.offset + first * size) // mmap.PAGESIZE * mmap.PAGESIZE  # type: ignore[attr-defined]
        if last - first < 4 * len(rows):
            mapped.madvise(advice, begin, array.offset + last * size - begin)  # type: ignore[attr-defined]
    return np.asarray(array[rows])


def whole_lines(path: Path) -> int:
    """Bytes up to the end of the last whole line: a kill may have cut the one behind it short."""
    return path.read_bytes().rfind(b"\n") + 1


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=4, ensure_ascii=False), encoding="utf-8")


def lock(folder: Path) -> int:
    """Hold a data set for writing until the returned handle is closed; ValueError where another writer holds it."""
    handle = os.open(folder / "meta", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ValueError(f"{folder} is being written by another process; wait for it, or use another folder") from None
    return handle


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what killed writers left aside under `folder`; the removed paths."""
    found = sorted(folder.rglob(f".*{ASIDE}"))
    for path in found:
        path.unlink(missing_ok=True)
    return found
