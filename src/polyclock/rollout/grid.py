"""Films of episodes side by side: rows per task, a red frame around each that turns green where it succeeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.encode import VideoCodec, VideoFile
from ..data.files import replacing
from ..data.video import pictures_of, read_frames
from .episode import clip_of
from .ledger import Row
from .outcome import by_task

GREEN, RED, PAPER, INK = (40, 170, 80), (205, 50, 50), (250, 250, 250), (30, 30, 30)
BORDER, GAP, LABEL, ACROSS = 5, 6, 18, 8  # pixels; films in a row
HELD = 8  # pictures for which the end stands still
SLOWER = 2.0  # a success takes a second or two: at half the speed it can be followed


@dataclass(frozen=True, eq=False)
class Film:
    """One episode: pictures (n, H, W, 3) uint8; where it succeeded, it did so in the last of them."""

    pictures: np.ndarray
    success: bool

    def cell(self, i: int, size: tuple[int, int]) -> np.ndarray:
        """Its picture number i, or its last, in a frame that says how it stands; on paper of `size` (H, W)."""
        last = len(self.pictures) - 1
        picture = self.pictures[min(i, last)][: size[0], : size[1]]
        out = np.empty((size[0] + 2 * BORDER, size[1] + 2 * BORDER, 3), np.uint8)
        out[:] = GREEN if self.success and i >= last else RED
        out[BORDER : BORDER + len(picture), BORDER : BORDER + picture.shape[1]] = picture
        return out


def write_grid(path: str | Path, rows: Sequence[Row], clips: str | Path, across: int = ACROSS) -> Path | None:
    """The films in folder `clips` of the episodes in `rows` as one MP4 at half the world's speed.

    An episode that has ended shows its last picture. Returns the path, or None where there is no film.
    """
    bands: list[tuple[str, Sequence[Film]]] = []
    rate = 0.0
    for task, mine in by_task(rows).items():
        label = f"{task}: {sum(row['success'] for row in mine)} of {len(mine)} solved"
        found = [(row, film) for row in mine if (film := clip_of(clips, row)).is_file()]
        films = [Film(read_frames(film, range(len(pictures_of(film)))), row["success"]) for row, film in found]
        rate = max([rate, *(float(pictures_of(film).rate or 0) for _, film in found)])
        bands += [("" if k else label, films[k : k + across]) for k in range(0, len(films), across)]
    if not bands:
        return None
    path = Path(path)
    with replacing(path) as aside:
        _write(aside, bands, (rate or 20.0) / SLOWER)
    return path


def _write(path: Path, bands: Sequence[tuple[str, Sequence[Film]]], fps: float) -> None:
    video = None
    for frame in frames(bands):
        video = video or VideoFile(path, fps, frame.shape, VideoCodec(encoder="h264", group=24, crf=20))
        video.add(frame)
    assert video is not None
    video.close()


def frames(bands: Sequence[tuple[str, Sequence[Film]]]) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 with even H and W, one after the other: bands of films, each below its label ("": none)."""
    films = [film for _, part in bands for film in part]
    size = max(f.pictures.shape[1] for f in films), max(f.pictures.shape[2] for f in films)
    step = size[1] + 2 * BORDER + GAP
    width = _even(GAP + step * max(len(part) for _, part in bands))
    heads = [_label(label, width) if label else np.full((GAP, width, 3), PAPER, np.uint8) for label, _ in bands]
    height = sum(len(head) + size[0] + 2 * BORDER for head in heads) + GAP
    for i in range(max(len(film.pictures) for film in films) + HELD):
        page = np.full((_even(height), width, 3), PAPER, np.uint8)
        top = 0
        for head, (_, part) in zip(heads, bands, strict=True):
            page[top : top + len(head)] = head
            top += len(head)
            for k, film in enumerate(part):
                left = GAP + k * step
                page[top : top + size[0] + 2 * BORDER, left : left + size[1] + 2 * BORDER] = film.cell(i, size)
            top += size[0] + 2 * BORDER
        yield page


def _label(text: str, width: int) -> np.ndarray:
    """A strip of paper (LABEL, width, 3) with a line of text."""
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (width, LABEL), PAPER)
    ImageDraw.Draw(strip).text((GAP, 3), text, fill=INK)
    return np.asarray(strip)


def _even(n: int) -> int:
    return n + n % 2  # H.264 has colour for pixels in pairs
