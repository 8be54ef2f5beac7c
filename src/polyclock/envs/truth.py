"""Exact flow, occlusion and projection from depth, surface numbers and rigid poses: q = K2 T2^-1 G2 G1^-1 T1 K1^-1 p.

A surface is a rigid thing with a number and a pose: in MuJoCo a geom. Pixel (row i, column j) covers x in
[j, j + 1) and y in [i, i + 1), its centre is (j + .5, i + .5). Cameras look along z with x right and y down. Depth is
measured along z in m; 0 stands for nothing there, and such pixels count as infinitely far.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

MARGIN = 0.002  # m by which something must be nearer than a point to hide it
RELATIVE = 0.002  # and this share of the point's depth
LONE = 0.05  # assumed share of depth that one pixel spans, where no neighbour shows its surface


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera: intrinsics (3, 3) px, pose (4, 4) camera to world in m, size (H, W) of its picture."""

    intrinsics: np.ndarray
    pose: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Poses:
    """Where every surface is: position (G, 3) m and rotation (G, 3, 3), surface to world."""

    position: np.ndarray
    rotation: np.ndarray


@dataclass(frozen=True, eq=False)
class Moment:
    """What one camera sees at one time: depth (H, W) m, surface numbers (H, W) or -1, the camera, all poses."""

    depth: np.ndarray
    geom: np.ndarray
    camera: Camera
    poses: Poses

    @cached_property
    def inverse(self) -> np.ndarray:
        """1 / depth (H, W) float32, 0 where nothing is; linear in the pixels of a plane."""
        depth = self.depth.astype(np.float32)
        return np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)

    @cached_property
    def slopes(self) -> np.ndarray:
        """How 1 / depth goes on within a pixel (4, H W) float32: slope along x, its doubt, slope along y, its doubt."""
        along_x = _slope(self.inverse, self.geom)
        along_y = _slope(self.inverse.T, self.geom.T)
        return np.stack([*along_x, *(part.T for part in along_y)]).reshape(4, -1)


def project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """World points (..., 3) m -> pixels (..., 2) x, y and depth (...) m; pixels are NaN where depth is not above 0."""
    seen = (points - camera.pose[:3, 3]) @ camera.pose[:3, :3] @ camera.intrinsics.T
    depth = seen[..., 2]
    return seen[..., :2] / np.where(depth > 0, depth, np.nan)[..., None], depth


def surface_points(moment: Moment, pixels: np.ndarray) -> np.ndarray:
    """What the pixels (n,), flat numbers, show: points (n, 3) float32 m in the frame of each one's surface."""
    camera, poses = moment.camera, moment.poses
    back = np.swapaxes(poses.rotation, 1, 2)
    turn = back @ camera.pose[:3, :3] @ np.linalg.inv(camera.intrinsics)
    shift = np.einsum("gij,gj->gi", back, camera.pose[:3, 3] - poses.position)
    geom = moment.geom.reshape(-1)[pixels]
    rays = _centres(camera.size)[pixels] * moment.depth.reshape(-1)[pixels, None]
    return np.einsum("nij,nj->ni", turn.astype(np.float32)[geom], rays) + shift.astype(np.float32)[geom]


def flow(before: Moment, after: Moment) -> np.ndarray:
    """Where each pixel of `before` goes: (H, W, 3) float32 u, v in px and occluded 0 or 1.

    Surface -1 stands still in the world, and pixels with nothing move as the camera turns. Occluded: at its place in
    `after` something nearer hides the point, or it leaves the picture; one that ends behind the camera has u = v = 0.
    """
    # Row by row: numpy is ten times slower over a last axis of two or three.
    x, y, _ = _centres(before.camera.size).T
    terms = np.take(_carry(before, after), before.geom.reshape(-1), axis=1)
    inverse = before.inverse.reshape(-1)
    seen_x, seen_y, farther = (t[0] * x + t[1] * y + t[2] + t[3] * inverse for t in terms.reshape(3, 4, -1))
    ahead = farther > 1e-6  # depth after / depth before
    scale = np.where(ahead, farther, 1)
    target_x, target_y = np.where(ahead, seen_x / scale, x), np.where(ahead, seen_y / scale, y)
    hidden = ~ahead | _hidden(target_x, target_y, inverse / scale, after)
    moved = np.stack([target_x - x, target_y - y, hidden.astype(np.float32)], -1)
    return moved.reshape(*before.camera.size, 3)


def visible(
    points: np.ndarray, owners: np.ndarray, moment: Moment, margin: float = 0.02, under: np.ndarray | float = np.inf
) -> np.ndarray:
    """Which world points (K, 3) are seen: (K,) float32, 1 seen, 0 hidden or outside of the picture.

    owners  (K, G) bool: the surfaces that show a point, such as the limb around a joint
    margin  m; without an owner in its pixel a point is seen where nothing is nearer than it by more than this
    under   (K,) m; how far behind an owner's surface a point may lie: behind more, it is on the owner's other side
    """
    height, width = moment.camera.size
    pixels, depth = project(points, moment.camera)
    inside = (depth > 0) & (pixels >= 0).all(-1) & (pixels < (width, height)).all(-1)
    column, row = np.where(inside[:, None], pixels, 0).astype(np.int64).T
    shown, there = moment.geom[row, column], moment.depth[row, column]
    owned = owners[np.arange(len(points)), shown] & (shown >= 0) & (depth - there <= under)
    return (inside & (owned | (there == 0) | (depth - there <= margin))).astype(np.float32)


def _centres(size: tuple[int, int]) -> np.ndarray:
    """Homogeneous pixel centres (H W, 3) float32."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32) + np.float32(0.5)
    return np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3)


def _carry(before: Moment, after: Moment) -> np.ndarray:
    """What carries pixels of each surface and, last, of what stands still: (12, G + 1) float32, three rows of four.

    A pixel x, y with depth z goes to the rows times (x, y, 1, 1 / z), up to scale. Reckoned in float64: places cancel.
    """
    first, second = before.camera, after.camera
    still = np.eye(3)[None]
    turned = np.concatenate([after.poses.rotation @ np.swapaxes(before.poses.rotation, 1, 2), still])
    start = np.concatenate([before.poses.position, np.zeros((1, 3))])
    end = np.concatenate([after.poses.position, np.zeros((1, 3))])
    into = second.intrinsics @ second.pose[:3, :3].T
    turn = into @ turned @ first.pose[:3, :3] @ np.linalg.inv(first.intrinsics)
    there = np.einsum("gij,gj->gi", turned, first.pose[:3, 3] - start) + end - second.pose[:3, 3]
    rows = np.concatenate([turn, (there @ into.T)[..., None]], -1)
    return np.ascontiguousarray(rows.reshape(len(rows), 12).T, dtype=np.float32)


def _slope(inverse: np.ndarray, geom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope of `inverse` (H, W) along the second axis within a surface, and how far off it may be.

    The flatter of the two sides is taken; the doubt is what the steeper side would add.
    """
    step = inverse[:, 1:] - inverse[:, :-1]
    same = geom[:, 1:] == geom[:, :-1]
    edge = np.zeros((len(geom), 1), np.float32)
    lacking = np.zeros((len(geom), 1), bool)
    left, right = np.concatenate([edge, step], 1), np.concatenate([step, edge], 1)
    has_left, has_right = np.concatenate([lacking, same], 1), np.concatenate([same, lacking], 1)
    flatter = np.where(np.abs(left) <= np.abs(right), left, right)
    both, none = has_left & has_right, ~(has_left | has_right)
    slope = np.where(both, flatter, np.where(has_left, left, np.where(has_right, right, 0)))
    doubt = np.where(both, np.abs(left - right), np.where(none, LONE * inverse, np.abs(slope)))
    return slope, doubt


def _hidden(x: np.ndarray, y: np.ndarray, inverse: np.ndarray, after: Moment) -> np.ndarray:
    """Whether points at x, y (n,) px with 1 / depth `inverse` (n,) are hidden in `after` or outside of it.

    What the pixel there shows is continued from its centre to the exact place, so a slanted surface does not hide
    itself, and the doubt of that continuation speaks for the point.
    """
    height, width = after.camera.size
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = np.where(inside, x, 0).astype(np.int32), np.where(inside, y, 0).astype(np.int32)
    pixel = row * np.int32(width) + column
    off_x, off_y = x - column - np.float32(0.5), y - row - np.float32(0.5)
    slope_x, doubt_x, slope_y, doubt_y = np.take(after.slopes, pixel, axis=1)
    there = after.inverse.reshape(-1)[pixel] + slope_x * off_x + slope_y * off_y
    there -= doubt_x * np.abs(off_x) + doubt_y * np.abs(off_y)
    return ~inside | (there > inverse * (1 + RELATIVE) + MARGIN * inverse**2)
