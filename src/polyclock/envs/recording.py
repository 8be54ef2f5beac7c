"""From what the cameras of a simulated world saw to the columns of a data set, the same for every world."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import dense
from .scene import View
from .truth import Moment, Poses, flow, project, surface_points, visible

REACH = 20.0  # m; what is farther has no depth in the data
WIDEST = 511.0  # px; what moves farther has left the picture

Surface = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Anatomy:
    """What the G surfaces of a model (its geoms) are; pixels with none have instance and class 0.

    instance  (G,) int, one number for each thing; 0 stands for the background
    label     (G,) int, a key of `classes`, {class id: name}
    surface   (geom (n,), local points (n, 3) m) -> part (n,), a key of `parts`, and u, v (n,) in [0, 1]
    mapped    (G,) bool: which surfaces have a map; only their pixels go to `surface`, the others are part 0
    joints    names of the K points of the skeleton; limbs: pairs of names that are drawn as lines
    owners    (K, G) bool: the surfaces that show a joint. Without one in its pixel, a joint is seen where nothing is
              nearer than it by more than `margin` m
    under     (K,) m, or one number: how far behind an owner's surface a joint may lie and still be seen
    """

    instance: np.ndarray
    label: np.ndarray
    classes: Mapping[int, str]
    parts: Mapping[int, str]
    surface: Surface
    mapped: np.ndarray
    joints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]
    owners: np.ndarray
    margin: float = 0.02
    under: np.ndarray | float = np.inf

    def __post_init__(self) -> None:
        count = len(self.instance)
        shapes = {
            "label": (np.shape(self.label), (count,)),
            "mapped": (np.shape(self.mapped), (count,)),
            "owners": (np.shape(self.owners), (len(self.joints), count)),
        }
        for name, (got, needed) in shapes.items():
            if got != needed:
                raise ValueError(f"{name} of an anatomy has shape {got}; needed: {needed}")
        for name in {joint for limb in self.limbs for joint in limb} - set(self.joints):
            raise ValueError(f"a limb ends at {name!r}, which is no joint; joints: {', '.join(self.joints)}")


@dataclass(frozen=True, eq=False)
class Row:
    """One time: the view of each camera, the poses of all surfaces, and the joints (K, 3) in the world, m."""

    views: Mapping[str, View]
    poses: Poses
    joints: np.ndarray


class Recording:
    """The columns of `cameras`, names, whose pictures have `size` (H, W), in a world of one anatomy.

    Flow of row i leads to row min(i + flow_steps, last) of its episode, backward flow to row max(i - flow_steps, 0).
    """

    def __init__(self, cameras: Sequence[str], size: tuple[int, int], anatomy: Anatomy, flow_steps: int = 1) -> None:
        if flow_steps < 1:
            raise ValueError(f"flow over {flow_steps} rows; possible: 1 or more")
        self.cameras, self.size, self.anatomy, self.flow_steps = tuple(cameras), size, anatomy, flow_steps
        # One more at the end for surface -1.
        labels = np.stack([anatomy.instance, anatomy.label], -1).astype(np.int32)
        self._labels = np.concatenate([labels, np.zeros((1, 2), np.int32)])
        self._mapped = np.append(anatomy.mapped, False)

    def features(self) -> dict[str, dict[str, Any]]:
        """The entries of the columns for a writer's `features`."""
        anatomy, size = self.anatomy, self.size
        found: dict[str, dict[str, Any]] = {}
        for name in self.cameras:
            entries = {
                "images": {"dtype": "video", "shape": (*size, 3), "names": ["height", "width", "channels"]},
                "depth": dense.feature("depth", size),
                "flow": dense.feature("flow", size, steps=self.flow_steps),
                "flow_back": dense.feature("flow", size, steps=-self.flow_steps),
                "segmentation": dense.feature("segmentation", size, classes=anatomy.classes),
                "surface": dense.feature("surface", size, parts=anatomy.parts),
                "skeleton": dense.feature("skeleton", joints=anatomy.joints, limbs=anatomy.limbs),
                "intrinsics": dense.feature("intrinsics"),
                "pose": dense.feature("pose"),
            }
            found |= {f"observation.{kind}.{name}": entry for kind, entry in entries.items()}
        return found

    def frames(self, rows: Iterable[Row]) -> Iterator[dict[str, np.ndarray]]:
        """{feature: value} of each row of an episode, in order; at most 2 flow_steps + 1 rows are held."""
        steps = self.flow_steps
        held: deque[tuple[Row, dict[str, Moment]]] = deque()
        at = 0  # the place in `held` of the next row to be given out
        for row in rows:
            moments = {name: row.views[name].moment(row.poses) for name in self.cameras}
            held.append((row, moments))
            if len(held) - 1 - at == steps:
                yield self._frame(held, at)
                at += 1
                if at > steps:
                    held.popleft()
                    at -= 1
        for place in range(at, len(held)):
            yield self._frame(held, place)

    def columns(self, rows: Iterable[Row]) -> dict[str, np.ndarray]:
        """{feature: (n, ...)} of an episode of n rows."""
        frames = list(self.frames(rows))
        return {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}

    def _frame(self, held: Sequence[tuple[Row, dict[str, Moment]]], at: int) -> dict[str, np.ndarray]:
        row, moments = held[at]
        later = held[min(at + self.flow_steps, len(held) - 1)][1]
        earlier = held[max(at - self.flow_steps, 0)][1]
        frame: dict[str, np.ndarray] = {}
        for name, moment in moments.items():
            values = {
                "images": row.views[name].rgb,
                "depth": np.where(moment.depth <= REACH, moment.depth, 0)[..., None],
                "flow": _within(flow(moment, later[name])),
                "flow_back": _within(flow(moment, earlier[name])),
                "segmentation": self._labels[moment.geom],
                "surface": self._surface(moment),
                "skeleton": self._skeleton(row.joints, moment),
                "intrinsics": moment.camera.intrinsics.astype(np.float32),
                "pose": moment.camera.pose.astype(np.float32),
            }
            frame |= {f"observation.{kind}.{name}": value for kind, value in values.items()}
        return frame

    def _surface(self, moment: Moment) -> np.ndarray:
        geom = moment.geom.reshape(-1)
        found = np.zeros((geom.size, 3), np.float32)
        pixels = np.flatnonzero(self._mapped[geom])
        part, u, v = self.anatomy.surface(geom[pixels], surface_points(moment, pixels))
        found[pixels] = np.stack([part, np.clip(u, 0, 1), np.clip(v, 0, 1)], -1)
        return found.reshape(*moment.geom.shape, 3)

    def _skeleton(self, joints: np.ndarray, moment: Moment) -> np.ndarray:
        """(K, 3) float32 x, y px and visibility; a joint behind the camera is 0, 0, 0."""
        pixels, _ = project(joints, moment.camera)
        seen = visible(joints, self.anatomy.owners, moment, self.anatomy.margin, self.anatomy.under)
        return np.concatenate([np.nan_to_num(pixels), seen[:, None]], 1, dtype=np.float32)


def _within(moved: np.ndarray) -> np.ndarray:
    """Flow that a file can hold: what moves farther than the widest is 0, 0 and occluded."""
    far = (np.abs(moved[..., :2]) > WIDEST).any(-1)
    moved[far] = (0, 0, 1)
    return moved
