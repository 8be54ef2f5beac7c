"""People on film: every truth agrees with rays and closed forms, clips repeat exactly, captions say what happened."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")

import checks
import mujoco

from polyclock.cli import main
from polyclock.data.formats.lerobot import open_lerobot
from polyclock.envs import truth
from polyclock.envs.cast import action, clear, describe
from polyclock.envs.collect import Unit
from polyclock.envs.figure import CHART, PARTS
from polyclock.envs.motions import GRAVITY
from polyclock.envs.people import CAMERA, LEADS, Clip, PeopleSource
from polyclock.envs.people_anatomy import CLASSES
from polyclock.envs.scene import Scene

SMALL = PeopleSource(clips=6, frames=16, fps=10, size=48)
SHARP = replace(SMALL, size=128)
VERBS = {"walk": "walks", "wave": "waves", "squat": "squats", "jump": "jumps", "throw": "throws", "lift": "lifts"}
CAPSULE, ELLIPSOID = int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_ELLIPSOID)


@pytest.fixture(scope="module")
def films() -> list[tuple[dict[str, np.ndarray], str]]:
    """Six clips in a row: columns and caption."""
    return [SMALL.open().make(Unit("people", number)) for number in range(6)]


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


def column(film: tuple[dict[str, np.ndarray], str], kind: str) -> np.ndarray:
    return film[0][f"observation.{kind}.{CAMERA}"]


def test_columns_are_those_of_the_features(films) -> None:
    features = SMALL.features()
    for columns, _ in films:
        assert columns.keys() == features.keys()
        for key, values in columns.items():
            depth_or_map = features[key]["dtype"] == "video" and "images" not in key
            channels = {"depth": 1, "segmentation": 2}.get(key.split(".")[1], 3)
            shape = (48, 48, channels) if depth_or_map else tuple(features[key]["shape"])
            assert values.shape == (16, *shape), key
    assert features[f"observation.surface.{CAMERA}"]["polyclock"]["surface_chart"] == CHART
    assert features[f"observation.surface.{CAMERA}"]["polyclock"]["parts"]["24"] == "head left"
    joints = features[f"observation.skeleton.{CAMERA}"]["polyclock"]["joints"]
    assert len(joints) == 34 and joints[0] == "person1.nose" and joints[33] == "person2.right_ankle"


def test_six_clips_show_six_movements_and_say_so(films) -> None:
    captions = [caption for _, caption in films]
    for number, caption in enumerate(captions):
        for motion in Clip(SMALL, number).motions:
            assert VERBS.get(motion, "stands") in caption
    for verb in VERBS.values():
        assert any(verb in caption for caption in captions), verb
    assert {len(Clip(SMALL, number).motions) for number in range(6)} == {1, 2}


def test_captions_name_what_is_there(films) -> None:
    for number, (_, caption) in enumerate(films):
        clip = Clip(SMALL, number)
        for actor in clip.actors:
            assert describe(actor.build) in caption
            assert (actor.build.height >= 1.8) == ("tall" in describe(actor.build))
            assert (" striped" in describe(actor.build)) == bool(actor.build.stripes)
            if actor.thing is not None:
                assert f"{actor.thing.colour} {actor.thing.kind}" in caption
        assert (" while " in caption) == (len(clip.actors) == 2)


def test_ways_of_walking_are_told_as_the_camera_sees_them() -> None:
    source = replace(SMALL, motions=("walk",), pairs=0.0)
    told = set()
    for number in range(16):
        clip = Clip(source, number)
        (actor,) = clip.actors
        pelvis = actor.posed.position[:, 0]
        seen = (pelvis[[0, -1]] - clip.shot.place[0]) @ clip.shot.rotation[0]  # right, up, back
        sentence = action(actor, clip.azimuth)
        told.add(sentence)
        right, back = seen[1, 0] - seen[0, 0], seen[1, 2] - seen[0, 2]
        wanted = {"right": right, "left": -right, "camera": back if "toward" in sentence else -back}
        assert wanted[sentence.split()[-1]] > 0.3, sentence
    assert len(told) >= 3
    (walker,) = Clip(replace(source, frames=121), 0).actors
    assert action(walker, 0.0) == "walks in a circle"


def test_clips_repeat_exactly_and_differ_from_one_another(films) -> None:
    again, sentence = SMALL.open().make(Unit("people", 2))
    assert sentence == films[2][1]
    for key, values in films[2][0].items():
        np.testing.assert_array_equal(again[key], values, err_msg=key)
    other = Clip(replace(SMALL, seed=1), 2)
    assert other.actors[0].build != Clip(SMALL, 2).actors[0].build
    assert len({film[0][f"observation.images.{CAMERA}"].tobytes() for film in films}) == 6


def fills(instances: np.ndarray) -> float:
    """The height of the largest person's box, median over the frames (n, H, W), as a share of the picture."""
    heights = []
    for frame in instances:
        rows = [np.flatnonzero((frame == person).any(1)) for person in (1, 2)]
        heights.append(max(int(np.ptp(r)) + 1 if len(r) else 0 for r in rows))
    return float(np.median(heights)) / instances.shape[1]


def test_people_fill_most_of_the_picture(films) -> None:
    for film in films:
        assert fills(column(film, "segmentation")[..., 0]) >= 0.6, film[1]


@pytest.mark.slow
def test_people_fill_most_of_the_picture_in_many_clips() -> None:
    source = PeopleSource(clips=48, size=64, seed=3)
    for number in range(48):
        clip = Clip(source, number)
        scene = Scene(clip.model, source.size)
        instance = np.append(clip.anatomy.instance, 0)
        seen = [instance[scene.view(data, CAMERA).geom] for data, _ in itertools.islice(clip.states(), 0, None, 3)]
        scene.close()
        assert fills(np.stack(seen)) >= 0.6, (number, clip.motions)


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


def test_surface_map_covers_people(films) -> None:
    for film in films:
        part = column(film, "surface")[..., 0]
        np.testing.assert_array_equal(part > 0, column(film, "segmentation")[..., 1] == 1)
        assert set(np.unique(part)) <= {0, *PARTS}


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
    source = replace(SMALL, motions=("squat",), pairs=0.0, size=96)
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


def test_an_absent_person_is_nowhere(films) -> None:
    alone = [n for n in range(6) if len(Clip(SMALL, n).actors) == 1]
    assert alone
    for number in alone:
        assert not column(films[number], "skeleton")[:, 17:].any()
        assert not (column(films[number], "segmentation")[..., 0] == 2).any()


def test_instances_have_one_class_each(films) -> None:
    for number, film in enumerate(films):
        clip, labels = Clip(SMALL, number), column(film, "segmentation")
        classes = {int(i): set(labels[labels[..., 0] == i][:, 1]) for i in np.unique(labels[..., 0])}
        kinds = {name: n for n, name in CLASSES.items()}
        for instance, found in classes.items():
            if instance in (1, 2):
                assert found == {kinds["person"]}
            elif instance > 2:
                assert found == {kinds[clip.props[instance - 3].kind]}
            else:
                assert found <= {kinds["background"], kinds["furniture"]}


def states_of(clip: Clip) -> list[Any]:
    return [joints for _, joints in clip.states()]


def test_a_thrown_ball_leaves_with_the_hand_and_flies_by_gravity() -> None:
    for number in range(4):
        clip = Clip(replace(SMALL, motions=("throw",), pairs=0.0), number)
        states_of(clip)
        path, held = clip.paths[:, 0], clip.actors[0].held
        last = int(np.flatnonzero(held.holding)[-1])
        np.testing.assert_allclose(path[: last + 1], held.place[: last + 1])
        speed = np.diff(path, axis=0) / clip.step
        assert np.linalg.norm(speed[last + 1] - speed[last - 1]) < 0.4
        assert np.linalg.norm(speed[last + 1]) > 2.5
        free = speed[last + 1 : last + 1 + int(0.2 / clip.step)]
        np.testing.assert_allclose(np.diff(free, axis=0)[:, 2] / clip.step, -GRAVITY, rtol=1e-3)
        np.testing.assert_allclose(free[:, :2], free[:1, :2].repeat(len(free), 0), atol=1e-6)


def test_a_lifted_box_stays_in_both_hands() -> None:
    clip = Clip(replace(SMALL, motions=("lift",), pairs=0.0), 0)
    states_of(clip)
    held, box = clip.actors[0].held, clip.props[0]
    first = int(held.holding.argmax())
    assert np.abs(clip.paths[:first, 0] - held.place[0]).max() < 0.005  # it lies until it is taken
    np.testing.assert_allclose(clip.paths[first:, 0], held.place[first:])
    assert clip.paths[-1, 0, 2] - clip.paths[0, 0, 2] > 0.4
    for side in ("left", "right"):
        wrist = clip.actors[0].posed.of(f"{side}_hand")[0]
        assert np.linalg.norm(wrist - held.place, axis=1)[first:].max() < 0.2 + max(box.size)


def test_props_obey_the_floor_and_nobody_walks_through_another() -> None:
    kinds = set()
    for number in range(30):
        clip = Clip(SMALL, number)
        assert clear(clip.actors)
        if number >= 8:
            continue
        states_of(clip)
        for k, prop in enumerate(clip.props):
            kinds.add(prop.kind)
            reach = min(prop.size)
            assert clip.paths[:, k, 2].min() > 0.5 * reach, (number, k)
            assert np.isfinite(clip.paths[:, k]).all()
    assert kinds == {"ball", "box"}


def test_a_ball_bounces_and_loses_height() -> None:
    from polyclock.envs.props import Prop, happened

    ball = Prop(kind="ball", colour="red", size=(0.1, 0.1, 0.1), place=(0, 0, 1.1))
    floor = '<geom type="plane" size="3 3 .1" contype="1" conaffinity="1"/>'
    material = '<asset><material name="thing0"/></asset>'
    model = mujoco.MjModel.from_xml_string(
        f'<mujoco><option timestep="0.0025" integrator="implicitfast"/>{material}'
        f"<worldbody>{floor}{ball.mjcf('thing0')}</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    path = []
    for _ in range(500):
        path.append(data.qpos[:3].copy())
        mujoco.mj_step(model, data)
    path = np.array(path)
    nobody, seen = np.zeros(500, bool), np.ones(500, bool)
    low = int(path[:, 2].argmin())
    top = path[low:, 2].max()
    assert path[:, 2].min() > 0.05  # it gives, but stays a ball
    assert 0.45 < (top - 0.1) / 1.0 < 0.85
    assert happened(ball, path, 0.0025, nobody, seen) == "bounces"
    assert happened(ball, path, 0.0025, nobody, ~seen) == ""
    assert happened(ball, path[: low // 2], 0.0025, nobody[: low // 2], seen[: low // 2]) == ""


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"motions": ("fly",)}, "unknown movement 'fly'"),
        ({"size": 8}, "size 8; possible: an even number, 16 or more"),
        ({"size": 65}, "size 65; possible: an even number"),
        ({"frames": 5}, "frames 5; possible: enough for 1.5 s; at 10 a second 16"),
        ({"fps": 0.0}, "fps 0.0; possible: above 0"),
        ({"clips": 0}, "clips 0; possible: 1 or more"),
        ({"pairs": 1.5}, "pairs 1.5; possible: 0 to 1"),
        ({"flow_steps": 0}, "flow-steps 0; possible: 1 or more"),
        ({"motions": ("walk", "walk")}, "possible: each once"),
    ],
)
def test_what_cannot_be_filmed_is_said(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")) as raised:
        replace(SMALL, **settings)
    assert "\n" not in str(raised.value)


def test_the_default_source_takes_all_movements_in_turn() -> None:
    leads = [set(Clip(SMALL, n).motions) for n in range(6)]
    for motion in LEADS:
        assert any(motion in group for group in leads)


def test_the_command_writes_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--clips", "1", "--frames", "16", "--fps", "10", "--size", "32", "--workers", "1"]
    assert main(["collect", "people", *words, "--out", str(tmp_path / "clips")]) == 0
    assert "1 episodes with 16 frames" in capsys.readouterr().out
    source = open_lerobot(tmp_path / "clips")
    assert len(source.episodes) == 1
    assert main(["collect", "people", *words, "--size", "7", "--out", str(tmp_path / "none")]) == 2
    assert "size 7; possible" in capsys.readouterr().err and not (tmp_path / "none").exists()
