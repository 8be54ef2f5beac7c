"""From views to columns: what each holds, that a file gives it back, and that flow spans the rows that it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("mujoco")

import checks
from tiny_scene import BALL, BOX, FLOOR, LID, SIZE, WALL, place, tiny_scene

from polyclock.data import dense, open_dataset
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.envs import truth
from polyclock.envs.recording import REACH, Anatomy, Recording, Row

CAMERAS = ("straight", "hanging")
LENGTH = 5


def owners(*rows: tuple[int, ...]) -> np.ndarray:
    found = np.zeros((len(rows), 5), bool)
    for row, surfaces in zip(found, rows, strict=True):
        row[list(surfaces)] = True
    return found


def chart(geom: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Box: its y and z over its sides; ball: its z in both."""
    boxed = geom == BOX
    across = np.where(boxed, local[:, 1] / 0.5, local[:, 2] / 0.4) + 0.5
    return np.where(boxed, 1, 2), across, local[:, 2] / 0.4 + 0.5


ANATOMY = Anatomy(
    instance=np.array([0, 0, 1, 1, 2]),
    label=np.array([1, 1, 2, 2, 3]),
    classes={0: "nothing", 1: "room", 2: "box", 3: "ball"},
    parts={0: "none", 1: "box", 2: "ball"},
    surface=chart,
    mapped=np.isin(np.arange(5), (BOX, BALL)),
    joints=("box", "ball", "far side"),
    limbs=(("box", "ball"),),
    owners=owners((BOX, LID), (BALL,), ()),
)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """An episode in which the box slides and turns and the camera drives on."""
    found = []
    with tiny_scene() as (scene, data):
        for i in range(LENGTH):
            place(scene.model, data, "box", (0.03 * i, 0.05 * i, 0.3), (0, 0, 1), 0.1 * i)
            place(scene.model, data, "rig", (2 - 0.03 * i, 0, 1 + 0.01 * i), (0, 1, 0), 0.01 * i)
            poses = scene.poses(data)
            joints = np.stack([poses.position[BOX], poses.position[BALL], poses.position[BALL] - (0.2, 0, 0)])
            found.append(Row({c: scene.view(data, c) for c in CAMERAS}, poses, joints))
    return found


def moment(row: Row, camera: str = "straight") -> truth.Moment:
    return row.views[camera].moment(row.poses)


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_flow_spans_its_steps(rows, steps) -> None:
    columns = Recording(("straight",), SIZE, ANATOMY, flow_steps=steps).columns(rows)
    for i in range(LENGTH):
        later, earlier = min(i + steps, LENGTH - 1), max(i - steps, 0)
        forward = truth.flow(moment(rows[i]), moment(rows[later]))
        assert np.array_equal(columns["observation.flow.straight"][i], forward)
        backward = truth.flow(moment(rows[i]), moment(rows[earlier]))
        assert np.array_equal(columns["observation.flow_back.straight"][i], backward)
    assert np.abs(columns["observation.flow.straight"][-1, ..., :2]).max() < 1e-4
    assert np.abs(columns["observation.flow.straight"][0, ..., 0]).max() > 1


def test_frames_come_while_rows_go(rows) -> None:
    """A frame is given out as soon as the row that its flow leads to is there; no rows, no frames."""
    recording, taken = Recording(("straight",), SIZE, ANATOMY, flow_steps=2), []

    def feed():
        for row in rows:
            taken.append(row)
            yield row

    seen = [len(taken) for _ in recording.frames(feed())]
    assert seen == [3, 4, 5, 5, 5]
    assert list(recording.frames([])) == []


def test_what_the_columns_hold(rows) -> None:
    columns = Recording(("straight",), SIZE, ANATOMY).columns(rows)
    for i, row in enumerate(rows):
        view = row.views["straight"]
        here = {key.split(".")[1]: values[i] for key, values in columns.items()}
        assert np.array_equal(here["images"], view.rgb)
        assert np.array_equal(here["depth"][..., 0], np.where(view.depth <= REACH, view.depth, 0))
        ids = here["segmentation"]
        assert np.array_equal(ids[..., 0] == 1, np.isin(view.geom, (BOX, LID)))
        assert np.array_equal(ids[..., 1] == 1, np.isin(view.geom, (FLOOR, WALL)))
        surface = here["surface"]
        assert np.array_equal(surface[..., 0] == 1, view.geom == BOX)
        assert np.array_equal(surface[..., 0] == 2, view.geom == BALL)
        assert not surface[view.geom == FLOOR].any()
        # The height over the floor, told by the map, is the one that depth tells.
        ball = view.geom == BALL
        points = checks.unproject(view.depth, view.camera)[ball]
        assert np.allclose((surface[ball][:, 2] - 0.5) * 0.4 + 0.25, points[:, 2], atol=1e-4)
        pixels, _ = truth.project(row.joints, view.camera)
        assert np.allclose(here["skeleton"][:, :2], pixels, atol=1e-4)
        assert here["skeleton"][:, 2].tolist() == [1, 1, 0]
        shot = checks.Shot(None, None, view, moment(row))
        assert checks.keypoints_off_parts(shot, row.joints, ANATOMY.owners) == []
        assert np.allclose(here["pose"], view.camera.pose) and np.allclose(here["intrinsics"], view.camera.intrinsics)


def test_a_joint_that_is_put_elsewhere_is_found_out(rows) -> None:
    wrong = np.array([rows[0].joints[1] + (0, -0.3, 0)])
    shot = checks.Shot(None, None, rows[0].views["straight"], moment(rows[0]))
    assert checks.keypoints_off_parts(shot, wrong, owners((BALL,)), margin=9) == [0]


def test_a_joint_behind_the_camera_is_nowhere(rows) -> None:
    row = dataclasses.replace(rows[0], joints=np.array([[9.0, 0, 1]] * 3))
    skeleton = Recording(("straight",), SIZE, ANATOMY).columns([row])["observation.skeleton.straight"]
    assert not skeleton.any()


def test_a_data_set_gives_it_back(rows, tmp_path) -> None:
    recording = Recording(CAMERAS, SIZE, ANATOMY, flow_steps=2)
    columns = recording.columns(rows)
    with LeRobotWriter(tmp_path / "set", fps=10, features=recording.features()) as writer:
        writer.add_episode(columns, "the box slides")
        notes = dense.notes(writer.info)
    assert set(columns) == set(recording.features())
    assert notes["observation.flow.hanging"]["steps"] == 2
    assert notes["observation.flow_back.hanging"]["steps"] == -2
    assert notes["observation.skeleton.straight"]["limbs"] == [["box", "ball"]]
    data = open_dataset(tmp_path / "set")
    bounds = {"images": None, "depth": 0.00051, "flow": 1 / 127, "flow_back": 1 / 127, "surface": 1 / 131069}
    for key, values in columns.items():
        bound = bounds.get(key.split(".")[1], 0)
        if bound is not None:
            assert np.abs(data.read(0, key, range(LENGTH)) - values.astype(float)).max() <= bound, key


def test_far_and_wide(rows) -> None:
    """No depth beyond the reach, and flow that no file can hold has left the picture."""
    view, poses = rows[0].views["straight"], rows[0].poses
    far = dataclasses.replace(view, depth=np.full_like(view.depth, 25), geom=np.zeros_like(view.geom))
    near = dataclasses.replace(view, depth=np.full_like(view.depth, 0.05), geom=np.zeros_like(view.geom))
    moved = truth.Poses(poses.position + (0, 1.5, 0), poses.rotation)
    columns = Recording(("straight",), SIZE, ANATOMY).columns(
        [Row({"straight": v}, p, rows[0].joints) for v, p in ((far, poses), (near, poses), (near, moved))]
    )
    assert not columns["observation.depth.straight"][0].any()
    assert (columns["observation.flow.straight"][1] == (0, 0, 1)).all()
    dense.encode("flow", columns["observation.flow.straight"])


def test_what_does_not_fit_together() -> None:
    with pytest.raises(ValueError, match=r"owners.*\(2, 5\).*\(3, 5\)"):
        dataclasses.replace(ANATOMY, owners=owners((1,), (2,)))
    with pytest.raises(ValueError, match=r"label.*needed: \(5,\)"):
        dataclasses.replace(ANATOMY, label=np.zeros(4, int))
    with pytest.raises(ValueError, match="'tail'.*joints: box, ball"):
        dataclasses.replace(ANATOMY, limbs=(("box", "tail"),))
    with pytest.raises(ValueError, match="0 rows"):
        Recording(CAMERAS, SIZE, ANATOMY, flow_steps=0)
