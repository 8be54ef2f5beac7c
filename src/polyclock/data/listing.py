"""What the metadata of a LeRobot folder list, for checking: nothing is left out, each fault is noted where it lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from .formats.columns import read_table
from .source import load_json, load_jsonl, rational
from .templates import fill


@dataclass(frozen=True)
class Problem:
    """One fault: the file (relative to the data set), the episode and its first frame concerned where there is one.

    `note` is True for what is only unusual (episodes that are listed but not here): readers cope with it.
    """

    file: str
    episode: int | None
    frame: int | None
    what: str
    note: bool = False

    def __str__(self) -> str:
        where = [self.file]
        where += [] if self.episode is None else [f"episode {self.episode}"]
        where += [] if self.frame is None else [f"frame {self.frame}"]
        return f"{', '.join(where)}: {self.what}"


@dataclass
class Listed:
    """One episode as the metadata have it. videos: key -> (file, start and end in it in seconds, or None in v2).

    source is the file that lists it; its rows are `first` to `last` of the whole data set (v3).
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    source: Path
    data: Path
    videos: dict[str, tuple[Path, Fraction | None, Fraction | None]]
    first: int | None = None
    last: int | None = None
    statistics: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Listing:
    """All that is to be checked, and the problems found so far."""

    root: Path
    info: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    fps: Fraction = Fraction(1)
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    episodes: list[Listed] = field(default_factory=list)
    tasks: dict[int, str] | None = None
    problems: list[Problem] = field(default_factory=list)

    def report(
        self, file: Path, what: str, episode: int | None = None, frame: int | None = None, note: bool = False
    ) -> None:
        """Add a problem."""
        name = str(file.relative_to(self.root)) if file.is_relative_to(self.root) else str(file)
        self.problems.append(Problem(name, episode, frame, what, note))

    def tried(self, file: Path, read: Callable[[], Any], episode: int | None = None, frame: int | None = None) -> Any:
        """What `read` returns, or None with a problem where it raises ValueError."""
        try:
            return read()
        except ValueError as error:
            self.report(file, str(error).replace(f"{self.root}/", ""), episode, frame)
            return None

    @property
    def videos(self) -> list[str]:
        """The declared video columns."""
        return [key for key, entry in self.features.items() if entry.get("dtype") == "video"]


def list_folder(root: Path) -> Listing:
    """Read `meta/`; what cannot be read becomes a problem."""
    found = Listing(root)
    path = root / "meta" / "info.json"
    info = found.tried(path, lambda: load_json(path))
    if info is None:
        return found
    found.info, found.version = info, str(info.get("codebase_version", "missing"))
    features = info.get("features")
    if not found.version.startswith(("v2.", "v3.")):
        found.report(path, f"codebase_version is {found.version}; possible: v2.0, v2.1, v3.x")
    elif not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        found.report(path, "'features' is not an object of columns")
    elif (fps := found.tried(path, lambda: _rate(info))) is not None:
        found.fps, found.features = fps, features
        _list_tasks(found)
        (_list_v2 if found.version.startswith("v2.") else _list_v3)(found)
        _drop_repeated(found)
    return found


def _rate(info: dict[str, Any]) -> Fraction:
    if not isinstance(info.get("fps"), (int, float)):
        raise ValueError(f"fps is {info.get('fps')!r}, not a number")
    return rational(info["fps"])


def _list_tasks(found: Listing) -> None:
    path = found.root / "meta" / ("tasks.jsonl" if found.version.startswith("v2.") else "tasks.parquet")

    def read() -> dict[int, str]:
        rows = load_jsonl(path) if path.suffix == ".jsonl" else read_table(path).to_pylist()
        words = (
            "task" if path.suffix == ".jsonl" else next((n for n in rows[0] if n != "task_index"), "") if rows else ""
        )
        try:
            return {int(row["task_index"]): str(row[words]) for row in rows}
        except (KeyError, TypeError, ValueError):
            raise ValueError("a row has no task_index and task") from None

    found.tasks = found.tried(path, read)


def _words(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),) if value else ()


def _list_v2(found: Listing) -> None:
    path = found.root / "meta" / "episodes.jsonl"
    chunk = max(1, int(found.info.get("chunks_size") or 1000))
    for number, row in enumerate(found.tried(path, lambda: load_jsonl(path)) or [], 1):
        try:
            index, length = int(row["episode_index"]), int(row["length"])
            names: dict[str, Any] = {"episode_chunk": index // chunk, "episode_index": index}
            data = found.root / fill(str(found.info.get("data_path")), **names)
            video = str(found.info.get("video_path"))
            videos = {k: (found.root / fill(video, video_key=k, **names), None, None) for k in found.videos}
        except (KeyError, TypeError, ValueError) as error:
            found.report(path, f"line {number} does not name an episode: {error!r}")
            continue
        found.episodes.append(Listed(index, length, _words(row.get("tasks")), path, data, videos))
    path = found.root / "meta" / "episodes_stats.jsonl"
    if path.is_file():
        rows = {row.get("episode_index"): row.get("stats") for row in found.tried(path, lambda: load_jsonl(path)) or []}
        for episode in found.episodes:
            episode.statistics = rows.get(episode.index) or {}


def _list_v3(found: Listing) -> None:
    files = sorted((found.root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        found.report(found.root / "meta" / "episodes", "holds no parquet file, so no episode is finished")
    for path in files:
        table = found.tried(path, lambda path=path: read_table(path))
        for number, row in enumerate(table.to_pylist() if table is not None else []):
            try:
                found.episodes.append(_row_v3(found, row, path))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                found.report(path, f"row {number} does not place an episode: {error!r}")
    found.episodes.sort(key=lambda e: e.index)


def _row_v3(found: Listing, row: dict[str, Any], path: Path) -> Listed:
    index, length, first, last = (
        int(row[n]) for n in ("episode_index", "length", "dataset_from_index", "dataset_to_index")
    )
    names: dict[str, Any] = {n: int(row[f"data/{n}"]) for n in ("chunk_index", "file_index")}
    data = found.root / fill(str(found.info.get("data_path")), **names)
    if last - first != length:
        found.report(
            path, f"length is {length} but rows {first} to {last} are named", index, min(length, max(0, last - first))
        )
    videos = {}
    for key in found.videos:
        if row.get(f"videos/{key}/chunk_index") is None:
            continue
        names = {n: int(row[f"videos/{key}/{n}"]) for n in ("chunk_index", "file_index")}
        start, end = (Fraction(row[f"videos/{key}/{n}_timestamp"]) for n in ("from", "to"))
        videos[key] = (found.root / fill(str(found.info.get("video_path")), video_key=key, **names), start, end)
    statistics: dict[str, dict[str, Any]] = {}
    for name, value in row.items():
        if name.startswith("stats/") and name.count("/") == 2 and value is not None:
            statistics.setdefault(name.split("/")[1], {})[name.split("/")[2]] = value
    return Listed(index, length, _words(row.get("tasks")), path, data, videos, first, last, statistics)


def _drop_repeated(found: Listing) -> None:
    seen: dict[int, Listed] = {}
    for episode in found.episodes:
        if episode.index in seen:
            found.report(episode.source, "is listed twice", episode.index)
        elif episode.length < 1 or not math.isfinite(episode.length):
            found.report(episode.source, f"length is {episode.length}", episode.index)
        else:
            seen[episode.index] = episode
    found.episodes = list(seen.values())
