"""Make the small LeRobotDataset v3.0 under tests/fixtures/lerobot_v3 with the lerobot package itself.

Run it with a Python that has `pip install torch==2.13.0 'datasets>=4' jsonlines av pillow tqdm` and
`pip install --no-deps lerobot==0.4.4`:

    python tools/make_lerobot_fixture.py tests/fixtures/lerobot_v3

The package imports torchvision, which its metadata and its writer do not use; an empty stand-in takes its place.
"""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import numpy as np

FPS = 10
LENGTHS = (6, 9)
TASKS = ("pick the red cube", "open the drawer")
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["left", "right"]},
    "observation.images.front": {"dtype": "video", "shape": (48, 64, 3), "names": ["height", "width", "channels"]},
    "observation.pose": {"dtype": "float32", "shape": (4, 4), "names": None},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
}


def stand_in_for_torchvision() -> None:
    """Put empty modules where lerobot imports torchvision from."""
    import datasets  # noqa: F401  # it asks whether torchvision is there, and must hear that it is not

    modules = {
        name: types.ModuleType(name) for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2")
    }
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    for name in ("Transform", "functional"):
        setattr(modules["torchvision.transforms.v2"], name, type(name, (), {}))
    modules["torchvision.transforms.v2"].functional = types.SimpleNamespace()  # type: ignore[attr-defined]
    sys.modules.update(modules)


def frame(episode: int, i: int) -> dict[str, np.ndarray | str]:
    """The values of frame `i`: smooth numbers, and a picture of a bar whose place tells episode and frame."""
    phase = np.float32(0.3 * i + episode)
    image = np.full((48, 64, 3), 40 + 60 * episode, np.uint8)
    image[:, 4 * i : 4 * i + 4] = (250, 200, 30)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, 3] = (phase, 1, -phase)
    return {
        "observation.state": np.array([np.sin(phase), np.cos(phase), phase], np.float32),
        "action": np.array([phase, -phase], np.float32),
        "observation.images.front": image,
        "observation.pose": pose,
        "next.reward": np.array([phase / 10], np.float32),
        "next.done": np.array([i == LENGTHS[episode] - 1]),
        "note": f"frame {i}",
    }


def main(folder: Path) -> None:
    """Write the data set into `folder`, which is replaced."""
    stand_in_for_torchvision()
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    shutil.rmtree(folder, ignore_errors=True)
    dataset = LeRobotDataset.create("fixture/small", FPS, FEATURES, root=folder, robot_type="arm")
    for episode, length in enumerate(LENGTHS):
        for i in range(length):
            dataset.add_frame({**frame(episode, i), "task": TASKS[episode]})
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    shutil.rmtree(folder / "images", ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
