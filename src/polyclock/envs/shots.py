"""How people are filmed: where the camera stands, how it moves, and from how far, so that they fill the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .figure import LINKS, Build, pieces
from .posing import Posed

KINDS = ("static", "pan", "dolly", "orbit", "follow")
LEAST, MOST = 0.66, 0.82  # share of the picture's height that the largest person is to have, median over the clip
LIMIT = 0.97  # share that arms and jumps may reach, where that leaves people large enough
ROUNDS = 6  # of finding the distance


@dataclass(frozen=True, eq=False)
class Shot:
    """The camera at T times: place (T, 3) m, rotation (T, 3, 3) with x right, y up and z backward, fovy in degrees.

    said  what the camera does, in words; "" where it stands still
    """

    place: np.ndarray
    rotation: np.ndarray
    fovy: float
    said: str


@dataclass(frozen=True, eq=False)
class Extent:
    """The outline of a person: points (T, P, 3) m, each with the radius (P,) m of what lies round it."""

    points: np.ndarray
    radius: np.ndarray


def extent(build: Build, posed: Posed) -> Extent:
    """Ends and middles of all capsules and ellipsoids."""
    points, radius = [], []
    for piece in pieces(build):
        link = LINKS.index(piece.link)
        for end in (piece.at, piece.to):
            if end is not None:
                points.append(posed.position[:, link] + posed.rotation[:, link] @ np.array(end))
                upright = piece.link in ("pelvis", "chest", "head")
                radius.append(piece.size[-1] if upright else min(piece.size))
    return Extent(np.stack(points, 1), np.array(radius))


def draw_shot(rng: np.random.Generator, azimuth: float, extents: list[Extent], path: np.ndarray, wanders: bool) -> Shot:
    """A camera that looks from `azimuth` degrees (of the line from the people to it) at people with these extents.

    path     (T, 2) m: the middle of the people on the floor
    wanders  whether they leave the picture of a camera that does not follow
    """
    kind = "follow" if wanders else str(rng.choice(["static", "pan", "dolly", "orbit"], p=[0.25, 0.2, 0.25, 0.3]))
    count = len(path)
    ramp = np.linspace(-0.5, 0.5, count) * rng.choice([-1, 1])
    sway = 0.012 * np.sin(np.linspace(0, rng.uniform(4, 9), count)[:, None] + rng.uniform(0, 6, 3))
    around = np.deg2rad(azimuth + ramp * (rng.uniform(15, 45) if kind == "orbit" else 0))
    nearer = 1 + ramp * (rng.uniform(0.2, 0.4) if kind == "dolly" else 0)
    aside = ramp * (rng.uniform(0.3, 0.6) if kind == "pan" else 0)
    middle = _smooth(path, count // 4) if wanders else np.tile(path.mean(0), (count, 1))
    carried = path.mean(0) + (middle - path.mean(0)) * (1 if rng.random() < 0.6 else 0.3)
    top = np.stack([(e.points[..., 2] + e.radius).max(1) for e in extents]).max(0)
    aim = 0.5 * (0.3 * float(np.median(top)) + 0.7 * float(top.max())) + rng.uniform(-0.04, 0.04)
    height, fovy = rng.uniform(0.75, 1.75), rng.uniform(38, 55)
    wanted = rng.uniform(LEAST, MOST)
    hand_held = rng.random() < 0.5

    def at(distance: float) -> Shot:
        out = distance * nearer[:, None]
        level = np.stack([np.cos(around), np.sin(around)], -1)
        place = np.concatenate([carried + out * level, np.full((count, 1), height)], 1)
        target = np.concatenate([middle, np.full((count, 1), aim)], 1)
        target[:, :2] += aside[:, None] * np.stack([-np.sin(around), np.cos(around)], -1)
        if hand_held:
            place, target = place + sway, target + sway[::-1] * 0.5
        return Shot(place, _look(place, target), fovy, _said(kind, ramp))

    return at(_distance(at, extents, wanted))


def spans(shot: Shot, extents: list[Extent]) -> tuple[np.ndarray, np.ndarray]:
    """Per person and time (N, T), as shares of a square picture: the height of what is inside it, and the reach of the
    person's farthest point from the middle, doubled."""
    focal = 0.5 / np.tan(np.deg2rad(shot.fovy) / 2)
    inside, reach = [], []
    for person in extents:
        seen = np.einsum("tpi,tij->tpj", person.points - shot.place[:, None], shot.rotation)
        depth = np.maximum(-seen[..., 2], 0.1)
        x, y, radius = seen[..., 0] / depth * focal, seen[..., 1] / depth * focal, person.radius / depth * focal
        low, high = (y - radius).min(1), (y + radius).max(1)
        inside.append(np.clip(high, -0.5, 0.5) - np.clip(low, -0.5, 0.5))
        reach.append(2 * np.maximum(np.maximum(-low, high), (np.abs(x) + radius).max(1)))
    return np.stack(inside), np.stack(reach)


def _distance(at: object, extents: list[Extent], wanted: float) -> float:
    """The distance at which the largest person is as large as wanted; farther, down to `LEAST`, to hold all of them."""
    distance = 3.0
    for _ in range(ROUNDS):
        inside, reach = spans(at(distance), extents)  # type: ignore[operator]
        large = float(np.median(inside.max(0)))
        wide = float(np.quantile(reach.max(0), 0.95))
        share = min(max(wide / LIMIT, large / wanted), large / LEAST)
        distance = float(np.clip(distance * share, 1.3, 9.0))
    return distance


def _look(place: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) of a camera at `place` that looks at `target`, both (T, 3), its x axis level."""
    back = place - target
    back /= np.linalg.norm(back, axis=-1, keepdims=True)
    right = np.cross(np.array([0.0, 0, 1]), back)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    return np.stack([right, np.cross(back, right), back], -1)


def _smooth(path: np.ndarray, reach: int) -> np.ndarray:
    """A moving mean over 2 reach + 1 times, the path going on straight at its ends."""
    before = 2 * path[:1] - path[reach:0:-1]
    after = 2 * path[-1:] - path[-2 : -reach - 2 : -1]
    long = np.concatenate([before, path, after])
    weights = np.ones(2 * reach + 1) / (2 * reach + 1)
    return np.stack([np.convolve(long[:, axis], weights, "valid") for axis in range(2)], -1)


def _said(kind: str, ramp: np.ndarray) -> str:
    closer = ramp[-1] < 0
    return {
        "static": "",
        "pan": "the camera pans",
        "dolly": "the camera moves closer" if closer else "the camera moves back",
        "orbit": "the camera circles",
        "follow": "the camera follows",
    }[kind]
