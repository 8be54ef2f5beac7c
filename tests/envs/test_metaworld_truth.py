"""The tabletop's maps: what is seen is true, has its name, and marks and collision shapes are never shown."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("metaworld")

import checks
import mujoco

from polyclock.envs import starts
from polyclock.envs.metaworld import ALL_CAMERAS, CAMERAS
from polyclock.envs.metaworld_anatomy import anatomy, joints
from polyclock.envs.metaworld_tables import CLASSES, JOINTS, PARTS, class_of, instance_of, part_of


def test_marks_and_collision_shapes_are_never_shown(tabletop) -> None:
    for task in ("drawer-open", "window-open", "reach"):
        world = tabletop(task)
        world.begin(starts(task)[0])
        material = world.model.geom_matid
        alpha = np.where(material >= 0, world.model.mat_rgba[material, 3], 1) * world.model.geom_rgba[:, 3]
        proper = np.isin(world.model.geom_group, (0, 1, 2)) & (alpha > 0)
        for camera in ALL_CAMERAS:
            shown = np.unique(world.scene.view(world.data, camera).geom)
            shown = shown[shown >= 0]
            assert proper[shown].all(), (task, camera)
        plain = [world.observe()[f"observation.images.{camera}"] for camera in world.cameras]
        marks = world.model.site_rgba.copy(), world.model.site_size.copy()
        world.model.site_rgba[:], world.model.site_size[:] = 1, 0.2
        glaring = [world.observe()[f"observation.images.{camera}"] for camera in world.cameras]
        world.model.site_rgba[:], world.model.site_size[:] = marks
        assert np.array_equal(plain, glaring), "no mark is seen, however large"


def test_the_table_names_what_stands_on_it(tabletop) -> None:
    drawer = tabletop("drawer-open")
    drawer.begin(starts("drawer-open")[0])
    known = anatomy(drawer.model)
    names = {name: number for number, name in CLASSES.items()}
    view = drawer.scene.view(drawer.data, "corner2")
    label = known.label[view.geom[view.geom >= 0]]
    for name in ("floor", "wall", "table", "arm", "gripper", "drawer"):
        assert (label == names[name]).sum() >= 4, name
    assert set(label) <= {names[n] for n in ("floor", "wall", "table", "arm", "gripper", "drawer")}
    upright = view.camera.pose[:3, 1] @ (0, 0, 1)
    assert upright < -0.8, "down in the picture is down in the world"


@pytest.mark.parametrize(
    ("task", "wanted"),
    [("window-open", "window"), ("button-press-topdown", "button"), ("handle-press", "handle"), ("reach", "object")],
)
def test_the_other_tasks_have_their_classes(tabletop, task: str, wanted: str) -> None:
    world = tabletop(task)
    world.begin(starts(task)[0])
    known = anatomy(world.model)
    view = world.scene.view(world.data, "corner2")
    shown = {known.classes[int(c)] for c in np.unique(known.label[view.geom[view.geom >= 0]])}
    assert wanted in shown


def test_ids_hold_for_all_tasks() -> None:
    assert len(set(PARTS)) == len(PARTS)
    assert [part_of(body) for body in ("tablelink", "RetainingWall", "world")] == [0, 0, 0]
    assert part_of("never heard of") == part_of("object") > 0
    assert instance_of("right_l0") == instance_of("head") != instance_of("hand") == instance_of("leftpad")
    robot = [body for body in PARTS if class_of(body) in ("arm", "gripper")]
    assert len({instance_of(body) for body in PARTS}) == len(PARTS) - len(robot) + 2


def test_surface_coordinates_move_with_their_part(tabletop) -> None:
    """The same place of a geom has the same part, u and v; over a part, both reach from near 0 to near 1."""
    drawer = tabletop("drawer-open")
    known = anatomy(drawer.model)
    geom = drawer.model.geom("objGeom").id
    low = drawer.model.geom_aabb[geom, :3] - drawer.model.geom_aabb[geom, 3:]
    side = 2 * drawer.model.geom_aabb[geom, 3:]
    points = low + side * np.random.default_rng(0).uniform(0, 1, (500, 3))
    part, u, v = known.surface(np.full(500, geom), points)
    assert set(part) == {PARTS.index("drawer_link") + 1}
    assert u.min() >= 0 and v.min() >= 0 and u.max() <= 1 and v.max() <= 1
    for share in (u, v):  # linear in the place
        design = np.column_stack([points, np.ones(500)])
        left = share - design @ np.linalg.lstsq(design, share, rcond=None)[0]
        assert np.abs(left).max() < 1e-9 and np.ptp(share) > 0.1


@pytest.fixture(scope="module")
def shots(tabletop):
    """Two moments, four steps apart, from each published camera, and the joints at the first."""
    world = tabletop("drawer-open", 128)
    world.begin(starts("drawer-open")[1])
    for _ in range(12):
        world.act(world.expert())
    before = [checks.shoot(world.scene, world.data, camera) for camera in CAMERAS]
    points = joints(world.model, world.data)
    for _ in range(4):
        world.act(world.expert())
    return before, points, [checks.shoot(world.scene, world.data, camera) for camera in CAMERAS]


def test_depth_and_flow_are_where_rays_end(shots) -> None:
    before, _, after = shots
    flat = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_BOX), int(mujoco.mjtGeom.mjGEOM_MESH))
    for first, second in zip(before, after, strict=True):
        same, error, depth = checks.depth_errors(first, flat)
        assert same > 0.97 and np.percentile(error / depth, 99) < 0.002
        assert checks.roundtrip_error(first) < 1e-3
        found = checks.flow_errors(first, second)
        assert np.percentile(found.error, 99) < 0.1 and found.motion.max() > 1
        assert found.agreement > 0.97


def test_warping_beats_every_constant_shift(shots) -> None:
    before, _, after = shots
    for first, second in zip(before, after, strict=True):
        warped, shifted, count = checks.warp_errors(first, second)
        assert count > 100 and warped < 0.8 * shifted


def test_joints_lie_on_the_arm(shots) -> None:
    before, points, _ = shots
    known = anatomy(before[0].model)
    assert len(points) == len(JOINTS) == 11
    for shot in before:
        assert checks.keypoints_off_parts(shot, points, known.owners) == []
    seen = [checks.truth.visible(points, known.owners, shot.moment) for shot in before]
    assert np.max(seen, axis=0).sum() >= 8
