"""A floor, a wall, a box, a ball and cameras that move as told, and a mark that is no thing: all known exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np

from polyclock.envs.scene import Scene

SIZE = (72, 96)
FLOOR, WALL, BOX, LID, BALL = range(5)  # numbers of the surfaces
XML = """
<mujoco>
  <visual><map znear="0.01" zfar="60"/></visual>
  <statistic extent="2" center="0 0 0"/>
  <asset>
    <texture name="check" type="2d" builtin="checker" rgb1=".3 .4 .3" rgb2=".6 .7 .5" width="256" height="256"/>
    <material name="floor" texture="check" texrepeat="5 5" texuniform="true" reflectance="0.4"/>
    <texture name="dots" type="cube" builtin="gradient" rgb1=".9 .2 .1" rgb2=".1 .3 .9" width="128" height="128"
             mark="random" markrgb="1 1 1" random="0.02"/>
    <material name="dots" texture="dots"/>
  </asset>
  <worldbody>
    <light pos="1 -1 4" dir="-.2 .2 -1" ambient=".3 .3 .3"/>
    <geom name="floor" type="plane" size="4 4 .1" material="floor"/>
    <geom name="wall" type="box" pos="-1.5 0 1" size=".05 2 1" rgba=".7 .7 .8 1"/>
    <body name="box" mocap="true" pos="0 0 .3">
      <geom name="box" type="box" size=".15 .25 .2" material="dots"/>
      <geom name="lid" type="box" size=".16 .26 .02" pos="0 0 .22" rgba=".9 .8 .2 .5"/>
    </body>
    <body name="ball" mocap="true" pos=".5 .5 .25"><geom name="ball" type="sphere" size=".2" material="dots"/></body>
    <site name="mark" type="sphere" size=".08" pos="0 -.6 .4" rgba="1 0 1 1"/>
    <body name="rig" mocap="true" pos="2 0 1">
      <camera name="straight" xyaxes="0 1 0 -.4 0 1" fovy="45"/>
      <camera name="hanging" xyaxes="0 -1 0 .4 0 -1" fovy="45"/>
    </body>
  </worldbody>
</mujoco>
"""


def place(
    model: Any, data: Any, body: str, position: tuple[float, ...], axis=(0.0, 0.0, 1.0), angle: float = 0
) -> None:
    """Put a movable body somewhere: m, and `angle` rad about `axis`."""
    number = model.body(body).mocapid[0]
    data.mocap_pos[number] = position
    mujoco.mju_axisAngle2Quat(data.mocap_quat[number], np.array(axis) / np.linalg.norm(axis), angle)
    mujoco.mj_forward(model, data)


@contextmanager
def tiny_scene(size: tuple[int, int] = SIZE, xml: str = XML) -> Iterator[tuple[Scene, Any]]:
    """The scene and its state, closed at the end."""
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    scene = Scene(model, size, turned=("hanging",))
    try:
        yield scene, data
    finally:
        scene.close()
