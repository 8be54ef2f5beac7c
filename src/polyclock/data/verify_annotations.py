"""Checking what experts and frozen codecs said: every file is there, whole, and of the episode that it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import annotation, projections
from .files import ASIDE
from .latents import checksum
from .listing import Problem
from .opening import open_dataset
from .source import Dataset, load_json, noted


def verify_annotated(root: Path) -> list[Problem]:
    """Every fault of a folder of annotations: files by their hashes, projections, latents, and its source if it opens.

    The source itself is another data set, which is checked by itself.
    """
    try:
        said = annotation.load(root)
        made = {name: entry["made"] for name, entry in (said["columns"] | said["filters"]).items()}
        records, failed = (annotation.latest(root, n, made) for n in (annotation.RECORDS, annotation.QUARANTINE))
    except ValueError as error:
        return [Problem(annotation.NAME, None, None, str(error).replace(f"{root}/", ""))]
    problems = _of_source(root, said, records)
    for (episode, _), record in sorted(records.items()):
        if "file" in record:
            fault = _of_file(root / record["file"], record)
            problems += [Problem(record["file"], episode, None, what, note=note) for what, note in fault]
    problems += _of_projections(root, said)
    problems += [
        Problem(annotation.QUARANTINE, e, None, f"there is no {name}: it failed", note=True)
        for e, name in sorted(failed.keys() - records.keys())
    ]
    problems += [_leftover(path, root) for path in sorted(root.rglob(f".*{ASIDE}"))]
    kept = verify_latents(root / annotation.LATENTS)
    problems += [Problem(f"{annotation.LATENTS}/{p.file}", None, None, p.what, p.note) for p in kept]
    return sorted(problems, key=lambda p: (p.note, p.file, p.episode or 0))


def _of_source(root: Path, said: Mapping[str, Any], records: Mapping[tuple[int, str], Any]) -> list[Problem]:
    """Whether the annotated episodes are still those of the source."""
    source = annotation.source_of(root, said)
    try:
        dataset: Dataset = open_dataset(source)
    except ValueError as error:
        return [Problem(annotation.NAME, None, None, f"the source cannot be opened: {error}")]
    lengths = {e.index: e.length for e in dataset.episodes}
    marks = {e: noted(dataset).mark(e) for e in {e for e, _ in records} & lengths.keys()}
    problems = []
    for (e, name), record in sorted(records.items()):
        if marks.get(e) != record["source"]:
            what = f"{name} is of an episode that is no longer as it was, or gone"
            problems.append(Problem(annotation.RECORDS, e, None, what, note=True))
        elif record.get("frames", lengths[e]) != lengths[e]:
            what = f"{name} has {record['frames']} frames, the episode {lengths[e]}"
            problems.append(Problem(record["file"], e, None, what))
    return problems


def _of_file(path: Path, record: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """(what is wrong, whether it is only unusual)."""
    if not path.is_file():
        return [("is missing", False)]
    if "sha256" not in record:
        return [("no hash was noted when it was written", True)]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return [] if found == record["sha256"] else [("is not as it was written: its hash differs", False)]


def _of_projections(root: Path, said: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for column, entry in said["columns"].items():
        name = entry["note"].get("projection")
        try:
            if name is not None:
                projections.load(root, name)
        except ValueError as error:
            what = f"{column}: {error}".replace(f"{root}/", "")
            problems.append(Problem(f"{projections.FOLDER}/{name}", None, None, what))
    return problems


def _leftover(path: Path, root: Path) -> Problem:
    what = "was left by a killed writer, or is being written"
    return Problem(str(path.relative_to(root)), None, None, what, note=True)


def kept_in(folder: Path) -> list[Path]:
    """The arrays of numbers that a folder of latents holds."""
    return sorted(p for p in folder.glob("*.npy") if p.with_suffix(".rows").is_file()) if folder.is_dir() else []


def verify_latents(folder: Path) -> list[Problem]:
    """Every fault of the numbers that frozen codecs said ahead of training: sizes, and checksums of all rows."""
    problems = []
    for path in kept_in(folder):
        problems += [Problem(path.name, None, None, what, note=note) for what, note in _of_rows(path)]
    return problems


def _of_rows(path: Path) -> list[tuple[str, bool]]:
    try:
        load_json(path.with_suffix(".json"))
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        return [(f"cannot be read: {error}".replace(f"{path.parent}/", ""), False)]
    done = np.flatnonzero(np.fromfile(path.with_suffix(".rows"), np.uint8))
    if len(done) and done[-1] >= len(array):
        return [(f"holds {len(array)} rows; row {done[-1]} is said to be there", False)]
    beside = path.with_suffix(".sums")
    content = beside.read_bytes() if beside.is_file() else b""
    sums = np.zeros(len(array), "<u4")
    sums[: len(content) // 4] = np.frombuffer(content[: len(content) // 4 * 4], "<u4")[: len(array)]
    problems = []
    unknown = [int(row) for row in done if not sums[row]]
    if unknown:
        problems.append((f"{len(unknown)} rows have no checksum, the first is row {unknown[0]}", True))
    for row in done:
        if sums[row] and checksum(array[row]) != sums[row]:
            problems.append((f"row {row} is not as it was written: its checksum differs", False))
    return problems
