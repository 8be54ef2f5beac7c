"""Flow, occlusion and projection against rays, closed forms and the pictures themselves."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco")

import checks
from tiny_scene import BALL, BOX, place, tiny_scene

from polyclock.envs import truth


def take(scene, data, things: float, camera: float) -> checks.Shot:
    """The scene after a share of the known motion: things and camera both move and turn."""
    model = scene.model
    place(model, data, "box", (0.05 * things, 0.06 * things, 0.3 + 0.03 * things), (0.3, 0.2, 1), 0.15 * things)
    place(model, data, "ball", (0.5 - 0.05 * things, 0.5 - 0.05 * things, 0.25), (1, 0, 1), 0.2 * things)
    place(model, data, "rig", (2 - 0.05 * camera, 0.04 * camera, 1 + 0.03 * camera), (0.2, 1, 0.5), 0.04 * camera)
    return checks.shoot(scene, data, "straight")


@pytest.fixture(scope="module")
def shots() -> dict[tuple[float, float], checks.Shot]:
    """Shots by how far things and camera have moved."""
    with tiny_scene() as (scene, data):
        return {at: take(scene, data, *at) for at in ((0, 0), (1, 0), (0, 1), (1, 1), (4, 4))}


@pytest.mark.parametrize("moved", [(1, 0), (0, 1), (1, 1)], ids=["things", "camera", "both"])
@pytest.mark.parametrize("back", [False, True], ids=["forward", "backward"])
def test_flow_of_a_rigid_motion(shots, moved, back) -> None:
    before, after = shots[0, 0], shots[moved]
    found = checks.flow_errors(after, before) if back else checks.flow_errors(before, after)
    assert found.motion.max() > 4, "the scene was meant to move"
    assert found.error.max() < 0.1
    assert found.agreement > 0.99
    assert found.hidden_found > 0.8  # the rest lies within half a pixel of an edge


@pytest.mark.parametrize("back", [False, True], ids=["forward", "backward"])
def test_flow_of_a_leap(shots, back) -> None:
    """30 px: points on the polygons of the ball and on the true ball drift apart, nothing else does."""
    pair = (shots[4, 4], shots[0, 0]) if back else (shots[0, 0], shots[4, 4])
    found = checks.flow_errors(*pair)
    assert found.motion.max() > 25
    assert np.percentile(found.error, 99) < 0.1 and found.error.max() < 0.4
    assert found.agreement > 0.99 and found.hidden_found > 0.95


@pytest.mark.parametrize("moved", [(1, 0), (0, 1), (1, 1), (4, 4)])
def test_warping_beats_every_constant_shift(shots, moved) -> None:
    for pair in ((shots[0, 0], shots[moved]), (shots[moved], shots[0, 0])):
        warped, shifted, count = checks.warp_errors(*pair)
        assert count > 500
        assert warped < 0.6 * shifted


def test_a_wrong_flow_is_found_out(shots) -> None:
    """The checks can fail: with the later poses kept back, the flow is wrong by pixels; with others it warps worse."""
    before, after = shots[0, 0], shots[1, 0]
    stale = checks.Shot(after.model, after.data, after.view, after.view.moment(before.moment.poses))
    assert checks.flow_errors(before, stale).error.max() > 3
    astray = checks.Shot(after.model, after.data, after.view, after.view.moment(shots[4, 4].moment.poses))
    warped, shifted, _ = checks.warp_errors(before, astray)
    assert warped > shifted


def test_what_stands_still_does_not_flow(shots) -> None:
    same = truth.flow(shots[1, 1].moment, shots[1, 1].moment)
    assert np.abs(same[..., :2]).max() < 1e-4
    assert not same[..., 2].any()
    still = shots[0, 0].view.geom == shots[1, 0].view.geom
    still &= ~np.isin(shots[0, 0].view.geom, (BOX, BOX + 1, BALL))
    moved = truth.flow(shots[0, 0].moment, shots[1, 0].moment)
    assert np.abs(moved[still][:, :2]).max() < 1e-4


def test_projection_inverts_itself(shots) -> None:
    assert checks.roundtrip_error(shots[1, 1]) < 1e-9
    moment = shots[1, 1].moment
    pixels = np.flatnonzero(moment.geom == BALL)
    local = truth.surface_points(moment, pixels)
    assert np.abs(np.linalg.norm(local, axis=1) - 0.2).max() < 0.012 * 0.2  # a ball is drawn as polygons
    world = checks.unproject(moment.depth, moment.camera).reshape(-1, 3)[pixels]
    position, rotation = moment.poses.position[BALL], moment.poses.rotation[BALL]
    assert np.abs(position + local @ rotation.T - world).max() < 1e-5


# ---------------------------------------------------------------- without a simulator


def flat(depth, geom, position=((0, 0, 0), (0, 0, 0)), pose=None, focal=10.0) -> truth.Moment:
    """A moment of unturned surfaces, whose camera stands at the origin unless told."""
    depth, geom = np.asarray(depth, np.float32), np.asarray(geom, np.int32)
    height, width = depth.shape
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    camera = truth.Camera(intrinsics, np.eye(4) if pose is None else pose, (height, width))
    place = np.array(position, float)
    return truth.Moment(depth, geom, camera, truth.Poses(place, np.broadcast_to(np.eye(3), (len(place), 3, 3))))


def card(column: int, shift: float, height: int = 8, width: int = 16) -> truth.Moment:
    """A wall at 2 m (surface 0) and before it, at 1 m, a card (surface 1) of 4 columns, moved by `shift` m."""
    geom = np.zeros((height, width), int)
    geom[:, column : column + 4] = 1
    return flat(np.where(geom == 1, 1.0, 2.0), geom, ((0, 0, 0), (shift, 0, 0)))


def test_occlusion_by_a_card() -> None:
    before, after = card(3, 0), card(6, 0.3)  # 0.3 m at 1 m and focal 10: three columns
    there = truth.flow(before, after)
    expected = np.zeros((8, 16))
    expected[:, 7:10] = 1  # the wall that the card comes to hide
    assert np.array_equal(there[..., 2], expected)
    assert np.allclose(there[:, 3:7, 0], 3, atol=1e-5) and np.allclose(there[..., 1], 0, atol=1e-5)
    back = truth.flow(after, before)
    expected = np.zeros((8, 16))
    expected[:, 3:6] = 1  # the wall that was behind it
    assert np.array_equal(back[..., 2], expected)


def test_what_leaves_the_picture_is_occluded() -> None:
    before, after = card(12, 0), card(15, 0.3)
    there = truth.flow(before, after)
    assert there[0, 13:16, 2].all() and not there[0, 12, 2]
    assert np.allclose(there[0, 12:16, 0], 3, atol=1e-5)


def test_a_slanted_floor_does_not_hide_itself() -> None:
    """Depth doubles within a few rows: a moving camera sees every row that stays in the picture."""
    height, width, focal, above = 24, 8, 10.0, 0.4
    y = np.arange(height) + 0.5 - height / 2

    def floor(forward: float) -> truth.Moment:
        pose = np.eye(4)
        pose[2, 3] = forward
        depth = np.where(y > 0, above * focal / np.where(y > 0, y, 1), 0)
        return flat(np.repeat(depth[:, None], width, 1), np.where(y > 0, 0, -1)[:, None].repeat(width, 1), pose=pose)

    for forward in (0.013, 0.1, -0.07, 0.3):
        moved = truth.flow(floor(0), floor(forward))
        x = np.arange(width) + 0.5 + moved[..., 0]
        place = np.arange(height)[:, None] + 0.5 + moved[..., 1]
        inside = (x >= 0) & (x < width) & (place < height)
        assert np.array_equal(moved[..., 2] == 0, inside)


def test_the_sky_turns_with_the_camera() -> None:
    angle = 0.1
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    pose[:3, 3] = (5, 5, 5)  # moving along does not matter to it
    nothing, empty = np.zeros((8, 16)), np.full((8, 16), -1)
    moved = truth.flow(flat(nothing, empty), flat(nothing, empty, pose=pose))
    x = (np.arange(16) + 0.5 - 8) / 10
    expected = 10 * np.tan(np.arctan(x) - angle) + 8 - (np.arange(16) + 0.5)
    assert np.abs(moved[..., 0] - expected).max() < 1e-4
    hidden = truth.flow(flat(nothing, empty), flat(np.full((8, 16), 15.0), np.zeros((8, 16))))
    assert hidden[..., 2].all()


def test_a_point_behind_the_camera_has_no_flow() -> None:
    pose = np.eye(4)
    pose[2, 3] = 2.0
    moved = truth.flow(flat(np.ones((4, 4)), np.zeros((4, 4))), flat(np.ones((4, 4)), np.zeros((4, 4)), pose=pose))
    assert (moved == (0, 0, 1)).all()


def test_warp_between_pixels() -> None:
    image = np.arange(20, dtype=np.uint8).reshape(4, 5, 1)
    whole = np.broadcast_to(np.float32([1, 1]), (4, 5, 2))
    assert np.array_equal(checks.warp(image, whole)[:3, :4], image[1:, 1:].astype(np.float32))
    assert np.array_equal(checks.warp(image, whole)[3, :, 0], [16, 17, 18, 19, 19])  # the border goes on
    half = checks.warp(image, np.broadcast_to(np.float32([0.5, 0.25]), (4, 5, 2)))
    assert np.allclose(half[:3, :4, 0], image[:3, :4, 0] + 0.5 + 1.25)


def test_visibility_of_points() -> None:
    moment = card(3, 0)  # the card fills x from 3 to 7
    on_card, in_card, behind = (-0.3, 0, 1.0), (-0.3, 0, 1.1), (-0.6, 0, 2.0)
    on_wall, outside, at_back = (0.8, 0, 2.0), (9, 0, 2.0), (0, 0, -1.0)
    points = np.array([on_card, in_card, in_card, behind, on_wall, outside, at_back])
    owners = np.zeros((7, 2), bool)
    owners[2, 1] = True  # the card shows what is in it
    assert truth.visible(points, owners, moment).tolist() == [1, 0, 1, 0, 1, 0, 0]
    assert truth.visible(points, owners, moment, margin=0.2)[1] == 1
