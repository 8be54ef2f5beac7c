"""Variations of the tabletop's looks: other light, another room, a messy table, drawn from the start of an episode.

Only what is drawn changes. States, successes and what the scripted expert does are the same to the bit.
"""

from __future__ import annotations

import colorsys

import numpy as np

from ..dice import seed_of
from ..errors import unknown
from .metaworld_anatomy import body_name
from .metaworld_tables import class_of
from .scene import Ornament, Scene
from .world import Start

VARIATIONS = ("light", "background", "clutter")

BRIGHT = (0.5, 1.2)  # 1: about as bright as without. More would not show: what lies flat has all the light it can show
TINTED = (0.3, 0.65)  # how much of a colour is in the light, from white to all

SURFACES = ("floor", "wall", "table")  # classes of bodies; a wall is what stands round the table
STUFF = (None, "basic_floor")  # what these are made of then: of their colour alone, or of tiles in it
MIDDLE, FAR, HIGH = (0.0, 0.6), 2.2, 1.6  # m: of the table; from there to the walls of the room; half of their height
FLOOR = -0.913  # m: where it lies; the top of the table is at 0

# Where clutter stands: m from the middle of the table to either side, and along y. In the middle are the objects, and
# the hand moves there.
BESIDE, ALONG = (0.42, 0.59), (0.31, 0.89)
WIDE, TALL = (0.035, 0.06), (0.03, 0.1)  # half of a thing, m
FEWEST, MOST = 10, 16
TRIES = 50  # places for one that are looked at before it is left out


def check_variation(name: str) -> str:
    """The variation. Errors: ValueError for one that the tabletop has not."""
    if name not in VARIATIONS:
        raise unknown("variation", name, VARIATIONS)
    return name


def vary(scene: Scene, name: str, start: Start) -> None:
    """Give a tabletop's scene the looks that the variation `name` draws from `start`, whatever looks it had before.

    Where lamps shine is seen after `mj_forward`.
    """
    dice = np.random.default_rng(seed_of("variation", name, start.task, *start.values))
    {"light": _light, "background": _background, "clutter": _clutter}[name](scene, dice)


def _light(scene: Scene, dice: np.random.Generator) -> None:
    """The lamps shine from other sides, darker or brighter, in a colour that ambient and camera light have too."""
    model, bright = scene.model, dice.uniform(*BRIGHT)
    colour = bright * np.array(colorsys.hsv_to_rgb(dice.uniform(), dice.uniform(*TINTED), 1))
    for lamp in range(model.nlight):
        around, down = dice.uniform(0, 2 * np.pi), np.deg2rad(dice.uniform(20, 70))
        side = np.cos(down) * np.array([np.cos(around), np.sin(around)])
        model.light_dir[lamp] = (*side, -np.sin(down))
        model.light_diffuse[lamp] = dice.uniform(0.2, 0.6) * colour
    model.vis.headlight.ambient[:] = dice.uniform(0.25, 0.45) * colour
    model.vis.headlight.diffuse[:] = dice.uniform(0.1, 0.3) * colour


def _background(scene: Scene, dice: np.random.Generator) -> None:
    """Floor, table and what stands round it in other colours, plain or tiled, and the walls of a room behind them."""
    import mujoco

    model = scene.model
    numbers = [-1 if name is None else model.material(name).id for name in STUFF]
    looks = {surface: (numbers[dice.integers(len(numbers))], _colour(dice)) for surface in SURFACES}
    for geom in range(model.ngeom):
        surface = class_of(body_name(model, int(model.geom_bodyid[geom])))
        if surface in looks:
            model.geom_matid[geom], model.geom_rgba[geom, :3] = looks[surface]
    colour, (x, y) = _colour(dice), MIDDLE
    places = ((x - FAR, y, 0.0), (x + FAR, y, np.pi), (x, y - FAR, np.pi / 2), (x, y + FAR, -np.pi / 2))
    scene.ornaments = tuple(
        Ornament(
            shape=int(mujoco.mjtGeom.mjGEOM_BOX),
            size=(0.01, FAR, HIGH),
            place=(*at, FLOOR + HIGH),
            turn=turn,
            colour=colour,
        )
        for *at, turn in places
    )


def _clutter(scene: Scene, dice: np.random.Generator) -> None:
    """Boxes, balls and cans that stand on the table, on both sides of its middle and apart from each other."""
    pieces: list[Ornament] = []
    for number in range(int(dice.integers(FEWEST, MOST + 1))):
        tried = (_piece(dice, -1 if number % 2 else 1) for _ in range(TRIES))
        free = next((piece for piece in tried if all(_apart(piece, other) for other in pieces)), None)
        pieces += [free] if free else []
    scene.ornaments = tuple(pieces)


def _piece(dice: np.random.Generator, side: int) -> Ornament:
    """One thing somewhere on a side of the table: 1 or -1."""
    import mujoco

    x, y = side * dice.uniform(*BESIDE), dice.uniform(*ALONG)
    wide, deep, high = dice.uniform(*WIDE), dice.uniform(*WIDE), dice.uniform(*TALL)
    shape, size, top = (
        (mujoco.mjtGeom.mjGEOM_BOX, (wide, deep, high), high),
        (mujoco.mjtGeom.mjGEOM_SPHERE, (wide, wide, wide), wide),
        (mujoco.mjtGeom.mjGEOM_CYLINDER, (wide, high, 0.0), high),
    )[dice.integers(3)]
    turn = dice.uniform(0, np.pi)
    return Ornament(shape=int(shape), size=size, place=(x, y, top), turn=turn, colour=_colour(dice))


def _apart(one: Ornament, other: Ornament) -> bool:
    """Whether neither can touch the other, however they are turned."""
    reach = np.hypot(*one.size[:2]) + np.hypot(*other.size[:2])
    return bool(np.hypot(*np.subtract(one.place, other.place)[:2]) > reach)


def _colour(dice: np.random.Generator) -> tuple[float, float, float]:
    """Any colour, neither pale nor dark."""
    return colorsys.hsv_to_rgb(dice.uniform(), dice.uniform(0.2, 0.8), dice.uniform(0.4, 1))
