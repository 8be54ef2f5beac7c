"""What people do: walk, wave, squat, jump, throw a ball, lift a box, stand. Each is a plan of pelvis, feet and hands.

A movement is a function of (body, time, dice) in the person's own frame, see `posing`. Feet that stand do not slide,
and a person in the air follows gravity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import unknown
from .figure import SIDES, Body, sign
from .posing import Foot, Plan, Posed, hand_middle, keys, pose, stand, standing, turn

GRAVITY = 9.81  # m/s^2
SHORTEST = 1.5  # s; in less no movement can be told from another


@dataclass(frozen=True, eq=False)
class Held:
    """A thing in the hands: place (T, 3) m of its middle, rotation (T, 3, 3), and whether it is held (T,)."""

    place: np.ndarray
    rotation: np.ndarray
    holding: np.ndarray


@dataclass(frozen=True, eq=False)
class Movement:
    """A movement's poses, the feet's planned lift {side: (T,)} m, and what is held, if anything.

    style names a variety, such as "overarm"; "" where there is one only.
    """

    posed: Posed
    lift: dict[str, np.ndarray]
    held: Held | None = None
    style: str = ""


def move(
    name: str,
    body: Body,
    time: np.ndarray,
    rng: np.random.Generator,
    reach: float = 1e9,
    thing: tuple[float, float, float] = (0.1, 0.1, 0.1),
) -> Movement:
    """The movement `name` at times (T,) s from 0.

    reach  m that a walker may stray from the middle of the walk
    thing  half sizes in m of the box that is lifted; thing[0] is the radius of a ball

    Errors: ValueError for an unknown movement, or a time too short for any.
    """
    if name not in MOTIONS:
        raise unknown("movement", name, MOTIONS)
    if time[-1] < SHORTEST - 1e-6:
        raise ValueError(f"{time[-1]:.3g} s are too short for a movement; possible: {SHORTEST} s or more")
    return MOTIONS[name](body, time, rng, reach, thing)


def _done(body: Body, plan: Plan, held: Held | None = None, style: str = "") -> Movement:
    return Movement(pose(body, plan), {side: plan.feet[side].lift for side in SIDES}, held, style)


def _breathe(plan: Plan, time: np.ndarray, rng: np.random.Generator) -> None:
    """Nobody stands like a post: a slow sway of trunk, head and arms."""
    phase = rng.uniform(0, 2 * np.pi, 3)
    slow = np.sin(2 * np.pi * 0.35 * time[:, None] + phase)
    plan.waist += slow * (2, 1.0, 1.5)
    plan.head += slow[:, ::-1] * (7, 3, 2) + (rng.uniform(-12, 12), 0, 0)
    plan.pelvis[:, 1] += 0.012 * slow[:, 0]
    for side in SIDES:
        plan.arms[side] = plan.arms[side] + slow[:, :1] * (3, 1.5, 0, 3)


def still(body: Body, time: np.ndarray, rng: np.random.Generator, reach: float, thing: object) -> Movement:
    """Stands, hands at the sides or on the hips."""
    plan = standing(body, len(time), apart=rng.uniform(0.05, 0.08))
    style = str(rng.choice(["hanging", "hips"]))
    if style == "hips":
        for side in SIDES:
            plan.arms[side] = np.tile([-28.0, 48, -62, 97], (len(time), 1))
    _breathe(plan, time, rng)
    return _done(body, plan, style=style)


def wave(body: Body, time: np.ndarray, rng: np.random.Generator, reach: float, thing: object) -> Movement:
    """Waves with a raised forearm."""
    plan = standing(body, len(time), apart=rng.uniform(0.05, 0.075))
    _breathe(plan, time, rng)
    side = str(rng.choice(SIDES))
    start = rng.uniform(-0.3, 0.25)
    up = keys(time, (start, start + 0.45), (0.0, 1.0))[:, None]
    rate, size = rng.uniform(1.5, 2.2), rng.uniform(28, 40)
    beat = np.sin(2 * np.pi * rate * (time - start - 0.3)) * keys(time, (start + 0.2, start + 0.6), (0.0, 1.0))
    upper = rng.uniform(75, 115)
    raised = np.stack([np.full_like(time, 8), upper + 4 * beat, np.full_like(time, 88), 185 - upper + size * beat], -1)
    plan.arms[side] = plan.arms[side] * (1 - up) + raised * up
    return _done(body, plan, style=side)


def squat(body: Body, time: np.ndarray, rng: np.random.Generator, reach: float, thing: object) -> Movement:
    """Goes down and up again, heels on the floor, arms to the front."""
    plan = standing(body, len(time), apart=rng.uniform(0.075, 0.1), outward=18)
    period, depth = rng.uniform(1.5, 2.1), rng.uniform(0.42, 0.52)
    down = (1 - np.cos(2 * np.pi * (time / period + rng.uniform(0, 0.3)))) / 2
    plan.pelvis[:, 2] -= depth * body.leg * down
    plan.pelvis[:, 0] -= 0.09 * body.build.height * down
    plan.trunk[:, 1] = 34 * down
    plan.waist[:, 1] = 8 * down
    plan.head[:, 1] = -26 * down
    for side in SIDES:
        plan.arms[side] = plan.arms[side] + down[:, None] * (92 - 4, 3, 0, 2)
    return _done(body, plan)


def walk(body: Body, time: np.ndarray, rng: np.random.Generator, reach: float, thing: object) -> Movement:
    """Walks on a line or a curve whose middle is the origin, heading along x in the middle of the time."""
    seconds = time[-1]
    speed = float(np.clip(rng.uniform(1.0, 1.35), 0.6, max(0.6, 2 * reach / seconds)))
    bend = rng.uniform(-0.12, 0.12)
    if speed * seconds > 2 * reach:  # too far for a line: round and round
        bend = float(rng.choice([-1, 1])) / max(reach, 0.8)
    stride = 2 * speed / (1.15 + 0.55 * speed)  # of two steps
    start = -speed * seconds / 2

    def path(s: np.ndarray) -> np.ndarray:
        """x, y, yaw in degrees (n, 3) at distances s (n,)."""
        return np.stack([np.sin(bend * s) / bend, (1 - np.cos(bend * s)) / bend, np.rad2deg(bend * s)], -1)

    middle = path(start + speed * time)[:, :2].mean(0)
    plan = standing(body, len(time))
    phase = speed * time / stride + rng.uniform(0, 1)
    for side, offset in (("left", 0.0), ("right", 0.5)):
        plan.feet[side] = _stepping(body, side, phase + offset, start - stride * (phase[0] + offset), stride, path)
        plan.feet[side].ground -= middle
    route = path(start + speed * time)
    route[:, :2] -= middle
    beat = np.cos(2 * np.pi * phase)  # the left foot is foremost at 1
    plan.pelvis[:, :2] = route[:, :2]
    plan.trunk[:, 0] = route[:, 2] - 4 * beat
    plan.trunk[:, 1] = 3
    plan.waist[:, 0] = 9 * beat
    height = _hip_room(body, plan)
    plan.pelvis[:, 2] = np.minimum(height.min() + 0.008 * (1 - np.cos(4 * np.pi * phase)), height)
    swing = rng.uniform(24, 32) * (0.5 + 0.45 * speed)
    for side, way in (("left", -beat), ("right", beat)):
        plan.arms[side] = np.stack([swing * way, np.full_like(way, 7), np.zeros_like(way), 24 + 12 * way], -1)
    return _done(body, plan)


def _stepping(
    body: Body, side: str, phase: np.ndarray, origin: float, stride: float, path: Callable[[np.ndarray], np.ndarray]
) -> Foot:
    """A walking foot: cycle k begins with the heel's touch at phase k; from .62 on it swings to its next place."""
    cycle, share = np.floor(phase), phase % 1
    places = [path(origin + stride * (cycle + later + 0.31)) for later in (0, 1)]
    for place in places:
        angle = np.deg2rad(place[:, 2])
        place[:, :2] += sign(side) * body.share(0.04) * np.stack([-np.sin(angle), np.cos(angle)], -1)
    through = np.clip((share - 0.62) / 0.38, 0, 1)
    eased = (through**2 * (3 - 2 * through))[:, None]
    now = places[0] * (1 - eased) + places[1] * eased
    pitch = keys(share, (0, 0.1, 0.38, 0.62, 0.72, 0.93, 1), (-18.0, 0, 0, 34, 40, -18, -18))
    lift = body.share(0.035) * np.sin(np.pi * through) ** 2
    return Foot(now[:, :2], now[:, 2] + 5 * sign(side), pitch, lift)


def _hip_room(body: Body, plan: Plan) -> np.ndarray:
    """(T,) the greatest height of the pelvis at which both legs reach their feet."""
    room = []
    for side in SIDES:
        ankle, _ = stand(body, plan.feet[side])
        aside = turn(2, plan.trunk[:, 0]) @ np.array([0, sign(side) * body.hip, 0])
        away = np.linalg.norm((plan.pelvis + aside - ankle)[:, :2], axis=-1)
        room.append(ankle[:, 2] + np.sqrt(np.maximum((0.985 * body.leg) ** 2 - away**2, 0)))
    return np.minimum(*room)


def jump(body: Body, time: np.ndarray, rng: np.random.Generator, reach: float, thing: object) -> Movement:
    """Jumps on the spot again and again, arms swinging up."""
    plan = standing(body, len(time), apart=rng.uniform(0.05, 0.07))
    rise = rng.uniform(0.2, 0.32)
    speed = np.sqrt(2 * GRAVITY * rise)
    air = 2 * speed / GRAVITY
    crouch = rng.uniform(0.2, 0.28) * body.leg
    toes = body.share(0.05)  # by which standing on tiptoe lifts
    down, off, land, up = 0.38, 0.58, 0.58 + air, 0.8 + air
    period = up + rng.uniform(0.2, 0.3)
    t = (time + rng.uniform(0, 0.25)) % period
    flight = np.clip(t - off, 0, air)
    above = speed * flight - GRAVITY * flight**2 / 2
    push = _hermite(np.clip((t - down) / (off - down), 0, 1), -crouch, 0, toes, speed * (off - down))
    soft = up - land
    sink = _hermite(np.clip((t - land) / soft, 0, 1), toes, -speed * soft, -0.75 * crouch, 0)
    height = np.select(
        [t < down, t < off, t < land, t < up],
        [keys(t, (0, down), (0.0, -crouch)), push, toes + above, sink],
        keys(t, (up, period), (-0.75 * crouch, 0.0)),
    )
    plan.pelvis[:, 2] = body.ankle + 0.955 * body.leg + height
    bent = np.clip(-height / crouch, 0, 1)
    plan.trunk[:, 1], plan.waist[:, 1], plan.head[:, 1] = 28 * bent, 8 * bent, -22 * bent
    plan.pelvis[:, 0] = -0.05 * body.build.height * bent
    pitch = keys(t, (0, down + 0.08, off, off + 0.5 * air, land, land + 0.1), (0.0, 0, 34, 26, 30, 0))
    for side in SIDES:
        plan.feet[side].lift = above
        plan.feet[side].pitch = pitch
        forward = keys(t, (0, 0.8 * down, off, off + 0.7 * air, up, period), (4.0, -45, 90, 145, 10, 4))
        bend = keys(t, (0, down, off, up, period), (12.0, 25, 15, 40, 12))
        plan.arms[side] = np.stack([forward, np.full_like(t, 9), np.zeros_like(t), bend], -1)
    return _done(body, plan)


def _hermite(s: np.ndarray, start: float, speed: float, end: float, last: float) -> np.ndarray:
    """The cubic from `start` to `end` over s in 0 to 1 with these slopes at its ends."""
    return (
        start * (1 + 2 * s) * (1 - s) ** 2 + speed * s * (1 - s) ** 2 + end * s**2 * (3 - 2 * s) - last * s**2 * (1 - s)
    )


# Moments in s around the release. Overarm: the hand from its shoulder, in arm's lengths to the front, outward and up;
# underarm: forward, outward, twist and bend of the arm. Then yaw of the trunk toward the throwing side, and its lean.
OVERARM = {
    "at": (-0.95, -0.45, -0.2, -0.08, 0.0, 0.06, 0.18, 0.34, 0.7),
    "arm": (
        *((0.4, -0.3, -0.35), (-0.2, 0.7, 0.1), (-0.5, 0.5, 0.4), (-0.2, 0.45, 0.5), (0.36, 0.28, 0.76)),
        *((0.6, 0.16, 0.8), (0.86, -0.15, 0.05), (0.6, -0.45, -0.5), (0.4, -0.3, -0.7)),
    ),
    "yaw": (5.0, 30, 32, 12, -8, -16, -24, -26, -16),
    "lean": (0.0, -5, -8, -5, 0, 5, 16, 15, 6),
}
UNDERARM = {
    "at": (-0.95, -0.35, 0.0, 0.25, 0.4, 0.95),
    "arm": ((25, 10, 60, 75), (-52, 14, 90, 12), (50, 8, 90, 10), (122, 6, 90, 12), (118, 6, 85, 15), (4, 7, 0, 14)),
    "yaw": (0.0, 12, -6, -10, -10, -4),
    "lean": (0.0, 16, 10, 0, 0, 0),
}


def throw(
    body: Body, time: np.ndarray, rng: np.random.Generator, reach: float, thing: tuple[float, float, float]
) -> Movement:
    """Draws back, steps forward and throws a ball of radius thing[0]; it is held until the hand lets go."""
    plan = standing(body, len(time), apart=0.06)
    _breathe(plan, time, rng)
    side, other = SIDES[:: rng.choice([1, -1])]
    style = str(rng.choice(["overarm", "underarm"]))
    table = OVERARM if style == "overarm" else UNDERARM
    release = float(np.clip(rng.uniform(0.42, 0.55) * time[-1], 0.8, 1.6))
    s = (time - release) / rng.uniform(0.95, 1.15)
    yaw = -sign(side) * keys(s, table["at"], table["yaw"])
    plan.trunk[:, 0], plan.waist[:, 0], plan.head[:, 0] = 0.4 * yaw, 0.6 * yaw, -0.8 * yaw
    plan.waist[:, 1] = keys(s, table["at"], table["lean"])
    step = body.share(0.17)
    moved = keys(s, (-0.55, -0.18), (0.0, 1.0))
    plan.feet[other].ground[:, 0] += step * moved
    plan.feet[other].lift = 0.07 * np.sin(np.pi * moved) ** 2
    plan.pelvis[:, 0] += step * keys(s, (-0.75, -0.4, 0.12), (0.0, -0.12, 0.68))
    plan.feet[side].pitch = keys(s, (-0.2, 0.15), (0.0, 32.0))
    plan.pelvis[:, 2] = np.minimum(plan.pelvis[:, 2] - 0.01, _hip_room(body, plan))
    motion = keys(s, table["at"], table["arm"])
    if style == "underarm":
        plan.arms[side] = motion
    else:  # the free arm points ahead, then drops
        free = ((20, 8, 0, 70), (70, 15, 0, 15), (75, 15, 0, 15), (10, 14, 0, 40), (0, 12, 0, 30))
        plan.arms[other] = keys(s, (-0.95, -0.45, -0.2, 0.06, 0.7), free)
        chest, way = pose(body, plan).of("chest")
        offset = body.arm * motion * (1, sign(side), 1) + body.shoulder(side)
        plan.palms[side] = chest + np.einsum("tij,tj->ti", way, offset)
    done = _done(body, plan)
    wrist, way = done.posed.of(f"{side}_hand")
    # The fingers lie round the ball.
    ball = wrist - (body.share(0.09) + 0.7 * thing[0]) * way[..., 2]
    return Movement(done.posed, done.lift, Held(ball, way, time < release), style)


def lift(
    body: Body, time: np.ndarray, rng: np.random.Generator, reach: float, thing: tuple[float, float, float]
) -> Movement:
    """Bends the knees, takes a box of half sizes `thing` from the floor with both hands, and brings it up."""
    length, width, tall = thing
    plan = standing(body, len(time), apart=0.095, outward=14)
    start = rng.uniform(0.0, 0.2)
    grasp = start + rng.uniform(0.55, 0.7)
    top = grasp + min(rng.uniform(0.75, 0.95), 0.95 * (time[-1] - grasp))
    away = body.share(0.135) + length
    near = body.share(0.09) + length
    low, high = 1.25 * tall, body.standing + rng.uniform(0.02, 0.22) * body.build.height * 0.5
    rising = (grasp, grasp + 0.55 * (top - grasp), top)
    box = np.stack([keys(time, rising, (away, away, near)), 0 * time, keys(time, rising, (tall, 0.6 * high, high))], -1)
    grip = box + np.array([0, 0, low - tall])
    bent = keys(time, (start, grasp, grasp + 0.1, top), (0.0, 1, 1, 0))
    trial = standing(body, 1, apart=0.095, outward=14)
    depth = next((d for d in np.linspace(0.3, 0.62, 33) if _reaches(body, trial, d, grip[:1], width)), 0.62)
    _bow(body, plan, bent, depth)
    hands = {side: grip + np.array([0, sign(side) * (width + body.hand_thickness), 0]) for side in SIDES}
    hanging = pose(body, plan)
    near_box = keys(time, (start, grasp), (0.0, 1.0))[:, None]
    for side in SIDES:
        plan.palms[side] = hand_middle(body, hanging, side) * (1 - near_box) + hands[side] * near_box
        # On the way the hands go round the box, not through it.
        plan.palms[side][:, 1] += sign(side) * 0.1 * np.sin(np.pi * near_box[:, 0])
    held = Held(box, np.tile(np.eye(3), (len(time), 1, 1)), time >= grasp)
    return _done(body, plan, held)


def _bow(body: Body, plan: Plan, bent: np.ndarray, depth: float) -> None:
    """Bends knees and back by `bent` (T,) in 0 to 1; `depth` is the share of the leg that the pelvis sinks by."""
    plan.pelvis[:, 2] -= depth * body.leg * bent
    plan.pelvis[:, 0] -= 0.12 * body.build.height * bent
    plan.trunk[:, 1] += (40 + 30 * depth) * bent
    plan.waist[:, 1] += 12 * bent
    plan.head[:, 1] -= 32 * bent


def _reaches(body: Body, trial: Plan, depth: float, grip: np.ndarray, width: float) -> bool:
    """Whether hands at the sides of a box round `grip` (1, 3) are within reach of someone who bends by `depth`."""
    plan = Plan(trial.pelvis.copy(), *(a.copy() for a in (trial.trunk, trial.waist, trial.head)), trial.feet, {}, {})
    _bow(body, plan, np.ones(1), depth)
    plan.palms = {side: grip + np.array([0, sign(side) * (width + body.hand_thickness), 0]) for side in SIDES}
    posed = pose(body, plan)
    off = [np.linalg.norm(hand_middle(body, posed, side) - plan.palms[side]) for side in SIDES]
    return max(off) < 0.004


MOTIONS = {
    "walk": walk,
    "wave": wave,
    "squat": squat,
    "jump": jump,
    "throw": throw,
    "lift": lift,
    "stand": still,
}
