"""A folder, CSV or JSONL of videos with captions: `video, prompt, <modality>...`, one video an episode."""

from __future__ import annotations

import csv
import hashlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ...codecs.codec import Shape
from ...errors import unknown
from ..source import VIDEO_SUFFIXES, Episode, Facts, Subsets, UntidyData, load_jsonl, rational
from ..video import Pictures, pictures_of, read_frames

ARRAY_SUFFIXES = (".npy", ".npz")
ALIAS = "observation.images."


def open_folder(root: Path) -> Clips:
    """A folder of videos; `clip.txt` beside `clip.mp4` is its caption. Episodes are numbered by file name."""
    rows = []
    for path in sorted(p for p in root.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES):
        caption = path.with_suffix(".txt")
        text = caption.read_text(encoding="utf-8").strip() if caption.is_file() else ""
        rows.append({"video": path.name, "prompt": text})
    return Clips(root, root, rows)


def open_table(path: Path) -> Clips:
    """A CSV (with a header) or JSONL; file names are relative to it or absolute.

    Columns: `video`, `prompt`, and any modality: a video file, or an .npy or .npz array with one row per picture.
    Errors: ValueError naming file and line for no column `video`, or an empty cell in it.
    """
    if path.suffix.lower() == ".jsonl":
        rows = load_jsonl(path)
    else:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
    if not rows:
        raise ValueError(f"{path} has no rows; expected a header 'video,prompt,...' and one line per video")
    if not any("video" in row for row in rows):
        raise ValueError(f"{path} has no column 'video'; it has: {', '.join(map(str, rows[0]))}")
    return Clips(path, path.parent, rows)


class Clips(Subsets):
    """Videos with captions as a data set: episode i is row i, its column "video" (or "observation.images.video")."""

    def __init__(self, name: Path, root: Path, rows: Sequence[dict]) -> None:
        self.path, self.name, self.root = name, name.name, root
        self._files: dict[int, dict[str, Path]] = {}
        self._lock = threading.Lock()
        self._arrays: dict[Path, np.ndarray] = {}
        self._agreed: set[tuple[int, str]] = set()
        self.notes: list[str] = []
        episodes, ignored = [], set()
        for i, row in enumerate(rows):
            files = {str(k): self._file(i, v) for k, v in row.items() if k != "prompt" and _names_file(v)}
            ignored |= {str(k) for k, v in row.items() if k != "prompt" and k not in files and v not in (None, "")}
            if "video" not in files or files["video"].suffix.lower() not in VIDEO_SUFFIXES:
                raise ValueError(
                    f"{name}, row {i}: 'video' is {row.get('video')!r}; possible: {', '.join(VIDEO_SUFFIXES)}"
                )
            self._files[i] = files
            prompt = str(row.get("prompt") or "")
            episodes.append(
                Episode(index=i, length=len(pictures_of(files["video"])), tasks=(prompt,) if prompt else ())
            )
        self.episodes: tuple[Episode, ...] = tuple(episodes)
        self._fps = self._one_rate()
        if ignored:
            self.notes.append(f"columns {', '.join(sorted(ignored))} name neither videos nor arrays; they are left out")
        for note in self.notes:
            warnings.warn(f"{self.name}: {note}.", UntidyData, stacklevel=4)

    def _file(self, i: int, name: object) -> Path:
        path = self.root / str(name)
        if not path.is_file():
            raise ValueError(f"{self.path}, row {i}: {path} is not there")
        return path

    def _one_rate(self) -> float:
        rates: dict[float, int] = {}
        for i, files in self._files.items():
            rate = _rate(pictures_of(files["video"]))
            rates.setdefault(rate, i)
        if len(rates) > 1:
            (a, i), (b, j) = list(rates.items())[:2]
            raise ValueError(
                f"{self.path}: rows {i} and {j} have {a:g} and {b:g} frames per second; make one table per rate and "
                "mix them with data.Mixture"
            )
        return next(iter(rates))

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for e in self.episodes:
            for key, path in self._files[e.index].items():
                shape = self._shape(e.index, key, path)
                old = shapes.get(key, shape)
                if len(old) != len(shape):
                    raise ValueError(f"{self.path}, row {e.index}: {key} has shape {shape}, other rows {old}")
                shapes[key] = tuple(a if a == b else None for a, b in zip(old, shape, strict=True))
        if any(e.tasks for e in self.episodes):
            shapes["task"] = ()
        return shapes

    def _shape(self, episode: int, key: str, path: Path) -> Shape:
        if path.suffix.lower() in ARRAY_SUFFIXES:
            return self._array(episode, key, path).shape[1:]
        pictures = pictures_of(path)
        return pictures.height, pictures.width, pictures.channels

    @cached_property
    def facts(self) -> Facts:
        shapes = self._shapes
        state = shapes.get("observation.state", shapes.get("state"))
        return Facts(
            fps=self._fps,
            cameras=tuple(k for k in shapes if self._is_video(k)),
            action_dim=_size(shapes.get("action")),
            state_dim=_size(state),
            tasks=tuple(dict.fromkeys(t for e in self.episodes for t in e.tasks)),
            columns={**shapes, ALIAS + "video": shapes["video"]},
        )

    def _is_video(self, key: str) -> bool:
        return any(key in f and f[key].suffix.lower() in VIDEO_SUFFIXES for f in self._files.values())

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for e in self.episodes:
            names = [f"{k} {p.name} {p.stat().st_size}" for k, p in sorted(self._files[e.index].items())]
            digest.update(f"{e.index} {e.length} {e.tasks} {names}\n".encode())
        return digest.hexdigest()

    def has(self, episode: int, key: str) -> bool:
        """Whether this row has a file or, for "task", a caption."""
        if key == "task":
            return bool(self._episode(episode).tasks)
        return _plain(key) in self._files.get(episode, {})

    def _episode(self, index: int) -> Episode:
        for e in self.episodes:
            if e.index == index:
                return e
        raise ValueError(f"{self.path}: row {index} is not in the data")

    def column(self, key: str) -> Iterator[np.ndarray]:
        """One (length, *S, C) array per row that has the column."""
        for e in self.episodes:
            if self.has(e.index, key):
                value = self.read(e.index, key, range(e.length))
                assert isinstance(value, np.ndarray)
                yield value

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        """Frames of one column, (n, H, W, C) pictures or (n, *S) numbers; the caption for "task".

        Errors: ValueError naming row and file where a frame cannot be read or a file has another length than the video.
        """
        e = self._episode(episode)
        if not self.has(episode, key):
            raise unknown(f"column of {self.name}, row {episode}:", key, self._shapes)
        if key == "task":
            return e.tasks[0]
        bad = [int(f) for f in frames if not 0 <= f < e.length]
        if bad:
            raise ValueError(f"{self.path}, row {episode}: frame {bad[0]} of {e.length}")
        path = self._files[episode][_plain(key)]
        try:
            if path.suffix.lower() in ARRAY_SUFFIXES:
                return self._array(episode, _plain(key), path)[np.asarray(frames, np.int64)]
            if (episode, key) not in self._agreed:
                if len(pictures_of(path)) != e.length:
                    raise ValueError(f"{path} holds {len(pictures_of(path))} pictures, the video {e.length}")
                self._agreed.add((episode, key))
            return read_frames(path, frames, size=size)
        except ValueError as error:
            raise ValueError(f"{self.name}, row {episode}: {error}") from None

    def _array(self, episode: int, key: str, path: Path) -> np.ndarray:
        """(length, *S): the array in a file, float32 if it holds floating numbers; a scalar a frame becomes (n, 1)."""
        with self._lock:
            if path in self._arrays:
                return self._arrays[path]
        try:
            stored = np.load(path, allow_pickle=False)
            if isinstance(stored, np.lib.npyio.NpzFile):
                names = stored.files
                name = key if key in names else names[0] if len(names) == 1 else None
                if name is None:
                    raise ValueError(
                        f"it holds {', '.join(names) or 'nothing'}; expected one array or one named {key!r}"
                    )
                stored = stored[name]
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
        if stored.ndim == 0 or stored.dtype.kind not in "biuf" or len(stored) != self._episode(episode).length:
            raise ValueError(
                f"{path} holds {stored.dtype} {stored.shape}; expected numbers, one row for each of "
                f"{self._episode(episode).length} pictures"
            )
        array = stored.astype(np.float32) if stored.dtype.kind == "f" else stored
        array = array[:, None] if array.ndim == 1 else array
        with self._lock:
            self._arrays[path] = array
        return array


def _plain(key: str) -> str:
    """ "observation.images.video" is another name of "video"."""
    return key.removeprefix(ALIAS)


def _names_file(value: object) -> bool:
    return isinstance(value, str) and value.lower().endswith(VIDEO_SUFFIXES + ARRAY_SUFFIXES)


def _rate(pictures: Pictures) -> float:
    """Frames per second: what the file says, else from its first and last picture."""
    if pictures.rate:
        return float(rational(pictures.rate))
    span = (int(pictures.pts[-1]) - int(pictures.pts[0])) * pictures.tick
    return float((len(pictures) - 1) / span) if span else 1.0


def _size(shape: Shape | None) -> int | None:
    return None if shape is None or None in shape else int(np.prod([n or 0 for n in shape]))
