"""Frames to a video file with PyAV at an exact constant frame rate: frame i is presented at i / fps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from .source import rational

LOSSLESS = {1: "gray16le", 3: "gbrp16le"}  # planes -> pixel format, 16 bits each


@dataclass(frozen=True, kw_only=True)
class VideoCodec:
    """How colour cameras are encoded: encoder "libsvtav1" or "h264", frames between key frames, constant quality."""

    encoder: str = "libsvtav1"
    group: int = 2
    crf: int = 30

    def __post_init__(self) -> None:
        if self.encoder not in ("libsvtav1", "h264"):
            raise ValueError(f"encoder={self.encoder!r}; possible: libsvtav1, h264")

    def options(self) -> dict[str, str]:
        """What the encoder is told. B-frames are off in H.264, so that packets can be copied from file to file."""
        common = {"g": str(self.group), "crf": str(self.crf)}
        return common | ({"preset": "12"} if self.encoder == "libsvtav1" else {"bf": "0"})


class VideoFile:
    """A video file being written frame by frame: uint8 (H, W, 3) in colour, or uint16 (H, W, 1 or 3) without loss."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, int, int], codec: VideoCodec | None) -> None:
        """`shape` is (H, W, C); `codec=None` stores 16-bit planes without loss (FFV1)."""
        os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder otherwise prints its settings for every file
        height, width, channels = shape
        self._rate, self._shape, self.frames = rational(fps), shape, 0
        self._dtype = np.uint8 if codec else np.uint16
        self._format = "rgb24" if codec else LOSSLESS[channels]
        self._file = av.open(str(path), "w", format="mp4")
        encoder, options = (codec.encoder, codec.options()) if codec else ("ffv1", {"level": "3", "g": "2"})
        stream: Any = self._file.add_stream(encoder, rate=self._rate, options=options)
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p" if codec else self._format
        stream.codec_context.time_base = 1 / self._rate
        self._stream = stream

    def add(self, frame: np.ndarray) -> None:
        """Append one frame (H, W, C) of the file's shape and dtype."""
        assert frame.shape == self._shape and frame.dtype == self._dtype, (frame.shape, frame.dtype)
        pixels = frame[..., 0] if self._shape[2] == 1 else frame
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=self._format)
        picture.pts, picture.time_base = self.frames, 1 / self._rate
        self._file.mux(self._stream.encode(picture))
        self.frames += 1

    def close(self) -> None:
        """Write what the encoder still holds, and the index."""
        self._file.mux(self._stream.encode())
        self._file.close()

    def abandon(self) -> None:
        """Close without caring for the content."""
        self._file.close()


def encode_video(path: Path, frames: np.ndarray, fps: float, codec: VideoCodec | None) -> None:
    """Write frames (n, H, W, C), uint8 with a codec or uint16 without, to `path`."""
    video = VideoFile(path, fps, tuple(frames.shape[1:]), codec)
    for frame in frames:
        video.add(frame)
    video.close()
