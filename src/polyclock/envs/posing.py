"""From a plan of a movement (where the pelvis, feet and hands go, and the angles between) to the poses of all links.

Legs are solved from the pelvis and the feet, so a foot that is planned to stand stands. Times T come first in every
array; lengths are in m, angles in degrees. A person's own frame: x to the front, y to the left, z up from the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .figure import ARM, LINKS, SIDES, Body, sign

STRETCH = 0.9995  # of a limb's length at most: a straight limb has no plane to bend in
ROUNDS = 4  # a hand's direction depends on the forearm's, which depends on the hand's


@dataclass(frozen=True, eq=False)
class Posed:
    """Every link at every time: position (T, L, 3) m and rotation (T, L, 3, 3), in the order of `figure.LINKS`."""

    position: np.ndarray
    rotation: np.ndarray

    def of(self, link: str) -> tuple[np.ndarray, np.ndarray]:
        """Position (T, 3) and rotation (T, 3, 3) of one link."""
        return self.position[:, LINKS.index(link)], self.rotation[:, LINKS.index(link)]

    def placed(self, x: float, y: float, yaw: float) -> Posed:
        """The same movement by someone who stands at x, y and faces `yaw` degrees from the x axis."""
        around = turn(2, np.array(yaw))
        return Posed(self.position @ around.T + (x, y, 0), around @ self.rotation)


@dataclass(eq=False)
class Foot:
    """A foot: ground (T, 2) below the ankle when flat, yaw, pitch (toes down), lift of its lowest point (T,)."""

    ground: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    lift: np.ndarray


@dataclass(eq=False)
class Plan:
    """What a movement prescribes.

    pelvis (T, 3)            the middle of the hips
    trunk, waist, head       (T, 3) yaw, pitch (forward), roll: of the pelvis, of chest in pelvis, head in chest
    feet  {side: Foot}
    arms  {side: (T, 4)}     forward, outward, twist, bend of the elbow
    palms {side: (T, 3)}     where the middle of a hand goes; it replaces the arm's angles
    """

    pelvis: np.ndarray
    trunk: np.ndarray
    waist: np.ndarray
    head: np.ndarray
    feet: dict[str, Foot]
    arms: dict[str, np.ndarray]
    palms: dict[str, np.ndarray]


def standing(body: Body, count: int, apart: float = 0.055, outward: float = 8.0) -> Plan:
    """`count` times the same: upright, arms hanging, feet `apart` (half the distance, share of the height)."""
    zeros = np.zeros(count)
    feet = {
        side: Foot(
            np.tile([0.0, sign(side) * body.share(apart)], (count, 1)),
            *(np.full(count, sign(side) * outward), zeros.copy(), zeros.copy()),
        )
        for side in SIDES
    }
    pelvis = np.tile([0.0, 0, 0.985 * body.leg + body.ankle], (count, 1))
    angles = [np.zeros((count, 3)) for _ in range(3)]
    return Plan(pelvis, *angles, feet, {side: np.tile([4.0, 7, 0, 12], (count, 1)) for side in SIDES}, {})


def turn(axis: int, degrees: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) about axis 0, 1 or 2 by angles (...)."""
    angle = np.deg2rad(degrees)
    out = np.zeros((*angle.shape, 3, 3))
    out[..., axis, axis] = 1
    second, third = (axis + 1) % 3, (axis + 2) % 3
    out[..., second, second] = out[..., third, third] = np.cos(angle)
    out[..., third, second] = np.sin(angle)
    out[..., second, third] = -out[..., third, second]
    return out


def heading(angles: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll (T, 3) -> rotations (T, 3, 3)."""
    return turn(2, angles[:, 0]) @ turn(1, angles[:, 1]) @ turn(0, angles[:, 2])


def quaternions(rotation: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) -> unit quaternions (..., 4), the real part first."""
    flat = rotation.reshape(-1, 3, 3)
    xx, yy, zz = flat[:, 0, 0], flat[:, 1, 1], flat[:, 2, 2]
    # Four ways to write the same quaternion, each times four times one of its parts; the largest part divides best.
    ways = np.empty((len(flat), 4, 4))
    a, b, c = flat[:, 2, 1], flat[:, 0, 2], flat[:, 1, 0]
    d, e, f = flat[:, 1, 2], flat[:, 2, 0], flat[:, 0, 1]
    ways[:, 0] = np.stack([1 + xx + yy + zz, a - d, b - e, c - f], -1)
    ways[:, 1] = np.stack([a - d, 1 + xx - yy - zz, c + f, b + e], -1)
    ways[:, 2] = np.stack([b - e, c + f, 1 - xx + yy - zz, a + d], -1)
    ways[:, 3] = np.stack([c - f, b + e, a + d, 1 - xx - yy + zz], -1)
    best = np.diagonal(ways, axis1=1, axis2=2).argmax(1)
    found = ways[np.arange(len(flat)), best]
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).reshape(*rotation.shape[:-2], 4)


def keys(time: np.ndarray, at: tuple[float, ...], values: object) -> np.ndarray:
    """Values (n,) or (n, k) at rising moments `at` (n,), joined at a smooth speed without overshoot: (T,) or (T, k)."""
    knots, table = np.asarray(at, float), np.asarray(values, float)
    flat = table.reshape(len(knots), -1)
    width = np.diff(knots)[:, None]
    slope = np.diff(flat, axis=0) / width
    speed = np.zeros_like(flat)
    product = slope[1:] * slope[:-1]
    total = slope[1:] + slope[:-1]
    speed[1:-1] = np.where(product > 0, 2 * product / np.where(product > 0, total, 1), 0)
    clipped = np.clip(time, knots[0], knots[-1])
    left = np.clip(np.searchsorted(knots, clipped, side="right") - 1, 0, len(knots) - 2)
    s = ((clipped - knots[left]) / width[left, 0])[:, None]
    start = flat[left] * (1 + 2 * s) * (1 - s) ** 2 + speed[left] * width[left] * s * (1 - s) ** 2
    end = flat[left + 1] * s**2 * (3 - 2 * s) - speed[left + 1] * width[left] * s**2 * (1 - s)
    return (start + end).reshape(len(time), *table.shape[1:])


def two_bones(
    root: np.ndarray, target: np.ndarray, lengths: tuple[float, float], pole: np.ndarray, bend: int
) -> tuple[np.ndarray, ...]:
    """Upper rotation, joint, lower rotation and end of a limb from `root` to `target` (T, 3), its joint toward `pole`.

    `bend` +1: the joint goes to the links' front (a knee); -1: to their back (an elbow). A target out of reach is
    approached as far as the limb goes.
    """
    first, second = lengths
    offset = target - root
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    along = offset / np.maximum(distance, 1e-9)
    reached = np.clip(distance, abs(first - second) + 1e-3, STRETCH * (first + second))
    aside = pole - (pole * along).sum(-1, keepdims=True) * along
    aside /= np.linalg.norm(aside, axis=-1, keepdims=True)
    cosine = (first**2 + reached**2 - second**2) / (2 * first * reached)
    joint = root + first * (cosine * along + np.sqrt(np.maximum(1 - cosine**2, 0)) * aside)
    end = root + reached * along
    left = bend * np.cross(aside, along)
    return _frame((root - joint) / first, left), joint, _frame((joint - end) / second, left), end


def pose(body: Body, plan: Plan) -> Posed:
    """The poses of all links."""
    count = len(plan.pelvis)
    position, rotation = np.zeros((count, len(LINKS), 3)), np.zeros((count, len(LINKS), 3, 3))

    def put(link: str, place: np.ndarray, way: np.ndarray) -> None:
        position[:, LINKS.index(link)], rotation[:, LINKS.index(link)] = place, way

    pelvis = heading(plan.trunk)
    chest = pelvis @ heading(plan.waist)
    breast = plan.pelvis + pelvis @ body.waist
    head = chest @ heading(plan.head)
    put("pelvis", plan.pelvis, pelvis)
    put("chest", breast, chest)
    put("head", breast + chest @ body.neck, head)
    for side in SIDES:
        shoulder = breast + chest @ body.shoulder(side)
        arm = _reach if side in plan.palms else _swing
        for link, place, way in zip(ARM, *arm(body, plan, side, shoulder, chest), strict=True):
            put(f"{side}_{link}", place, way)
        hip = plan.pelvis + pelvis @ np.array([0, sign(side) * body.hip, 0])
        ankle, foot = stand(body, plan.feet[side])
        knee_to = 0.5 * (pelvis[..., 0] + turn(2, plan.feet[side].yaw)[..., 0])
        thigh, knee, shin, end = two_bones(hip, ankle, (body.thigh, body.shin), knee_to, 1)
        put(f"{side}_thigh", hip, thigh)
        put(f"{side}_shin", knee, shin)
        put(f"{side}_foot", end, foot)
    return Posed(position, rotation)


def stand(body: Body, foot: Foot) -> tuple[np.ndarray, np.ndarray]:
    """Ankle (T, 3) and rotation (T, 3, 3) of a foot that rolls over its toes or its heel as it pitches."""
    way = turn(2, foot.yaw) @ turn(1, foot.pitch)
    centre, size = body.sole
    pivot = np.zeros((len(foot.pitch), 3))
    pivot[:, 0] = np.where(foot.pitch > 0, centre[0] + 0.7 * size[0], centre[0] - 0.7 * size[0])
    pivot[:, 2] = -body.ankle
    back = np.einsum("tij,tj->ti", way, pivot)
    flat = np.einsum("tij,tj->ti", turn(2, foot.yaw), pivot)
    ankle = np.concatenate([foot.ground, np.full((len(pivot), 1), body.ankle)], 1) + flat - back
    ankle[:, 2] += foot.lift - lowest(body, ankle, way)
    return ankle, way


def lowest(body: Body, ankle: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Height (T,) of the lowest point of a foot at `ankle` (T, 3) turned by `way` (T, 3, 3)."""
    centre, size = body.sole
    return ankle[:, 2] + way[:, 2] @ centre - np.linalg.norm(way[:, 2] * size, axis=-1)


def hand_middle(body: Body, posed: Posed, side: str) -> np.ndarray:
    """Where the middle of a hand is, (T, 3)."""
    wrist, way = posed.of(f"{side}_hand")
    return wrist - body.palm * way[..., 2]


Limb = tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]


def _swing(body: Body, plan: Plan, side: str, shoulder: np.ndarray, chest: np.ndarray) -> Limb:
    forward, outward, twist, bend = plan.arms[side].T
    mirror = sign(side)
    upper = chest @ turn(1, -forward) @ turn(0, mirror * outward) @ turn(2, mirror * twist)
    lower = upper @ turn(1, -bend)
    elbow = shoulder - body.upper_arm * upper[..., 2]
    return (shoulder, elbow, elbow - body.forearm * lower[..., 2]), (upper, lower, lower)


def _reach(body: Body, plan: Plan, side: str, shoulder: np.ndarray, chest: np.ndarray) -> Limb:
    mirror = sign(side)
    pole = chest @ np.array([-0.6, 0.7 * mirror, -0.4])
    wrist = palms = plan.palms[side]
    for _ in range(ROUNDS):
        upper, elbow, lower, end = two_bones(shoulder, wrist, (body.upper_arm, body.forearm), pole, -1)
        wrist = palms + body.palm * lower[..., 2]
    return (shoulder, elbow, end), (upper, lower, _frame(lower[..., 2], chest[..., 1]))


def _frame(up: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) whose z axis is `up` (T, 3) and whose y axis is `left` as nearly as that allows."""
    front = np.cross(left, up)
    front /= np.linalg.norm(front, axis=-1, keepdims=True)
    return np.stack([front, np.cross(up, front), up], -1)
