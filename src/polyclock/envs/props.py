"""Balls and boxes under real physics: how a clip's are drawn, their MJCF, and what can be said of what they did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .rooms import CLOTHES, FACE, Colour, Stuff, stripes

# The ball's own spring: it comes back from the floor with about two thirds of its height.
BALL = 'mass="0.3" solref="-15000 -26" priority="1" condim="4" friction="0.6 0.02 0.001"'
CRATE = 'mass="1.5" friction="0.7 0.01 0.001"'
CARDBOARD: Colour = (0.72, 0.53, 0.33)
COLOURS = {**CLOTHES, "brown": CARDBOARD}


@dataclass(frozen=True, kw_only=True)
class Prop:
    """A ball (radius size[0]) or a box (half sizes), in m, and how it starts: place, quaternion, speed in m/s.

    owner  the person, 0 or 1, who holds it for a while, see `touches`. None: nobody
    """

    kind: str
    colour: str
    size: tuple[float, float, float]
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turned: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    speed: tuple[float, float, float] = (0.0, 0.0, 0.0)
    owner: int | None = None

    def touches(self, holding: bool) -> int:
        """Its conaffinity: the room and props (1) and the people (2, 4), but for an owner who holds it."""
        return 7 - (2 << self.owner if holding and self.owner is not None else 0)

    def mjcf(self, name: str) -> str:
        """A free body; its material is `name` too. Whom it does not touch now is to be said after compiling."""
        own = BALL if self.kind == "ball" else CRATE
        size = f"{self.size[0]:.5f}" if self.kind == "ball" else " ".join(f"{v:.5f}" for v in self.size)
        geom = "sphere" if self.kind == "ball" else "box"
        place, turned = (" ".join(f"{v:.6f}" for v in values) for values in (self.place, self.turned))
        return (
            f'<body name="{name}" pos="{place}" quat="{turned}"><freejoint name="{name}"/>'
            f'<geom name="{name}" type="{geom}" size="{size}" material="{name}" {own} '
            # MuJoCo compares bodies first, by what they could touch when they were compiled.
            f'contype="1" conaffinity="{self.touches(holding=False)}"/></body>'
        )


def paint_prop(stuff: Stuff, prop: Prop, name: str, rng: np.random.Generator) -> None:
    """Its material: bands on a ball, a frame round each face of a box, so that turning shows."""
    colour = COLOURS[prop.colour]
    if prop.kind == "ball":
        light = (0.95, 0.95, 0.95) if prop.colour != "white" else CLOTHES["blue"]
        stuff.cover(name, stripes(colour, light, 3))
    else:
        stuff.cover(name, _crate(colour, rng))


def _crate(colour: Colour, rng: np.random.Generator) -> np.ndarray:
    face = np.ones((FACE, FACE, 1)) * np.array(colour)
    edge = int(rng.integers(3, 7))
    for side in (np.s_[:edge], np.s_[-edge:], np.s_[:, :edge], np.s_[:, -edge:]):
        face[side] *= 0.7
    if rng.random() < 0.5:  # a strip of tape
        face[:, FACE // 2 - 4 : FACE // 2 + 4] = 0.5 * face[:, FACE // 2 - 4 : FACE // 2 + 4] + 0.42
    return np.concatenate([(np.clip(face, 0, 1) * 255).astype(np.uint8)] * 6)


def draw_box(rng: np.random.Generator, **settings: object) -> Prop:
    """A box to be lifted or to lie about."""
    colour = "brown" if rng.random() < 0.5 else str(rng.choice([c for c in CLOTHES if c not in ("black", "brown")]))
    size = (rng.uniform(0.11, 0.15), rng.uniform(0.13, 0.19), rng.uniform(0.1, 0.16))
    return Prop(kind="box", colour=colour, size=size, **settings)  # type: ignore[arg-type]


def draw_ball(rng: np.random.Generator, **settings: object) -> Prop:
    """A ball to be thrown or to bounce about."""
    colour = str(rng.choice([c for c in CLOTHES if c not in ("black", "brown", "grey")]))
    return Prop(kind="ball", colour=colour, size=(rng.uniform(0.075, 0.115),) * 3, **settings)  # type: ignore[arg-type]


def draw_free(rng: np.random.Generator, taken: np.ndarray, right: np.ndarray, away: np.ndarray) -> list[Prop]:
    """What nobody holds: boxes that lie, and at times something that bounces, rolls, drops or topples.

    taken   (n, 2) m, places that people pass: what lies starts 0.6 m from them or more, what moves 0.7 m
    right, away (2,): the picture's directions on the floor; most things start beside or behind the people
    """
    found: list[Prop] = []
    spots: list[tuple[np.ndarray, float]] = []

    def spot(radius: float) -> np.ndarray | None:
        for _ in range(30):
            aside, behind = rng.uniform(-1.25, 1.25), rng.uniform(-0.25, 1.3)
            place = taken.mean(0) + aside * right + behind * away
            clear = all(np.linalg.norm(place - other) > radius + size for other, size in spots)
            if clear and np.linalg.norm(taken - place, axis=1).min() > 0.3 + radius:
                spots.append((place, radius))
                return place
        return None

    event = str(rng.choice(["none", "bounce", "roll", "topple", "drop"], p=[0.25, 0.3, 0.1, 0.2, 0.15]))
    if event != "none" and (place := spot(0.4)) is not None:
        found += EVENTS[event](rng, place, right, away)
    for _ in range(rng.integers(0, 3)):
        if (place := spot(0.3)) is not None:
            box = draw_box(rng)
            found.append(_at(box, (*place, box.size[2]), rng.uniform(0, np.pi)))
    return found


def _at(prop: Prop, place: tuple[float, ...], yaw: float, speed: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Prop:
    turned = (float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2)))
    settings = {"kind": prop.kind, "colour": prop.colour, "size": prop.size, "owner": prop.owner, "turned": turned}
    return Prop(**settings, place=tuple(map(float, place)), speed=tuple(map(float, speed)))  # type: ignore[arg-type]


def _bounce(rng: np.random.Generator, place: np.ndarray, right: np.ndarray, away: np.ndarray) -> list[Prop]:
    along = rng.uniform(-0.8, 0.8) * right + rng.uniform(-0.3, 0.3) * away
    height = (*place, rng.uniform(0.8, 1.6))
    return [_at(draw_ball(rng), height, rng.uniform(0, 3), (*along, rng.uniform(-0.5, 0.8)))]


def _roll(rng: np.random.Generator, place: np.ndarray, right: np.ndarray, away: np.ndarray) -> list[Prop]:
    ball = draw_ball(rng)
    along = rng.choice([-1, 1]) * rng.uniform(0.6, 1.2) * right
    return [_at(ball, (*place, ball.size[0]), rng.uniform(0, 3), (*along, 0))]


def _topple(rng: np.random.Generator, place: np.ndarray, right: np.ndarray, away: np.ndarray) -> list[Prop]:
    """A stack whose upper boxes stand too far out to stay."""
    rows, height, yaw = [], 0.0, rng.uniform(0, np.pi)
    angle = rng.uniform(0, 2 * np.pi)
    for number in range(rng.integers(2, 4)):
        box = draw_box(rng)
        out = number * rng.uniform(0.1, 0.15) * np.array([np.cos(angle), np.sin(angle)])
        rows.append(_at(box, (*(place + out), height + box.size[2]), yaw))
        height += 2 * box.size[2]
    return rows


def _drop(rng: np.random.Generator, place: np.ndarray, right: np.ndarray, away: np.ndarray) -> list[Prop]:
    return [_at(draw_box(rng), (*place, rng.uniform(0.7, 1.3)), rng.uniform(0, np.pi))]


EVENTS = {"bounce": _bounce, "roll": _roll, "topple": _topple, "drop": _drop}


def happened(prop: Prop, path: np.ndarray, step: float, holding: np.ndarray, seen: np.ndarray) -> str:
    """What a prop was seen to do while nobody held it: "bounces", "rolls", "falls", "lies", or "".

    path (n, 3) m at every `step` s; holding, seen (n,) bool.
    """
    free = ~holding
    shown = path[seen & free]
    if not len(shown):
        return ""
    if prop.kind == "box":
        if holding.any():
            return ""
        still = np.abs(path - path[0]).max() < 0.05
        return "falls" if shown[0, 2] - shown[-1, 2] > 0.08 else "lies" if still else ""
    rising = np.diff(path[:, 2], prepend=path[0, 2]) / step
    down, up = (rising < -0.6) & free, (rising > 0.4) & free
    falling = False
    for index in np.flatnonzero((down | up) & seen):
        if falling and up[index]:
            return "bounces"
        falling = bool(down[index])
    far = np.linalg.norm(shown[-1, :2] - shown[0, :2]) > 0.25
    return "rolls" if far and not (down | up).any() else ""
