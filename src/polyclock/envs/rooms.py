"""Rooms to film people in: floors, walls, furniture, lights, colours and the textures that carry them, as MJCF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Colour = tuple[float, float, float]

# Names that a caption may use; the eye tells them apart.
CLOTHES: dict[str, Colour] = {
    "red": (0.8, 0.12, 0.12),
    "blue": (0.13, 0.25, 0.75),
    "green": (0.1, 0.55, 0.2),
    "yellow": (0.92, 0.8, 0.15),
    "orange": (0.95, 0.5, 0.1),
    "purple": (0.5, 0.2, 0.65),
    "pink": (0.95, 0.55, 0.7),
    "white": (0.93, 0.93, 0.93),
    "black": (0.07, 0.07, 0.08),
    "grey": (0.5, 0.5, 0.53),
    "teal": (0.05, 0.55, 0.58),
    "brown": (0.42, 0.26, 0.13),
}
SKIN: dict[str, Colour] = {
    "pale": (0.95, 0.8, 0.71),
    "fair": (0.88, 0.68, 0.55),
    "tan": (0.76, 0.55, 0.4),
    "brown": (0.52, 0.34, 0.23),
    "dark": (0.3, 0.19, 0.13),
}
HAIR: dict[str, Colour] = {
    "black": (0.05, 0.04, 0.04),
    "brown": (0.28, 0.16, 0.08),
    "blond": (0.8, 0.64, 0.32),
    "red": (0.55, 0.2, 0.07),
    "grey": (0.6, 0.6, 0.6),
}
PAINT: tuple[Colour, ...] = (
    *((0.86, 0.84, 0.78), (0.7, 0.78, 0.85), (0.78, 0.85, 0.72), (0.88, 0.75, 0.66), (0.66, 0.68, 0.74)),
    *((0.85, 0.8, 0.6), (0.58, 0.72, 0.7), (0.8, 0.7, 0.8)),
)
GROUND: tuple[Colour, ...] = (
    *((0.55, 0.38, 0.24), (0.66, 0.52, 0.36), (0.45, 0.45, 0.47), (0.6, 0.58, 0.54), (0.35, 0.42, 0.38)),
    (0.5, 0.36, 0.36),
)
WOOD: tuple[Colour, ...] = ((0.5, 0.32, 0.18), (0.65, 0.48, 0.3), (0.3, 0.2, 0.14), (0.85, 0.83, 0.8))
FABRIC: tuple[Colour, ...] = ((0.3, 0.38, 0.5), (0.5, 0.28, 0.26), (0.4, 0.45, 0.36), (0.55, 0.5, 0.45))

TILE = 64  # pixels a side of a flat texture, which covers one metre
FACE = 48  # pixels a side of one face of a cube texture


@dataclass(frozen=True, eq=False)
class Texture:
    """An image for a material: `pixels` (TILE, TILE, 3) uint8, or (6 FACE, FACE, 3) for a cube's faces."""

    name: str
    pixels: np.ndarray

    @property
    def xml(self) -> str:
        kind, side = ("2d", TILE) if len(self.pixels) == TILE else ("cube", FACE)
        return f'<texture name="{self.name}" type="{kind}" builtin="flat" width="{side}" height="{side}"/>'

    def put(self, model: Any) -> None:
        """Write the pixels into a compiled mjModel."""
        number = model.texture(self.name).id
        start = model.tex_adr[number]
        model.tex_data[start : start + self.pixels.size] = self.pixels.reshape(-1)


@dataclass(frozen=True, eq=False)
class Stuff:
    """What goes into one model's assets: textures, and a line of MJCF for each material."""

    textures: list[Texture] = field(default_factory=list)
    materials: list[str] = field(default_factory=list)

    def paint(self, name: str, colour: Colour) -> None:
        """A plain material."""
        words = " ".join(f"{c:.4f}" for c in colour)
        self.materials.append(f'<material name="{name}" rgba="{words} 1" specular="0" shininess="0"/>')

    def cover(self, name: str, pixels: np.ndarray) -> None:
        """A material with a picture: a flat one repeats every metre, a cube is wrapped round its geom."""
        self.textures.append(Texture(name, pixels))
        even = ' texuniform="true" texrepeat="2 2"' if len(pixels) == TILE else ""
        self.materials.append(f'<material name="{name}" texture="{name}" specular="0" shininess="0"{even}/>')

    @property
    def xml(self) -> str:
        return "<asset>" + "".join([t.xml for t in self.textures] + self.materials) + "</asset>"


def stripes(first: Colour, second: Colour, bands: int) -> np.ndarray:
    """A cube texture with level bands round the z axis, (6 FACE, FACE, 3) uint8."""
    band = (np.arange(FACE) * bands // FACE) % 2
    table = (np.array([first, second]) * 255).astype(np.uint8)
    across = np.broadcast_to(table[band][None], (FACE, FACE, 3))
    down = np.broadcast_to(table[band][:, None], (FACE, FACE, 3))
    plain = np.broadcast_to(table[band[0]], (FACE, FACE, 3))
    # Faces in order: +x, -x, +y, -y, +z, -z; along z lie the columns of the first two and the rows of the next two.
    return np.concatenate([across, across[:, ::-1], down, down[::-1], plain, plain])


def draw_room(
    stuff: Stuff, rng: np.random.Generator, keep: np.ndarray, lenses: np.ndarray, towards: np.ndarray
) -> list[str]:
    """Lines of MJCF: a room round the places `keep` (n, 2), which stay free, and the camera's `lenses` (m, 3), all m.

    `towards` (2,) is what the camera looks at: nothing is put between.
    """
    low = np.minimum(keep.min(0) - rng.uniform(1.4, 2.4, 2), lenses[:, :2].min(0) - rng.uniform(0.5, 1.0, 2))
    high = np.maximum(keep.max(0) + rng.uniform(1.4, 2.4, 2), lenses[:, :2].max(0) + rng.uniform(0.5, 1.0, 2))
    top = max(rng.uniform(2.5, 3.1), lenses[:, 2].max() + 0.4)
    _cover_room(stuff, rng)
    things = _things(stuff, rng, low, high, keep, lenses, towards)
    return [*_shell(low, high, top), *things, *_lights(rng, low, high, top)]


def _cover_room(stuff: Stuff, rng: np.random.Generator) -> None:
    stuff.cover("floor", FLOORS[rng.integers(len(FLOORS))](rng, GROUND[rng.integers(len(GROUND))]))
    kind = WALLS[rng.integers(len(WALLS))]
    stuff.cover("wall", kind(rng, PAINT[rng.integers(len(PAINT))]))
    stuff.paint("ceiling", (0.92, 0.92, 0.9))


def _image(colour: np.ndarray) -> np.ndarray:
    return (np.clip(colour, 0, 1) * 255).astype(np.uint8)


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """(TILE, TILE, 1), -1 to 1, in squares; it repeats seamlessly."""
    return np.kron(rng.uniform(-1, 1, (cells, cells)), np.ones((TILE // cells, TILE // cells)))[..., None]


def planks(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    """Boards side by side, each of its own shade."""
    shade = np.repeat(rng.uniform(-0.13, 0.13, 4), TILE // 4)[:, None, None]
    picture = np.array(colour) + shade + 0.02 * _noise(rng, 32)
    picture[:: TILE // 4] *= 0.6
    return _image(picture)


def tiles(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    """Squares in two shades."""
    half = TILE // 2
    checker = np.kron(np.array([[1, -1], [-1, 1]]), np.ones((half, half)))[..., None]
    return _image(np.array(colour) + rng.uniform(0.05, 0.16) * checker)


def carpet(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    """Coarse and fine speckles."""
    return _image(np.array(colour) + 0.06 * _noise(rng, 8) + 0.06 * _noise(rng, 32))


def bricks(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    """Courses of bricks with light joints."""
    row, column = np.mgrid[:TILE, :TILE]
    course = row // 8
    joint = (row % 8 == 0) | ((column + 8 * (course % 2)) % 16 == 0)
    shade = rng.uniform(-0.07, 0.07, (8, 4))[course, ((column + 8 * (course % 2)) // 16) % 4][..., None]
    return _image(np.where(joint[..., None], 0.85, 0.75 * np.array(colour) + shade))


def bands(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    """Wallpaper with upright bands."""
    wide = (np.arange(TILE) // 8 % 2)[None, :, None] * np.ones((TILE, 1, 1))
    return _image(np.array(colour) - rng.uniform(0.05, 0.12) * wide)


def plaster(rng: np.random.Generator, colour: Colour) -> np.ndarray:
    """Nearly plain."""
    return _image(np.array(colour) + 0.025 * _noise(rng, 8) + 0.012 * _noise(rng, 32))


FLOORS: tuple[Callable[[np.random.Generator, Colour], np.ndarray], ...] = (planks, tiles, carpet)
WALLS: tuple[Callable[[np.random.Generator, Colour], np.ndarray], ...] = (plaster, plaster, bricks, bands)


def _shell(low: np.ndarray, high: np.ndarray, top: float) -> Iterator[str]:
    """Floor, ceiling and four walls, as planes that face inward."""
    middle, half = (low + high) / 2, (high - low) / 2

    def plane(name: str, place: tuple[float, ...], size: tuple[float, float], axes: str, material: str) -> str:
        words = " ".join(f"{v:.4f}" for v in place)
        return (
            f'<geom name="{name}" type="plane" pos="{words}" size="{size[0]:.4f} {size[1]:.4f} .1" '
            f'xyaxes="{axes}" material="{material}" contype="1" conaffinity="1"/>'
        )

    x, y = middle
    yield plane("floor", (x, y, 0), (half[0], half[1]), "1 0 0 0 1 0", "floor")
    yield plane("ceiling", (x, y, top), (half[0], half[1]), "1 0 0 0 -1 0", "ceiling")
    yield plane("wall.west", (low[0], y, top / 2), (half[1], top / 2), "0 1 0 0 0 1", "wall")
    yield plane("wall.east", (high[0], y, top / 2), (half[1], top / 2), "0 -1 0 0 0 1", "wall")
    yield plane("wall.south", (x, low[1], top / 2), (half[0], top / 2), "-1 0 0 0 0 1", "wall")
    yield plane("wall.north", (x, high[1], top / 2), (half[0], top / 2), "1 0 0 0 0 1", "wall")


def _lights(rng: np.random.Generator, low: np.ndarray, high: np.ndarray, top: float) -> Iterator[str]:
    """One strong light from a window's direction, and often a weak warm or cold one against it."""
    around = rng.uniform(0, 2 * np.pi)
    for number in range(rng.integers(1, 3)):
        angle = around + number * (np.pi + rng.uniform(-0.6, 0.6))
        down = rng.uniform(0.5, 1.2)
        strength = rng.uniform(0.5, 0.68) if number == 0 else rng.uniform(0.15, 0.3)
        tint = strength * (1 + rng.uniform(-0.1, 0.1) * np.array([1, 0, -1]))
        colour = " ".join(f"{c:.3f}" for c in tint)
        way = f"{np.cos(angle):.4f} {np.sin(angle):.4f} {-down:.4f}"
        yield (
            f'<light directional="true" castshadow="false" pos="0 0 {top:.3f}" dir="{way}" '
            f'diffuse="{colour}" specular="0 0 0"/>'
        )


# Furniture: boxes in a frame whose x runs along the wall and y out of it. (middle, half size, colour's name)
Box = tuple[tuple[float, float, float], tuple[float, float, float], str]
FURNITURE_KINDS: dict[str, tuple[float, tuple[Box, ...]]] = {
    "sofa": (
        0.95,
        (
            ((0, 0.45, 0.22), (0.9, 0.4, 0.2), "fabric"),
            ((0, 0.12, 0.55), (0.9, 0.12, 0.35), "fabric"),
            ((-0.85, 0.45, 0.35), (0.1, 0.4, 0.3), "fabric"),
            ((0.85, 0.45, 0.35), (0.1, 0.4, 0.3), "fabric"),
        ),
    ),
    "shelf": (
        0.5,
        (
            ((0, 0.03, 0.9), (0.45, 0.02, 0.9), "wood"),
            *(((x, 0.17, 0.9), (0.02, 0.15, 0.9), "wood") for x in (-0.45, 0.45)),
            *(((0, 0.17, z), (0.45, 0.15, 0.02), "wood") for z in (0.1, 0.55, 1.0, 1.45, 1.8)),
            ((-0.2, 0.15, 0.72), (0.15, 0.1, 0.14), "first"),
            ((0.18, 0.15, 1.15), (0.2, 0.1, 0.12), "second"),
            ((-0.1, 0.15, 1.6), (0.25, 0.1, 0.12), "first"),
        ),
    ),
    "table": (
        0.8,
        (
            ((0, 0.42, 0.72), (0.7, 0.38, 0.03), "wood"),
            *(((x, y, 0.35), (0.04, 0.04, 0.35), "wood") for x in (-0.6, 0.6) for y in (0.12, 0.7)),
            ((0.2, 0.4, 0.85), (0.12, 0.1, 0.1), "first"),
        ),
    ),
    "cupboard": (
        0.65,
        (((0, 0.26, 1.0), (0.6, 0.25, 1.0), "wood"), ((0, 0.515, 1.0), (0.01, 0.01, 0.9), "first")),
    ),
    "chest": (
        0.55,
        (
            ((0, 0.22, 0.4), (0.5, 0.2, 0.4), "wood"),
            *(((0, 0.43, z), (0.44, 0.012, 0.1), "second") for z in (0.2, 0.55)),
        ),
    ),
    "picture": (
        0.0,
        (((0, 0.02, 1.6), (0.42, 0.02, 0.3), "wood"), ((0, 0.045, 1.6), (0.36, 0.01, 0.24), "first")),
    ),
    "window": (
        0.0,
        (
            ((0, 0.02, 1.55), (0.62, 0.03, 0.62), "frame"),
            *(((x, 0.055, 1.55), (0.26, 0.01, 0.54), "sky") for x in (-0.29, 0.29)),
        ),
    ),
    "door": (
        0.0,
        (((0, 0.02, 1.02), (0.48, 0.03, 1.02), "frame"), ((0, 0.05, 1.0), (0.41, 0.02, 0.97), "wood")),
    ),
}


def _things(
    stuff: Stuff,
    rng: np.random.Generator,
    low: np.ndarray,
    high: np.ndarray,
    keep: np.ndarray,
    lenses: np.ndarray,
    towards: np.ndarray,
) -> Iterator[str]:
    """The geoms of the furniture along the walls, where it is in nobody's way."""
    named = {"wood": WOOD, "fabric": FABRIC, "first": tuple(CLOTHES.values()), "second": tuple(CLOTHES.values())}
    for name, choices in named.items():
        stuff.paint(f"room.{name}", choices[rng.integers(len(choices))])
    stuff.paint("room.frame", (0.95, 0.95, 0.93))
    stuff.paint("room.sky", (0.75, 0.88, 0.98))
    middle, half = (low + high) / 2, (high - low) / 2
    count = 0
    for wall in range(4):
        angle = wall * np.pi / 2  # of the direction along the wall; out of it is a quarter turn to the left
        along, out = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        corner = middle - np.abs(out) * half * out.sum()
        room = float(np.abs(along) @ half)
        at = -room + rng.uniform(0.1, 0.6)
        while at < room - 0.7:
            kind = str(rng.choice(list(FURNITURE_KINDS)))
            depth, boxes = FURNITURE_KINDS[kind]
            width = max(abs(box[0][0]) + box[1][0] for box in boxes)
            place = corner + along * (at + width)
            fits = at + 2 * width < room - 0.05
            fits = fits and _free(place + out * depth / 2, width + 0.35, keep, lenses, towards)
            for box in boxes if fits else ():
                count += 1
                yield _furnish(f"room.{kind}.{count}", box, place, np.rad2deg(angle))
            at += 2 * width + rng.uniform(0.15, 1.0)


def _free(place: np.ndarray, radius: float, keep: np.ndarray, lenses: np.ndarray, towards: np.ndarray) -> bool:
    """Whether a thing is clear of what must stay free and of the lines from the camera to its aim."""
    shares = np.linspace(0, 1, 9)[:, None, None]
    sight = (lenses[None, :, :2] * (1 - shares) + towards * shares).reshape(-1, 2)
    ends = np.concatenate([keep, sight])
    return bool((np.linalg.norm(ends - place, axis=1) > radius).all())


def _furnish(name: str, box: Box, place: np.ndarray, angle: float) -> str:
    (x, y, z), size, colour = box
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    spot = (place[0] + c * x - s * y, place[1] + s * x + c * y, z)
    words = " ".join(f"{v:.4f}" for v in spot)
    half = " ".join(f"{v:.4f}" for v in size)
    return (
        f'<geom name="{name}" type="box" pos="{words}" size="{half}" euler="0 0 {angle:.1f}" '
        f'material="room.{colour}" contype="1" conaffinity="1"/>'
    )
