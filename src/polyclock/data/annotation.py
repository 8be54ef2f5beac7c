"""What experts said about a data set, in a folder of its own: the source is named, not copied, and stays as it is.

    annotations.json            the source; for each column its camera, its expert and what `data.dense` notes of it
    columns/COLUMN/012/012345.mp4   the answer for one episode: 16-bit planes as in a recording (`data.dense`), or .npy
    records/0-of-1.jsonl        what is finished, one line each; a line is written after its file has its place
    quarantine/0-of-1.jsonl     what failed, and why
    projections/NAME-123abc.safetensors   of columns of features: how they were projected before they were stored
    latents/                    what frozen codecs say of the columns, where they were encoded (`data.latents`)

Several processes may write, one for each shard. A kill at any moment costs the piece of work that was being done.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from . import dense
from .encode import VideoFile
from .files import aside, commit, make_folder, write_json
from .formats.options import divide
from .source import load_json, rational

NAME = "annotations.json"
VERSION = 1
RECORDS, QUARANTINE, LATENTS = "records", "quarantine", "latents"
IMAGES = "observation.images."
Record = dict[str, Any]


def is_annotated(root: Path) -> bool:
    """Whether a folder holds annotations."""
    return (root / NAME).is_file()


def load(root: Path) -> dict[str, Any]:
    """annotations.json. Errors: ValueError where it is of a newer version, or damaged."""
    said = load_json(root / NAME)
    if said.get("version") != VERSION:
        raise ValueError(f"{root / NAME} has version {said.get('version')!r}; this program reads {VERSION}")
    return said


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the folder while its annotations.json is read and written anew; others wait."""
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def note(root: Path, source: str, columns: Mapping[str, Record], filters: Mapping[str, Record]) -> None:
    """Add columns and filters to annotations.json; an entry of the same name gives way.

    Errors: ValueError where the folder holds something else, or the annotations of another source.
    """
    if root.exists() and not is_annotated(root) and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{root} holds something else; possible: an empty or a new folder")
    make_folder(root)
    with alone(root):
        said: dict[str, Any] = {"version": VERSION, "columns": {}, "filters": {}}
        if is_annotated(root):
            said = load(root)
            if source_of(root, said) != _from_top(source):
                raise ValueError(f"{root} annotates {source_of(root, said)}, not {source}; possible: a new folder")
        said["source"], said["from"] = _seen_from(source, root), _from_top(source)
        said["columns"] |= columns
        said["filters"] |= filters
        write_json(root / NAME, said)


def source_of(root: Path, said: Mapping[str, Any]) -> str:
    """The source with its options: where it lies as seen from the folder, else where it lay when it was annotated."""
    path, options = divide(said["source"])
    near = (root / path).resolve()
    return _with(str(near), options) if near.exists() else str(said["from"])


def _with(path: str, options: Mapping[str, str]) -> str:
    return path + ("?" + "&".join(f"{k}={v}" for k, v in options.items()) if options else "")


def _from_top(source: str) -> str:
    path, options = divide(source)
    return _with(str(path.resolve()), options)


def _seen_from(source: str, root: Path) -> str:
    path, options = divide(source)
    return _with(os.path.relpath(path.resolve(), root.resolve()), options)


def column_name(camera: str, name: str) -> str:
    """Where a modality of a camera goes: observation.images.front, depth -> observation.depth.front; video -> depth."""
    if camera.startswith(IMAGES):
        return f"observation.{name}.{camera.removeprefix(IMAGES)}"
    return name if camera == "video" else f"{name}.{camera}"


def place(column: str, episode: int, suffix: str) -> Path:
    """The file of one episode, as seen from the folder."""
    return Path("columns") / column / f"{episode // 1000:03d}" / f"{episode:06d}{suffix}"


class Log:
    """A file of JSON lines that one process appends to; a line that a killed process left torn is taken away."""

    def __init__(self, path: Path, what: str) -> None:
        """Errors: ValueError where another process holds it; `what` says what it is doing."""
        make_folder(path.parent)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ValueError(f"another process is at work on {what}; wait for it, or take another shard") from None
        self._file.seek(0)
        whole = self._file.read().rfind(b"\n") + 1
        self._file.truncate(whole)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one line, held by the disk."""
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def lines(root: Path, folder: str) -> Iterator[Record]:
    """The records of all shards; a torn last line, which a process may be writing, is left out.

    Errors: ValueError naming file and line of one that is damaged.
    """
    for path in sorted((root / folder).glob("*.jsonl")):
        text = path.read_bytes()
        for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(), 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}, is not JSON: {error}") from None


def latest(root: Path, folder: str, made: Mapping[str, str]) -> dict[tuple[int, str], Record]:
    """{(episode, name): its record} of what `made` names: {name: fingerprint of the expert}."""
    found = {}
    for record in lines(root, folder):
        if made.get(record["name"]) == record["made"]:
            found[int(record["episode"]), str(record["name"])] = record
    return found


class Answer:
    """The answer for one episode on its way to the disk, piece by piece: planes are encoded as they come."""

    def __init__(self, root: Path, column: str, episode: int, note: Record, fps: float) -> None:
        self.kind, self.scale, self.fps, self.frames = note["kind"], note.get("scale"), fps, 0
        self.planes = self.kind in dense.PLANES
        self.name = place(column, episode, ".mp4" if self.planes else ".npy")
        self.path = root / self.name
        self.shape: tuple[int, ...] = ()
        self._video: VideoFile | None = None
        self._rows: list[np.ndarray] = []
        make_folder(self.path.parent)

    def add(self, values: np.ndarray) -> None:
        """Values (n, ...) of the next n frames. Errors: ValueError for what the kind cannot hold."""
        self.shape, self.frames = tuple(values.shape[1:]), self.frames + len(values)
        if not self.planes:
            _check_finite(values)
            self._rows.append(values.astype(np.float32 if self.kind in dense.COLUMNS else np.float16))
            return
        stored = dense.encode(self.kind, values, self.scale)
        if self._video is None:
            self._video = VideoFile(aside(self.path), float(rational(self.fps)), stored.shape[1:], None)
        for frame in stored:
            self._video.add(frame)

    def finish(self) -> Record:
        """Put the file in its place; what a record says of it."""
        if self._video is not None:
            self._video.close()
        else:
            with aside(self.path).open("wb") as file:
                np.save(file, np.concatenate(self._rows))
        with aside(self.path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        commit(self.path)
        return {"file": str(self.name), "frames": self.frames, "shape": list(self.shape), "sha256": digest}

    def discard(self) -> None:
        """Forget what was begun."""
        if self._video is not None:
            self._video.abandon()
        aside(self.path).unlink(missing_ok=True)


def _check_finite(values: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"frame {int(bad[0][0])} of the answer holds a number that is not finite")
