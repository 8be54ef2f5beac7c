"""`polyclock data info` and `show`: what a data set holds, as text, as sheets of pictures and as curves."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from . import dense
from .colours import labels, paint, ramp, skeletons
from .opening import open_dataset
from .source import Dataset, UntidyData, noted, spans

TILES = (4, 3)  # columns and rows of a sheet
WIDTH = 240  # pixels of one tile
PLOT = (960, 240)
CURVES = 2000  # numbers of a frame beyond which an (H, W, C) column is drawn as pictures
COUNTERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
INK, PAPER, FAINT = (30, 30, 30), (255, 255, 255), (225, 225, 225)


def info(path: str | Path) -> dict[str, Any]:
    """Facts of a data set as plain data: format, episodes, frames, fps, cameras, columns, tasks, options, notes, ...

    Errors: ValueError where nothing that can be read lies at `path`.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UntidyData)
        dataset = open_dataset(path)
    facts = dataset.facts
    frames = sum(e.length for e in dataset.episodes)
    notes = noted(dataset)
    return {
        "path": str(path),
        "format": notes.format,
        "episodes": len(dataset.episodes),
        "numbers": spans([e.index for e in dataset.episodes]),
        "frames": frames,
        "seconds": round(frames / facts.fps, 3),
        "fps": facts.fps,
        "cameras": {key: list(facts.columns[key]) for key in facts.cameras},
        "columns": {key: list(shape) for key, shape in facts.columns.items() if key not in facts.cameras},
        "tasks": list(facts.tasks),
        "dense": notes.dense,
        "options": notes.opened_with,
        "fingerprint": dataset.fingerprint,
        "notes": [str(w.message) for w in said if issubclass(w.category, UntidyData)],
    }


def show(path: str | Path, out: str | Path, episode: int | None = None, console: Console | None = None) -> list[Path]:
    """Print what a data set holds, and draw one episode (default: the first) into the folder `out`.

    One sheet of pictures per camera and dense modality, one plot per vector of numbers; what texts say is printed.
    Returns the PNG files.

    Errors: ValueError where the data set or the episode cannot be read.
    """
    screen = console or Console()
    screen.print(summary(info(path)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntidyData)  # told in the summary
        dataset = open_dataset(path)
    number = dataset.episodes[0].index if episode is None else episode
    one = dataset.only([number]).episodes[0]
    notes = noted(dataset).dense
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for key, shape in dataset.facts.columns.items():
        if not dataset.has(number, key):
            continue
        if not shape:
            said = _said(dataset, number, one.length, key)
            screen.print(f"{key}, episode {number}: {said}", markup=False, soft_wrap=True)
            continue
        kind = notes.get(key, {}).get("kind")
        wide = None not in shape and math.prod(int(n or 0) for n in shape) > CURVES
        if kind in dense.PLANES or (len(shape) == 3 and (key in dataset.facts.cameras or wide)):
            picture = _sheet(dataset, number, one.length, key, kind)
        elif kind == "skeleton":
            picture = _skeletons(dataset, number, one.length, key, notes[key])
        elif key in COUNTERS:
            continue
        else:
            picture = _curves(dataset, number, one.length, key)
        written.append(folder / f"episode-{number:06d}-{re.sub(r'[^A-Za-z0-9._-]', '_', key)}.png")
        picture.save(written[-1], optimize=True)
    return written


def summary(facts: dict[str, Any]) -> Table:
    """The facts of `info` as a table for the screen."""
    table = Table(title=facts["path"], show_header=False, title_justify="left")
    table.add_row("format", facts["format"])
    table.add_row("episodes", f"{facts['episodes']} ({facts['numbers']})")
    table.add_row("frames", f"{facts['frames']} = {facts['seconds']:.1f} s at {facts['fps']:g} a second")
    for key, shape in facts["cameras"].items():
        kind = facts["dense"].get(key, {}).get("kind", "camera")
        table.add_row(kind, f"{key}  {' x '.join(map(str, shape))}")
    for key, shape in facts["columns"].items():
        if key != "task" and key not in COUNTERS:
            kind = facts["dense"].get(key, {}).get("kind", "column" if shape else "text")
            table.add_row(kind, f"{key}  {' x '.join(map(str, shape))}".strip())
    for sentence in facts["tasks"][:5]:
        table.add_row("task", sentence)
    if len(facts["tasks"]) > 5:
        table.add_row("", f"and {len(facts['tasks']) - 5} more")
    for name, value in facts["options"].items():
        table.add_row("option", f"{name}  {', '.join(map(str, value)) if isinstance(value, list) else value}")
    for note in facts["notes"]:
        table.add_row("note", note)
    return table


def _said(dataset: Dataset, number: int, length: int, key: str) -> str:
    """What a text says, and from which frame on where that changes."""
    every = [str(dataset.read(number, key, [i])) for i in range(length)]
    begins = [i for i in range(length) if i == 0 or every[i] != every[i - 1]]
    words = [every[i] or "(nothing)" for i in begins]
    return words[0] if len(words) == 1 else "; ".join(f"from frame {i} {w}" for i, w in zip(begins, words, strict=True))


def _frames(length: int) -> list[int]:
    count = min(length, TILES[0] * TILES[1])
    return sorted({round(i) for i in np.linspace(0, length - 1, count)})


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _paste(title: str, tiles: list[Image.Image], captions: list[str]) -> Image.Image:
    """A grid of equal tiles, each with a line below it, under a title."""
    width, height = tiles[0].size
    rows = math.ceil(len(tiles) / TILES[0])
    sheet = Image.new("RGB", (min(len(tiles), TILES[0]) * (width + 8) + 8, 32 + rows * (height + 24)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((8, 8), title, INK, _font(14))
    for i, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        x, y = 8 + i % TILES[0] * (width + 8), 32 + i // TILES[0] * (height + 24)
        sheet.paste(tile, (x, y))
        draw.text((x, y + height + 3), caption, INK, _font(12))
    return sheet


def _captions(frames: list[int], fps: float) -> list[str]:
    return [f"frame {i}, {i / fps:.2f} s" for i in frames]


def _sheet(dataset: Dataset, number: int, length: int, key: str, kind: str | None) -> Image.Image:
    frames = _frames(length)
    values = dataset.read(number, key, frames)
    assert isinstance(values, np.ndarray)
    title = f"{key}, episode {number}"
    if kind is not None:
        pictures, meaning = paint(kind, values)
        title += f" ({kind}: {meaning})"
    elif values.dtype == np.uint8:
        pictures = np.repeat(values, 3, -1) if values.shape[-1] == 1 else values
    else:
        pictures = ramp(values[..., 0] / max(int(values.max()), 1))
        title += f" (first plane, bright = {int(values.max())})"
    size = (WIDTH, max(1, round(WIDTH * values.shape[1] / values.shape[2])))
    how = Image.Resampling.NEAREST if kind in ("segmentation", "surface") else Image.Resampling.BOX
    tiles = [Image.fromarray(p).resize(size, how) for p in pictures]
    return _paste(title, tiles, _captions(frames, dataset.facts.fps))


def _skeletons(dataset: Dataset, number: int, length: int, key: str, note: dict[str, Any]) -> Image.Image:
    """Joints and limbs in the frame of the camera of that name; without one, of all that is seen here."""
    frames = _frames(length)
    points = np.asarray(dataset.read(number, key, frames), np.float64)
    camera = dense.camera_of(key, dataset.facts.cameras)
    seen = points[points[..., 2] > 0][:, :2]
    height, width = (None, None) if camera is None else dataset.facts.columns[camera][:2]
    if height is not None and width is not None:
        seen = np.array([[0, 0], [width, height]])
    low, high = (seen.min(0), seen.max(0)) if len(seen) else (np.zeros(2), np.ones(2))
    scale = WIDTH / max(*(high - low), 1e-9)
    placed = np.concatenate([(points[..., :2] - low) * scale, points[..., 2:]], -1)
    names = list(note.get("joints", ()))
    limbs = [(names.index(a), names.index(b)) for a, b in note.get("limbs", ())]
    tiles = [Image.fromarray(picture) for picture in skeletons(placed, WIDTH, limbs)]
    title = f"{key}, episode {number} (skeleton: {points.shape[1]} points)"
    return _paste(title, tiles, _captions(frames, dataset.facts.fps))


def _curves(dataset: Dataset, number: int, length: int, key: str) -> Image.Image:
    """Every dimension of a column over time, one colour each."""
    values = np.asarray(dataset.read(number, key, range(length)), np.float64).reshape(length, -1)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    spread = (high - low) or 1.0
    picture = Image.new("RGB", (PLOT[0] + 110, PLOT[1] + 64), PAPER)
    draw = ImageDraw.Draw(picture)
    left, top = 74, 32
    draw.text((8, 8), f"{key}, episode {number}: {values.shape[1]} numbers", INK, _font(14))
    for i in range(5):
        y = top + PLOT[1] * i / 4
        draw.line([(left, y), (left + PLOT[0], y)], FAINT)
        draw.text((4, y - 7), f"{high - spread * i / 4:9.3g}", INK, _font(12))
    seconds = (length - 1) / dataset.facts.fps
    for i in range(5):
        x = left + PLOT[0] * i / 4
        draw.line([(x, top), (x, top + PLOT[1])], FAINT)
        draw.text((x - 14, top + PLOT[1] + 6), f"{seconds * i / 4:.2f} s", INK, _font(12))
    x = left + np.arange(length) * PLOT[0] / max(1, length - 1)
    for k, column in enumerate(values.T):
        colour = tuple(int(c * 0.85) for c in labels(np.array(k + 1)))
        y = top + (high - column) / spread * PLOT[1]
        for part in _unbroken(np.isfinite(column)):
            dots = list(zip(x[part].tolist(), y[part].tolist(), strict=True))
            draw.line(dots if len(dots) > 1 else dots * 2, colour, 2)
    return picture


def _unbroken(good: np.ndarray) -> list[slice]:
    """The stretches of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
