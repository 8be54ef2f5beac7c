"""People on film: depth, flow, surface map and keypoints agree with rays, with the figure and with the picture."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")

import checks
import mujoco

from polyclock.envs import truth
from polyclock.envs.people import CAMERA, Clip, PeopleSource
from polyclock.envs.scene import Scene

SHARP = PeopleSource(clips=6, frames=16, fps=10, size=128)
CAPSULE, ELLIPSOID = int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_ELLIPSOID)
FLAT = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_BOX))
ROUND = (CAPSULE, ELLIPSOID, int(mujoco.mjtGeom.mjGEOM_SPHERE))


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Clip, Any, Any, np.ndarray]]:
    """Of three clips: two frames in a row as `checks` takes them, and the joints of the first."""
    found = []
    for number in (1, 2, 5):
        clip = Clip(SHARP, number)
        scene = Scene(clip.model, SHARP.size)
        states = itertools.islice(clip.states(), 7, 9)
        shots = [(checks.shoot(scene, data, CAMERA), joints) for data, joints in states]
        scene.close()
        found.append((clip, shots[0][0], shots[1][0], shots[0][1]))
    return found


def test_depth_is_where_rays_end(pairs) -> None:
    """To a tenth of a millimetre on rooms and boxes; people and balls are drawn as polygons."""
    for _, shot, _, _ in pairs:
        same, flat, _ = checks.depth_errors(shot, FLAT)
        assert same > 0.995 and len(flat) > 10_000
        assert np.quantile(flat, 0.99) < 1e-4 and flat.max() < 0.005
        _, round_ones, _ = checks.depth_errors(shot, ROUND)
        assert len(round_ones) > 1000
        assert np.median(round_ones) < 1e-3 and np.quantile(round_ones, 0.95) < 4e-3 and round_ones.max() < 0.05


def test_flow_is_where_rays_say(pairs) -> None:
    for _, before, after, _ in pairs:
        found = checks.flow_errors(before, after)
        assert np.median(found.error) < 0.02 and np.quantile(found.error, 0.95) < 0.1
        assert found.agreement > 0.97
        assert found.motion.max() > 1


def test_warping_by_the_flow_beats_every_shift(pairs) -> None:
    for clip, before, after, _ in pairs:
        warped, shifted, count = checks.warp_errors(before, after)
        assert count > 200
        assert warped < 0.75 * shifted, clip.motions


def test_surface_points_lie_on_the_skin(pairs) -> None:
    for clip, shot, _, _ in pairs:
        geom = shot.view.geom.reshape(-1)
        pixels = np.flatnonzero(np.append(clip.anatomy.mapped, False)[geom])
        assert len(pixels) > 500
        points, geom = truth.surface_points(shot.moment, pixels).astype(float), geom[pixels]
        size, kind = clip.model.geom_size[geom], clip.model.geom_type[geom]
        assert set(kind) == {CAPSULE, ELLIPSOID}
        ball = np.linalg.norm(points / size.clip(1e-9), axis=1)
        off_ellipsoid = np.abs(ball - 1) * np.linalg.norm(points, axis=1) / ball
        points[:, 2] -= np.clip(points[:, 2], -size[:, 1], size[:, 1])
        off = np.where(kind == CAPSULE, np.abs(np.linalg.norm(points, axis=1) - size[:, 0]), off_ellipsoid)
        assert np.median(off) < 1e-3 and np.quantile(off, 0.99) < 4e-3


def test_u_and_v_go_on_from_pixel_to_pixel_within_a_part(pairs) -> None:
    """A pixel is about 2 cm wide, a part's half girth 7 to 30 cm."""
    for clip, shot, _, _ in pairs:
        geom = shot.view.geom.reshape(-1)
        pixels = np.flatnonzero(np.append(clip.anatomy.mapped, False)[geom])
        part, u, v = clip.anatomy.surface(geom[pixels], truth.surface_points(shot.moment, pixels))
        found = np.zeros((geom.size, 4))
        found[pixels] = np.stack([part, clip.anatomy.instance[geom[pixels]], u, v], -1)
        found = found.reshape(*shot.view.geom.shape, 4)
        for axis in (0, 1):
            first, second = np.delete(found, -1, axis), np.delete(found, 0, axis)
            level = np.abs(np.diff(shot.view.depth, axis=axis)) < 0.03
            same = (first[..., :2] == second[..., :2]).all(-1) & (first[..., 0] > 0) & level
            steps = np.abs(first - second)[same][:, 2:].max(1)
            assert len(steps) > 500
            assert np.median(steps) < 0.1 and np.quantile(steps, 0.99) < 0.25 and steps.max() < 0.5


def test_keypoints_fall_on_their_own_limbs(pairs) -> None:
    for clip, shot, _, joints in pairs:
        present = np.isfinite(joints).all(1)
        assert present.sum() == 17 * len(clip.actors)
        owners, under = clip.anatomy.owners[present], clip.anatomy.under[present]
        seen = truth.visible(joints[present], owners, shot.moment, clip.anatomy.margin, under)
        assert 0.3 < seen.mean() <= 1
        assert len(checks.keypoints_off_parts(shot, joints[present], owners)) <= 1  # a hand before a hip


def test_the_far_side_of_a_person_is_not_seen() -> None:
    """From behind no nose and no eyes, from the front all of them."""
    source = replace(SHARP, motions=("squat",), pairs=0.0, size=96)
    clip = Clip(source, 0)
    scene = Scene(clip.model, source.size)
    data, joints = next(clip.states())
    head = joints[:17]
    middle, front = head[3:5].mean(0), head[0] - head[3:5].mean(0)
    front[2] = 0
    front /= np.linalg.norm(front)
    for way, wanted in ((1, 1.0), (-1, 0.0)):
        place, back = middle + way * 1.6 * front, way * front
        right = np.cross((0, 0, 1), back)
        mujoco.mju_mat2Quat(data.mocap_quat[-1], np.stack([right, np.cross(back, right), back], -1).reshape(-1))
        data.mocap_pos[-1] = place
        mujoco.mj_kinematics(clip.model, data)
        mujoco.mj_camlight(clip.model, data)
        shot = checks.shoot(scene, data, CAMERA)
        seen = truth.visible(joints, clip.anatomy.owners, shot.moment, clip.anatomy.margin, clip.anatomy.under)
        assert (seen[:3] == wanted).all()
        assert seen[5:7].all()  # shoulders show from both sides
    scene.close()
