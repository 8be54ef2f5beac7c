"""HDF5 files of demonstrations, as robomimic and LIBERO write them: `data/demo_i/{obs/<key>, actions, ...}`."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...codecs.codec import Shape
from ...errors import missing, unknown
from ..source import TABLE_SUFFIXES, VIDEO_SUFFIXES, Episode
from .options import Options
from .recordings import is_picture, merged, named

OPTIONS = ("fps", "flip", "state", "action", "task", "mask")
SUFFIXES = (".hdf5", ".h5")
OPEN = 32  # files kept open


def is_demonstrations(root: Path) -> bool:
    """Whether this is an HDF5 file or a folder of them; one with videos or tables too is a folder of those."""
    others = TABLE_SUFFIXES + VIDEO_SUFFIXES
    mixed = root.is_dir() and any(p.suffix.lower() in others for p in root.iterdir())
    return bool(_paths(root)) and not mixed


def _paths(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() in SUFFIXES else []
    return sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


class Demonstrations:
    """The demonstrations of one file, numbered as in it, or of a folder of files, numbered through in order of name.

    Errors: ValueError naming the file where one cannot be opened, has no demonstrations, another rate, or no such mask.
    """

    def __init__(self, root: Path, options: Options) -> None:
        self.format, self.root = "robomimic HDF5", root
        self.notes: list[str] = []
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._places: dict[int, tuple[Path, str, frozenset[str]]] = {}
        self._lengths: dict[int, int] = {}
        self._agreed: set[tuple[int, str]] = set()
        self._stored: dict[str, str] = {}
        tables: list[dict[str, Shape]] = []
        pictures: set[str] = set()
        episodes: list[Episode] = []
        rates: dict[float, Path] = {}
        conventions: set[str] = set()
        paths, first = _paths(root), 0
        for path in paths:
            with self._lock:
                found = self._read_file(path, options.mask, None if len(paths) == 1 else first)
            episodes += found["episodes"]
            tables.append(found["shapes"])
            pictures |= found["pictures"]
            first += found["count"]
            conventions.add(found["convention"])
            if found["fps"] is not None:
                rates.setdefault(found["fps"], path)
        if len(rates) > 1 and options.fps is None:
            (a, one), (b, other) = list(rates.items())[:2]
            raise ValueError(f"{one} has {a:g} and {other} {b:g} frames per second; open them apart, or say fps=...")
        self.fps: float | None = next(iter(rates)) if len(rates) == 1 else None
        self.episodes = tuple(episodes)
        self._sentences = {e.index: e.tasks[0] for e in episodes if e.tasks}
        if not episodes:
            raise ValueError(
                f"{root} holds no demonstration with frames" + f", mask {options.mask}" * bool(options.mask)
            )
        self.columns = merged(tables, str(root))
        self.cameras = tuple(c for c in self.columns if c in pictures)
        if "opengl" in conventions and self.cameras and options.flip is None:
            self.notes.append(
                "the pictures are in OpenGL's convention, the lowest row first; flip=all turns them over, flip=none "
                "says that they are meant so"
            )
        digest = hashlib.sha256(f"{[(p.name, p.stat().st_size) for p in paths]}".encode())
        digest.update(f"{[(e.index, e.length, e.tasks) for e in self.episodes]} {options.mask}".encode())
        self.digest = digest.hexdigest()

    def _file(self, path: Path) -> Any:
        """An open file; the lock is held. HDF5 itself lets one thread in at a time."""
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        try:
            import h5py
        except ImportError:
            raise missing("h5py", "formats") from None
        try:
            self._open[path] = h5py.File(path, "r")
        except OSError as error:
            raise ValueError(f"{path} cannot be read as HDF5: {error}") from None
        if len(self._open) > OPEN:
            self._open.popitem(last=False)[1].close()
        return self._open[path]

    def _read_file(self, path: Path, mask: str | None, first: int | None) -> dict[str, Any]:
        """Demonstrations, columns and facts of one file. Without `first`, numbers are those of the names."""
        file = self._file(path)
        data = _group(file, "data", path)
        names = sorted((n for n in data if re.fullmatch(r"\D*\d+", n)), key=lambda n: (int(re.sub(r"\D", "", n)), n))
        if not names:
            raise ValueError(f"{path}: 'data' holds no demonstrations (demo_0, demo_1, ...)")
        chosen = set(names) if mask is None else _masked(file, mask, names, path)
        sentence = _sentence(data.attrs, path)
        out: dict[str, Any] = {"episodes": [], "shapes": {}, "pictures": set(), "count": len(names)}
        for place, name in enumerate(names):
            if name not in chosen:
                continue
            index = int(re.sub(r"\D", "", name)) if first is None else first + place
            demo = _group(data, name, path)
            length = _length(demo, name, path)
            if length < 1:
                self.notes.append(f"{path.name}, {name} has no frames; left out")
                continue
            keys = self._keys(demo)
            if not out["episodes"]:
                out["shapes"], out["pictures"] = self._columns(demo, keys, length)
            text = _sentence(demo.attrs, path) or sentence
            out["episodes"].append(Episode(index=index, length=length, tasks=(text,) if text else ()))
            self._places[index] = (path, name, frozenset(keys))
            self._lengths[index] = length
        arguments = _json(data.attrs, "env_args", path)
        rate = (arguments.get("env_kwargs") or {}).get("control_freq", arguments.get("control_freq"))
        out["fps"] = float(rate) if isinstance(rate, (int, float)) and rate > 0 else None
        out["convention"] = _text(data.attrs.get("macros_image_convention"))
        return out

    def _keys(self, demo: Any) -> list[str]:
        """Names of what may be columns: all of `obs`, and the arrays beside it."""
        beside = [k for k in demo if k not in ("obs", "next_obs")]
        return [f"obs/{k}" for k in demo["obs"]] + beside if "obs" in demo else beside

    def _columns(self, demo: Any, keys: list[str], length: int) -> tuple[dict[str, Shape], set[str]]:
        """({column: shape of a frame}, those that are pictures) of a demonstration.

        Beside `obs` and `actions` there may be arrays that have no row for each frame; they are no columns.
        """
        shapes: dict[str, Shape] = {}
        pictures = set()
        for key in keys:
            array = demo[key]
            if not hasattr(array, "dtype") or array.dtype.kind not in "biuf" or not array.shape:
                continue
            if key != "actions" and not key.startswith("obs/") and len(array) != length:
                continue
            plain = key.removeprefix("obs/")
            picture = key != plain and is_picture(array.shape[1:], array.dtype)
            column = named(plain, picture)
            column = column.removeprefix("observation.") if key == plain else column
            self._stored[column] = key
            shapes[column] = tuple(array.shape[1:]) or (1,)
            pictures |= {column} if picture else set()
        return shapes, pictures

    def file(self, episode: int) -> Path:
        """Where an episode lies."""
        return self._places[episode][0]

    def has(self, episode: int, key: str) -> bool:
        """Whether the demonstration holds an array of this name."""
        return self._stored.get(key) in self._places[episode][2]

    def rows(self, episode: int, key: str, frames: np.ndarray) -> np.ndarray:
        """(n, *S): only the chunks that hold `frames` are read."""
        path, name, _ = self._places[episode]
        where = f"{path}, {name}, {self._stored[key]}"
        with self._lock:
            try:
                array = self._file(path)["data"][name][self._stored[key]]
                if (episode, key) not in self._agreed:
                    self._agree(array, where, path, self._lengths[episode])
                    self._agreed.add((episode, key))
                rows = array[_selection(frames)]
            except (OSError, KeyError, RuntimeError) as error:
                raise ValueError(f"{where}, frames {_few(frames)} cannot be read: {error}") from None
        return rows[:, None] if rows.ndim == 1 else rows

    def _agree(self, array: Any, where: str, path: Path, length: int) -> None:
        """Errors: the array is not of numbers, not in this file, or not of the demonstration's length."""
        if not hasattr(array, "dtype") or array.dtype.kind not in "biuf":
            raise ValueError(f"{where} is no array of numbers")
        if array.external or array.is_virtual or Path(array.file.filename) != path:
            raise ValueError(f"{where} lies in another file; only what the file itself holds is read")
        if not array.shape or len(array) != length:
            raise ValueError(f"{where} has shape {array.shape}; the demonstration has {length} frames")

    def sentence(self, episode: int, frame: int) -> str:
        """The demonstration's sentence."""
        return self._sentences[episode]

    def check(self) -> Iterator[tuple[Path, int | None, int | None, str]]:
        """Totals, and masks that name what is not there."""
        for path in dict.fromkeys(p for p, _, _ in self._places.values()):
            with self._lock:
                file = self._file(path)
                data = file["data"]
                demos = [n for n in data if re.fullmatch(r"\D*\d+", n)]
                frames = sum(_length(data[n], n, path) for n in demos)
                masks = {m: set(_names(file["mask"][m])) - set(demos) for m in file.get("mask", ())}
                said = {
                    "total": (data.attrs.get("total"), frames),
                    "num_demos": (data.attrs.get("num_demos"), len(demos)),
                }
            for name, (value, true) in said.items():
                if value is not None and _number(value) != true:
                    yield path, None, None, f"attribute {name} of 'data' is {value}, the demonstrations give {true}"
            for mask, absent in masks.items():
                if absent:
                    yield path, None, None, f"mask {mask} names {min(absent)}, which is not there"


def _group(parent: Any, name: str, path: Path) -> Any:
    """A group inside the same file; ValueError where it is not there, or a link leads out of the file."""
    found = parent.get(name) if name in parent else None
    if found is None or not hasattr(found, "keys"):
        raise ValueError(f"{path} has no group {name!r}; it has: {', '.join(sorted(parent)[:6]) or 'nothing'}")
    if Path(found.file.filename) != path:
        raise ValueError(f"{path}: {name!r} lies in another file; only what the file itself holds is read")
    return found


def _selection(frames: np.ndarray) -> Any:
    """A slice where the frames lie side by side, which HDF5 reads faster."""
    if len(frames) and frames[-1] - frames[0] + 1 == len(frames):
        return slice(int(frames[0]), int(frames[-1]) + 1)
    return frames


def _few(frames: np.ndarray) -> str:
    return ", ".join(map(str, frames[:4].tolist())) + (", ..." if len(frames) > 4 else "")


def _number(value: Any) -> int | None:
    try:
        return int(_text(value)) if isinstance(value, (str, bytes)) else int(value)
    except (TypeError, ValueError):
        return None


def _length(demo: Any, name: str, path: Path) -> int:
    """`num_samples`, which some writers store as text; else the length of `actions`."""
    said = demo.attrs.get("num_samples")
    if said is not None:
        length = _number(said)
        if length is None or length < 0:
            raise ValueError(f"{path}, {name}: num_samples is {said!r}")
        return length
    if "actions" not in demo:
        raise ValueError(f"{path}, {name} has neither the attribute num_samples nor actions")
    return len(demo["actions"])


def _names(mask: Any) -> list[str]:
    return [_text(n) for n in np.asarray(mask[()]).ravel().tolist()]


def _masked(file: Any, mask: str, names: list[str], path: Path) -> set[str]:
    """The demonstrations that a mask names."""
    masks = list(file["mask"]) if "mask" in file else []
    if mask not in masks:
        raise unknown(f"mask of {path}:", mask, masks)
    found = set(_names(file["mask"][mask]))
    if found - set(names):
        raise ValueError(f"{path}: mask {mask} names {min(found - set(names))}, which is not there")
    return found


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else "" if value is None else str(value)


def _json(attributes: Any, name: str, path: Path) -> dict[str, Any]:
    """An attribute that holds a JSON object; {} where there is none."""
    text = _text(attributes.get(name))
    try:
        value = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: the attribute {name} is not JSON: {error}") from None
    return value if isinstance(value, dict) else {}


def _sentence(attributes: Any, path: Path) -> str:
    """What the attributes of a file's data or of a demonstration say that is done; "" where they do not."""
    found = attributes.get("language_instruction")
    for name, key in (("problem_info", "language_instruction"), ("ep_meta", "lang"), ("env_args", "env_lang")):
        found = found if found is not None else _json(attributes, name, path).get(key)
    words = found.tolist() if isinstance(found, np.ndarray) else found
    if words is None and "bddl_file_name" in attributes:
        # KITCHEN_SCENE1_open_the_bottom_drawer.bddl
        stem = Path(_text(attributes["bddl_file_name"])).stem
        words = re.sub(r"^[A-Z_0-9]+_(?=[a-z])", "", stem).replace("_", " ")
    text = " ".join(map(_text, words)) if isinstance(words, list) else _text(words)
    return text.strip().strip('"').strip()
