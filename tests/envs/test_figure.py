"""The figure: keypoints on their own limbs, every part of the scheme, and a chart that is continuous and one to one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from polyclock.envs import figure
from polyclock.envs.figure import JOINTS, LIMBS, LINKS, PARTS, Body, Build
from polyclock.envs.people_anatomy import anatomy_of, shown_by

BUILDS = (Build(), Build(height=1.5, girth=1.25, shoulders=0.9, long_hair=True), Build(height=1.95, girth=0.85))


def model_of(build: Build) -> mujoco.MjModel:
    materials = {piece.colour for piece in figure.pieces(build)}
    assets = "".join(f'<material name="person1.{name}"/>' for name in sorted(materials))
    lines = "".join(figure.mjcf(build, "person1", 2))
    return mujoco.MjModel.from_xml_string(f"<mujoco><asset>{assets}</asset><worldbody>{lines}</worldbody></mujoco>")


def skin(piece: figure.Piece, count: int, seed: int) -> np.ndarray:
    """Points (count, 3) all over a piece, in its link's frame; every second one lies 2 mm beside the one before."""
    rng = np.random.default_rng(seed)
    way = rng.normal(size=(count // 2, 3))
    way = np.repeat(way / np.linalg.norm(way, axis=1, keepdims=True), 2, axis=0)
    if piece.to is None:
        size = np.array(piece.size)
        way[1::2] += rng.normal(size=(count // 2, 3)) * 0.001 / size
        return np.array(piece.at) + size * way / np.linalg.norm(way, axis=1, keepdims=True)
    way[1::2] += rng.normal(size=(count // 2, 3)) * 0.001 / piece.size[0]
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    axis = np.array(piece.to) - np.array(piece.at)
    end = np.where((way @ axis > 0)[:, None], piece.to, piece.at)
    along = np.repeat(rng.random((count // 2, 1)), 2, axis=0)
    level = way - (way @ axis)[:, None] * axis / (axis @ axis)
    round_it = level / np.linalg.norm(level, axis=1, keepdims=True)
    cap = np.repeat(rng.random(count // 2) < 0.4, 2)[:, None]
    return np.where(cap, end + piece.size[0] * way, np.array(piece.at) + along * axis + piece.size[0] * round_it)


def rest(build: Build) -> dict[str, np.ndarray]:
    """Where each link's joint is when the person stands straight, all frames in line."""
    body = Body(build)
    at = {"pelvis": np.array([0, 0, body.standing])}
    at["chest"] = at["pelvis"] + body.waist
    at["head"] = at["chest"] + body.neck
    down = np.array([0, 0, -1.0])
    for side in figure.SIDES:
        at[f"{side}_upper_arm"] = at["chest"] + body.shoulder(side)
        at[f"{side}_forearm"] = at[f"{side}_upper_arm"] + body.upper_arm * down
        at[f"{side}_hand"] = at[f"{side}_forearm"] + body.forearm * down
        at[f"{side}_thigh"] = at["pelvis"] + np.array([0, figure.sign(side) * body.hip, 0])
        at[f"{side}_shin"] = at[f"{side}_thigh"] + body.thigh * down
        at[f"{side}_foot"] = at[f"{side}_shin"] + body.shin * down
    return at


def buried(points: np.ndarray, own: figure.Piece, build: Build) -> np.ndarray:
    """Which points (n, 3), in the frame of piece `own`'s link, lie inside another piece of a person at rest: (n,)."""
    at = rest(build)
    world = points + at[own.link]
    inside = np.zeros(len(points), bool)
    for piece in figure.pieces(build):
        if piece.name != own.name:
            local = world - at[piece.link] - np.array(piece.at)
            if piece.to is None:
                inside |= np.linalg.norm(local / piece.size, axis=1) < 1
            else:
                axis = np.array(piece.to) - np.array(piece.at)
                along = np.clip(local @ axis / (axis @ axis), 0, 1)[:, None]
                inside |= np.linalg.norm(local - along * axis, axis=1) < piece.size[0]
    return inside


def test_the_scheme_is_whole() -> None:
    assert len(PARTS) == 24 and sorted(PARTS) == list(range(1, 25))
    assert {PARTS[n] for n in (1, 3, 5, 8, 9, 16, 21, 24)} == {
        *("torso back", "right hand", "left foot", "left upper leg back", "right upper leg front"),
        *("right upper arm inside", "left lower arm outside", "head left"),
    }
    assert len(JOINTS) == 17 and JOINTS[0] == "nose" and JOINTS[5:7] == ("left_shoulder", "right_shoulder")
    assert len(LIMBS) == 19 and set(map(len, LIMBS)) == {2}


@pytest.mark.parametrize("build", BUILDS, ids=str)
def test_measures_are_those_of_the_build(build: Build) -> None:
    """Standing straight, a person is as tall as the build says, hair aside, and touches the floor."""
    body, at = Body(build), rest(build)
    skull = next(p for p in figure.pieces(build) if p.name == "skull")
    assert at["head"][2] + skull.at[2] + skull.size[2] == pytest.approx(build.height, rel=0.005)
    centre, size = body.sole
    assert centre[2] - size[2] == pytest.approx(-body.ankle)
    assert at["left_foot"][2] == pytest.approx(body.ankle) == at["right_foot"][2]
    assert {p.link for p in figure.pieces(build)} == set(LINKS)


@pytest.mark.parametrize("build", BUILDS, ids=str)
def test_keypoints_lie_in_or_on_their_pieces(build: Build) -> None:
    for joint, (link, place, under) in zip(JOINTS, figure.keypoints(build), strict=True):
        assert link in LINKS and 0 < under < 0.2
        names = shown_by(joint)
        own = [p for p in figure.pieces(build) if p.link == link and p.name in names]
        assert own, joint
        distance = min(np.linalg.norm(skin(p, 2000, 0) - place, axis=1).min() for p in own)
        assert distance < (0.015 if joint.split("_")[-1] in ("nose", "eye", "ear") else under), joint


@pytest.mark.parametrize("build", BUILDS, ids=str)
def test_chart_is_continuous_and_names_both_halves(build: Build) -> None:
    charts = figure.charts(build)
    found: set[int] = set()
    for number, piece in enumerate(figure.pieces(build)):
        points = skin(piece, 2000, number)
        # Where a chart is torn, another piece covers it.
        points = points[np.repeat(~buried(points, piece, build)[::2], 2)]
        part, u, v = figure.surface(points, charts[piece.link])
        found |= set(part.tolist())
        assert ((u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)).all()
        apart = np.linalg.norm(points[::2] - points[1::2], axis=1)
        same = part[::2] == part[1::2]
        slope = (np.abs(u[::2] - u[1::2]) + np.abs(v[::2] - v[1::2])) / np.maximum(apart, 1e-4)
        assert same.mean() > 0.85
        assert slope[same].max() < 45, piece.name  # of U and V together for each m
    assert found == set(PARTS)


@pytest.mark.parametrize("link", [name for name in LINKS if name not in ("pelvis", "chest", "head")])
def test_chart_is_one_to_one(link: str) -> None:
    """Of points with the same part and nearly the same U and V, none lie apart on the limb."""
    build = BUILDS[0]
    piece = next(p for p in figure.pieces(build) if p.name == link)
    points = skin(piece, 1500, 1)
    part, u, v = figure.surface(points, figure.charts(build)[link])
    near = (np.abs(u[:, None] - u) + np.abs(v[:, None] - v) < 0.01) & (part[:, None] == part)
    assert np.linalg.norm(points[:, None] - points, axis=-1)[near].max() < 0.02


def test_halves_are_where_their_names_say() -> None:
    """Told in the links' frames: x front, y left."""
    charts = figure.charts(Build())
    places = {
        ("chest", (0.1, 0, 0.1)): "torso front",
        ("pelvis", (-0.1, 0, 0.0)): "torso back",
        ("head", (0, 0.08, 0.1)): "head left",
        ("head", (0, -0.08, 0.1)): "head right",
        ("right_thigh", (0.07, 0, -0.2)): "right upper leg front",
        ("left_shin", (-0.07, 0, -0.2)): "left lower leg back",
        ("left_upper_arm", (0, 0.05, -0.1)): "left upper arm outside",
        ("right_upper_arm", (0, 0.05, -0.1)): "right upper arm inside",
        ("right_forearm", (0, -0.05, -0.1)): "right lower arm outside",
        ("left_hand", (0, 0, -0.15)): "left hand",
        ("right_foot", (0.1, 0, -0.05)): "right foot",
    }
    for (link, place), name in places.items():
        part, _, _ = figure.surface(np.array([place], float), charts[link])
        assert PARTS[int(part[0])] == name


def test_the_model_holds_every_piece_and_nothing_pushes_it() -> None:
    build = BUILDS[1]
    model = model_of(build)
    assert model.nmocap == len(LINKS) and model.nq == 0
    assert model.ngeom == len(figure.pieces(build))
    for g in range(model.ngeom):
        assert model.geom(g).contype in (0, 2) and model.geom(g).conaffinity == 0


def test_joints_are_those_of_two_people_also_where_there_is_one() -> None:
    known = anatomy_of(model_of(BUILDS[1]), [BUILDS[1]], [])
    assert len(known.joints) == 34 and known.joints[17] == "person2.nose" and known.parts == PARTS
    assert known.owners[:17].any(1).all() and not known.owners[17:].any()  # nobody else is there
