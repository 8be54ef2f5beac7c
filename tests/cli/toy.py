"""A small data set for the command line: a block pushed about by its actions, three episodes of 40 frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from polyclock.data.encode import VideoCodec
from polyclock.data.formats.lerobot_writer import LeRobotWriter

CAMERA = "observation.images.front"
FPS, LENGTH, SIDE = 10, 40, 32


def write(folder: Path, episodes: int = 3) -> Path:
    """A LeRobot v3 data set in `folder`."""
    vector = {"dtype": "float32", "shape": (2,), "names": None}
    camera = {"dtype": "video", "shape": (SIDE, SIDE, 3), "names": ["height", "width", "channels"]}
    features = {CAMERA: camera, "observation.state": vector, "action": vector}
    writer = LeRobotWriter(folder, fps=FPS, features=features, video_codec=VideoCodec(encoder="h264"))
    for episode in range(episodes):
        action = np.random.default_rng(episode).uniform(-1, 1, (LENGTH, 2)).astype(np.float32)
        state = np.cumsum(action, 0, dtype=np.float32)
        frames = {CAMERA: pictures(state), "observation.state": state, "action": action}
        writer.add_episode(frames, "push the block")
    writer.close()
    return folder


def pictures(state: np.ndarray) -> np.ndarray:
    """(n, 2) places -> (n, SIDE, SIDE, 3) uint8, a bright block on a dark table."""
    video = np.full((len(state), SIDE, SIDE, 3), 40, np.uint8)
    for frame, place in zip(video, (state * 2 + SIDE // 2).astype(int) % (SIDE - 8), strict=True):
        frame[place[1] : place[1] + 8, place[0] : place[0] + 8] = (230, 120, 60)
    return video
