"""Movements: feet that stand do not slide, limbs keep their lengths, and each does what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from polyclock.envs.figure import LINKS, SIDES, Body, Build, sign
from polyclock.envs.motions import GRAVITY, MOTIONS, Movement, move
from polyclock.envs.posing import hand_middle, keys, lowest, quaternions, turn, two_bones

STEP = 0.01
TIME = np.arange(0, 2.4 + STEP / 2, STEP)
SEEDS = range(5)


def someone(seed: int) -> Body:
    rng = np.random.default_rng(seed)
    return Body(Build(height=rng.uniform(1.5, 1.95), girth=rng.uniform(0.85, 1.25), shoulders=rng.uniform(0.9, 1.1)))


def thing(name: str, seed: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(seed)
    return (rng.uniform(0.11, 0.15), rng.uniform(0.13, 0.19), rng.uniform(0.1, 0.16)) if name == "lift" else (0.09,) * 3


def done(name: str, seed: int, time: np.ndarray = TIME, reach: float = 2.0) -> tuple[Body, Movement]:
    body = someone(seed)
    return body, move(name, body, time, np.random.default_rng(seed), reach, thing(name, seed))


def soles(body: Body, movement: Movement) -> dict[str, np.ndarray]:
    return {side: lowest(body, *movement.posed.of(f"{side}_foot")) for side in SIDES}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MOTIONS)
def test_feet_are_on_the_floor_as_planned(name: str, seed: int) -> None:
    body, movement = done(name, seed)
    low = soles(body, movement)
    for side in SIDES:
        assert np.abs(low[side] - movement.lift[side]).max() < 1e-6
    either = np.minimum(low["left"], low["right"])
    assert either.min() > -1e-6
    if name != "jump":
        assert either.max() < 1e-6, "one foot always stands"


@pytest.mark.parametrize("name", MOTIONS)
def test_standing_feet_do_not_slide(name: str) -> None:
    for seed in SEEDS:
        body, movement = done(name, seed)
        for side in SIDES:
            ankle, way = movement.posed.of(f"{side}_foot")
            flat = (movement.lift[side] == 0) & (way[:, 2, 2] > 1 - 1e-9)
            still = flat[1:] & flat[:-1]
            assert still.any()
            assert np.abs(np.diff(ankle, axis=0))[still].max() < 1e-4


@pytest.mark.parametrize("name", MOTIONS)
def test_limbs_keep_their_lengths_and_frames(name: str) -> None:
    body, movement = done(name, 3)
    place, way = movement.posed.position, movement.posed.rotation
    assert np.abs(way @ np.swapaxes(way, -1, -2) - np.eye(3)).max() < 1e-9
    assert np.linalg.det(way).min() > 0.999
    for side in SIDES:
        chains = (
            ("upper_arm", "forearm", body.upper_arm),
            ("forearm", "hand", body.forearm),
            ("thigh", "shin", body.thigh),
            ("shin", "foot", body.shin),
        )
        for upper, lower, length in chains:
            first, second = (LINKS.index(f"{side}_{link}") for link in (upper, lower))
            down = place[:, first] - length * way[:, first, :, 2]
            assert np.abs(down - place[:, second]).max() < 1e-6, (side, upper)


@pytest.mark.parametrize("name", MOTIONS)
def test_nothing_jerks(name: str) -> None:
    for seed in SEEDS:
        _, movement = done(name, seed)
        speed = np.linalg.norm(np.diff(movement.posed.position, axis=0), axis=-1) / STEP
        assert speed.max() < 13, (seed, LINKS[int(speed.max(0).argmax())])


@pytest.mark.parametrize("name", MOTIONS)
def test_the_same_dice_give_the_same_movement(name: str) -> None:
    first, second, other = (done(name, seed)[1].posed.position for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_walking_goes_ahead_with_arms_against_legs(seed: int) -> None:
    body, movement = done("walk", seed)
    pelvis, way = movement.posed.of("pelvis")
    assert 1.2 < np.linalg.norm(pelvis[-1] - pelvis[0]) < 4.1
    front = way[:, :2, 0]
    for side in SIDES:
        hand, ankle = movement.posed.of(f"{side}_hand")[0], movement.posed.of(f"{side}_foot")[0]
        ahead = [((p - pelvis)[:, :2] * front).sum(1) for p in (hand, ankle)]
        assert np.corrcoef(*ahead)[0, 1] < -0.5
    gap = soles(body, movement)
    assert gap["left"].max() > 0.03 and gap["right"].max() > 0.03


def test_a_walker_who_must_stay_near_goes_round() -> None:
    time = np.arange(0, 8, 0.02)
    _, movement = done("walk", 0, time, reach=1.0)
    path = movement.posed.of("pelvis")[0][:, :2]
    assert np.linalg.norm(path, axis=1).max() < 1.4
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() > 4


@pytest.mark.parametrize("seed", SEEDS)
def test_waving_raises_a_forearm_and_swings_it(seed: int) -> None:
    body, movement = done("wave", seed)
    side = movement.style
    late = TIME > 1
    hand = hand_middle(body, movement.posed, side)[late]
    elbow = movement.posed.of(f"{side}_forearm")[0][late]
    assert ((hand - elbow)[:, 2] > 0.6 * body.forearm).all()
    swing = hand[:, 1] - elbow[:, 1]
    assert np.ptp(swing) > 0.15
    assert (np.diff(np.sign(swing - swing.mean())) != 0).sum() >= 3
    other = hand_middle(body, movement.posed, "left" if side == "right" else "right")
    assert (other[:, 2] < 0.62 * body.build.height).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_squatting_bends_the_knees_and_comes_up(seed: int) -> None:
    body, movement = done("squat", seed)
    height = movement.posed.of("pelvis")[0][:, 2]
    assert np.ptp(height) > 0.35 * body.leg and height.max() > 0.9 * body.standing
    assert bent(body, movement, "left").max() > 80


def bent(body: Body, movement: Movement, side: str) -> np.ndarray:
    """Degrees by which a knee is bent."""
    thigh, shin = (movement.posed.of(f"{side}_{link}")[1][:, :, 2] for link in ("thigh", "shin"))
    return np.rad2deg(np.arccos(np.clip((thigh * shin).sum(1), -1, 1)))


@pytest.mark.parametrize("seed", SEEDS)
def test_jumping_leaves_the_ground_and_falls_freely(seed: int) -> None:
    body, movement = done("jump", seed)
    low = np.minimum(*soles(body, movement).values())
    assert 0.15 < low.max() < 0.4
    flying = low > 1e-3
    fall = np.diff(movement.posed.of("pelvis")[0][:, 2], n=2) / STEP**2
    inside = flying[:-2] & flying[1:-1] & flying[2:]
    assert inside.sum() > 25
    assert np.abs(fall[inside] + GRAVITY).max() < 0.01


@pytest.mark.parametrize("seed", range(8))
def test_throwing_lets_a_ball_go_with_speed(seed: int) -> None:
    _, movement = done("throw", seed)
    held = movement.held
    last = int(np.flatnonzero(held.holding)[-1])
    assert held.holding[: last + 1].all() and 0.25 < TIME[last] / TIME[-1] < 0.75
    speed = (held.place[last] - held.place[last - 1]) / STEP
    assert speed[0] > 2.5 and speed[0] > 2 * abs(speed[1]) and speed[2] > -0.5
    assert movement.style in ("overarm", "underarm")
    assert held.place[last, 2] > (1.0 if movement.style == "overarm" else 0.5) * 0.95


@pytest.mark.parametrize("seed", range(8))
def test_lifting_takes_the_box_by_its_sides_and_brings_it_up(seed: int) -> None:
    body, movement = done("lift", seed)
    held, (length, width, tall) = movement.held, thing("lift", seed)
    first = int(held.holding.argmax())
    assert held.holding[first:].all() and not held.holding[:first].any()
    assert held.place[0, 2] == pytest.approx(tall) and held.place[first, 2] == pytest.approx(tall, abs=0.002)
    assert held.place[-1, 2] > 0.45 * body.build.height
    for side in SIDES:
        hand = hand_middle(body, movement.posed, side)[first:] - held.place[first:]
        assert np.abs(sign(side) * hand[:, 1] - width - body.hand_thickness).max() < 0.01
        assert np.abs(hand[:, 0]).max() < length and np.abs(hand[:, 2]).max() < tall
    assert bent(body, movement, "left")[first] > 50
    assert bent(body, movement, "left")[-1] < 35


def test_unknown_and_too_short_are_said() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown movement 'wawe'. Did you mean 'wave'"):
        move("wawe", someone(0), TIME, rng)
    with pytest.raises(ValueError, match="0.5 s are too short for a movement; possible: 1.5 s or more"):
        move("wave", someone(0), np.arange(0, 0.51, 0.1), rng)


def test_keys_pass_through_without_overshoot() -> None:
    at, values = (0.0, 1.0, 1.5, 3.0), (0.0, 2.0, 2.5, -1.0)
    assert np.allclose(keys(np.array(at), at, values), values)
    fine = keys(np.linspace(-1, 4, 501), at, values)
    assert fine.min() >= -1 and fine.max() <= 2.5
    assert fine[0] == 0 and fine[-1] == -1


def test_quaternions_say_the_same_as_rotations() -> None:
    angles = np.random.default_rng(0).uniform(-180, 180, (200, 3))
    way = turn(2, angles[:, 0]) @ turn(1, angles[:, 1]) @ turn(0, angles[:, 2])
    w, v = quaternions(way)[:, :1], quaternions(way)[:, 1:]
    point = np.array([[0.3, -0.7, 0.2]])
    turned = point + 2 * np.cross(v, np.cross(v, point) + w * point)
    assert np.allclose(turned, way @ point[0], atol=1e-9)


def test_two_bones_reach_what_is_in_reach() -> None:
    rng = np.random.default_rng(1)
    root, pole = np.zeros((50, 3)), np.tile([1.0, 0, 0], (50, 1))
    way = rng.normal(size=(50, 3))
    target = way / np.linalg.norm(way, axis=1, keepdims=True) * rng.uniform(0.2, 0.75, (50, 1))
    upper, joint, lower, end = two_bones(root, target, (0.42, 0.4), pole, 1)
    assert np.abs(end - target).max() < 1e-9
    assert np.allclose(np.linalg.norm(joint, axis=1), 0.42) and np.allclose(np.linalg.norm(end - joint, axis=1), 0.4)
    assert np.allclose(joint - 0.4 * lower[..., 2], end) and np.allclose(-0.42 * upper[..., 2], joint)
    far = two_bones(root, 3 * target / np.linalg.norm(target, axis=1, keepdims=True), (0.42, 0.4), pole, 1)[-1]
    assert (np.linalg.norm(far, axis=1) < 0.82).all()
