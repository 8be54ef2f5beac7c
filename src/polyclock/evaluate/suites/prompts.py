"""The films that published benchmarks of video generation ask for: from their own prompt lists, under their names.

No list is part of this package. A suite's evaluation finds a film by its file's name alone, so names are exact.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import unknown
from .totals import plain

LONGEST = 180  # characters of a prompt that the second edition takes into a file's name
TAKES = {"vbench": 5, "vbench2": 3, "videophy": 1, "worldscore": 1}
MORE = {"vbench": ("temporal flickering", 25), "vbench2": ("diversity", 20)}  # films of each prompt of one dimension
MOVES = {
    **{word.replace(" ", "_"): word for word in ("push in", "pull out", "move left", "move right", "orbit left")},
    **{word.replace(" ", "_"): word for word in ("orbit right", "pan left", "pan right", "fixed")},
    "pull_left": "move left, pull out, then pan left",
    "pull_right": "move right, pull out, then pan right",
}
STILL = ". Everything in the scene remains completely motionless."


@dataclass(frozen=True, kw_only=True)
class Film:
    """A film that a suite asks for.

    file        where it goes, below the folder of all films; of "worldscore" a folder of frames
    prompts     one for each part; all parts but the first begin with the frame that the one before ended with
    index       which of the films of these prompts
    dimensions  that it is rated by, as far as the list says it
    note        what the suite's evaluation must be told of it
    """

    file: str
    prompts: tuple[str, ...]
    index: int = 0
    dimensions: tuple[str, ...] = ()
    note: Mapping[str, Any] = field(default_factory=dict)


def films(suite: str, path: str | Path, dimensions: Collection[str] = (), takes: int | None = None) -> list[Film]:
    """The films that a prompt list asks for, each file once, in the list's order.

    path        vbench, vbench2: their full_info.json, a text file with a prompt a line, or a folder of such files named
                after dimensions; videophy: a CSV with the column caption, or a text file; worldscore: its JSON list
    dimensions  only these; empty: all
    takes       films of each prompt; None: as many as the suite asks for

    Errors: ValueError for an unknown suite or dimension, a list of another form, or one that asks for nothing.
    """
    if suite not in TAKES:
        raise unknown("suite", suite, TAKES)
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path} is not there; a prompt list of {suite} is needed")
    if takes is not None and takes < 1:
        raise ValueError(f"takes={takes}; needed: 1 or more")
    found = {film.file: film for film in READERS[suite](path, takes)}
    known = {d for film in found.values() for d in film.dimensions}
    asked = {plain(d) for d in dimensions}
    for name in asked - known:
        raise unknown("dimension in this list", name, sorted(known))
    chosen = [film for film in found.values() if not asked or asked & set(film.dimensions)]
    if not chosen:
        raise ValueError(f"{path} asks for no film")
    return chosen


def _rows(path: Path) -> list[dict[str, Any]]:
    """[{"prompt_en", "dimension"}] of a JSON list, a text file, or a folder of text files."""
    if path.is_dir():
        files = sorted(path.glob("*.txt"))
        return [{"prompt_en": line, "dimension": [f.stem]} for f in files for line in _lines(f)]
    if path.suffix.lower() == ".json":
        return _json(path, ("prompt_en", "dimension"))
    return [{"prompt_en": line, "dimension": []} for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _json(path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a JSON list that have all the keys. Errors: ValueError for anything else."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(r, dict) and all(k in r for k in keys) for r in rows):
        raise ValueError(f"{path} is not a list of entries with {', '.join(keys)}")
    return rows


def _named(suite: str, path: Path, takes: int | None) -> list[Film]:
    """Films named PROMPT-INDEX.mp4; of the second edition below a folder of their dimension."""
    out = []
    special, many = MORE[suite]
    for row in _rows(path):
        prompt = str(row["prompt_en"])
        given = row["dimension"] if isinstance(row["dimension"], list) else [row["dimension"]]
        names = tuple(plain(d) for d in given)
        if "/" in prompt:
            raise ValueError(f"{path}: the prompt {prompt!r} holds a / and cannot be a file's name")
        count = takes or (many if special in names else TAKES[suite])
        # The second edition's dimensions share prompts, whose films are not shared.
        for folder in (f"{d}/" for d in given) if suite == "vbench2" and given else ("",):
            stem = folder + (prompt[:LONGEST] if suite == "vbench2" else prompt)
            own = (plain(folder[:-1]),) if folder else names
            out += [Film(file=f"{stem}-{i}.mp4", prompts=(prompt,), index=i, dimensions=own) for i in range(count)]
    return _joined(out)


def _joined(every: list[Film]) -> list[Film]:
    """A film that several rows ask for, once, with the dimensions of all."""
    found: dict[str, Film] = {}
    for film in every:
        before = found.get(film.file)
        names = (*before.dimensions, *film.dimensions) if before else film.dimensions
        found[film.file] = Film(
            file=film.file, prompts=film.prompts, index=film.index, dimensions=tuple(dict.fromkeys(names))
        )
    return list(found.values())


def _physical(path: Path, takes: int | None) -> list[Film]:
    """Films named CAPTION_INDEX.mp4 with underscores for blanks."""
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or "caption" not in rows[0]:
            raise ValueError(f"{path} has no column caption")
    else:
        rows = [{"caption": line} for line in _lines(path)]
    out = []
    for row in rows:
        caption = str(row["caption"]).strip()
        stem = caption.replace(" ", "_").replace("/", "_")
        note = {k: row[k] for k in ("states_of_matter", "complexity") if row.get(k)}
        matter = (plain(str(note["states_of_matter"])),) if "states_of_matter" in note else ()
        for i in range(takes or TAKES["videophy"]):
            film = Film(file=f"{stem}_{i}.mp4", prompts=(caption,), index=i, dimensions=matter, note=note)
            out.append(film)
    return out


def _scenes(path: Path, takes: int | None) -> list[Film]:
    """Folders of frames below static/ and dynamic/, as the suite's own runner lays them out."""
    if takes not in (None, 1):
        raise ValueError(f"takes={takes}; this suite has one film of each entry")
    out = []
    for row in _json(path, ("visual_movement", "visual_style", "camera_path", "style", "image")):
        image = Path(str(row["image"]))
        still = row["visual_movement"] == "static"
        keys = ("scene_type", "prompt_list") if still else ("motion_type", "prompt")
        if any(key not in row for key in keys) or any(move not in MOVES for move in row["camera_path"]):
            raise ValueError(
                f"{path}: the entry of {image} lacks {' or '.join(keys)}, or moves its camera unknown ways"
            )
        where = [row["scene_type"], image.parent.name] if still else [row["motion_type"]]
        scenes = row["prompt_list"][1:] if still else [row["prompt"]]
        moves = row["camera_path"] if still else row["camera_path"][:1]
        if len(scenes) < len(moves):
            raise ValueError(f"{path}: the entry of {image} has {len(moves)} camera moves and {len(scenes)} scenes")
        prompts = tuple(
            f"Camera {MOVES[move]}. {_styled(scene, row['style'])}{STILL if still else ''}"
            for move, scene in zip(moves, scenes, strict=False)
        )
        file = "/".join([row["visual_movement"], row["visual_style"], *where, image.stem])
        out.append(Film(file=file, prompts=prompts, dimensions=(row["visual_movement"],), note=row))
    return out


def _styled(scene: str, style: str) -> str:
    return f"{scene} {style}" if scene.endswith(".") else f"{scene}. {style}"


READERS: Mapping[str, Callable[[Path, int | None], list[Film]]] = {
    "vbench": lambda path, takes: _named("vbench", path, takes),
    "vbench2": lambda path, takes: _named("vbench2", path, takes),
    "videophy": _physical,
    "worldscore": _scenes,
}
