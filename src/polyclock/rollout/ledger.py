"""The ledger: one JSON line an episode, appended as it ends, so that a rollout that was cut short goes on."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ..data.files import make_folder, replacing, whole_lines
from ..data.source import load_jsonl
from ..envs.world import Start

Row = dict[str, Any]
TIMES = ("latency_ms", "seconds")  # what differs from run to run; the rest of a row does not
# How an episode went; the rest of a row says what acted.
WENT = ("task", "number", "start", "success", "steps", "first_success", "actions", "calls", "error", *TIMES)


def start_hash(start: Start) -> str:
    """16 hexadecimal digits that two episodes share where they began alike."""
    values = np.asarray(start.values, "<f8").tobytes()
    return hashlib.sha256(f"{start.task}/".encode() + values).hexdigest()[:16]


def read(path: str | Path) -> list[Row]:
    """The rows of a ledger; a last line that was cut short is left out.

    Errors: ValueError naming file and line for anything that is no ledger.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there; a ledger (JSON lines) is needed")
    rows = load_jsonl(path) if whole_lines(path) == path.stat().st_size else _cut(path)
    for number, row in enumerate(rows, 1):
        lacking = [k for k in ("task", "number", "start", "success", "policy") if k not in row]
        if lacking:
            raise ValueError(f"{path}, line {number}, is no episode of a ledger: it lacks {', '.join(lacking)}")
    return rows


def timeless(rows: Sequence[Row]) -> list[Row]:
    """The rows without what a clock measured."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


class Ledger:
    """A ledger open for writing; `rows` holds what stands in it. With `path` None it is kept in memory alone.

    about: plain data that every row repeats (policy, query, seed, ...).
    Errors: ValueError where another process writes it, or where it holds episodes of something else than `about`.
    """

    def __init__(self, path: str | Path | None, about: Mapping[str, Any]) -> None:
        self.path, self.about = None if path is None else Path(path), dict(about)
        self.rows: list[Row] = []
        self._file: int | None = None
        self._folders: list[Path] = []  # that this ledger made, the innermost first
        if self.path is None:
            return
        self._folders = [folder for folder in self.path.parents if not folder.exists()]
        make_folder(self.path.parent)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self.path.exists() or not os.path.samestat(os.fstat(self._file), self.path.stat()):
                raise BlockingIOError  # its writer has just taken it away or put a new one in its place
            os.ftruncate(self._file, whole_lines(self.path))  # a line that a kill cut short
            self.rows = read(self.path)
            self._check()
        except BlockingIOError:
            os.close(self._file)  # the file is another's
            self._file = None
            raise ValueError(f"{self.path} is being written by another rollout; choose another path") from None
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        for row in self.rows:
            for name in dict.fromkeys([*self.about, *(k for k in row if k not in WENT)]):
                if row.get(name) != self.about.get(name):
                    raise ValueError(
                        f"{self.path} holds episodes of another rollout: {name} is {_short(row.get(name))} there and "
                        f"{_short(self.about.get(name))} here; choose another path"
                    )

    def add(self, row: Row) -> None:
        """Append one episode; it is whole on the disk or not there."""
        row = {**row, **self.about}
        if self._file is not None:
            _append(self._file, _line(row), str(self.path))
        self.rows.append(row)

    def settle(self, order: Callable[[Row], Any], keep: Callable[[Row], bool]) -> None:
        """Put the rows in order and drop those that do not count, on the disk too."""
        self.rows = sorted(filter(keep, self.rows), key=order)
        if self.path is not None:
            with replacing(self.path) as aside:
                aside.write_bytes(b"".join(map(_line, self.rows)))

    def close(self) -> None:
        """Let go of the file; without an episode nothing is left of it, nor of folders made for it."""
        if self._file is None:
            return
        if self.path is not None and not self.rows and os.fstat(self._file).st_size == 0:
            self.path.unlink(missing_ok=True)
            with suppress(OSError):  # something else lies in a folder
                for folder in self._folders:
                    folder.rmdir()
        os.close(self._file)
        self._file = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _append(file: int, line: bytes, path: str) -> None:
    """All of a line or nothing. Errors: OSError that names `path`, where the disk is full say."""
    before, number = os.fstat(file).st_size, errno.ENOSPC
    try:
        if os.write(file, line) == len(line):
            return
    except OSError as error:
        number = error.errno or number
    os.ftruncate(file, before)
    raise OSError(number, os.strerror(number), path)


def _line(row: Row) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _cut(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_bytes()[: whole_lines(path)].splitlines() if line.strip()]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:12] + "..."
