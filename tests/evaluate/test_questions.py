"""Questions follow from what a model is made of, not from what it is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moving import recipe as moving
from polyclock.encoders import Vector
from polyclock.evaluate.questions import questions
from polyclock.layout import Layout, Stream, one_of
from polyclock.modality import Condition
from polyclock.recipes import tiny
from polyclock.timesteps import Independent, Shared, Task
from worlds import MODALITIES, recipe


def asked(made, fps: float = 10.0, absent=()) -> dict[str, str]:
    return {q.name: q.query for q in questions(made.build(), fps, absent)[0]}


def fitted():
    made = moving()
    action = replace(made.modalities["action"], shape=(4, 2))
    state = replace(made.conditions["state"], shape=(1, 2))
    return replace(made, modalities=made.modalities | {"action": action}, conditions=made.conditions | {"state": state})


def test_a_model_of_action_and_future_video_is_asked_five_questions() -> None:
    assert asked(fitted()) == {
        "policy": "action |",
        "forward": "video | action",
        "inverse": "action | video",
        "video": "video |",
        "joint": "video, action |",
    }


def test_pictures_of_the_present_are_given_and_not_asked_for() -> None:
    """tiny's clip begins at the present; its action there has not been taken yet."""
    made = tiny(state=None)
    made = replace(made, modalities=made.modalities | {"action": replace(made.modalities["action"], shape=(4, 2))})
    assert asked(made) == {
        "policy": "action | video[:1], text",
        "forward": "video[1:] | video[:1], action, text",
        "inverse": "action | video, text",
        "video": "video[1:] | video[:1], text",
        "joint": "video[1:], action | video[:1], text",
    }


def test_a_model_without_actions_is_asked_about_pictures_only() -> None:
    made = tiny(action=None, state=None)
    assert asked(made) == {"video": "video[1:] | video[:1], text"}


def test_data_without_actions_take_the_questions_about_them_away() -> None:
    assert list(asked(fitted(), absent={"action"})) == ["video"]


def test_only_trained_questions_are_asked_and_the_others_are_named() -> None:
    found, skipped = questions(replace(fitted(), law=Shared()).build(), 10.0)
    assert [q.name for q in found] == ["joint"]
    assert any(s.startswith("forward is not asked: `video | action`") for s in skipped)
    found, _ = questions(replace(fitted(), law=Task("action | video")).build(), 10.0)
    assert [q.name for q in found] == ["inverse"]


def test_dense_modalities_are_asked_from_video_and_back() -> None:
    made = recipe(modalities={n: replace(m, start=1.0) for n, m in MODALITIES.items()}, law=Independent())
    assert asked(made) == {
        "policy": "action |",
        "forward": "video | action",
        "inverse": "action | video",
        "video": "video |",
        "depth": "depth |",
        "depth from video": "depth | video",
        "video from depth": "video | depth",
        "joint": "video, depth, action |",
    }


def test_modalities_that_share_a_slot_are_asked_one_at_a_time() -> None:
    modalities = {n: replace(MODALITIES[n], start=1.0) for n in ("video", "depth")}
    modalities["flow"] = modalities["depth"]
    layout = Layout(Stream("video"), Stream(one_of("depth", "flow")))
    made = recipe(modalities=modalities, layout=layout, law=Independent())
    found = asked(made)
    assert "joint" not in found and found["depth from video"] == "depth | video" and found["flow"] == "flow |"


def test_views_of_a_camera_are_one_question() -> None:
    made = fitted()
    wrist = replace(made.modalities["video"], clock="video", share="video")
    modalities = made.modalities | {"video.wrist": wrist}
    made = replace(made, modalities=modalities, layout=Layout(*(Stream(n) for n in modalities)))
    found, _ = questions(made.build(), 10.0)
    assert [q.name for q in found] == ["policy", "forward", "inverse", "video", "joint"]
    assert set(found[1].wanted) == {"video", "video.wrist"}


def test_what_must_be_given_and_is_not_there_is_named() -> None:
    made = fitted()
    required = Condition(key="observation.force", encoder=Vector(width=8), shape=(1, 3), required=True)
    made = replace(made, conditions=made.conditions | {"force": required})
    with pytest.raises(ValueError, match="must be given 'force' .column 'observation.force'., which the data lack"):
        questions(made.build(), 10.0, {"force"})
