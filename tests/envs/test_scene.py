"""Pictures from MuJoCo: metric depth, named surfaces, a turned camera is a rolled one, a quiet end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

import checks
import mujoco
from tiny_scene import BALL, BOX, FLOOR, LID, SIZE, WALL, XML, place, tiny_scene

from polyclock.envs.scene import Scene

HERE = Path(__file__).resolve().parent
FLAT = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_BOX))
WALL_XML = """
<mujoco><visual><map znear="{near}" zfar="60"/></visual><statistic extent="1" center="0 0 0"/><worldbody>
<body name="wall" mocap="true"><geom type="box" size="50 .5 50"/></body>
<camera name="front" xyaxes="1 0 0 0 0 1" fovy="60"/></worldbody></mujoco>
"""


@pytest.fixture(scope="module")
def tiny():
    with tiny_scene() as pair:
        yield pair


def test_depth_is_where_rays_end(tiny) -> None:
    scene, data = tiny
    for camera in ("straight", "hanging"):
        shot = checks.shoot(scene, data, camera)
        same, error, _ = checks.depth_errors(shot, FLAT)
        assert same > 0.995
        assert error.max() < 1e-3
        same, error, depth = checks.depth_errors(shot)
        assert np.percentile(error / depth, 99) < 0.002  # the ball is drawn as polygons
    assert set(np.unique(shot.view.geom)) == {FLOOR, WALL, BOX, LID, BALL}, "the mark is not drawn"


def test_depth_of_a_plane_and_a_ball(tiny) -> None:
    """Closed forms: the floor is z = 0, and the ball, drawn as polygons, has a radius of 20 cm."""
    scene, data = tiny
    moment = checks.shoot(scene, data, "straight").moment
    points = checks.unproject(moment.depth, moment.camera)
    assert np.abs(points[moment.geom == FLOOR][:, 2]).max() < 1e-4
    radius = np.linalg.norm(points[moment.geom == BALL] - (0.5, 0.5, 0.25), axis=1)
    assert len(radius) > 200 and np.abs(radius - 0.2).max() < 0.012 * 0.2


@pytest.mark.parametrize("near", [0.002, 0.01])
def test_depth_is_precise_from_near_to_far(near) -> None:
    """The buffer holds near / depth as float32: an error of at most depth^2 / near * 2^-24, a wall at 20 m included."""
    with tiny_scene((16, 16), WALL_XML.format(near=near)) as (scene, data):
        for far in (0.05, 0.3, 1, 3, 10, 20, 50):
            place(scene.model, data, "wall", (0, far + 0.5, 0))
            view = scene.view(data, "front")
            assert np.abs(view.depth - far).max() < 1.2 * far**2 / near * 2**-24 + 2**-23 * far
        place(scene.model, data, "wall", (0, -9, 0))
        view = scene.view(data, "front")
        assert not view.depth.any() and (view.geom == -1).all(), "nothing there is 0 and -1"


def test_a_turned_camera_is_a_straight_one(tiny) -> None:
    """The two cameras stand in one place, one of them head down: both give one picture, one pose and one depth."""
    scene, data = tiny
    place(scene.model, data, "rig", (2, 0.1, 1.1), (0.2, 1, 0.5), 0.05)
    straight, hanging = scene.view(data, "straight"), scene.view(data, "hanging")
    assert np.abs(straight.rgb.astype(int) - hanging.rgb).max() <= 2
    assert (straight.geom != hanging.geom).mean() < 0.002  # a tie on an edge may fall either way
    agree = straight.geom == hanging.geom
    assert np.abs(straight.depth - hanging.depth)[agree].max() < 1e-4
    assert np.allclose(straight.camera.pose, hanging.camera.pose)
    assert np.isclose(np.linalg.det(hanging.camera.pose[:3, :3]), 1)
    assert straight.rgb.flags.c_contiguous and hanging.rgb.flags.c_contiguous


def test_colour_alone(tiny) -> None:
    scene, data = tiny
    whole, colour = scene.view(data, "straight"), scene.view(data, "straight", dense=False)
    assert colour.depth is None and colour.geom is None
    assert np.array_equal(whole.rgb, colour.rgb)
    assert whole.rgb.shape == (*SIZE, 3) and whole.rgb.dtype == np.uint8
    assert whole.depth.dtype == np.float32 and whole.geom.dtype == np.int32


def test_what_a_user_may_write_wrongly(tiny) -> None:
    scene, data = tiny
    with pytest.raises(ValueError, match="camera 'strait'.*Did you mean 'straight'.*hanging"):
        scene.view(data, "strait")
    with pytest.raises(ValueError, match="size"):
        Scene(scene.model, 0)
    with pytest.raises(OSError, match=r"pictures of 100000 x 16 cannot be drawn .*; possible: smaller"):
        Scene(mujoco.MjModel.from_xml_string(XML), (100_000, 16))
    closed = Scene(scene.model, 16)
    closed.close()
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        closed.view(data, "straight")


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, beside the modules of this folder."""
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"} | variables
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src")])
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)


def test_an_end_without_complaints() -> None:
    """Two scenes that nobody closes, one of them dropped: the process ends in silence."""
    code = """
import weakref
weakref.finalize(type("Thing", (), {})(), print, end="")  # its hook at exit is there before MuJoCo's
import mujoco, tiny_scene
from polyclock.envs.scene import Scene
model = mujoco.MjModel.from_xml_string(tiny_scene.XML)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
first, second, third = (Scene(model, 16) for _ in range(3))
del second
third.close()
print(first.view(data, "straight").rgb.shape)
"""
    done = python(code)
    assert done.stdout.strip() == "(16, 16, 3)"
    assert done.stderr == "" and done.returncode == 0


def test_a_machine_that_cannot_draw() -> None:
    """One sentence that says what to install, and no second one when the process ends."""
    code = """
import mujoco, tiny_scene
from polyclock.envs.scene import Scene
try:
    Scene(mujoco.MjModel.from_xml_string(tiny_scene.XML), 16)
except OSError as error:
    print(error)
"""
    done = python(code, MUJOCO_GL="egl", MUJOCO_EGL_DEVICE_ID="999")
    assert "cannot draw off screen" in done.stdout and "apt-get install" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert done.stderr == "" and done.returncode == 0


def test_a_renderer_whose_library_is_absent() -> None:
    """MuJoCo cannot even be imported then; a machine that has the library draws."""
    code = """
from polyclock.envs.scene import import_simulator
try:
    print(import_simulator().__name__)
except OSError as error:
    print(error)
"""
    done = python(code, MUJOCO_GL="osmesa")
    assert done.stdout.strip() == "mujoco" or "this machine cannot draw off screen (" in done.stdout
    assert done.stderr == "" and done.returncode == 0
