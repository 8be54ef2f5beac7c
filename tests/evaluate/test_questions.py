"""Questions follow from what a model is made of, not from what it is called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moving import recipe as moving
from polyclock.encoders import Vector
from polyclock.evaluate.questions import questions
from polyclock.layout import Layout, Stream, one_of
from polyclock.modality import Condition
from polyclock.recipes import tiny, unityvideo
from polyclock.timesteps import Independent, Mixture, PerFrame, Shared, Task
from worlds import CONDITIONS, MODALITIES, recipe


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


def tabletop_like(law):
    """A clip that starts at the present, two maps of it, and an optional sentence."""
    video = replace(MODALITIES["video"], rate=2.0)
    made = recipe(
        modalities={
            "video": video, "depth": MODALITIES["depth"], "flow": MODALITIES["depth"], "action": MODALITIES["action"]
        },
        conditions={"text": CONDITIONS["text"]},
        law=law,
    )  # fmt: skip
    kinds = {"video": "picture", "depth": "depth", "flow": "flow", "action": "numbers"}
    return made, kinds


TRAINED = Mixture(
    (1.0, Task("action | text, -video, -depth, -flow")),
    (1.0, Task("depth, flow | video")),
    (1.0, Task("video[1:], depth, flow | video[:1], action, text")),
    (1.0, Task("video[1:], depth, flow, action | video[:1], text")),
    (1.0, Task("action | video, text")),
    (1.0, Task("action[k:] | action[:k], text")),
)


def test_queries_that_the_law_trains_are_asked_word_for_word() -> None:
    made, kinds = tabletop_like(TRAINED)
    found, skipped = questions(made.build(), 2.0, (), kinds)
    assert {q.name: q.query for q in found} == {
        "policy": "action | text, -video, -depth, -flow",
        "forward": "video[1:], depth, flow | video[:1], action, text",
        "inverse": "action | video, text",
        "joint": "video[1:], depth, flow, action | video[:1], text",
        "maps from video": "depth, flow | video",
    }
    maps = next(q for q in found if q.name == "maps from video")
    assert (maps.conditions, maps.given, maps.control) == ((), ("video",), "shuffled video")
    forward = next(q for q in found if q.name == "forward")
    assert forward.wanted == {"video": 1, "depth": 0, "flow": 0} and forward.varied == ("action",)
    policy = found[0]
    assert policy.tokens == ("action",) and (policy.control, policy.varied) == ("shuffled inputs", ("text",))
    # What was not trained is said, and what a trained question answers already is not asked again.
    assert any(s.startswith("video from depth is not asked") for s in skipped)
    assert not any("depth from video" in s for s in skipped)


def test_a_trained_query_that_cannot_be_measured_is_said() -> None:
    law = Mixture(
        *[(1.0, Task(q)) for q in ("video[1:3] | video[:1], text", "action[k:] | action[:k]", "depth | video")]
    )
    made, kinds = tabletop_like(law)
    found, skipped = questions(made.build(), 2.0, (), kinds)
    assert {q.name: q.query for q in found} == {"depth from video": "depth | video"}
    assert "`video[1:3] | video[:1], text` is not asked: only frames up to a window's end are measured" in skipped
    assert skipped.count("`action[k:] | action[:k]` is not asked: k can be any number") == 1


def test_plain_questions_stand_beside_the_trained_ones_where_the_law_trains_everything() -> None:
    made, kinds = tabletop_like(Mixture((1.0, PerFrame()), *TRAINED.entries))
    names = {q.name for q in questions(made.build(), 2.0, (), kinds)[0]}
    assert names == {"policy", "forward", "inverse", "joint", "maps from video", "video from depth", "video from flow"}


def test_trained_queries_lose_what_the_data_lack() -> None:
    made, kinds = tabletop_like(TRAINED)
    found, _ = questions(made.build(), 2.0, {"flow", "text"}, kinds)
    maps, policy = ({q.name: q for q in found}[n] for n in ("depth from video", "policy"))
    assert maps.query == "depth, flow | video" and maps.wanted == {"depth": 0}, "flow is asked for, and not measured"
    assert policy.query == "action | -video, -depth, -flow" and policy.conditions == ()
    assert all(q.name != "maps from video" for q in found)


def test_nobody_is_told_the_depth_of_the_present() -> None:
    made, kinds = tabletop_like(Independent())
    found = {q.name: q.query for q in questions(made.build(), 2.0, (), kinds)[0]}
    assert found["depth from video"] == "depth | video, text"
    made, kinds = tabletop_like(PerFrame())
    found = {q.name: q.query for q in questions(made.build(), 2.0, (), kinds)[0]}
    assert found["forward"] == "video[1:] | video[:1], action, text"
    assert found["depth"] == "depth | video[:1], text"


def test_a_condition_can_be_left_out_of_a_question() -> None:
    made, kinds = tabletop_like(TRAINED)
    found = {q.name: q for q in questions(made.build(), 2.0, (), kinds)[0]}
    bare = found["forward"].without(["text"])
    assert bare.query == "video[1:], depth, flow | video[:1], action" and bare.conditions == ()
    assert found["policy"].without(["text"]).query == "action | -video, -depth, -flow"


def test_tasks_over_a_slot_are_asked_word_for_word_and_prompts_are_no_input_in_question() -> None:
    made = unityvideo(image=16, maps=("depth", "flow"))
    found, _ = questions(made.build(), 20.0, absent={"prompt"})
    assert {q.name: q.query for q in found} == {
        "depth from video": "depth | video",
        "flow from video": "flow | video",
        "video from depth": "video | depth, text",
        "video from flow": "video | flow, text",
        "video and depth": "video, depth | text",
        "video and flow": "video, flow | text",
    }
    assert {q.varied for q in found if q.name == "video and flow"} == {("text",)}
