"""Filters: a few numbers about a clip, and whether they speak for keeping it. Clips are marked, never removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .dis import LEAST, Dis, opencv
from .expert import check_frames, fingerprint

SIDE = 128  # px of the longer side of the pictures that motion is measured on
SHARP = 256  # px of the longer side of those that sharpness is measured on
PAIRS = 32  # of neighbouring frames that are looked at, spread over the clip
STILL = 0.25  # levels: a frame that differs less than this from the one before, on average, is a repeated one


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Frames -> seconds (1,). Published pipelines keep clips of at least 5 s.

    least, most  s
    rate         frames a second; what the data set says
    """

    least: float = 5.0
    most: float = 1e9
    rate: float | None = None
    modality = "clip"
    names = ("seconds",)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return np.array([len(check_frames(frames)) / _rate(self.rate)], np.float32)

    def why(self, values: np.ndarray) -> str:
        return _outside("seconds long", float(values[0]), self.least, self.most)


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Frames -> px of the smaller side (1,). Published pipelines keep clips of more than 512 px.

    least, most  px
    side         px of the smaller side as the clip is stored; what the data set says
    """

    least: int = 512
    most: int = 1_000_000
    side: int | None = None
    modality = "clip"
    names = ("side",)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return np.array([self.side or min(check_frames(frames).shape[1:3])], np.float32)

    def why(self, values: np.ndarray) -> str:
        return _outside("px to its smaller side", float(values[0]), self.least, self.most)


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Frames -> motion (1,): the mean length of optical flow, in widths of the longer side a second.

    Dense inverse search on pictures of 128 px, over at most 32 pairs of neighbours spread over the clip. The published
    pipelines give no threshold; these keep all that is neither a still picture nor a torn film.

    least, most  widths a second
    rate         frames a second; what the data set says
    """

    least: float = 0.005
    most: float = 4.0
    rate: float | None = None
    modality = "clip"
    names = ("motion",)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        flow, lengths = Dis(preset="fast", occlusion=False), []
        for i in _spread(len(frames) - 1):
            pair = np.stack([_shrunk(frames[j], SIDE) for j in (i, i + 1)])
            lengths.append(np.linalg.norm(flow(pair)[0, ..., :2], axis=-1).mean() / max(pair.shape[1:3]))
        return np.array([np.mean(lengths or [0.0]) * _rate(self.rate)], np.float32)

    def why(self, values: np.ndarray) -> str:
        return _outside("picture widths of motion a second", float(values[0]), self.least, self.most)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Frames -> sharpness, brightness, clipped, repeated (4,) float32, means over at most 32 frames.

    sharpness   variance of the Laplacian of grey levels, at 256 px to the longer side; blur and emptiness are low
    brightness  mean grey level, 0 to 1
    clipped     share of pixels that are quite black or quite white (levels 0 to 2 and 253 to 255)
    repeated    share of frames that only repeat the one before

    sharp   least sharpness; dark, bright: bounds of brightness; clipped, repeated: the most of each
    """

    sharp: float = 20.0
    dark: float = 0.05
    bright: float = 0.95
    clipped: float = 0.5
    repeated: float = 0.5
    modality = "clip"
    names = ("sharpness", "brightness", "clipped", "repeated")

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        cv2, rows = opencv(), []
        for i in _spread(len(frames)):
            grey = cv2.cvtColor(_shrunk(frames[i], SHARP), cv2.COLOR_RGB2GRAY)
            edges = cv2.Laplacian(grey, cv2.CV_64F)
            rows.append((edges.var(), grey.mean() / 255, ((grey <= 2) | (grey >= 253)).mean()))
        same = [
            float(np.abs(frames[i + 1].astype(np.int16) - frames[i]).mean() < STILL) for i in _spread(len(frames) - 1)
        ]
        return np.array([*np.mean(rows, 0), np.mean(same or [0.0])], np.float32)

    def why(self, values: np.ndarray) -> str:
        sharpness, brightness, clipped, repeated = (float(v) for v in values)
        reasons = (
            _outside("sharpness", sharpness, self.sharp, float("inf")),
            _outside("brightness", brightness, self.dark, self.bright),
            _outside("share of pixels clipped", clipped, 0, self.clipped),
            _outside("share of frames repeated", repeated, 0, self.repeated),
        )
        return "; ".join(reason for reason in reasons if reason)


def _outside(what: str, value: float, least: float, most: float) -> str:
    if value < least:
        return f"{value:.4g} {what}, at least {least:g} wanted"
    return f"{value:.4g} {what}, at most {most:g} wanted" if value > most else ""


def _rate(rate: float | None) -> float:
    if rate is None or rate <= 0:
        raise ValueError(f"rate={rate}; frames a second are needed to tell how long a clip is")
    return rate


def _spread(count: int) -> list[int]:
    """At most `PAIRS` of 0 .. count - 1, evenly spread."""
    return sorted(set(np.linspace(0, count - 1, min(count, PAIRS)).round().astype(int).tolist())) if count > 0 else []


def _shrunk(frame: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) -> its longer side at most `side` px, averaged over area."""
    scale = side / max(frame.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(frame)
    cv2 = opencv()
    size = (max(LEAST, round(frame.shape[1] * scale)), max(LEAST, round(frame.shape[0] * scale)))
    shrunk: np.ndarray = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return shrunk
