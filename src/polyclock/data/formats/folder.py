"""Videos with texts, one an episode: a folder, a CSV or JSONL `video, prompt, <modality or text>...`, or lists."""

from __future__ import annotations

import csv
import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

from ...codecs.codec import Shape
from ...errors import unknown
from ...recent import Recent
from ..pictures import OBLONG, Pictures
from ..source import VIDEO_SUFFIXES, Episode, Facts, UntidyData, load_jsonl, rational
from ..subsets import Subsets
from ..video import pictures_of, read_frames
from .options import Options
from .recordings import fitted

ARRAY_SUFFIXES = (".npy", ".npz")
ALIAS = "observation.images."
OPTIONS = ("fps", "frames")
BUDGET = 512 * 2**20  # bytes of arrays that are kept
CAPTION = "task"
LISTS = ("video.txt", "videos.txt")  # a file name a line; their captions stand in prompt.txt or prompts.txt beside


def open_folder(root: Path, options: Options = Options()) -> Clips:
    """A folder of videos; `clip.txt` beside `clip.mp4` is its caption, `clip.NAME.txt` its text NAME. Episodes are
    numbered by file name."""
    names = sorted(p.name for p in root.iterdir())
    videos = [n for n in names if Path(n).suffix.lower() in VIDEO_SUFFIXES]
    texts: dict[str, dict[str, str]] = {Path(n).stem: {} for n in videos}
    for stem, path in ((n.removesuffix(".txt"), root / n) for n in names if n.endswith(".txt")):
        clip, _, name = (stem, "", CAPTION) if stem in texts else stem.rpartition(".")
        if clip in texts:
            texts[clip][name] = path.read_text(encoding="utf-8").strip()
    return Clips(root, root, [{**texts[Path(n).stem], "video": n} for n in videos], options)


def open_table(path: Path, options: Options = Options()) -> Clips:
    """A CSV (with a header), JSONL, or video.txt beside prompt.txt; file names are relative to it or absolute.

    Columns: `video`, `prompt`, any modality: a video file, or an .npy or .npz array with one row per picture, and any
    text. `prompt` is the caption, which other formats call "task". Errors: ValueError naming file and line for no
    column `video`, or an empty cell in it.
    """
    rows: list[dict]
    if path.name in LISTS:
        rows = _lists(path)
    elif path.suffix.lower() == ".jsonl":
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
    if path.name not in LISTS and any("prompt" in row for row in rows):
        if any(CAPTION in row for row in rows):
            what = f"column prompt is the caption, which is called {CAPTION}; column {CAPTION} is left out"
            warnings.warn(f"{path.name}: {what}.", UntidyData, stacklevel=4)
        rows = [{CAPTION if k == "prompt" else k: v for k, v in row.items() if k != CAPTION} for row in rows]
    return Clips(path, path.parent, rows, options)


def _lists(path: Path) -> list[dict]:
    """video.txt, prompt.txt and texts of other names, prompt.NAME.txt, where they are: line i of all is one clip."""
    rows: list[dict] = [{"video": line} for line in _lines(path)]
    prompts = path.stem.replace("video", "prompt")
    for beside in sorted([*path.parent.glob(f"{prompts}.txt"), *path.parent.glob(f"{prompts}.*.txt")]):
        name, said = beside.stem.removeprefix(prompts)[1:] or CAPTION, _lines(beside)
        if len(said) != len(rows):
            raise ValueError(f"{path} has {len(rows)} lines, {beside.name} has {len(said)}; line i of both is one clip")
        for row, line in zip(rows, said, strict=True):
            row[name] = line
    return rows


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    return [line.strip() for line in _without_end(lines)]


def _without_end(lines: list[str]) -> list[str]:
    """The last line of a file ends with a line break, after which there is no further line."""
    return lines[:-1] if lines and not lines[-1].strip() else lines


class Clips(Subsets):
    """Videos with captions as a data set: episode i is row i, its column "video" (or "observation.images.video").

    What names a video or an array in some row is a column of these; what does so in none is a text.

    Options say which pictures of a clip are its frames. fps: the nearest to 0, 1 / fps, 2 / fps, ... s, so that clips
    of all rates become one data set. frames=n, with fps: n pictures spread evenly over the whole clip, however long it
    is, which count as fps a second; shorter clips are left out. Else all, and all clips have one rate.
    """

    def __init__(self, name: Path, root: Path, rows: Sequence[dict], options: Options = Options()) -> None:
        self.path, self.name, self.root = name, name.name, root
        self._files: dict[int, dict[str, Path]] = {}
        self._recent: Recent[np.ndarray] = Recent(BUDGET)
        self._lacking = False  # whether it was said that a modality has one picture less
        self.notes: list[str] = []
        self._texts: dict[int, dict[str, str]] = {}
        episodes, ignored = [], set()
        columns = {"video"} | {k for row in rows for k, v in row.items() if k != CAPTION and _names_file(v)}
        for i, row in enumerate(rows):
            files = {str(k): self._file(i, v) for k, v in row.items() if k in columns and _names_file(v)}
            self._texts[i] = {k: v for k, v in row.items() if k not in {*columns, CAPTION} and _says(v)}
            taken = {CAPTION, *files, *self._texts[i]}
            ignored |= {str(k) for k, v in row.items() if k not in taken and v not in (None, "")}
            if "video" not in files or files["video"].suffix.lower() not in VIDEO_SUFFIXES:
                raise ValueError(
                    f"{name}, row {i}: 'video' is {row.get('video')!r}; possible: {', '.join(VIDEO_SUFFIXES)}"
                )
            self._files[i] = files
            caption = str(row.get(CAPTION) or "")
            episodes.append(Episode(index=i, length=0, tasks=(caption,) if caption else ()))
        if options.frames and not options.fps:
            raise ValueError(
                f"{name}: frames={options.frames} spread over a clip have no rate of their own; say the one that they "
                f"count as, frames={options.frames}&fps=8"
            )
        self._fps = self._one_rate() if options.fps is None else float(rational(options.fps))
        self._taken = {e.index: self._frames_of(e.index, options) for e in episodes}
        short = [e.index for e in episodes if not len(self._taken[e.index])]
        if short:
            self.notes.append(f"{len(short)} clips have less than {options.frames} pictures; they are left out")
        self.episodes: tuple[Episode, ...] = tuple(
            replace(e, length=len(self._taken[e.index])) for e in episodes if len(self._taken[e.index])
        )
        if not self.episodes:
            raise ValueError(f"{name}: no clip has {options.frames} pictures")
        if ignored:
            self.notes.append(
                f"columns {', '.join(sorted(ignored))} hold what is neither file nor text; it is left out"
            )
        self.notes += self._stretched()
        for note in self.notes:
            warnings.warn(f"{self.name}: {note}.", UntidyData, stacklevel=4)

    def _stretched(self) -> list[str]:
        """The note on clips whose pixels are not square, where there are any."""
        files = [self._files[e.index]["video"] for e in self.episodes]
        oblong = [path for path in files if pictures_of(path).aspect != 1]
        return [f"{len(oblong)} clips, {oblong[0].name} among them, have {OBLONG}"] if oblong else []

    def _file(self, i: int, name: object) -> Path:
        path = self.root / str(name)
        if not path.is_file():
            raise ValueError(f"{self.path}, row {i}: {path} is not there")
        return path

    def _frames_of(self, i: int, options: Options) -> np.ndarray:
        """(length,) the picture of the file that each frame of the clip is; none where it is too short."""
        pictures = pictures_of(self._files[i]["video"])
        if options.frames:
            if len(pictures) < options.frames:
                return np.zeros(0, np.int64)
            # As published: evenly from the first picture to the last, at the nearest one.
            return np.linspace(0, len(pictures) - 1, options.frames).round().astype(np.int64)
        if options.fps is None:
            return np.arange(len(pictures))
        step = rational(_rate(pictures)) / rational(options.fps)
        count = math.ceil((len(pictures) - Fraction(1, 2)) / step)
        return np.array([math.floor(j * step + Fraction(1, 2)) for j in range(count)], np.int64)

    def mark(self, episode: int) -> str:
        """sha256 over one row alone: files, sizes, which pictures are its frames."""
        files = [_named(k, p) for k, p in sorted(self._files[episode].items()) if k == "video"]
        taken = self._taken[episode]
        return hashlib.sha256(f"{episode} {files} {len(taken)} {taken.tobytes().hex()}".encode()).hexdigest()

    def _one_rate(self) -> float:
        rates: dict[float, int] = {}
        for i, files in self._files.items():
            rate = _rate(pictures_of(files["video"]))
            rates.setdefault(rate, i)
        if len(rates) > 1:
            (a, i), (b, j) = list(rates.items())[:2]
            raise ValueError(
                f"{self.path}: rows {i} and {j} have {a:g} and {b:g} frames per second; possible: one rate "
                f"for all, {self.name}?fps={a:g}, or one table per rate"
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
        texts = {k: () for e in self.episodes for k in self._texts[e.index]}
        return shapes | texts | ({CAPTION: ()} if any(e.tasks for e in self.episodes) else {})

    def _shape(self, episode: int, key: str, path: Path) -> Shape:
        if path.suffix.lower() in ARRAY_SUFFIXES:
            return self._array(episode, key, path).shape[1:]
        pictures = pictures_of(path)
        return pictures.height, pictures.width, pictures.channels

    @cached_property
    def facts(self) -> Facts:
        shapes = self._shapes
        return Facts(
            fps=self._fps,
            cameras=tuple(k for k in shapes if self._is_video(k)),
            tasks=tuple(dict.fromkeys(t for e in self.episodes for t in e.tasks)),
            columns={**shapes, ALIAS + "video": shapes["video"]},
        )

    def _is_video(self, key: str) -> bool:
        return any(key in f and f[key].suffix.lower() in VIDEO_SUFFIXES for f in self._files.values())

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for e in self.episodes:
            names = [_named(k, p) for k, p in sorted(self._files[e.index].items())]
            digest.update(f"{e.index} {e.length} {e.tasks} {names}\n".encode())
            if self._texts[e.index]:
                digest.update(f"{sorted(self._texts[e.index].items())}\n".encode())
            if len(pictures_of(self._files[e.index]["video"])) != e.length:
                digest.update(self._taken[e.index].tobytes())
        return digest.hexdigest()

    def has(self, episode: int, key: str) -> bool:
        """Whether this row has a file, a text or, for "task", a caption."""
        if key == CAPTION:
            return bool(self._episode(episode).tasks)
        return _plain(key) in self._files.get(episode, {}) or key in self._texts.get(episode, {})

    @cached_property
    def _numbered(self) -> dict[int, Episode]:
        return {e.index: e for e in self.episodes}

    def _episode(self, index: int) -> Episode:
        if index not in self._numbered:
            raise ValueError(f"{self.path}: row {index} is not in the data")
        return self._numbered[index]

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
        """Frames of one column, (n, H, W, C) pictures or (n, *S) numbers; a text, or the caption for "task".

        Errors: ValueError naming row and file where a frame cannot be read or a file has another length than the video.
        """
        e = self._episode(episode)
        if not self.has(episode, key):
            raise unknown(f"column of {self.name}, row {episode}:", key, self._shapes)
        if key == CAPTION:
            return e.tasks[0]
        if key in self._texts[episode]:
            return self._texts[episode][key]
        bad = [int(f) for f in frames if not 0 <= f < e.length]
        if bad:
            raise ValueError(f"{self.path}, row {episode}: frame {bad[0]} of {e.length}")
        path = self._files[episode][_plain(key)]
        taken = self._taken[episode][np.asarray(frames, np.int64)]
        try:
            if path.suffix.lower() in ARRAY_SUFFIXES:
                rows = self._array(episode, _plain(key), path)[taken]
                return fitted(rows, size) if size and rows.ndim == 4 and rows.shape[1:3] != tuple(size) else rows
            return read_frames(path, self._agreeing(episode, key, path, taken).tolist(), size=size)
        except ValueError as error:
            raise ValueError(f"{self.name}, row {episode}: {error}") from None

    def _agreeing(self, episode: int, key: str, path: Path, taken: np.ndarray) -> np.ndarray:
        """The pictures of a modality's file that belong to those of the video. Errors: it is shorter or longer."""
        here, video = len(pictures_of(path)), len(pictures_of(self._files[episode]["video"]))
        if here == video:
            return taken
        if here != video - 1:
            raise ValueError(f"{path} holds {here} pictures, the video {video}")
        if not self._lacking:
            self._lacking = True
            warnings.warn(
                f"{self.name}: {path.name} holds one picture less than its video, as what lies between pictures does; "
                "its last one stands for two.",
                UntidyData,
                stacklevel=4,
            )
        return np.minimum(taken, here - 1)

    def _array(self, episode: int, key: str, path: Path) -> np.ndarray:
        """(length, *S): the array in a file, float32 if it holds floating numbers; a scalar a frame becomes (n, 1)."""
        return self._recent.get((path, key), lambda: self._load(episode, key, path))

    def _load(self, episode: int, key: str, path: Path) -> np.ndarray:
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
        count = len(pictures_of(self._files[episode]["video"]))
        if stored.ndim == 0 or stored.dtype.kind not in "biuf" or len(stored) != count:
            raise ValueError(
                f"{path} holds {stored.dtype} {stored.shape}; expected numbers, one row for each of {count} pictures"
            )
        array = stored.astype(np.float32) if stored.dtype.kind == "f" else stored
        return array[:, None] if array.ndim == 1 else array


def _named(key: str, path: Path) -> str:
    """What of a file goes into fingerprints; how a video is turned, where it is."""
    turn = pictures_of(path).turn.said if path.suffix.lower() in VIDEO_SUFFIXES else ""
    return f"{key} {path.name} {path.stat().st_size}" + (f" {turn}" if turn else "")


def _plain(key: str) -> str:
    """ "observation.images.video" is another name of "video"."""
    return key.removeprefix(ALIAS)


def _names_file(value: object) -> bool:
    return isinstance(value, str) and value.lower().endswith(VIDEO_SUFFIXES + ARRAY_SUFFIXES)


def _says(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _rate(pictures: Pictures) -> float:
    """Frames per second: what the file says, else from its first and last picture."""
    if pictures.rate:
        return float(rational(pictures.rate))
    span = (int(pictures.pts[-1]) - int(pictures.pts[0])) * pictures.tick
    return float((len(pictures) - 1) / span) if span else 1.0
