"""People on film: every truth agrees with rays and closed forms, clips repeat exactly, captions say what happened."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from polyclock.cli import main
from polyclock.data import open_dataset
from polyclock.data.formats.lerobot import open_lerobot
from polyclock.data.verify import verify
from polyclock.envs import cast
from polyclock.envs.cast import action, describe
from polyclock.envs.collect import Unit
from polyclock.envs.figure import CHART, PARTS
from polyclock.envs.people import CAMERA, LEADS, Clip, PeopleSource
from polyclock.envs.people_anatomy import CLASSES, shown
from polyclock.envs.scene import Scene

SMALL = PeopleSource(clips=6, frames=16, fps=10, size=48)
SHARP = replace(SMALL, size=128)
VERBS = {"walk": "walks", "wave": "waves", "squat": "squats", "jump": "jumps", "throw": "throws", "lift": "lifts"}
CAPSULE, ELLIPSOID = int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_ELLIPSOID)
FLAT = (int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_BOX))
ROUND = (CAPSULE, ELLIPSOID, int(mujoco.mjtGeom.mjGEOM_SPHERE))


@pytest.fixture(scope="module")
def films() -> list[tuple[dict[str, np.ndarray], str]]:
    """Six clips in a row: columns and caption."""
    return [SMALL.open().make(Unit("people", number)) for number in range(6)]


def column(film: tuple[dict[str, np.ndarray], str], kind: str) -> np.ndarray:
    return film[0][f"observation.{kind}.{CAMERA}"]


def test_columns_are_those_of_the_features(films) -> None:
    features = SMALL.features()
    for columns, _ in films:
        assert columns.keys() == features.keys()
        assert columns["prompt"].shape == (16,) and features["prompt"]["dtype"] == "string"
        for key, values in ((k, v) for k, v in columns.items() if k != "prompt"):
            depth_or_map = features[key]["dtype"] == "video" and "images" not in key
            channels = {"depth": 1, "segmentation": 2}.get(key.split(".")[1], 3)
            shape = (48, 48, channels) if depth_or_map else tuple(features[key]["shape"])
            assert values.shape == (16, *shape), key
    assert features[f"observation.surface.{CAMERA}"]["polyclock"]["surface_chart"] == CHART
    assert features[f"observation.surface.{CAMERA}"]["polyclock"]["parts"]["24"] == "head left"
    joints = features[f"observation.skeleton.{CAMERA}"]["polyclock"]["joints"]
    assert len(joints) == 34 and joints[0] == "person1.nose" and joints[33] == "person2.right_ankle"


def test_six_clips_show_six_movements_and_say_so(films) -> None:
    captions = [caption for _, caption in films]
    for number, caption in enumerate(captions):
        for motion in Clip(SMALL, number).motions:
            assert VERBS.get(motion, "stands") in caption
    for verb in VERBS.values():
        assert any(verb in caption for caption in captions), verb
    assert {len(Clip(SMALL, number).motions) for number in range(6)} == {1, 2}


def test_captions_name_what_is_there(films) -> None:
    for number, (_, caption) in enumerate(films):
        clip = Clip(SMALL, number)
        for actor in clip.actors:
            assert describe(actor.build) in caption
            assert (actor.build.height >= 1.8) == ("tall" in describe(actor.build))
            assert (" striped" in describe(actor.build)) == bool(actor.build.stripes)
            if actor.thing is not None:
                assert f"{actor.thing.colour} {actor.thing.kind}" in caption
        assert (" while " in caption) == (len(clip.actors) == 2)


def test_ways_of_walking_are_told_as_the_camera_sees_them() -> None:
    source = replace(SMALL, motions=("walk",), pairs=0.0)
    told = set()
    for number in range(16):
        clip = Clip(source, number)
        (actor,) = clip.actors
        pelvis = actor.posed.position[:, 0]
        seen = (pelvis[[0, -1]] - clip.shot.place[0]) @ clip.shot.rotation[0]  # right, up, back
        sentence = action(actor, clip.azimuth)
        told.add(sentence)
        right, back = seen[1, 0] - seen[0, 0], seen[1, 2] - seen[0, 2]
        wanted = {"right": right, "left": -right, "camera": back if "toward" in sentence else -back}
        assert wanted[sentence.split()[-1]] > 0.3, sentence
    assert len(told) >= 3
    (walker,) = Clip(replace(source, frames=121), 0).actors
    assert action(walker, 0.0) == "walks in a circle"


def test_clips_repeat_exactly_and_differ_from_one_another(films) -> None:
    again, sentence = SMALL.open().make(Unit("people", 2))
    assert sentence == films[2][1]
    for key, values in films[2][0].items():
        np.testing.assert_array_equal(again[key], values, err_msg=key)
    other = Clip(replace(SMALL, seed=1), 2)
    assert other.actors[0].build != Clip(SMALL, 2).actors[0].build
    assert len({film[0][f"observation.images.{CAMERA}"].tobytes() for film in films}) == 6


def fills(instances: np.ndarray) -> float:
    """The height of the largest person's box, median over the frames (n, H, W), as a share of the picture."""
    heights = []
    for frame in instances:
        rows = [np.flatnonzero((frame == person).any(1)) for person in (1, 2)]
        heights.append(max(int(np.ptp(r)) + 1 if len(r) else 0 for r in rows))
    return float(np.median(heights)) / instances.shape[1]


def test_people_fill_most_of_the_picture(films) -> None:
    for film in films:
        assert fills(column(film, "segmentation")[..., 0]) >= 0.6, film[1]


@pytest.mark.slow
def test_people_fill_most_of_the_picture_in_many_clips() -> None:
    source = PeopleSource(clips=48, size=64, seed=3)
    for number in range(48):
        clip = Clip(source, number)
        scene = Scene(clip.model, source.size)
        instance = np.append(clip.anatomy.instance, 0)
        seen = [instance[scene.view(data, CAMERA).geom] for data, _ in itertools.islice(clip.states(), 0, None, 3)]
        scene.close()
        assert fills(np.stack(seen)) >= 0.6, (number, clip.motions)


def test_surface_map_covers_people(films) -> None:
    for film in films:
        part = column(film, "surface")[..., 0]
        np.testing.assert_array_equal(part > 0, column(film, "segmentation")[..., 1] == 1)
        assert set(np.unique(part)) <= {0, *PARTS}


def test_an_absent_person_is_nowhere(films) -> None:
    alone = [n for n in range(6) if len(Clip(SMALL, n).actors) == 1]
    assert alone
    for number in alone:
        assert not column(films[number], "skeleton")[:, 17:].any()
        assert not (column(films[number], "segmentation")[..., 0] == 2).any()


def test_instances_have_one_class_each(films) -> None:
    for number, film in enumerate(films):
        clip, labels = Clip(SMALL, number), column(film, "segmentation")
        classes = {int(i): set(labels[labels[..., 0] == i][:, 1]) for i in np.unique(labels[..., 0])}
        kinds = {name: n for n, name in CLASSES.items()}
        for instance, found in classes.items():
            if instance in (1, 2):
                assert found == {kinds["person"]}
            elif instance > 2:
                assert found == {kinds[clip.props[instance - 3].kind]}
            else:
                assert found <= {kinds["background"], kinds["furniture"]}


def test_a_text_says_whom_and_what_the_segmentation_shows(films) -> None:
    counts = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
    classes = {"person": 1, "persons": 1, "ball": 2, "balls": 2, "box": 3, "boxes": 3}
    told = set()
    for film in films:
        (text,) = set(film[0]["prompt"].tolist())
        told.add(text)
        pairs = {tuple(pair) for pair in column(film, "segmentation").reshape(-1, 2).tolist()}
        here = {c: len({i for i, label in pairs if label == c}) for c in (1, 2, 3)}
        parts = text.replace(" and ", ", ").split(", ")
        said = {classes[word]: counts[n] for n, word in (part.split() for part in parts if part != "furniture")}
        assert said == {c: n for c, n in here.items() if n} and ("furniture" in parts) == ((0, 4) in pairs)
        assert ("one person" in parts) == (said[1] == 1) and ("two persons" in parts) == (said[1] == 2)
    assert len(told) >= 3


def test_a_text_picks_whom_a_segmentation_of_its_own_shows(films) -> None:
    source, told = replace(SMALL, named=True), []
    assert source.features().keys() - SMALL.features().keys() == {"named", f"observation.named.{CAMERA}"}
    assert "named" not in SMALL.settings() and source.settings()["named"]
    for number in range(4):
        columns, caption = source.open().make(Unit("people", number))
        for key, values in films[number][0].items():
            np.testing.assert_array_equal(columns[key], values, err_msg=f"{key}: nothing else changes")
        clip, film = Clip(source, number), (columns, caption)
        labels, picked = column(film, "segmentation"), column(film, "named")
        (text,) = set(columns["named"].tolist())
        told.append(text)
        meant = [n + 1 for n, a in enumerate(clip.actors) if text in (f"the{describe(a.build)[1:]}", "two persons")]
        meant += [n + 3 for n, prop in enumerate(clip.props) if text == f"the {prop.colour} {prop.kind}"]
        assert meant and set(np.unique(picked[..., 0])) == {0, *meant}, text
        inside = np.isin(labels[..., 0], meant)
        np.testing.assert_array_equal(picked[inside], labels[inside])
        assert not picked[~inside].any()
    assert len(set(told)) == 4


def test_the_people_of_a_clip_are_told_apart_by_words() -> None:
    pairs = [clip for n in range(40) if len((clip := Clip(SMALL, n)).actors) == 2][:12]
    assert len(pairs) == 12
    for clip in pairs:
        assert len({describe(actor.build) for actor in clip.actors}) == 2
        picked = {clip.named(np.array([[[0, 1, 2]]]))[0] for clip.number in range(30)}
        assert len(picked) == 3 and "two persons" in picked, "each of them, and both"
    assert pairs[0].named(np.zeros((1, 1, 1))) == ("", [])


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ([(1, 1)], "one person"),
        ([(0, 0), (1, 1), (2, 1)], "two persons"),
        ([(1, 1), (0, 4)], "one person and furniture"),
        ([(1, 1), (3, 3), (5, 3), (4, 2), (0, 4)], "one person, one ball, two boxes and furniture"),
        ([(0, 0)], ""),
    ],
)
def test_what_is_shown_in_words(pairs: list[tuple[int, int]], text: str) -> None:
    assert shown(np.array(pairs, np.int32).reshape(1, 1, -1, 2)) == text


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"motions": ("fly",)}, "unknown movement 'fly'"),
        ({"size": 8}, "size 8; possible: an even number, 16 or more"),
        ({"size": 65}, "size 65; possible: an even number"),
        ({"frames": 5}, "frames 5; possible: enough for 1.5 s; at 10 a second 16"),
        ({"fps": 0.0}, "fps 0.0; possible: above 0"),
        ({"fps": float("inf")}, "fps inf; possible: above 0"),
        ({"fps": float("nan")}, "fps nan; possible: above 0"),
        ({"clips": 0}, "clips 0; possible: 1 or more"),
        ({"pairs": 1.5}, "pairs 1.5; possible: 0 to 1"),
        ({"flow_steps": 0}, "flow-steps 0; possible: 1 or more"),
        ({"motions": ("walk", "walk")}, "possible: each once"),
    ],
)
def test_what_cannot_be_filmed_is_said(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("(", r"\(")) as raised:
        replace(SMALL, **settings)
    assert "\n" not in str(raised.value)


def test_two_for_whom_there_is_no_room_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one whose turn it is."""
    assert {len(Clip(SMALL, n).actors) for n in range(6)} == {1, 2}
    monkeypatch.setattr(cast, "APART", 9.0)
    assert sorted(Clip(SMALL, n).motions for n in range(6)) == sorted((motion,) for motion in LEADS)


def test_the_default_source_takes_all_movements_in_turn() -> None:
    leads = [set(Clip(SMALL, n).motions) for n in range(6)]
    for motion in LEADS:
        assert any(motion in group for group in leads)


def test_the_command_writes_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--clips", "1", "--frames", "16", "--fps", "10", "--size", "32", "--workers", "1", "--named"]
    assert main(["collect", "people", *words, "--out", str(tmp_path / "clips")]) == 0
    assert "1 episodes with 16 frames" in capsys.readouterr().out
    source = open_lerobot(tmp_path / "clips")
    assert len(source.episodes) == 1
    assert "person" in source.read(0, "prompt", [3]) and source.facts.columns["prompt"] == ()
    whole, named = f"observation.segmentation.{CAMERA}", f"observation.named.{CAMERA}"
    picked = open_dataset(f"{tmp_path / 'clips'}?hide={whole},prompt&rename={named}:{whole},named:prompt")
    assert picked.read(0, "prompt", [3]) == source.read(0, "named", [3])
    np.testing.assert_array_equal(picked.read(0, whole, [3]), source.read(0, named, [3]))
    assert picked.dense[whole] == source.dense[whole] and verify(tmp_path / "clips") == []
    assert main(["collect", "people", *words, "--size", "7", "--out", str(tmp_path / "none")]) == 2
    assert "size 7; possible" in capsys.readouterr().err and not (tmp_path / "none").exists()
    assert main(["collect", "people", *words, "--size", "100000", "--out", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert "pictures of 100000 x 100000 cannot be drawn" in said and said.count("\n") == 1
    assert not (tmp_path / "none").exists()
