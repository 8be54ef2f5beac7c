"""Checking the videos of a LeRobot folder: every picture is decoded, and lies at its exact time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np

from .listing import Listed, Listing
from .pictures import OBLONG
from .upright import Turn, turn_of

OFF = 0.1  # of a frame: how far from its time a picture may lie
# These decoders hand out a damaged picture as if it were whole, and only say so.
TELLING = ("ffv1", "h264", "hevc")
SAID = ("CRC mismatch", "concealing", "error while decoding")


@dataclass
class Seen:
    """What came out of one file: seconds (n,) of the pictures, rising; their size as shown; whether their pixels are
    square; what went wrong."""

    seconds: np.ndarray
    size: tuple[int, int]
    square: bool
    error: str | None


def watch(path: Path) -> Seen:
    """Decode a whole file, going on after errors; ValueError where it cannot be opened as a video."""
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as problem:
        raise ValueError(f"cannot be read as a video: {problem}") from None
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with container:
            if not container.streams.video:
                raise ValueError("holds no video")
            stream = container.streams.video[0]
            context = stream.codec_context
            context.options = {"err_detect": "crccheck+explode"}
            if context.name in TELLING:
                context.thread_count = 1  # so that what is said belongs to the packet at hand
            ticks, turn, error = _decode(container, stream)
            seconds = np.array(sorted(ticks), np.float64) * float(stream.time_base or 1)
            square = (stream.sample_aspect_ratio or 1) == 1
            return Seen(seconds, turn.size(context.height, context.width), square, error)
    finally:
        av.logging.set_level(level)


def _decode(container: Any, stream: Any) -> tuple[set[int], Turn, str | None]:
    """The times of all pictures that came out whole, in ticks, which way up the first is shown, and the first error."""
    turn: Turn | None = None
    ticks: set[int] = set()
    damaged: set[int] = set()
    error: str | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            with av.logging.Capture() as said:
                frames = packet.decode()
        except (av.error.FFmpegError, EOFError) as problem:
            error = error or str(problem)
            if isinstance(problem, av.error.EOFError):
                break
            continue
        words = [text.strip() for _, _, text in said if any(word in text for word in SAID)]
        if (words or packet.is_corrupt) and packet.pts is not None:
            damaged.add(packet.pts)
            error = error or (words[0] if words else "a packet is damaged")
        if turn is None and frames:
            turn = turn_of(frames[0])
        ticks |= {f.pts for f in frames if f.pts is not None and not f.is_corrupt}
    return ticks - damaged, turn or Turn(), error


def verify_videos(found: Listing, here: list[Listed]) -> None:
    """Check each camera's files; a camera of which nothing is here is a note."""
    for key in found.videos:
        placed = [e for e in here if key in e.videos]
        if not any(e.videos[key][0].is_file() for e in placed) and (found.version.startswith("v2.") or not placed):
            if here:
                found.report(found.root / "videos", f"camera {key} is declared but no video of it is here", note=True)
            continue
        files: dict[Path, list[Listed]] = {}
        for episode in here:
            if key in episode.videos:
                files.setdefault(episode.videos[key][0], []).append(episode)
            else:
                found.report(episode.source, f"names no video of camera {key}", episode.index, 0)
        for path, episodes in files.items():
            _check_file(found, key, path, episodes)


def _check_file(found: Listing, key: str, path: Path, episodes: list[Listed]) -> None:
    if not path.is_file():
        for episode in episodes:
            found.report(path, "the video file is missing", episode.index, 0)
        return
    try:
        seen = watch(path)
    except ValueError as error:
        for episode in episodes:
            found.report(path, str(error), episode.index, 0)
        return
    shape = tuple(found.features[key].get("shape") or ())
    # Older data sets declare (channels, height, width).
    if len(shape) == 3 and seen.size not in (shape[:2], shape[1:]):
        what = f"pictures are {seen.size[0]} x {seen.size[1]}, the metadata say {list(shape)}"
        found.report(path, what, episodes[0].index, 0)
    if not seen.square:
        found.report(path, f"has {OBLONG}", episodes[0].index, 0, note=True)
    for episode in episodes:
        _check_episode(found, key, path, episode, seen)
    if found.version.startswith("v3"):
        _check_spare(found, key, path, episodes, seen)


def _check_spare(found: Listing, key: str, path: Path, episodes: list[Listed], seen: Seen) -> None:
    """Pictures between or after the episodes of a file, told of the episode before them."""
    fps = float(found.fps)
    starts = {e.index: float(e.videos[key][1] or 0) * fps for e in episodes}
    spare = seen.seconds * fps
    for episode in episodes:
        places = spare - starts[episode.index]
        spare = spare[(places < -0.5) | (places > episode.length - 0.5)]
    if len(spare):
        before = [e for e in episodes if starts[e.index] <= spare[0]] or episodes
        owner = max(before, key=lambda e: starts[e.index])
        what = f"{len(spare)} pictures belong to no episode, the first at {spare[0] / fps:.4f} s"
        found.report(path, what, owner.index, owner.length)


def _check_episode(found: Listing, key: str, path: Path, episode: Listed, seen: Seen) -> None:
    """The pictures of one episode are exactly at start + i / fps."""
    fps = float(found.fps)
    _, start, end = episode.videos[key]
    if start is not None and end is not None and abs((end - start) * found.fps - episode.length) > Fraction(1, 2):
        what = f"{key} is named from {float(start):g} s to {float(end):g} s, that is not {episode.length} frames"
        found.report(episode.source, what, episode.index, 0)
    if start is not None:
        places = (seen.seconds - float(start)) * fps
        places = places[(places > -0.5) & (places < episode.length - 0.5)]
    else:
        # Some v2 recorders start late; that counts only where no picture is missing.
        full = len(seen.seconds) >= episode.length
        places = (seen.seconds - (seen.seconds[0] if full else 0)) * fps
    on_time = np.abs(places - np.rint(places)) <= OFF
    there = np.zeros(episode.length, bool)
    ranks = np.rint(places[on_time]).astype(int)
    there[ranks[(ranks >= 0) & (ranks < episode.length)]] = True
    if not there.all():
        missing = np.flatnonzero(~there)
        i = int(missing[0])
        why = seen.error or _why(places, i)
        count = f" ({len(missing)} of {episode.length} frames)" if len(missing) > 1 else ""
        at = i / fps + float(start or 0)
        found.report(path, f"no picture at {at:.4f} s{count}: {why}", episode.index, i)
    elif len(places) > episode.length:
        spare = np.flatnonzero(~on_time | (np.rint(places) >= episode.length) | np.append(False, np.diff(places) < 0.5))
        frame = int(np.ceil(places[spare[0]])) if len(spare) else episode.length
        found.report(path, f"holds {len(places)} pictures, the metadata say {episode.length}", episode.index, frame)
    elif seen.error is not None:
        found.report(path, seen.error, episode.index)


def _why(places: np.ndarray, i: int) -> str:
    after = places[places > i]
    if not len(after):
        return "the video ends before it"
    return f"the next lies {after[0] - i:.2f} frames later"
