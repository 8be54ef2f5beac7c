"""`polyclock data verify`: read everything of a data set and name each fault by file, episode and frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .annotation import is_annotated
from .files import ASIDE
from .formats.lerobot_schema import ALWAYS
from .listing import Listed, Listing, Problem, list_folder
from .source import load_json, spans
from .verify_annotations import kept_in, verify_annotated, verify_latents
from .verify_columns import verify_columns
from .verify_rows import fault_of_statistics, verify_rows
from .verify_videos import verify_videos

__all__ = ["Problem", "verify"]


def verify(path: str | Path) -> list[Problem]:
    """Every fault of a LeRobot v2.0, v2.1 or v3 folder, of HDF5 demonstrations, a zarr buffer or an RLDS data set; of
    what experts said about a data set, and of what frozen codecs said ahead of training.

    `Problem.note` marks what is only unusual. All rows are read and all pictures decoded. ValueError where `path` is
    none of these.
    """
    root = Path(path)
    if is_annotated(root) or kept_in(root):
        return verify_annotated(root) if is_annotated(root) else verify_latents(root)
    if not (root / "meta" / "info.json").is_file():
        problems = verify_columns(path)
        if problems is None:
            raise ValueError(f"{root} is no LeRobot folder: it has no meta/info.json (nor HDF5, zarr or RLDS data)")
        return problems
    found = list_folder(root)
    if not found.features:
        return found.problems
    here = _present(found)
    verify_rows(found, here)
    verify_videos(found, here)
    _check_totals(found, here)
    _check_statistics(found)
    _note_leftovers(found)
    return sorted(found.problems, key=lambda p: (p.note, p.file, p.episode or 0, p.frame or 0))


def _present(found: Listing) -> list[Listed]:
    """The episodes to check. In v2, where each has its own files, one without any file was simply not copied."""
    if found.version.startswith("v3"):
        return found.episodes
    here = [e for e in found.episodes if e.data.is_file() or any(v[0].is_file() for v in e.videos.values())]
    if len(here) < len(found.episodes):
        what = f"{len(found.episodes)} episodes are listed, {len(here)} are here ({spans([e.index for e in here])})"
        found.report(found.root / "meta" / "episodes.jsonl", what, note=True)
    return here


def _check_totals(found: Listing, here: list[Listed]) -> None:
    path = found.root / "meta" / "info.json"
    totals = {"total_episodes": len(found.episodes), "total_frames": sum(e.length for e in found.episodes)}
    if found.tasks is not None:
        totals["total_tasks"] = len(found.tasks)
    # Of v2 folders with absent episodes the lists, too, are often cut; then nothing can be said.
    whole = len(here) == len(found.episodes) and found.version.startswith("v3")
    for name, true in totals.items():
        said = found.info.get(name)
        if said is not None and said != true:
            found.report(path, f"{name} is {said}, the tables give {true}", note=not whole)
    for key in ALWAYS:
        if key not in found.features:
            found.report(path, f"feature {key} is not declared", note=True)
    numbers = [e.index for e in found.episodes]
    if numbers != list(range(len(numbers))):
        found.report(found.root / "meta", f"episode numbers have gaps: {spans(numbers)}", note=True)
    if found.version.startswith("v3"):
        _check_order(found)


def _check_order(found: Listing) -> None:
    due = 0
    for episode in found.episodes:
        if episode.first is not None and episode.first != due:
            what = f"dataset_from_index is {episode.first}, the episodes before it end at {due}"
            found.report(episode.source, what, episode.index, 0)
        due = episode.last or 0


def _check_statistics(found: Listing) -> None:
    path = found.root / "meta" / "stats.json"
    if not path.is_file():
        if found.version.startswith("v3") and found.episodes:
            found.report(path, "is missing")
        return
    table: dict[str, Any] = found.tried(path, lambda: load_json(path)) or {}
    for key, stats in table.items():
        fault = fault_of_statistics(stats)
        if fault is not None:
            found.report(path, f"statistics of {key}: {fault}")
        elif found.version.startswith("v3") and key in found.features and found.features[key].get("dtype") != "video":
            frames = sum(e.length for e in found.episodes)
            counts = stats.get("count", [frames])
            if counts != [frames]:
                found.report(path, f"statistics of {key}: count is {counts}, the data set has {frames} frames")


def _note_leftovers(found: Listing) -> None:
    named = {e.data for e in found.episodes} | {v[0] for e in found.episodes for v in e.videos.values()}
    for path in _files(found.root):
        if path.name.endswith(ASIDE):
            found.report(path, "was left by a killed writer; opening the data set for writing removes it", note=True)
        elif path.suffix in (".parquet", ".mp4") and path not in named:
            found.report(path, "belongs to no listed episode", note=True)


def _files(root: Path) -> Iterable[Path]:
    for folder in ("data", "videos", "meta"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and (folder != "meta" or path.name.endswith(ASIDE)):
                yield path
