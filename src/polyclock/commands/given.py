"""Values given on the command line: files, sentences, or a window of a data set, brought into a signal's raw shape."""

from __future__ import annotations

import csv
import json
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..data.cropped import cut
from ..data.source import VIDEO_SUFFIXES, Dataset
from ..data.video import pictures_of, read_frames
from ..data.window import Windows
from ..errors import unknown
from ..modality import Signal

PICTURES = (".png", ".jpg", ".jpeg")
ARRAYS = (".npy", ".npz")
TABLES = (".json", ".csv")
Value = np.ndarray | str


def from_words(
    words: Sequence[str], signals: Mapping[str, Signal], spans: Mapping[str, int], start: float, cover: bool = False,
    later: float = 0.0,
) -> dict[str, Value]:  # fmt: skip
    """`NAME=FILE`, `NAME=FILE@SECONDS` or `NAME=sentence` -> raw values (b, T', *S, C), b = 1 where a file has no b.

    spans[name]: frames that the query gives of it, where that may be fewer than all. start: seconds into a video of its
    first frame, where the word does not say. cover: pictures of another shape than the model's are cut in their middle;
    else they are stretched, as training reads a data set. later: seconds by which all videos begin later. Errors:
    `ValueError` for a name that the query does not take, a file that is not there, of a kind that cannot be read, too
    short, or of another shape.
    """
    values: dict[str, Value] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"--given {word!r} must be NAME=FILE; names: {', '.join(signals)}")
        if name not in signals:
            raise unknown("name in --given for this query", name, signals)
        if name in values:
            raise ValueError(f"--given {name} stands there twice")
        values[name] = _read(name, text, signals[name], spans.get(name), start, cover, later)
    return values


def windows_in(words: Sequence[str], signals: Mapping[str, Signal], start: float) -> tuple[float, int]:
    """(seconds that a window of the given videos lasts, how many of them, one after the other, their files hold).

    Errors: ValueError where no video is given.
    """
    found = []
    for name, _, text in (word.partition("=") for word in words):
        file, begin = _split_time(text, start)
        if name in signals and Path(file).suffix.lower() in VIDEO_SUFFIXES and Path(file).is_file():
            seconds, period = _times(Path(file))
            lasts = int(signals[name].shape[0] or 0) / (signals[name].rate or 1 / period)
            found.append((lasts, int((seconds[-1] + period - begin) / lasts + 1e-6)))
    if not found:
        raise ValueError("several windows need a video given as a file, --given NAME=CLIP.mp4")
    return max(lasts for lasts, _ in found), min(count for _, count in found)


def from_window(dataset: Dataset, episode: int, at: float, signals: Mapping[str, Signal]) -> dict[str, Value]:
    """(1, T', *S, C) of the window of an episode anchored `at` seconds into it; a name that it lacks is absent.

    Errors: `ValueError` for an episode or a time that is not there.
    """
    if not signals:
        return {}
    one = dataset.only([episode])
    frame, length, fps = round(at * one.facts.fps), one.episodes[0].length, one.facts.fps
    if not 0 <= frame < length:
        raise ValueError(f"--at {at:g} is outside episode {episode}, which is {length / fps:.2f} s long")
    found = Windows(one, signals)[frame].values
    return {n: v if isinstance(v, str) else v[None] for n, v in found.items()}


def _read(name: str, text: str, signal: Signal, span: int | None, start: float, cover: bool, later: float) -> Value:
    """One value of `--given`."""
    text, begin = _split_time(text, start)
    begin += later
    path = Path(text)
    suffix = path.suffix.lower()
    if signal.kind == "text":
        return path.read_text(encoding="utf-8").strip() if suffix == ".txt" else text
    possible = (*((*VIDEO_SUFFIXES, *PICTURES) if signal.kind == "video" else TABLES), *ARRAYS)
    if suffix not in possible:
        raise unknown(f"kind of file for {name!r}:", suffix or text, possible)
    if not path.is_file():
        raise ValueError(f"--given {name}: {path} is not there")
    if suffix in VIDEO_SUFFIXES:
        return _clip(name, path, signal, span, begin, cover)[None]
    if suffix in PICTURES:
        return _picture(path, signal, cover)[None]
    array = _array(name, path) if suffix in ARRAYS else _table(name, path)
    return _shaped(name, path, array, signal)


def _split_time(text: str, start: float) -> tuple[str, float]:
    match = re.fullmatch(r"(.+)@(\d+(?:\.\d+)?)", text)
    return (match[1], float(match[2])) if match else (text, start)


def _size(signal: Signal, height: int, width: int) -> tuple[int, int]:
    return int(signal.shape[1] or height), int(signal.shape[2] or width)


def _times(path: Path) -> tuple[np.ndarray, float]:
    """Seconds of each picture of a file after its first, and those between two."""
    pictures = pictures_of(path)
    seconds = (pictures.pts - pictures.pts[0]) * float(pictures.tick)
    return seconds, float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0


def _whole(signal: Signal, height: int, width: int, cover: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """(H, W) that whole pictures are resized to, and (h, w) of it that are kept, in the middle.

    A size that the signal leaves open stays; then it is the model's view that resizes and cuts.
    """
    size = _size(signal, height, width)
    shape = size[1] / size[0] * height / width
    if abs(shape - 1) < 0.02:
        return size, size
    if not cover:
        warnings.warn(
            f"pictures of {height} x {width} are stretched to {size[0]} x {size[1]}, as training reads a data set; "
            "--fit cover cuts their middle out instead",
            stacklevel=2,
        )
        return size, size
    inner = cut((height, width), Fraction(size[1], size[0]))
    return (round(size[0] * height / inner[0]), round(size[1] * width / inner[1])), size


def _middle(pictures: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(n, H, W, C) -> (n, *size, C)."""
    top, left = (pictures.shape[1] - size[0]) // 2, (pictures.shape[2] - size[1]) // 2
    return np.ascontiguousarray(pictures[:, top : top + size[0], left : left + size[1]])


def _clip(name: str, path: Path, signal: Signal, span: int | None, begin: float, cover: bool) -> np.ndarray:
    """(T', H, W, C): the pictures nearest to `begin`, `begin` + 1 / rate, ...; or the span's alone."""
    pictures = pictures_of(path)
    seconds, period = _times(path)
    count, rate = int(signal.shape[0] or 0), signal.rate or 1 / period
    due = begin + np.arange(count) / rate
    there = due <= seconds[-1] + period / 2
    if not there.all():
        count = span if span is not None and there[:span].all() else 0
    if not count:
        need = min(span or len(due), len(due))
        raise ValueError(
            f"--given {name}: {path} is {seconds[-1] + period:.2f} s long, but {need} frames at {rate:g} a second from "
            f"{begin:g} s on are needed"
        )
    ranks = [int(np.abs(seconds - t).argmin()) for t in due[:count]]
    whole, kept = _whole(signal, pictures.height, pictures.width, cover)
    return _middle(read_frames(path, ranks, size=whole), kept)


def _picture(path: Path, signal: Signal, cover: bool) -> np.ndarray:
    """(T', H, W, C): a picture stands for every frame; it is made smaller by averaging areas."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            picture = image.convert("L" if signal.shape[-1] == 1 else "RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a picture: {error}") from None
    (height, width), kept = _whole(signal, picture.height, picture.width, cover)
    how = Image.Resampling.BOX if width < picture.width else Image.Resampling.BILINEAR
    array = np.asarray(picture.resize((width, height), how)).reshape(1, height, width, -1)
    return np.repeat(_middle(array, kept), int(signal.shape[0] or 1), 0)


def _array(name: str, path: Path) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
        arrays = {name: found} if isinstance(found, np.ndarray) else dict(found)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"--given {name}: {path} holds no plain array: {str(error).splitlines()[0]}") from None
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if name not in arrays and "values" not in arrays:
        raise unknown(f"array in {path}", name, arrays)
    return arrays[name if name in arrays else "values"]


def _table(name: str, path: Path) -> np.ndarray:
    """Numbers: JSON lists, or a CSV with a frame a line and perhaps a heading."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        if path.suffix.lower() == ".json":
            return np.asarray(json.loads(text), np.float32)
        rows = [row for row in csv.reader(text.splitlines()) if row]
        if rows and not _numeric(rows[0]):
            rows = rows[1:]
        return np.asarray([[float(x) for x in row] for row in rows], np.float32)
    except (ValueError, TypeError) as error:
        raise ValueError(f"--given {name}: {path} does not hold numbers in rows of one length: {error}") from None


def _numeric(row: Sequence[str]) -> bool:
    return all(re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", x) for x in row)


def _shaped(name: str, path: Path, array: np.ndarray, signal: Signal) -> np.ndarray:
    """(b, T', *S, C) of an array with or without b, and without T' where that is 1."""
    want = ", ".join("any" if n is None else str(n) for n in signal.shape)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"--given {name}: {path} holds {array.dtype}, not numbers")
    if array.ndim == len(signal.shape) - 1 and signal.shape[0] == 1:
        array = array[None]
    if array.ndim == len(signal.shape):
        array = array[None]
    if array.ndim != len(signal.shape) + 1:
        raise ValueError(f"--given {name}: {path} has shape {array.shape}; it must be ({want})")
    if signal.kind == "video" and array.dtype != np.uint8:
        raise ValueError(f"--given {name}: {path} holds {array.dtype}; pictures must be uint8")
    return array if signal.kind == "video" else array.astype(np.float32)
