"""A person of capsules and ellipsoids: measures, MJCF, the 17 COCO keypoints and a chart of the skin.

The figure is a set of links that are placed in the world one by one (mocap bodies). A link's frame lies at its joint,
x to the front, y to the left, z up along the limb, when the person stands with hanging arms.

Part numbers are those of DensePose (https://github.com/facebookresearch/DensePose, `challenge/2019_COCO_DensePose/
data_format.md`): 1, 2 torso; 3 right hand; 4 left hand; 5 left foot; 6 right foot; 7, 9 and 8, 10 upper legs; 11, 13
and 12, 14 lower legs; 15, 17 and 16, 18 upper arms; 19, 21 and 20, 22 lower arms; 23, 24 head. Which of two is back or
inside: as `pupil-labs/densepose-module` names them. U and V are a chart of our own, `CHART`; see `surface`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

CHART = "polyclock-capsule-1"
SIDES = ("left", "right")
ARM, LEG = ("upper_arm", "forearm", "hand"), ("thigh", "shin", "foot")
LINKS = ("pelvis", "chest", "head", *(f"{side}_{name}" for side in SIDES for name in (*ARM, *LEG)))
JOINTS = (
    "nose",
    *(
        f"{side}_{name}"
        for name in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in SIDES
    ),
)
LIMBS = tuple(
    (JOINTS[a - 1], JOINTS[b - 1])
    for a, b in (
        *((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10)),
        *((9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7)),
    )
)
PARTS = dict(
    enumerate(
        (
            *("torso back", "torso front", "right hand", "left hand", "left foot", "right foot"),
            *("right upper leg back", "left upper leg back", "right upper leg front", "left upper leg front"),
            *("right lower leg back", "left lower leg back", "right lower leg front", "left lower leg front"),
            *("left upper arm inside", "right upper arm inside", "left upper arm outside", "right upper arm outside"),
            *("left lower arm inside", "right lower arm inside", "left lower arm outside", "right lower arm outside"),
            *("head right", "head left"),
        ),
        start=1,
    )
)
NUMBERS = {name: number for number, name in PARTS.items()}


@dataclass(frozen=True, kw_only=True)
class Build:
    """One person's measures and looks. Heights in m; colours are names of `rooms.CLOTHES`, `SKIN` and `HAIR`."""

    height: float = 1.75
    girth: float = 1.0  # thickness of trunk and limbs
    shoulders: float = 1.0  # breadth of the shoulders
    skin: str = "fair"
    hair: str = "brown"
    long_hair: bool = False
    shirt: str = "red"
    stripes: str = ""  # the second colour of the shirt, "" for a plain one
    long_sleeves: bool = False
    trousers: str = "blue"
    shorts: bool = False


@dataclass(frozen=True)
class Body:
    """Lengths in m that movements need, from a build (shares of the height after Drillis and Contini, 1966)."""

    build: Build

    def share(self, part: float) -> float:
        return part * self.build.height

    @property
    def thigh(self) -> float:
        return self.share(0.242)

    @property
    def shin(self) -> float:
        return self.share(0.243)

    @property
    def leg(self) -> float:
        return self.thigh + self.shin

    @property
    def upper_arm(self) -> float:
        return self.share(0.175)

    @property
    def forearm(self) -> float:
        return self.share(0.145)

    @property
    def arm(self) -> float:
        """From the shoulder to the middle of the hand."""
        return self.upper_arm + self.forearm + self.palm

    @property
    def palm(self) -> float:
        """From the wrist to the middle of the hand."""
        return self.share(0.045)

    @property
    def hand_thickness(self) -> float:
        return self.share(0.014)

    @property
    def ankle(self) -> float:
        """Height of the ankle above the sole."""
        return self.share(0.045)

    @property
    def hip(self) -> float:
        """Half the distance of the hips."""
        return self.share(0.052)

    @property
    def standing(self) -> float:
        """Height of the pelvis (middle of the hips) with straight legs."""
        return self.leg + self.ankle

    @property
    def waist(self) -> np.ndarray:
        """(3,) the chest's joint in the pelvis."""
        return np.array([0, 0, self.share(0.07)])

    @property
    def neck(self) -> np.ndarray:
        """(3,) the head's joint in the chest."""
        return np.array([0, 0, self.share(0.225)])

    def shoulder(self, side: str) -> np.ndarray:
        """(3,) the arm's joint in the chest."""
        return np.array([0, sign(side) * self.share(0.108) * self.build.shoulders, self.share(0.198)])

    @property
    def sole(self) -> tuple[np.ndarray, np.ndarray]:
        """The foot's ellipsoid in the foot's frame: centre (3,) and half axes (3,)."""
        size = np.array([self.share(0.076), self.share(0.028), self.share(0.024)])
        return np.array([self.share(0.038), 0, size[2] - self.ankle]), size


def sign(side: str) -> int:
    """+1 for the left, which is +y; -1 for the right."""
    return 1 if side == "left" else -1


@dataclass(frozen=True)
class Piece:
    """One geom of a link: a capsule from `at` to `to` of radius size[0], or an ellipsoid round `at`. In m."""

    name: str
    link: str
    colour: str  # "skin", "shirt", ...
    size: tuple[float, ...]
    at: tuple[float, float, float]
    to: tuple[float, float, float] | None = None
    solid: bool = True  # props bounce off it


def pieces(build: Build) -> list[Piece]:
    """All geoms of a person."""
    rows = [*_trunk(build), *_head(build)]
    for side in SIDES:
        rows += _arm(build, side) + _leg(build, side)
    h = build.height

    def scaled(point: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if point is None else tuple(float(h * x) for x in point)

    return [
        Piece(p.name, p.link, p.colour, scaled(p.size) or (), scaled(p.at), scaled(p.to), p.solid)  # type: ignore[arg-type]
        for p in rows
    ]


# In shares of the height.


def _trunk(build: Build) -> list[Piece]:
    g, s = build.girth, build.shoulders
    return [
        Piece("hips", "pelvis", "trousers", (0.06 * g, 0.088 * g, 0.064), (0, 0, 0.014)),
        Piece("belly", "chest", "shirt", (0.058 * g, 0.082 * g, 0.085), (0, 0, 0.03)),
        Piece("breast", "chest", "shirt", (0.062 * g, 0.092 * s * g**0.5, 0.11), (0, 0, 0.115)),
        Piece("shoulders", "chest", "shirt", (0.034,), (0, -0.082 * s, 0.192), (0, 0.082 * s, 0.192)),
    ]


def _head(build: Build) -> list[Piece]:
    face = [
        Piece("neck", "head", "skin", (0.03,), (0, 0, -0.02), (0, 0, 0.06)),
        Piece("skull", "head", "skin", (0.054, 0.045, 0.07), (0, 0, 0.105)),
        Piece("hair", "head", "hair", (0.056, 0.049, 0.056), (-0.013, 0, 0.127), solid=False),
        Piece("nose", "head", "skin", (0.012, 0.009, 0.014), (0.055, 0, 0.1), solid=False),
    ]
    if build.long_hair:
        face.append(Piece("mane", "head", "hair", (0.03, 0.048, 0.085), (-0.034, 0, 0.065), solid=False))
    for side in SIDES:
        y = sign(side)
        face.append(Piece(f"{side}_eye", "head", "eye", (0.006, 0.008, 0.008), (0.0475, y * 0.019, 0.116), solid=False))
        face.append(Piece(f"{side}_ear", "head", "skin", (0.011, 0.006, 0.016), (0, y * 0.046, 0.104), solid=False))
    return face


def _arm(build: Build, side: str) -> list[Piece]:
    thick = build.girth**0.6
    lower = "sleeve" if build.long_sleeves else "skin"
    return [
        Piece(f"{side}_upper_arm", f"{side}_upper_arm", "sleeve", (0.028 * thick,), (0, 0, 0), (0, 0, -0.175)),
        Piece(f"{side}_forearm", f"{side}_forearm", lower, (0.0215 * thick,), (0, 0, 0), (0, 0, -0.145)),
        Piece(f"{side}_hand", f"{side}_hand", "skin", (0.025, 0.014, 0.05), (0, 0, -0.045)),
    ]


def _leg(build: Build, side: str) -> list[Piece]:
    thick = build.girth**0.8
    cloth = "skin" if build.shorts else "trousers"
    return [
        Piece(f"{side}_thigh", f"{side}_thigh", "trousers", (0.043 * thick,), (0, 0, -0.01), (0, 0, -0.242)),
        Piece(f"{side}_shin", f"{side}_shin", cloth, (0.029 * thick,), (0, 0, 0), (0, 0, -0.243)),
        Piece(f"{side}_calf", f"{side}_shin", cloth, (0.034 * thick, 0.033 * thick, 0.08), (-0.008, 0, -0.08)),
        Piece(f"{side}_foot", f"{side}_foot", "shoes", (0.076, 0.028, 0.024), (0.038, 0, 0.024 - 0.045)),
    ]


def keypoints(build: Build) -> list[tuple[str, np.ndarray, float]]:
    """For each of `JOINTS`: its link, its place there (3,) in m, and how deep in m it lies under the skin at most.

    Nose, eyes and ears lie on the skin, the others in the middle of a joint.
    """
    body, h = Body(build), build.height
    places: dict[str, tuple[str, np.ndarray, float]] = {"nose": ("head", h * np.array([0.066, 0, 0.1]), 0.02 * h)}
    for side in SIDES:
        y = sign(side)
        places |= {
            f"{side}_eye": ("head", h * np.array([0.0535, y * 0.019, 0.116]), 0.02 * h),
            f"{side}_ear": ("head", h * np.array([0, y * 0.05, 0.104]), 0.02 * h),
            f"{side}_shoulder": ("chest", body.shoulder(side), 0.06 * h),
            f"{side}_elbow": (f"{side}_forearm", np.zeros(3), 0.045 * h),
            f"{side}_wrist": (f"{side}_hand", np.zeros(3), 0.04 * h),
            f"{side}_hip": ("pelvis", np.array([0, y * body.hip, 0]), 0.075 * h * build.girth),
            f"{side}_knee": (f"{side}_shin", np.zeros(3), 0.06 * h),
            f"{side}_ankle": (f"{side}_foot", np.zeros(3), 0.05 * h),
        }
    return [places[name] for name in JOINTS]


def mjcf(build: Build, person: str, category: int) -> Iterator[str]:
    """Lines of MJCF for the world body: a mocap body for each link, named `person.link`, its geoms `person.piece`.

    Materials are named `person.colour` and made elsewhere. `category` is the figure's contype bit.
    """
    rows = pieces(build)
    for link in LINKS:
        yield f'<body name="{person}.{link}" mocap="true">'
        for piece in rows:
            if piece.link == link:
                yield _geom(piece, person, category)
        yield "</body>"


def _geom(piece: Piece, person: str, category: int) -> str:
    def words(values: tuple[float, ...]) -> str:
        return " ".join(f"{v:.6f}" for v in values)

    if piece.to is None:
        shape = f'type="ellipsoid" pos="{words(piece.at)}" size="{words(piece.size)}"'
    else:
        shape = f'type="capsule" fromto="{words(piece.at)} {words(piece.to)}" size="{words(piece.size)}"'
    bits = category if piece.solid else 0
    name = f"{person}.{piece.name}"
    return f'<geom name="{name}" {shape} material="{person}.{piece.colour}" contype="{bits}" conaffinity="0"/>'


# The chart.


@dataclass(frozen=True)
class Chart:
    """How a link's skin is cut into parts and laid out: see `surface`.

    axes (3, 3)    rows: the direction that tells the first part from the second, the one along U, the one along V; a
                   row longer or shorter than 1 evens out a cross section that is not round
    origin (3,) m  in the link's frame: the lower end of the axis, or the middle of a `tip` part
    """

    first: int  # the part on the positive side
    second: int
    axes: np.ndarray
    origin: np.ndarray
    length: float = 0.0  # m
    radius: float = 1.0  # m
    tip: bool = False


def charts(build: Build) -> Mapping[str, Chart]:
    """{link: its chart}."""
    body, h = Body(build), build.height
    front, left, up = np.eye(3)
    flat = 0.7  # the trunk is wider than deep
    trunk = {"axes": np.stack([front, flat * left, up]), "length": 0.25 * h, "radius": 0.065 * h}
    parts = {"first": NUMBERS["torso front"], "second": NUMBERS["torso back"]}
    found = {
        "pelvis": Chart(**parts, **trunk, origin=np.zeros(3)),
        "chest": Chart(**parts, **trunk, origin=-body.waist),  # one chart goes on over the waist
        "head": Chart(
            *(NUMBERS["head left"], NUMBERS["head right"], np.stack([left, front, up]), 0.02 * h * up),
            *(0.09 * h, 0.05 * h),
        ),
    }
    for side in SIDES:
        out = sign(side) * left
        for link, name, length, radius in (
            ("upper_arm", "upper arm", body.upper_arm, 0.028 * h),
            ("forearm", "lower arm", body.forearm, 0.022 * h),
            ("thigh", "upper leg", body.thigh, 0.043 * h),
            ("shin", "lower leg", body.shin, 0.03 * h),
        ):
            arm = link in ARM
            names = ("outside", "inside") if arm else ("front", "back")
            axes = np.stack([out, front, up] if arm else [front, out, up])
            numbers = [NUMBERS[f"{side} {name} {word}"] for word in names]
            found[f"{side}_{link}"] = Chart(*numbers, axes, -length * up, length, radius)
        centre, _ = body.sole
        for link, middle, tip in (
            ("hand", -body.palm * up, -up),
            ("foot", centre, 0.8 * front - 0.6 * up),
        ):
            number = NUMBERS[f"{side} {link}"]
            axes = np.stack([np.cross(out, tip), out, tip])
            found[f"{side}_{link}"] = Chart(number, number, axes, middle, tip=True)
    return found


def surface(points: np.ndarray, chart: Chart) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Part number (n,), U (n,) and V (n,) in 0 to 1 of points (n, 3) m in a link's frame.

    Along a limb, the point is seen from the nearest point of the axis, in the unit direction n. The sign of n's first
    coordinate says which half it lies on; U is the latitude asin(n_2), V the arc length along the capsule: both go on
    over its ends. A hand or a foot is one part: U and V are polar, the angle from its tip outward, so that the one
    point where the chart is torn lies inside the joint.
    """
    local = (points - chart.origin) @ chart.axes.T
    if chart.tip:
        unit = local / np.maximum(np.linalg.norm(local, axis=-1, keepdims=True), 1e-9)
        around = unit[:, :2] / np.maximum(np.linalg.norm(unit[:, :2], axis=-1, keepdims=True), 1e-9)
        place = 0.5 + 0.5 * around * (np.arccos(np.clip(unit[:, 2], -1, 1)) / np.pi)[:, None]
        return np.full(len(points), chart.first), place[:, 0], place[:, 1]
    along = np.clip(local[:, 2], 0, chart.length)
    local[:, 2] -= along
    unit = local / np.maximum(np.linalg.norm(local, axis=-1, keepdims=True), 1e-9)
    part = np.where(unit[:, 0] >= 0, chart.first, chart.second)
    angle = np.arcsin(np.clip(unit[:, 1:], -1, 1))
    v = (along + chart.radius * (angle[:, 1] + np.pi / 2)) / (chart.length + np.pi * chart.radius)
    return part, 0.5 + angle[:, 0] / np.pi, v
