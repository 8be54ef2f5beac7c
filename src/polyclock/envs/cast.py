"""Who is in a clip, what each does and where, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .figure import Body, Build
from .motions import Held, Movement, move
from .posing import Posed, quaternions, turn
from .props import Prop, draw_ball, draw_box
from .rooms import CLOTHES, HAIR, SKIN, Colour, Stuff, stripes

SHOES: tuple[Colour, ...] = ((0.1, 0.1, 0.1), (0.9, 0.9, 0.9), (0.45, 0.25, 0.15), (0.6, 0.1, 0.1))
TALL, SHORT = 1.8, 1.62  # m; at least, at most
TRIES = 40  # places tried for a pair
APART = 0.24  # m that links of two people keep between their middles, seen from above
VERBS = {"walk": "walks", "wave": "waves", "squat": "squats", "jump": "jumps", "stand": "stands"}
SEEN_FROM = {  # degrees between the line to the camera and where the person faces: from, to
    "walk": (10, 120),
    "wave": (0, 50),
    "squat": (15, 90),
    "jump": (0, 90),
    "throw": (40, 110),
    "lift": (40, 105),
    "stand": (0, 70),
}


@dataclass(frozen=True, eq=False)
class Actor:
    """A person of a clip: build, name of the movement, poses in the world, the thing in the hands and its way there."""

    build: Build
    motion: str
    posed: Posed
    thing: Prop | None = None
    held: Held | None = None


def draw_build(rng: np.random.Generator, shirts: Sequence[str]) -> Build:
    """Measures and looks; the shirt is one of `shirts`."""
    shirt = str(rng.choice(list(shirts)))
    contrast = [c for c in ("white", "black", "yellow", "blue", "red") if c != shirt]
    trousers = [c for c in ("blue", "black", "grey", "brown", "green", "white", "red") if c != shirt]
    return Build(
        height=rng.uniform(1.5, 1.95),
        girth=rng.uniform(0.85, 1.25),
        shoulders=rng.uniform(0.9, 1.1),
        skin=str(rng.choice(list(SKIN))),
        hair=str(rng.choice(list(HAIR))),
        long_hair=bool(rng.random() < 0.4),
        shirt=shirt,
        stripes=str(rng.choice(contrast)) if rng.random() < 0.45 else "",
        long_sleeves=bool(rng.random() < 0.5),
        trousers=str(rng.choice(trousers)),
        shorts=bool(rng.random() < 0.25),
    )


def draw_cast(rng: np.random.Generator, motions: Sequence[str], time: np.ndarray, azimuth: float) -> list[Actor]:
    """One or two people, who do `motions` at times (T,) s, filmed from `azimuth` degrees.

    [] for a pair that would pass through one another from all places that were tried.

    Errors: ValueError for an unknown movement or a time too short.
    """
    shirts = [c for c in CLOTHES if c != "brown"]
    builds: list[Build] = []
    for _ in motions:
        builds.append(draw_build(rng, [c for c in shirts if c not in [b.shirt for b in builds]]))
    things = [_thing(rng, motion, number) for number, motion in enumerate(motions)]
    reach = 2.2 if len(motions) == 1 else 0.75
    parts = [
        move(motion, Body(build), time, rng, reach, thing.size if thing else (0.1, 0.1, 0.1))
        for motion, build, thing in zip(motions, builds, things, strict=True)
    ]
    for attempt in range(TRIES):
        settled = [
            _settle(rng, build, motion, part, thing, azimuth, _place(rng, number, motions, azimuth, attempt))
            for number, (build, motion, part, thing) in enumerate(zip(builds, motions, parts, things, strict=True))
        ]
        if clear(settled):
            return settled
    return []


def clear(actors: Sequence[Actor]) -> bool:
    """Whether nobody walks through another."""
    if len(actors) < 2:
        return True
    first, second = (a.posed.position[::10, :, None, :2] for a in actors)
    if np.linalg.norm(first - second.swapaxes(1, 2), axis=-1).min() < APART:
        return False
    for one, other in (actors, actors[::-1]):
        if one.motion == "lift" and one.held is not None:
            away = np.linalg.norm(one.held.place[::10, None, :2] - other.posed.position[::10, :, :2], axis=-1)
            if away.min() < APART + 0.1:
                return False
    return True


def _thing(rng: np.random.Generator, motion: str, owner: int) -> Prop | None:
    if motion == "lift":
        return draw_box(rng, owner=owner)
    return draw_ball(rng, owner=owner) if motion == "throw" else None


def _place(
    rng: np.random.Generator, number: int, motions: Sequence[str], azimuth: float, attempt: int
) -> tuple[float, float]:
    """To the right in the picture and away from the camera, in m: a lone person in the middle, a pair side by side."""
    if len(motions) == 1:
        return 0.0, 0.0
    side = (-1, 1)[number]
    if "walk" in motions:  # past one another
        away = side * rng.uniform(0.35, 0.55 + 0.01 * attempt)
        return (0.0 if motions[number] == "walk" else side * rng.uniform(0.0, 0.35)), away
    return side * rng.uniform(0.4, 0.5 + 0.012 * attempt), rng.uniform(-0.3, 0.3)


def _settle(
    rng: np.random.Generator,
    build: Build,
    motion: str,
    part: Movement,
    thing: Prop | None,
    azimuth: float,
    place: tuple[float, float],
) -> Actor:
    """Put a movement into the world."""
    angle = np.deg2rad(azimuth)
    right, away = np.array([-np.sin(angle), np.cos(angle)]), -np.array([np.cos(angle), np.sin(angle)])
    x, y = place[0] * right + place[1] * away
    low, high = SEEN_FROM[motion]
    offset = rng.choice([-1, 1]) * rng.uniform(low, high)
    if rng.random() < 0.12:
        offset = 180 - offset
    yaw = float(azimuth + offset)
    posed = part.posed.placed(x, y, yaw)
    if thing is None or part.held is None:
        return Actor(build, motion, posed)
    around = turn(2, np.array(yaw))
    held = Held(part.held.place @ around.T + (x, y, 0), around @ part.held.rotation, part.held.holding)
    start = {"place": tuple(held.place[0].tolist()), "turned": tuple(quaternions(held.rotation[0]).tolist())}
    return Actor(build, motion, posed, replace(thing, **start), held)


def dress(stuff: Stuff, build: Build, person: str, rng: np.random.Generator) -> None:
    """The materials `person.skin`, `person.shirt`, ... of the figure's geoms."""
    stuff.paint(f"{person}.skin", SKIN[build.skin])
    stuff.paint(f"{person}.hair", HAIR[build.hair])
    stuff.paint(f"{person}.sleeve", CLOTHES[build.shirt])
    stuff.paint(f"{person}.eye", (0.06, 0.05, 0.05))
    stuff.paint(f"{person}.trousers", CLOTHES[build.trousers])
    stuff.paint(f"{person}.shoes", SHOES[rng.integers(len(SHOES))])
    if build.stripes:
        bands = stripes(CLOTHES[build.shirt], CLOTHES[build.stripes], int(rng.choice([5, 7, 9])))
        stuff.cover(f"{person}.shirt", bands)
    else:
        stuff.paint(f"{person}.shirt", CLOTHES[build.shirt])


def describe(build: Build) -> str:
    """ "a tall person in a red and white striped shirt"."""
    size = "tall " if build.height >= TALL else "short " if build.height <= SHORT else ""
    shirt = f"{build.shirt} and {build.stripes} striped" if build.stripes else build.shirt
    return f"a {size}person in {article(shirt)} {shirt} shirt"


def article(word: str) -> str:
    """ "a" or "an"."""
    return "an" if word[0] in "aeiou" else "a"


def action(actor: Actor, azimuth: float) -> str:
    """What the person does, such as "walks to the left" or "throws a blue ball"."""
    if actor.thing is not None:
        thing = f"{article(actor.thing.colour)} {actor.thing.colour} {actor.thing.kind}"
        return f"{'throws' if actor.motion == 'throw' else 'lifts'} {thing}"
    if actor.motion != "walk":
        return VERBS[actor.motion]
    path = actor.posed.position[:, 0, :2]
    way, length = path[-1] - path[0], float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    angle = np.deg2rad(azimuth)
    nearer = float(way @ (np.cos(angle), np.sin(angle)))
    rightward = float(way @ (-np.sin(angle), np.cos(angle)))
    if np.hypot(nearer, rightward) < 0.75 * length:
        return "walks in a circle"
    if abs(nearer) > 1.5 * abs(rightward):
        return "walks toward the camera" if nearer > 0 else "walks away from the camera"
    return "walks to the right" if rightward > 0 else "walks to the left"


def caption(actors: Sequence[Actor], azimuth: float, events: Sequence[tuple[Prop, str]], camera: str) -> str:
    """The clip's sentence. events: every prop and what it was seen to do, see `props.happened`."""
    people = " while ".join(f"{describe(a.build)} {action(a, azimuth)}" for a in actors)
    told = []
    for prop, event in events:
        if event in ("bounces", "rolls"):
            which = article(prop.colour) if prop.owner is None else "the"
            told.append(f"{which} {prop.colour} ball {event}")
    fallen = [prop for prop, event in events if event == "falls"]
    if len(fallen) == 1:
        told.append(f"{article(fallen[0].colour)} {fallen[0].colour} box falls")
    elif fallen:
        told.append("boxes fall")
    lying = sum(event == "lies" for _, event in events)
    if lying:
        told.append("a box lies on the floor" if lying == 1 else "boxes lie on the floor")
    return "; ".join([people, *told, *([camera] if camera else [])])
