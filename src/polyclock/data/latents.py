"""Numbers that a frozen network says of the frames of a data set: computed once, kept in a folder, read by place.

Latents of an image autoencoder are kept frame by frame, those of clips window by window. A data set's numbers of one
kind are one memory-mapped array with a row for each data frame: any row is one read, and rows that nobody asked for
take no room (the file is sparse).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .cache import alone
from .files import rows_of
from .source import Ahead, Dataset, noted

Precision = Literal["float32", "float16"]
Encode = Callable[[int, Sequence[int]], np.ndarray]  # (episode, rows) -> (n, V, T, *S, K)
BUSY = (errno.EACCES, errno.EAGAIN)


class Latents:
    """A row (V, T, *S, K) for each data frame of `dataset`, of V looks at it, in `folder`.

    about      plain data: all that the numbers depend on besides the data set, and of this the "column"; with the
               column's fingerprint it names the files
    framewise  a row is the frame's own numbers, T = 1; else it is those of the whole window that begins with it
    precision  how they are kept

    NAME.npy holds the numbers and NAME.rows a byte for each row, 1 once its numbers are on the disk: an interrupted
    fill goes on where it was, by any number of processes at once, each at another episode. NAME.sums holds a checksum
    of each row, which `polyclock data verify` compares. NAME.json says what it is.
    """

    def __init__(
        self,
        dataset: Dataset,
        folder: str | Path,
        about: Mapping[str, Any],
        *,
        framewise: bool = True,
        precision: Precision = "float32",
    ) -> None:
        self.framewise = framewise
        self.precision = precision
        dataset = noted(dataset).whole  # filters that leave other episodes tomorrow change no number
        self.lengths = {e.index: e.length for e in dataset.episodes}
        self._first: dict[int, int] = {}
        self._total = 0
        for index, length in self.lengths.items():
            self._first[index] = self._total
            self._total += length
        data = noted(dataset).fingerprint_of(str(about.get("column", "")))
        self.about = {"data": data, "precision": precision, **about}
        text = json.dumps(self.about, sort_keys=True)
        self._stem = Path(folder) / hashlib.sha256(text.encode()).hexdigest()[:32]
        self._array: np.ndarray | None = None
        self._done: np.ndarray | None = None

    @property
    def path(self) -> Path:
        """The array; beside it stand .rows and .json."""
        return self._stem.with_suffix(".npy")

    def fill(
        self,
        wanted: Mapping[int, Sequence[int]],
        encode: Encode,
        *,
        piece: int = 32,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        """Have the rows wanted[episode]; what lacks is encoded, and `tell` hears how far it is.

        `piece` rows are encoded before they are on the disk: what an interruption loses at most. Episodes that another
        process is at are left to it, and waited for.
        """
        if not any(len(rows) for rows in wanted.values()):
            return
        self._create(wanted, encode)
        self._open()
        # From here on no other handle of the same file may be closed in this process: its claims would go with it.
        marks = os.open(self._stem.with_suffix(".rows"), os.O_RDWR)
        numbers = os.open(self.path, os.O_RDWR)
        sums = os.open(self._stem.with_suffix(".sums"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            left = [e for e, rows in wanted.items() if len(self._lacking(marks, e, rows))]
            done, count = 0, len(left)
            while left:
                busy = []
                for e in left:
                    with self._claimed(marks, e) as mine:
                        if not mine:
                            busy.append(e)
                            continue
                        self._encode((marks, numbers, sums), e, self._lacking(marks, e, wanted[e]), encode, piece)
                    done += 1
                    if tell:
                        tell(f"{done} of {count} episodes encoded")
                if len(busy) == len(left):
                    time.sleep(0.1)
                left = busy
        finally:
            os.close(sums)
            os.close(numbers)
            os.close(marks)

    def window(self, episode: int, anchor: int, frames: Sequence[int]) -> Ahead:
        """The numbers (V, T, *S, K) of data frames (T',) of an episode, the window of which begins at `anchor`.

        Errors: ValueError for a frame that has not been encoded.
        """
        rows = np.asarray(frames if self.framewise else [anchor], np.int64)
        found = self.read(episode, rows)
        return Ahead(np.ascontiguousarray(found[:, :, 0].swapaxes(0, 1)) if self.framewise else found[0])

    def read(self, episode: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, V, T, *S, K) as kept. Errors: ValueError for rows that are not there."""
        if self._array is None:
            self._open()
        assert self._array is not None and self._done is not None
        at = np.asarray(rows, np.int64)
        bad = at[(at < 0) | (at >= self.lengths.get(episode, 0))]
        if len(bad):
            raise ValueError(f"episode {episode} has no frame {bad[0]} in {self.path}")
        at = self._first[episode] + at
        if not self._done[at].all():
            lacking = int(np.asarray(rows)[np.argmin(self._done[at])])
            raise ValueError(f"frame {lacking} of episode {episode} was not encoded ahead into {self.path}")
        return rows_of(self._array, at)

    def size(self) -> tuple[int, int]:
        """(rows that are there, bytes that they take). Errors: ValueError where nothing was encoded."""
        if self._array is None:
            self._open()
        assert self._array is not None and self._done is not None
        rows = int(np.count_nonzero(self._done))
        return rows, rows * self._array[:1].nbytes

    # ------------------------------------------------------------ files

    def _open(self) -> None:
        """Map the files. Errors: ValueError where they are not of the size that they should have."""
        if not self.path.is_file():
            raise ValueError(f"{self.path} is not there: nothing was encoded ahead")
        array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        if len(array) != self._total or array.dtype != self.precision:
            raise ValueError(
                f"{self.path} holds {array.dtype} {array.shape}, expected {self.precision} for {self._total} frames; "
                "remove it and its .rows to encode anew"
            )
        self._array = array
        self._done = np.memmap(self._stem.with_suffix(".rows"), np.uint8, "r", shape=(self._total,))

    def _create(self, wanted: Mapping[int, Sequence[int]], encode: Encode) -> None:
        """Files without a row in them; one row is encoded to know its shape."""
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        with alone(self._stem.parent):
            if self.path.is_file():
                return
            episode, row = next((e, rows[0]) for e, rows in wanted.items() if len(rows))
            shape = encode(episode, [int(row)]).shape[1:]
            # The array comes last: where it is, the others are.
            self._place(".json", lambda aside: aside.write_text(json.dumps(self.about, indent=1) + "\n"))
            self._place(".rows", lambda aside: _sized(aside, self._total))
            self._place(".npy", lambda aside: _header(aside, (self._total, *shape), self.precision))

    def _place(self, suffix: str, write: Callable[[Path], object]) -> None:
        path = self._stem.with_suffix(suffix)
        aside = path.with_name(f".{path.name}-{uuid.uuid4().hex}.part")
        try:
            write(aside)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    @contextmanager
    def _claimed(self, marks: int, episode: int) -> Iterator[bool]:
        """Whether this process has the episode's rows to itself. Where files cannot be locked each works for itself."""
        span = (self.lengths[episode], self._first[episode])
        try:
            fcntl.lockf(marks, fcntl.LOCK_EX | fcntl.LOCK_NB, *span)
        except OSError as error:
            yield error.errno not in BUSY
            return
        try:
            yield True
        finally:
            fcntl.lockf(marks, fcntl.LOCK_UN, *span)

    def _lacking(self, marks: int, episode: int, rows: Sequence[int]) -> np.ndarray:
        """Of these rows, rising, those whose numbers are not on the disk."""
        have = np.frombuffer(os.pread(marks, self.lengths[episode], self._first[episode]), np.uint8)
        at = np.unique(np.asarray(rows, np.int64))
        return at[have[at] == 0]

    def _encode(self, files: tuple[int, int, int], episode: int, rows: np.ndarray, encode: Encode, piece: int) -> None:
        assert self._array is not None
        marks, numbers, sums = files
        shape = self._array.shape[1:]
        size = self._array.dtype.itemsize * int(np.prod(shape))
        begin = os.fstat(numbers).st_size - self._total * size
        for start in range(0, len(rows), piece):
            part = rows[start : start + piece]
            found = np.ascontiguousarray(encode(episode, part.tolist()), self.precision)
            if found.shape != (len(part), *shape):
                raise ValueError(f"{self.path} has rows of {shape}; episode {episode} gave {found.shape}")
            if not np.isfinite(found).all():
                raise ValueError(f"episode {episode}: what was said of it is not finite as {self.precision}")
            at = self._first[episode] + part
            for place, row in zip(at.tolist(), found, strict=True):
                _write(numbers, row.tobytes(), begin + place * size)
                _write(sums, checksum(row).to_bytes(4, "little"), 4 * place)
            os.fdatasync(numbers)
            os.fdatasync(sums)
            for place in at.tolist():
                _write(marks, b"\1", place)


def _write(handle: int, content: bytes, at: int) -> None:
    """All of it: a disk that has no room for the whole takes a part without a word."""
    rest = memoryview(content)
    while rest:
        taken = os.pwrite(handle, rest, at)
        rest, at = rest[taken:], at + taken


def checksum(row: np.ndarray) -> int:
    """Of the bytes of a row; never 0, which stands for none."""
    return zlib.crc32(np.ascontiguousarray(row).tobytes()) or 1


def _sized(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)


def _header(path: Path, shape: tuple[int, ...], precision: Precision) -> None:
    """A .npy file of zeros that takes no room."""
    dtype = np.dtype(precision)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(np.empty(0, dtype)) | {
            "shape": shape})  # fmt: skip
        file.truncate(file.tell() + dtype.itemsize * int(np.prod(shape)))
