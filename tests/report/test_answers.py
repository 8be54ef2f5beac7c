"""What is looked at: clips in colours that mean the same for given, predicted and true, curves, plain sentences."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import staged
from PIL import Image
from test_page import Tags

from moving import Moving, recipe
from polyclock.codecs import TAB20
from polyclock.report import words
from polyclock.report.answers import answers
from polyclock.report.draw import drawn, joint_colours, paints
from polyclock.report.scenes import Clip, sample_scenes
from polyclock.report.strips import FRAMES, SIDE, picture, strip


def decoded(text: str) -> np.ndarray:
    found = re.search(r"data:image/webp;base64,([^\"]+)", text)
    assert found
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB"))


@pytest.fixture(scope="module")
def page() -> str:
    scenes = staged.scenes()
    return "".join(answers(scenes, {"policy": "polyclock sample RUN 'action | text'"}, {}))


def test_windows_are_joined_and_the_earlier_one_has_the_shared_frame() -> None:
    a, b = np.array([[0.0], [1.0], [2.0]]), np.array([[20.0], [3.0], [4.0]])
    joined = Clip.joined([(0.0, [0.0, 0.1, 0.2], a), (0.2, [0.0, 0.1, 0.2], b)])
    assert joined.times == (0.0, 0.1, 0.2, 0.3, 0.4) and joined.window == (0, 0, 0, 1, 1)
    assert joined.values[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_scenes_follow_an_episode_window_by_window() -> None:
    made = recipe().fit(Moving().without([3])).build()
    scenes = sample_scenes(made, Moving(), [2, 3], count=2, seconds=1.2, steps=1)
    assert [s.places[0].episode for s in scenes.scenes] == [2, 3]
    scene = scenes.scenes[1]
    assert [p.frame - scene.places[0].frame for p in scene.places] == [0, 4, 8], "0.4 s of a window, three of them"
    action = scene.values["action"]
    assert isinstance(action, Clip) and len(action.times) == 12
    begin = scene.places[0].frame
    assert action.values[:, 0] == pytest.approx(Moving().levels(3)[begin + 1 : begin + 13], abs=1e-6)
    assert scene.answers["forward"]["video"].times == pytest.approx((0.2, 0.4, 0.6, 0.8, 1.0, 1.2))


def test_stretches_do_not_repeat_each_other() -> None:
    made = recipe().fit(Moving().without([3])).build()
    assert len(sample_scenes(made, Moving(), [3], count=3, seconds=7, steps=1).scenes) == 1
    short = sample_scenes(made, Moving(), [3], count=3, seconds=2, steps=1).scenes
    begun = [s.places[0].frame for s in short]
    assert len(begun) == 3 and np.diff(begun).min() >= 12


def test_every_map_is_drawn_in_its_colours() -> None:
    scenes = staged.scenes()
    true, how = staged.true_values(), paints(scenes)
    depth = how["depth"].colour(true["depth"])
    assert (depth[:, 0] == 0).all() and depth[0, 5, 0, 0] > depth[0, 5, 15, 0], "unknown is black, near is red"
    flow = how["flow"].colour(true["flow"])
    assert (flow[0, 0, 0] == 255).all() and flow[0, 5, 3].min() < 10, "still is white, moving is coloured"
    masks = how["segmentation"].colour(true["segmentation"])
    assert tuple(masks[0, 5, 3]) == TAB20[3] and tuple(masks[0, 15, 15]) == TAB20[0] and (masks[0, 0, 0] == 0).all()
    surface = how["surface"].colour(true["surface"])
    assert tuple(surface[0, 5, 3]) == (255, 128, 64)
    assert (how["video"].colour(true["video"]) == true["video"]).all()


def test_ranges_are_those_of_the_truth_whatever_was_predicted() -> None:
    how = paints(staged.scenes())["depth"]
    far = np.full((1, 4, 4, 1), 500.0, np.float32)
    edge = how.colour(np.full((1, 4, 4, 1), 1.9375, np.float32))
    assert np.abs(how.colour(far).astype(int) - edge).max() < 30, "what lies beyond has the colour of the end"
    assert "1.00 m" in how.legend and "1.94 m" in how.legend


def test_skeletons_are_drawn_where_the_joints_are() -> None:
    note = staged.NOTES["observation.skeleton.front"]
    points = staged.true_values()["skeleton"]
    under = np.full((staged.FRAMES, 16, 16, 3), 100, np.uint8)
    shown = drawn(points, under, (16, 16), note)
    assert shown.shape == (staged.FRAMES, 192, 192, 3)
    for joint, colour in enumerate(joint_colours(3)):
        x, y = points[2, joint, :2] * 12
        assert tuple(shown[2, int(y), int(x)]) == colour
    assert shown[2, 140, 96].max() > 150, "a line from joint to joint"
    assert (shown[2, 20, 20] == 65).all(), "the picture beneath is dimmed"
    points[2, 2, 2] = 0
    assert not (drawn(points, under, (16, 16), note)[2] == joint_colours(3)[2]).all(-1).any(), "hidden: not drawn"


def test_the_legend_names_what_is_there(page: str) -> None:
    said = " ".join(Tags(page).words)
    for word in ("background", "floor", "arm", "elbow", "1.00 m", "full colour = 1 px", "4 frames on"):
        assert word in said, word
    assert "button" not in " ".join(re.findall(r'class="entry">.*?</span>', page)), "no pixel shows a button"


def test_a_reader_is_told_what_each_question_is(page: str) -> None:
    said = " ".join(" ".join(Tags(page).words).split())
    assert "What should be done now?" in said
    assert "Shown the sentence, the network says the actions (x, y, closing) of the next 0.3 s." in said
    assert (
        "Told the actions, and the first of the pictures and the sentence, the network predicts pictures, depth,"
        in said
    )
    assert "What did the camera see, going by depth?" in said and "From depth, the network works out pictures" in said
    assert "“press <the> button”" in said and "asked 2 times, every 0.3 s" in said
    assert "actions: x" in said and "actions: closing" in said and "actions: y" not in said, "y never moves"
    assert "polyclock sample RUN 'action | text'" in said


def test_players_show_predicted_above_true(page: str) -> None:
    players = page.split('class="player"')[1:]
    assert len(players) == 3
    assert re.findall(r"<figcaption>(\w+)</figcaption>", players[1]) == ["given"] + ["predicted", "true"] * 6
    assert re.findall(r"<figcaption>(\w+)</figcaption>", players[2]) == ["given", "predicted", "true"]
    alt = re.findall(r'alt="([^"]*)"', players[1])
    assert alt[0].startswith("given pictures") and "predicted motion: 5 frames" in alt and all(alt)
    times = re.search(r'data-times="([^"]*)"', players[1])
    assert times and times[1] == "0 0.1 0.2 0.3 0.4"


def test_numbers_alone_have_few_moments() -> None:
    scenes = staged.scenes((staged.POLICY,))
    long = Clip(times=tuple(i / 80 for i in range(160)), values=np.zeros((160, 3), np.float32), window=(0,) * 160)
    scene = scenes.scenes[0]
    object.__setattr__(scene, "answers", {"policy": {"action": long}})
    object.__setattr__(scene, "values", {"action": long, "text": "a"})
    found = re.search(r'data-times="([^"]*)"', "".join(answers(scenes, {}, {})))
    assert found and len(found[1].split()) == 40


def test_what_was_predicted_again_is_interrupted() -> None:
    page = "".join(answers(staged.scenes((staged.POLICY,)), {}, {}))
    lines = re.findall(r'<polyline points="([^"]*)" class="line c(\d)', page)
    assert [(len(p.split()), c) for p, c in lines[:3]] == [(5, "0"), (3, "1"), (2, "1")]


@pytest.mark.parametrize(
    ("name", "wanted", "of", "title"),
    [
        ("maps from video", ("depth", "flow"), ("video",), "What do these pictures show?"),
        ("depth from video", ("depth",), ("video",), "How far away is everything?"),
        ("video from maps", ("video",), ("depth", "flow"), "What did the camera see?"),
        ("inverse", ("action",), ("video",), "What was done here?"),
        ("depth and action", ("depth", "action"), (), "Depth and action"),
    ],
)
def test_titles(name: str, wanted: tuple[str, ...], of: tuple[str, ...], title: str) -> None:
    question = staged.Question(
        name=name, query="", wanted=dict.fromkeys(wanted, 0), given=of, of=of, conditions=(), tokens=()
    )
    assert words.title(staged.scenes(()), question) == title
    assert words.sentence(staged.scenes(()), question).endswith(".")


def test_strips_keep_pixels_and_thin_what_is_large() -> None:
    clip = staged.true_values()["video"]
    figure = strip(clip, staged.TIMES, "true <video>", "about")
    assert (decoded(figure) == np.concatenate(list(clip), 1)).all() and "true &lt;video&gt;" in figure
    noise = np.random.default_rng(0).integers(0, 255, (40, 200, 400, 3)).astype(np.uint8)
    large = strip(noise, [i / 10 for i in range(40)], "true")
    assert decoded(large).shape == (SIDE // 2, SIDE * FRAMES, 3) and len(large) < 1_000_000
    when = re.search(r'data-times="([^"]*)"', large)
    assert when and when[1].split()[0] == "0" and when[1].split()[-1] == "3.9"


def test_other_planes_are_spread_over_what_the_truth_holds() -> None:
    scenes = staged.scenes()
    object.__setattr__(scenes, "kinds", {**scenes.kinds, "depth": "numbers"})
    how = paints(scenes)["depth"]
    shown = how.colour(np.array([[[[0.0], [1.9375], [np.nan]]]], np.float32))
    assert shown[0, 0].tolist() == [[0] * 3, [255] * 3, [0] * 3]
    assert picture(shown[0]).startswith("webp;base64,")
