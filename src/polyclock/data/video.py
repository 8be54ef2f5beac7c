"""Video pictures by exact integer presentation time: the frame that was asked for, or an error, never its neighbour.

A file is demuxed once without decoding: that gives the presentation time (pts) of every picture and the pictures that
decoding can start from. A data frame is mapped to one pts by rational arithmetic, and a decoded picture is taken only
if it carries that pts. Wanted pictures are fetched in rising order, so a group of pictures is decoded once.
Decoders run one thread each: they hand out pictures without delay, and the loader decodes several windows at once.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from ..recent import Recent
from .source import rational

# Area averaging without the short cuts that depend on the processor or share chroma between two output columns.
AREA = (
    Interpolation.AREA
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
OPEN = 24  # decoders kept open and idle
INDICES = 256 * 2**20  # bytes of files' indices that are kept


@dataclass(frozen=True, eq=False)
class Pictures:
    """What one file holds.

    pts     (n,) int64 rising presentation times in ticks; tick: seconds of one
    starts  (m,) int64 ranks of the pictures that decoding can start from; their dts are in `seeks`
    form    pixel format of the arrays handed out; deep: they are uint16 as stored
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


def _scan(path: str) -> Pictures:
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no video")
            stream = container.streams.video[0]
            seen, led = _listed(container, stream)
            tick, rate, context = stream.time_base, stream.average_rate, stream.codec_context
            declared = stream.frames
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
    return Pictures(
        path=path, pts=pts, starts=starts, seeks=tuple(seen[i][2] for i in starts), tick=tick, rate=rate,
        height=context.height, width=context.width, codec=context.codec.canonical_name, form=form,
        channels=channels, deep=deep,
    )  # fmt: skip


def _listed(container: Any, stream: Any) -> tuple[list[tuple[Any, bool, Any]], bool]:
    """(pts, whether it is a key picture, dts) of each picture that is shown, and whether the first of them is decoded
    from one that an edit list cut off."""
    seen, led = [], False
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            seen.append((packet.pts, packet.is_keyframe, packet.dts))
        elif packet.size:
            led = led or packet.is_keyframe
    return seen, led


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


class _Reel:
    """One open decoder and where it stands. Used by one thread at a time."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures
        self.container: av.container.InputContainer = av.open(pictures.path)
        self.stream = self.container.streams.video[0]
        self.context = self.stream.codec_context
        self.context.thread_count = 1
        self.packets = self.container.demux(self.stream)
        self.pending: deque[av.VideoFrame] = deque()
        self.last: int | None = -1  # rank of the last picture that came out; None: must seek
        self.dropped: set[int] = set()  # pts not decoded since nobody wanted them and nothing refers to them
        self.scaler = VideoReformatter()

    def close(self) -> None:
        self.container.close()

    def fetch(self, ranks: Sequence[int]) -> Iterator[av.VideoFrame]:
        """The pictures of rising `ranks`, exactly; ValueError where one does not come out of the decoder."""
        wanted = {int(self.pictures.pts[r]) for r in ranks}
        for rank in ranks:
            if not self._reaches(rank):
                self._seek(rank)
            yield self._advance(rank, wanted)

    def _start(self, rank: int) -> int:
        """Position in `starts` of the last start at or before `rank` (0 where there is none)."""
        return max(0, int(np.searchsorted(self.pictures.starts, rank, side="right")) - 1)

    def _reaches(self, rank: int) -> bool:
        if self.last is None or rank <= self.last or int(self.pictures.pts[rank]) in self.dropped:
            return False
        # Seeking costs less than decoding one picture in vain.
        return int(self.pictures.starts[self._start(rank)]) <= self.last + 1

    def _seek(self, rank: int) -> None:
        """Stand before the start of the group that holds `rank`, or earlier."""
        place = self._start(rank)
        at = int(self.pictures.pts[self.pictures.starts[place]])
        # Some containers are sought by presentation time, some by decoding time; one with a sparse index lands early.
        targets = [t for t in (at, self.pictures.seeks[place]) if t is not None]
        tries = [(t, exact) for exact in (True, False) for t in targets]
        if not any(self._lands(target, at, exact) for target, exact in tries):
            self._rewind()

    def _lands(self, target: int, at: int, exact: bool) -> bool:
        """Seek, and stay there if the next packet is the key picture shown at `at` (or one before, if not `exact`)."""
        try:
            self.container.seek(target, stream=self.stream, backward=True)
        except av.error.FFmpegError:
            return False
        self._forget()
        first = next(self.packets, None)
        if first is None or not first.size or not first.is_keyframe or first.pts is None:
            return False
        if first.pts > at or (exact and first.pts != at):
            return False
        self.last = int(np.searchsorted(self.pictures.pts, first.pts)) - 1
        self._decode(first)
        return True

    def _rewind(self) -> None:
        self.container.close()
        scaler, pictures = self.scaler, self.pictures
        self.__init__(pictures)  # type: ignore[misc]
        self.scaler = scaler

    def _forget(self) -> None:
        self.pending.clear()
        self.dropped.clear()
        self.last = None
        self.packets = self.container.demux(self.stream)

    def _decode(self, packet: av.Packet, wanted: set[int] | None = None) -> None:
        if packet.is_corrupt:
            raise ValueError("damaged packet")
        if self.context.name == "h264":
            # A picture with nal_ref_idc 0 is referred to by none: leaving it out changes no other picture.
            spare = wanted is not None and packet.size > 0 and packet.pts not in wanted
            self.context.skip_frame = "NONREF" if spare else "DEFAULT"
            if spare:
                self.dropped.add(int(packet.pts))
        self.pending.extend(packet.decode())  # type: ignore[arg-type]

    def _advance(self, rank: int, wanted: set[int]) -> av.VideoFrame:
        want = int(self.pictures.pts[rank])
        try:
            while True:
                while self.pending:
                    frame = self.pending.popleft()
                    if frame.pts is None or frame.pts < want:
                        continue
                    if frame.pts > want:
                        raise ValueError("the decoder left it out")
                    if frame.is_corrupt:
                        raise ValueError("damaged picture")
                    self.last = rank
                    return frame
                packet = next(self.packets, None)
                if packet is None:
                    raise ValueError("the decoder left it out")
                self._decode(packet, wanted)
        except (av.error.FFmpegError, ValueError) as error:
            at = self.pictures.seconds(rank)
            raise ValueError(f"{self.pictures.path}: picture {rank} at {at:.4f} s cannot be decoded: {error}") from None


class _Shelf:
    """Indices and idle decoders of this process, both bounded; the ones used longest ago go first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.indices: Recent[Pictures] = Recent(INDICES)
        self.idle: list[_Reel] = []

    def pictures(self, path: str) -> Pictures:
        try:
            stat = os.stat(path)
        except OSError:
            raise ValueError(f"{path} is not there") from None
        return self.indices.get((path, stat.st_size, stat.st_mtime_ns), lambda: _scan(path))

    @contextmanager
    def reel(self, pictures: Pictures) -> Iterator[_Reel]:
        with self.lock:
            mine = [r for r in self.idle if r.pictures is pictures]
            if mine:
                self.idle.remove(mine[-1])
        reel = mine[-1] if mine else _Reel(pictures)
        try:
            yield reel
        except BaseException:
            reel.close()
            raise
        with self.lock:
            self.idle.append(reel)
            old = [self.idle.pop(0) for _ in range(len(self.idle) - OPEN)]
        for r in old:
            r.close()


_SHELF = _Shelf()


def _forget_all() -> None:
    # A forked child shares file positions with its parent; it must open its own.
    global _SHELF
    _SHELF = _Shelf()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def pictures_of(path: str | Path) -> Pictures:
    """The index of a video file, read once per process and file state; ValueError where it is no readable video."""
    return _SHELF.pictures(str(path))


def read_frames(
    path: str | Path,
    frames: Sequence[int],
    *,
    fps: float | Fraction | None = None,
    start: float | Fraction | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Data frames of a video file, (n, H, W, C) uint8, or uint16 for 16-bit planes, in the order asked for.

    Without `start`, frame i is the i-th picture in presentation order; with `fps` its time after the first picture
    must also lie within half a frame of i / fps. With `start` (seconds; a file that holds several episodes), frame i
    is the picture at start + i / fps, within a quarter of a frame, and `fps` is needed.

    `size` = (H, W): colour and 8-bit gray are averaged over area (antialiased, the same on every processor; where the
    picture grows it is interpolated); uint16 planes hold measurements, which must not be mixed: the nearest pixel is
    taken. At their own size pictures are converted as by any player built on the same library.

    Errors: ValueError naming file, frame and time where that picture is not there or cannot be decoded.
    """
    pictures = pictures_of(path)
    if start is not None and fps is None:
        raise ValueError(f"{path}: start={start} needs fps")
    offset = None if start is None else Fraction(start)
    ranks = pictures.ranks(frames, None if fps is None else rational(fps), offset)
    order, back = np.unique(np.array(ranks, np.int64), return_inverse=True)
    height, width = size or (pictures.height, pictures.width)
    out = np.empty((len(order), height, width, pictures.channels), np.uint16 if pictures.deep else np.uint8)
    if len(order):
        with _SHELF.reel(pictures) as reel:
            for row, frame in enumerate(reel.fetch(order.tolist())):
                _put(frame, pictures, reel.scaler, out[row])
    if len(order) == len(ranks) and (np.diff(back) > 0).all():
        return out
    return out[back]


def _put(frame: av.VideoFrame, pictures: Pictures, scaler: VideoReformatter, out: np.ndarray) -> None:
    """One decoded picture into `out` (H, W, C), resized to it."""
    height, width, channels = out.shape
    if pictures.deep:
        stored = frame.to_ndarray(channel_last=True)
        out[:] = nearest(stored.reshape(*stored.shape[:2], -1), (height, width))
        return
    how = Interpolation.BILINEAR if (height, width) == (frame.height, frame.width) else AREA
    plane = scaler.reformat(frame, width, height, pictures.form, interpolation=how, threads=1).planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
    out.reshape(height, width * channels)[:] = rows[:, : width * channels]


def nearest(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, C) -> (*size, C) by the pixel under each new pixel's centre."""
    rows = ((2 * np.arange(size[0]) + 1) * plane.shape[0]) // (2 * size[0])
    columns = ((2 * np.arange(size[1]) + 1) * plane.shape[1]) // (2 * size[1])
    return plane[rows][:, columns]


def resized(picture: np.ndarray, size: tuple[int, int], scaler: VideoReformatter | None = None) -> np.ndarray:
    """(H, W, C) -> (*size, C) as pictures of a data set are: colour and 8-bit gray averaged over area, else nearest."""
    if picture.shape[:2] == tuple(size):
        return np.ascontiguousarray(picture)
    if picture.dtype != np.uint8 or picture.shape[-1] not in (1, 3):
        return np.ascontiguousarray(nearest(picture, size))
    form = "rgb24" if picture.shape[-1] == 3 else "gray"
    plain = np.ascontiguousarray(picture if form == "rgb24" else picture[..., 0])
    frame = av.VideoFrame.from_ndarray(plain, format=form)
    done = (scaler or VideoReformatter()).reformat(frame, size[1], size[0], form, interpolation=AREA, threads=1)
    return done.to_ndarray().reshape(*size, -1)
