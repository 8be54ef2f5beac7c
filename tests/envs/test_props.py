"""Balls and boxes: held as planned, free by physics, and told of as far as they were seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from polyclock.envs.cast import clear
from polyclock.envs.motions import GRAVITY
from polyclock.envs.people import Clip, PeopleSource
from polyclock.envs.props import Prop, happened

SMALL = PeopleSource(clips=6, frames=16, fps=10, size=48)


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


def test_a_thrown_ball_goes_through_the_hand_and_then_meets_its_thrower() -> None:
    """It does not push the hand that holds it; long after, put where the chest is, it touches the thrower."""
    clip = Clip(replace(SMALL, motions=("throw",), pairs=0.0, frames=31), 0)
    held = clip.actors[0].held.holding[:: clip.steps]
    assert held[0] and not held[-5:].any()
    for holds, (data, _) in zip(held, clip.states(), strict=True):
        if holds:
            assert not touches_its_thrower(clip.model, data)
    data.qpos[:3] = data.body("person1.chest").xpos
    assert touches_its_thrower(clip.model, data)


def touches_its_thrower(model: Any, data: Any) -> bool:
    mujoco.mj_kinematics(model, data)
    mujoco.mj_collision(model, data)
    pairs = [{model.geom(int(g)).name.split(".")[0] for g in pair} for pair in data.contact.geom]
    return {"thing0", "person1"} in pairs


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


def test_no_more_is_told_than_was_seen() -> None:
    """A box that falls and lies, one that lies, a ball that rolls, one that bounces: 100 times, 10 ms apart."""
    box = Prop(kind="box", colour="red", size=(0.1, 0.1, 0.1))
    ball = replace(box, kind="ball")
    ramp, level = np.linspace(0, 1, 100), np.full(100, 0.1)
    falls, lies, rolls, bounces = (
        np.stack(np.broadcast_arrays(x, 0.0, z), -1)
        for x, z in (
            (0, np.maximum(1 - 2 * ramp, 0.1)),
            (0, level),
            (ramp, level),
            (ramp, 0.1 + np.abs(1 - 2 * ramp)),
        )
    )
    early, late = ramp < 0.02, ramp > 0.6
    for thing, path, seen, told in (
        (box, falls, ramp < 2, "falls"),
        (box, falls, early | late, "falls"),  # seen above and below
        (box, falls, late, ""),
        (box, falls, early, ""),
        (box, lies, early, "lies"),
        (box, lies, ramp > 2, ""),
        (ball, rolls, late, "rolls"),
        (ball, rolls, early, ""),
        (ball, bounces, ramp < 2, "bounces"),
        (ball, bounces, late, ""),
        (ball, bounces, early, ""),
    ):
        assert happened(thing, path, 0.01, np.zeros(100, bool), seen) == told
