"""What a video file holds: the time of every picture, where decoding can start, size, form and which way up it is.

A file is demuxed once; of its pictures the first alone is decoded, as only a decoded picture says how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from .upright import Turn, turn_of

OBLONG = "pixels that are not square; they are read as stored, so what they show is stretched"


@dataclass(frozen=True, eq=False)
class Pictures:
    """What one file holds.

    pts     (n,) int64 rising presentation times in ticks; tick: seconds of one
    starts  (m,) int64 ranks of the pictures that decoding can start from; their dts are in `seeks`
    form    pixel format of the arrays handed out; deep: they are uint16 as stored
    height, width, aspect   of a picture as it is shown, and width to height of one of its pixels; turn: how it gets so
    """

    path: str
    pts: np.ndarray
    starts: np.ndarray
    seeks: tuple[int | None, ...]
    tick: Fraction
    rate: Fraction | None
    height: int
    width: int
    codec: str
    form: str
    channels: int
    deep: bool
    turn: Turn = Turn()
    aspect: Fraction = Fraction(1)

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def nbytes(self) -> int:
        """In memory, about."""
        return 2048 + self.pts.nbytes + 5 * self.starts.nbytes

    def seconds(self, rank: int) -> float:
        return float(int(self.pts[rank]) * self.tick)

    def ranks(self, frames: Sequence[int], fps: Fraction | None, start: Fraction | None) -> list[int]:
        """Data frames -> ranks in the file; ValueError where no picture lies at that time (see `read_frames`)."""
        if start is None:
            return [self._by_order(int(i), fps) for i in frames]
        assert fps is not None
        return [self._by_time(int(i), fps, start) for i in frames]

    def _by_order(self, i: int, fps: Fraction | None) -> int:
        if not 0 <= i < len(self):
            raise ValueError(f"{self.path}: frame {i} was asked for, the file holds {len(self)}")
        if fps is not None:
            at = (int(self.pts[i]) - int(self.pts[0])) * self.tick
            if abs(at - i / fps) * fps * 2 > 1:
                raise ValueError(
                    f"{self.path}: frame {i} lies {float(at):.4f} s after the first, but {float(fps):g} frames per "
                    f"second put it at {float(i / fps):.4f} s"
                )
        return i

    def _by_time(self, i: int, fps: Fraction, start: Fraction) -> int:
        due = start + i / fps
        place = int(np.searchsorted(self.pts, int(due / self.tick)))
        near = range(max(0, place - 1), min(len(self), place + 2))
        rank = min(near, key=lambda r: abs(int(self.pts[r]) * self.tick - due), default=0)
        if not near or abs(int(self.pts[rank]) * self.tick - due) * fps * 4 > 1:
            at = f"; the nearest picture lies at {self.seconds(rank):.4f} s" if near else ""
            raise ValueError(f"{self.path}: no picture at {float(due):.4f} s, where frame {i} is due{at}")
        return rank


def scan(path: str) -> Pictures:
    """Read the index of a file. Errors: ValueError where it is no video, cut short, or its times are not rising."""
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no video")
            stream = container.streams.video[0]
            seen, led, turn = _listed(container, stream)
            tick, rate, context = stream.time_base, stream.average_rate, stream.codec_context
            declared, pixel = stream.frames, stream.sample_aspect_ratio or Fraction(1)
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a video: {error}") from None
    if not seen or tick is None or any(pts is None for pts, _, _ in seen):
        what = "no pictures" if not seen else "pictures without presentation times"
        raise ValueError(f"{path} holds {what}; possible: mp4, mkv, webm, mov, gif with a complete index")
    if declared > len(seen) and declared > (there := _count(path)):
        raise ValueError(f"{path} is cut short: its header names {declared} pictures, {there} are there")
    seen.sort(key=lambda s: s[0])
    pts = np.array([s[0] for s in seen], np.int64)
    if len(pts) > 1 and (np.diff(pts) <= 0).any():
        i = int(np.argmax(np.diff(pts) <= 0))
        raise ValueError(f"{path}: pictures {i} and {i + 1} have the same presentation time")
    starts = np.array([i for i, s in enumerate(seen) if s[1] or (i == 0 and led)], np.int64)
    if not len(starts):
        raise ValueError(f"{path} holds no key frame to start decoding from")
    form, channels, deep = _form(context)
    height, width = turn.size(context.height, context.width)
    return Pictures(
        path=path, pts=pts, starts=starts, seeks=tuple(seen[i][2] for i in starts), tick=tick, rate=rate,
        height=height, width=width, codec=context.codec.canonical_name, form=form, channels=channels, deep=deep,
        turn=turn, aspect=1 / pixel if turn.exchanged else pixel,
    )  # fmt: skip


def _listed(container: Any, stream: Any) -> tuple[list[tuple[Any, bool, Any]], bool, Turn]:
    """(pts, whether it is a key picture, dts) of each picture that is shown, whether the first of them is decoded
    from one that an edit list cut off, and which way up they are: only a decoded picture says that."""
    seen, led = [], False
    turn: Turn | None = None
    stream.codec_context.thread_count = 1
    for packet in container.demux(stream):
        if turn is None:
            turn = _turn(packet)
        if packet.size and not packet.is_discard:
            seen.append((packet.pts, packet.is_keyframe, packet.dts))
        elif packet.size:
            led = led or packet.is_keyframe
    return seen, led, turn or Turn()


def _turn(packet: Any) -> Turn | None:
    """That of the first picture that a packet gives; None where it gives none, or a damaged one."""
    try:
        return next((turn_of(frame) for frame in packet.decode()), None)
    except av.error.FFmpegError:
        return None


def _count(path: str) -> int:
    """All pictures of a file, with those that an edit list cut off."""
    with av.open(path, options={"ignore_editlist": "1"}) as container:
        return sum(bool(packet.size) for packet in container.demux(video=0))


def _form(context: av.VideoCodecContext) -> tuple[str, int, bool]:
    """The pixel format to hand out: as stored for gray and for 16-bit planes, else 8-bit RGB."""
    stored = context.format
    if stored is None:
        return "rgb24", 3, False
    parts = stored.components
    colour = any(c.is_chroma for c in parts) or any(c.is_alpha for c in parts)
    if len(parts) == 1 and stored.name.startswith("gray"):
        return stored.name, 1, parts[0].bits > 8
    if not colour and len(parts) == 3 and parts[0].bits > 8:
        return stored.name, 3, True
    return "rgb24", 3, False
