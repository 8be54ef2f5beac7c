"""Video pictures by exact integer presentation time: the frame that was asked for, or an error, never its neighbour.

A file is demuxed once: that gives the presentation time (pts) of every picture and the pictures that decoding can start
from (`data.pictures`). A data frame is mapped to one pts by rational arithmetic, and a decoded picture is taken only
if it carries that pts. Wanted pictures are fetched in rising order, so a group of pictures is decoded once.
Decoders run one thread each: they hand out pictures without delay, and the loader decodes several windows at once.
Pictures come the way up that a player shows them (`data.upright`), and their sizes are those.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from ..recent import Recent
from .pictures import Pictures, scan
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
        return self.indices.get((path, stat.st_size, stat.st_mtime_ns), lambda: scan(path))

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
    height, width = pictures.turn.size(*out.shape[:2])
    if pictures.deep:
        stored = frame.to_ndarray(channel_last=True)
        out[:] = pictures.turn(nearest(stored.reshape(*stored.shape[:2], -1), (height, width)))
        return
    how = Interpolation.BILINEAR if (height, width) == (frame.height, frame.width) else AREA
    plane = scaler.reformat(frame, width, height, pictures.form, interpolation=how, threads=1).planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
    out[:] = pictures.turn(rows[:, : width * pictures.channels].reshape(height, width, pictures.channels))


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
