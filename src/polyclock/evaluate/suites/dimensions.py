"""The dimensions of published benchmarks that need no weights: flicker, smoothness and amount of motion, of one film.

Frames are uint8 (T, H, W, 3). Where a benchmark asks a network for optical flow or for frames in between, flow is dense
inverse search here (`polyclock.experts.dis`), or the model's own: the numbers are of the same kind as published ones,
and not the same.
"""

from __future__ import annotations

import numpy as np

from ...experts.dis import Dis
from ...experts.flow import sampled

LARGEST = 0.05  # share of the pixels, those that move most, that an amount of motion is taken over
FAST = 6.0  # px of a picture of 256 px: what moves farther from one frame to the next is dynamic
OFTEN = 4 / 16  # share of the frames in which that is needed
RATE = 8  # frames a second that motion is looked at


def temporal_flickering(frames: np.ndarray) -> float:
    """1 - mean |x[t + 1] - x[t]| / 255, in [0, 1]: 1 is a still. As published; meant for films in which nothing moves.

    Errors: ValueError for fewer than two frames.
    """
    _check(frames, 2)
    return 1 - float(np.mean([_apart(a, b) for a, b in zip(frames[:-1], frames[1:], strict=True)]))


def motion_smoothness(frames: np.ndarray, expert: Dis | None = None) -> float:
    """1 - mean |m[t] - x[t]| / 255 over every second frame t, m[t] what its neighbours say of it.

    differs from the published one, whose m is a network's: here both neighbours are carried half of the flow from the
    one to the other, and averaged. Errors: ValueError for fewer than three frames.
    """
    _check(frames, 3)
    search = expert or Dis(occlusion=False)
    off = []
    for t in range(1, len(frames) - 1, 2):
        before, after = frames[t - 1].astype(np.float64), frames[t + 1].astype(np.float64)
        flow = search(frames[[t - 1, t + 1]])[0, ..., :2]
        rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
        half = flow / 2
        one = sampled(before, columns - half[..., 0], rows - half[..., 1])
        other = sampled(after, columns + half[..., 0], rows + half[..., 1])
        off.append(_apart((one + other) / 2, frames[t]))
    return 1 - float(np.mean(off))


def dynamic_degree(frames: np.ndarray, fps: float, expert: Dis | None = None) -> bool:
    """Whether the film moves: thinned to about 8 frames a second, its flow is `dynamic`.

    differs from the published one by the flow, which is a network's there. Errors: ValueError for fewer than two
    frames.
    """
    _check(frames, 2)
    thin = frames[:: max(1, round(fps / RATE))]
    if len(thin) < 2:
        return False
    return dynamic((expert or Dis(occlusion=False))(thin)[:-1, ..., :2], len(thin))


def dynamic(flow: np.ndarray, frames: int) -> bool:
    """Flow (n, H, W, 2) px from each frame to the next, of a film of `frames` frames -> whether it is dynamic.

    In at least a quarter of the frames (4 of 16) the mean length of the 5 % longest must exceed 6 px, of a picture of
    256 px to its smaller side.
    """
    height, width = flow.shape[1:3]
    length = np.sort(np.linalg.norm(flow.reshape(len(flow), -1, 2), axis=-1), -1)
    farthest = length[:, -max(1, int(height * width * LARGEST)) :].mean(-1)
    return bool((farthest > FAST * min(height, width) / 256).sum() >= max(1, round(OFTEN * frames)))


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.float64) - other).mean() / 255)


def _check(frames: np.ndarray, least: int) -> None:
    if frames.ndim != 4 or frames.dtype != np.uint8 or len(frames) < least:
        raise ValueError(
            f"frames are {frames.dtype} {frames.shape}; needed: uint8 (T, H, W, 3), {least} frames or more"
        )
