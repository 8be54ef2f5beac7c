"""Is the truth of a simulated world true? Checks by ray casting and by warping that any world can be put through.

Nothing here reads a depth or segmentation buffer to say what is right: MuJoCo casts a ray through the pixel, the point
it hits is carried along by the two poses of its geom, and another ray says whether it is hidden later.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from polyclock.envs import truth
from polyclock.envs.scene import Scene, View


@dataclass(frozen=True, eq=False)
class Shot:
    """A camera's view, and the state it was taken in."""

    model: Any
    data: Any
    view: View
    moment: truth.Moment


def shoot(scene: Scene, data: Any, camera: str) -> Shot:
    """The view of `camera` now, with a copy of the state."""
    view = scene.view(data, camera)
    return Shot(scene.model, copy.copy(data), view, view.moment(scene.poses(data)))


@dataclass(frozen=True, eq=False)
class Hits:
    """What rays through pixel centres meet: geom (n,) or -1, point (n, 3) m, depth (n,) along the camera's axis."""

    geom: np.ndarray
    point: np.ndarray
    depth: np.ndarray


def cast(shot: Shot) -> Hits:
    """A ray through the centre of every pixel."""
    camera = shot.view.camera
    height, width = camera.size
    y, x = np.mgrid[:height, :width].reshape(2, -1) + 0.5
    focal = camera.intrinsics[0, 0]
    along = np.stack([(x - width / 2) / focal, (y - height / 2) / focal, np.ones(x.size)], -1)
    length = np.linalg.norm(along, axis=1)
    into = along / length[:, None] @ camera.pose[:3, :3].T
    geom, distance = meet(shot, camera.pose[:3, 3], into)
    return Hits(geom, camera.pose[:3, 3] + into * distance[:, None], distance / length)


def meet(shot: Shot, start: np.ndarray, into: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest drawn geom along unit vectors (n, 3) and its distance (n,); -1 and infinity where none."""
    count = len(into)
    geom, distance = np.full(count, -1, np.int32), np.zeros(count)
    drawn = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    flat = np.ascontiguousarray(into, dtype=np.float64).reshape(-1)
    mujoco.mj_multiRay(shot.model, shot.data, start, flat, drawn, 1, -1, geom, distance, count, mujoco.mjMAXVAL)
    return geom, np.where(geom >= 0, distance, np.inf)


def depth_errors(shot: Shot, kinds: tuple[int, ...] | None = None) -> tuple[float, np.ndarray, np.ndarray]:
    """Share of pixels that show the geom which the ray meets; there |depth - ray's depth| and the ray's depth, m.

    kinds  types of geoms to look at, as mujoco.mjtGeom; round ones are drawn as polygons and differ by up to 1.2 % of
           their radius along the surface's normal, and by more along the ray where they turn away
    """
    hits, shown = cast(shot), shot.view.geom.reshape(-1)
    known = hits.geom >= 0
    same = known & (hits.geom == shown)
    if kinds is not None:
        same &= np.isin(shot.model.geom_type[hits.geom], kinds)
    drawn = shot.view.depth.reshape(-1)
    return float((hits.geom == shown)[known].mean()), np.abs(drawn - hits.depth)[same], hits.depth[same]


@dataclass(frozen=True, eq=False)
class FlowErrors:
    """Of the pixels whose ray meets what they show.

    error         (n,) px, end-point error of those seen in both pictures; motion (n,) px, how far they go
    agreement     share whose occlusion is as rays say; hidden_found: of those hidden behind something
    """

    error: np.ndarray
    motion: np.ndarray
    agreement: float
    hidden_found: float


def flow_errors(before: Shot, after: Shot) -> FlowErrors:
    """`truth.flow` against points that rays met, carried by their geoms, and against rays from the later camera."""
    hits = cast(before)
    use = np.flatnonzero((hits.geom >= 0) & (hits.geom == before.view.geom.reshape(-1)))
    geom, point = hits.geom[use], hits.point[use]
    old = before.data.geom_xmat[geom].reshape(-1, 3, 3)
    new = after.data.geom_xmat[geom].reshape(-1, 3, 3)
    local = np.einsum("nji,nj->ni", old, point - before.data.geom_xpos[geom])
    moved = np.einsum("nij,nj->ni", new, local) + after.data.geom_xpos[geom]
    camera = after.view.camera
    height, width = camera.size
    ray = moved - camera.pose[:3, 3]
    seen = ray @ camera.pose[:3, :3]
    focal = camera.intrinsics[0, 0]
    target = seen[:, :2] / seen[:, 2:] * focal + (width / 2, height / 2)
    inside = (seen[:, 2] > 0) & (target > 0).all(-1) & (target < (width, height)).all(-1)
    distance = np.linalg.norm(ray, axis=1)
    _, met = meet(after, camera.pose[:3, 3], ray / distance[:, None])
    hidden = inside & (met < distance - 0.004 - 0.002 * distance)
    lost = hidden | ~inside
    found = truth.flow(before.moment, after.moment).reshape(-1, 3)[use]
    pixel = np.stack([use % width + 0.5, use // width + 0.5], -1)
    error = np.linalg.norm(found[:, :2] - (target - pixel), axis=1)
    both = ~lost & (found[:, 2] == 0)
    agreement = float(((found[:, 2] > 0) == lost).mean())
    caught = float((found[hidden, 2] > 0).mean()) if hidden.any() else 1.0
    return FlowErrors(error[both], np.linalg.norm(target - pixel, axis=1)[both], agreement, caught)


def unproject(depth: np.ndarray, camera: truth.Camera) -> np.ndarray:
    """World points (H, W, 3) m that the pixel centres show; where depth is 0, the camera's own place."""
    y, x = np.mgrid[: camera.size[0], : camera.size[1]] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(camera.intrinsics).T
    return (rays * depth[..., None]) @ camera.pose[:3, :3].T + camera.pose[:3, 3]


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`image` (H, W, C) of the later time, brought back: (H, W, C) float, bilinear at x + flow (H, W, >= 2).

    Outside of the picture its border is repeated.
    """
    height, width = image.shape[:2]
    row, column = np.mgrid[:height, :width]
    x, y = np.clip(column + flow[..., 0], 0, width - 1), np.clip(row + flow[..., 1], 0, height - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    x, y = (x - left)[..., None], (y - top)[..., None]
    return (image[top, left] * (1 - x) + image[top, right] * x) * (1 - y) + (
        image[low, left] * (1 - x) + image[low, right] * x
    ) * y


def warp_errors(before: Shot, after: Shot, reach: int = 8, least: float = 0.5) -> tuple[float, float, int]:
    """Mean colour error on moving pixels that stay seen: of warping by the flow, of the best constant shift, and how
    many pixels there are.

    Every shift by whole pixels up to `reach` is tried. Moving: by at least `least` px. Edges are not smoothed, so to
    read between pixels costs as much as a shift of half a pixel: let things move by 2 px and more, in a larger picture
    or over several steps.
    """
    moved = truth.flow(before.moment, after.moment)
    moving = (moved[..., 2] == 0) & (np.linalg.norm(moved[..., :2], axis=-1) >= least)
    assert moving.any(), "nothing moves here"
    colour, later = before.view.rgb.astype(np.float32), after.view.rgb.astype(np.float32)
    row, column = np.nonzero(moving)
    height, width = moving.shape
    shifted = [
        np.abs(later[np.clip(row + v, 0, height - 1), np.clip(column + u, 0, width - 1)] - colour[moving]).mean()
        for u in range(-reach, reach + 1)
        for v in range(-reach, reach + 1)
    ]
    warped = np.abs(warp(after.view.rgb, moved) - colour)[moving].mean()
    return float(warped), float(min(shifted)), len(row)


def keypoints_off_parts(shot: Shot, joints: np.ndarray, owners: np.ndarray, margin: float = 0.02) -> list[int]:
    """Joints (numbers) that are said to be seen, and yet none of their owners (K, G) shows within one pixel of them;
    joints without any owner are left out."""
    seen = truth.visible(joints, owners, shot.moment, margin) > 0
    pixels, _ = truth.project(joints, shot.view.camera)
    off = []
    for k in np.flatnonzero(seen & owners.any(1)):
        column, row = np.floor(pixels[k]).astype(int)
        near = shot.view.geom[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        if not owners[k][near[near >= 0]].any():
            off.append(int(k))
    return off


def roundtrip_error(shot: Shot) -> float:
    """Largest distance, px, between pixel centres and the projection of what they show."""
    camera = shot.view.camera
    pixels, _ = truth.project(unproject(shot.view.depth, camera), camera)
    y, x = np.mgrid[: camera.size[0], : camera.size[1]] + 0.5
    error = np.abs(pixels - np.stack([x, y], -1)).max(-1)
    return float(error[shot.view.depth > 0].max())
