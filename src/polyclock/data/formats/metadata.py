"""The metadata of a LeRobot folder, v2.0, v2.1 and v3: which episodes are here, and in which files they lie."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..source import Episode, load_json, load_jsonl, rational, spans
from ..templates import fill
from .columns import read_table


@dataclass(frozen=True)
class Place:
    """Where one episode lies: its data file, and for each camera a video file and, in v3, its time in that file."""

    episode: Episode
    data: Path
    videos: dict[str, tuple[Path, Fraction | None]]


@dataclass
class Metadata:
    """What `meta/` says, less what is not there; `notes` tell each difference in one sentence."""

    root: Path
    version: str
    info: dict
    fps: Fraction
    features: dict[str, dict]
    places: dict[int, Place]
    sentences: dict[int, str]
    notes: list[str] = field(default_factory=list)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Video columns that at least one episode has."""
        return tuple(k for k in video_keys(self.features) if any(k in p.videos for p in self.places.values()))


def video_keys(features: dict[str, dict]) -> list[str]:
    return [k for k, f in features.items() if f.get("dtype") == "video"]


class _Listing:
    """Which files exist, asking each folder once."""

    def __init__(self) -> None:
        self.names: dict[Path, frozenset[str]] = {}

    def has(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self.names:
            self.names[folder] = frozenset(p.name for p in folder.iterdir()) if folder.is_dir() else frozenset()
        return path.name in self.names[folder]


def read_metadata(root: Path) -> Metadata:
    """Read `meta/`; ValueError where it is unusable, notes where it is only untidy."""
    info = load_json(root / "meta" / "info.json")
    version = str(info.get("codebase_version", "missing"))
    if not version.startswith(("v2.", "v3.")):
        raise ValueError(f"{root / 'meta' / 'info.json'}: codebase_version is {version}; possible: v2.0, v2.1, v3.x")
    features = info.get("features")
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise ValueError(f"{root / 'meta' / 'info.json'}: 'features' is not an object of columns")
    try:
        fps = rational(info["fps"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{root / 'meta' / 'info.json'}: fps cannot be used: {error}") from None
    meta = Metadata(root, version, info, fps, features, {}, {})
    listed = _places_v2(meta) if version.startswith("v2.") else _places_v3(meta)
    _keep_present(meta, listed)
    _note_untidy(meta, [p.episode.index for p in listed])
    return meta


def _template(meta: Metadata, name: str) -> str:
    value = meta.info.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{meta.root / 'meta' / 'info.json'}: {name} is {value!r}, not a path template")
    return value


def _places_v2(meta: Metadata) -> list[Place]:
    root, folder = meta.root, meta.root / "meta"
    if (folder / "tasks.jsonl").is_file():
        rows = load_jsonl(folder / "tasks.jsonl")
        meta.sentences = {int(r["task_index"]): str(r["task"]) for r in rows if "task_index" in r and "task" in r}
    chunk = max(1, int(meta.info.get("chunks_size") or 1000))
    cameras = video_keys(meta.features)
    places = []
    for number, row in enumerate(load_jsonl(folder / "episodes.jsonl"), 1):
        try:
            index, length = int(row["episode_index"]), int(row["length"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{folder / 'episodes.jsonl'}, line {number}: no episode_index and length") from None
        tasks = row.get("tasks") or []
        tasks = tuple(map(str, [tasks] if isinstance(tasks, str) else tasks))
        names: dict[str, Any] = {"episode_chunk": index // chunk, "episode_index": index}
        videos: dict[str, tuple[Path, Fraction | None]] = {
            key: (root / fill(_template(meta, "video_path"), video_key=key, **names), None) for key in cameras
        }
        data = root / fill(_template(meta, "data_path"), **names)
        places.append(Place(Episode(index=index, length=length, tasks=tasks), data, videos))
    return places


def _places_v3(meta: Metadata) -> list[Place]:
    folder = meta.root / "meta"
    if (folder / "tasks.parquet").is_file():
        table = read_table(folder / "tasks.parquet")
        name = next((n for n in table.column_names if n != "task_index"), "")
        if name and "task_index" in table.column_names:
            numbers = table.column("task_index").to_pylist()
            meta.sentences = {int(i): str(s) for i, s in zip(numbers, table.column(name).to_pylist(), strict=True)}
    files = sorted((folder / "episodes").glob("*/*.parquet"))
    if not files:
        raise ValueError(f"{folder / 'episodes'} holds no parquet file, so no episode is finished")
    places = []
    for file in files:
        places += [_place_v3(meta, row, file) for row in _rows(file)]
    return places


def _rows(file: Path) -> list[dict]:
    return read_table(file, lambda name: not name.startswith("stats/")).to_pylist()


def _place_v3(meta: Metadata, row: dict, file: Path) -> Place:
    try:
        index, length = int(row["episode_index"]), int(row["length"])
        names: dict[str, Any] = {"chunk_index": int(row["data/chunk_index"]), "file_index": int(row["data/file_index"])}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: a row lacks episode_index, length or data/...: {error}") from None
    data = meta.root / fill(_template(meta, "data_path"), **names)
    videos: dict[str, tuple[Path, Fraction | None]] = {}
    for key in video_keys(meta.features):
        cells: list[Any] = [row.get(f"videos/{key}/{n}") for n in ("chunk_index", "file_index", "from_timestamp")]
        if any(c is None for c in cells):
            continue
        if not math.isfinite(cells[2]):
            raise ValueError(f"{file}: episode {index} starts at {cells[2]} s in the video of {key}")
        names = {"video_key": key, "chunk_index": int(cells[0]), "file_index": int(cells[1])}
        videos[key] = (meta.root / fill(_template(meta, "video_path"), **names), Fraction(cells[2]))
    tasks = row.get("tasks")
    tasks = [tasks] if isinstance(tasks, str) else tasks if isinstance(tasks, list) else []
    return Place(Episode(index=index, length=length, tasks=tuple(map(str, tasks))), data, videos)


def _keep_present(meta: Metadata, listed: Iterable[Place]) -> None:
    """Leave out episodes without a data file and cameras without a video file."""
    listing = _Listing()
    lacking: dict[str, list[int]] = {}
    seen: set[int] = set()
    for place in sorted(listed, key=lambda p: p.episode.index):
        index = place.episode.index
        if index in seen:
            raise ValueError(f"{meta.root}: episode {index} is listed twice in meta")
        seen.add(index)
        if not listing.has(place.data):
            continue
        videos = {}
        for key in video_keys(meta.features):
            found = place.videos.get(key)
            if found is not None and listing.has(found[0]):
                videos[key] = found
            else:
                lacking.setdefault(key, []).append(index)
        meta.places[index] = Place(place.episode, place.data, videos)
    if not meta.places:
        raise ValueError(f"{meta.root}: {len(seen)} episodes are listed, but no data file of theirs is here")
    for key, episodes in lacking.items():
        if len(episodes) == len(meta.places):
            meta.notes.append(f"camera {key} is declared but no video of it is here; it is left out")
        else:
            meta.notes.append(f"camera {key} has no video for episodes {spans(episodes)}; there it is absent")


def _note_untidy(meta: Metadata, listed: list[int]) -> None:
    here = list(meta.places)
    total = meta.info.get("total_episodes")
    if len(here) < len(listed):
        meta.notes.append(f"{len(listed)} episodes are listed, {len(here)} are here ({spans(here)})")
    elif isinstance(total, int) and total != len(here):
        meta.notes.append(f"info.json says {total} episodes, {len(here)} are here ({spans(here)})")
    elif here != list(range(len(here))):
        meta.notes.append(f"episode numbers have gaps: {spans(here)}")
    for name, value in (meta.info.get("splits") or {}).items():
        ends = str(value).split(":")
        if len(ends) != 2 or not all(e.strip().isdigit() for e in ends) or int(ends[1]) > (here[-1] + 1):
            meta.notes.append(f"split {name} is {value!r} but episodes {spans(here)} are here; splits are not used")
    used = {t for p in meta.places.values() for t in p.episode.tasks}
    spare = [s for s in meta.sentences.values() if s not in used]
    if spare and len(here) == len(listed):
        meta.notes.append(f"{len(spare)} sentences of the task table belong to no episode here ({spare[0]!r}, ...)")
    if (meta.root / "meta" / "modality.json").is_file():
        meta.notes.append("meta/modality.json names parts of state and action; the whole vectors are read")
