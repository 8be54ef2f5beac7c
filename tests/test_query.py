"""Queries: roles, spans in three units, free names, and messages that point at the fault."""

import pytest

from polyclock.codecs import FrameByFrame
from polyclock.encoders import Bytes
from polyclock.modality import Condition, Modality
from polyclock.query import Query, Role

W, G, N, A = Role.WANT, Role.GIVEN, Role.NEITHER, Role.ABSENT


class Grouped(FrameByFrame):
    """Frame 0 alone, then groups of 4: the time grid of causal video VAEs."""

    def covers(self, frame):
        return range(0, 1) if frame == 0 else range(4 * frame - 3, 4 * frame + 1)


MODALITIES = {
    "video": Modality(shape=(4, 8, 8, 3), patch=(1, 4, 4), rate=10.0),
    "video.wrist": Modality(shape=(4, 8, 8, 3), patch=(1, 4, 4), share="video", clock="video"),
    "action": Modality(shape=(8, 2), patch=(2,), rate=20.0),
    "wan": Modality(shape=(3, 2, 2, 4), patch=(1, 1, 1), codec=Grouped(), rate=8.0),
}
CONDITIONS = {"text": Condition(encoder=Bytes(width=32)), "state": Condition(encoder=Bytes(width=32), required=True)}


def roles(text, **k):
    return Query.parse(text).bind(**k).roles(MODALITIES, CONDITIONS)


def test_wanted_given_neither_absent():
    r = roles("action | video[:2], text, -wan")
    assert r["action"] == (W,) * 4
    assert r["video"] == r["video.wrist"] == (G, G, N, N)
    assert r["wan"] == (A,) * 3


@pytest.mark.parametrize("text", ["video", "video |", " video  |  "])
def test_nothing_given(text):
    assert roles(text)["video"] == (W,) * 4


@pytest.mark.parametrize(
    ("span", "frames"),
    [("[1:]", {1, 2, 3}), ("[:-1]", {0, 1, 2}), ("[2]", {2}), ("[-1]", {3}), ("[:4f]", {0, 1}), ("[0.1s:0.2s]", {1})],
)
def test_spans(span, frames):
    r = roles(f"action{span} |")["action"]
    assert {f for f, role in enumerate(r) if role is W} == frames


def test_data_frames_follow_the_codec():
    assert roles("wan[5f:] | wan[:5f]")["wan"] == (G, G, W)
    assert roles("wan[0.125s:] |")["wan"] == (N, W, W)
    with pytest.raises(ValueError, match=r"4f cuts a token frame; nearest legal bounds: 1f or 5f"):
        roles("wan[:4f] |")


def test_free_names_are_bound_at_the_call():
    assert Query.parse("action[k:] | action[:k]").free == ("k",)
    assert roles("action[k:] | action[:k]", k=1)["action"] == (G, W, W, W)
    with pytest.raises(ValueError, match="bind the free name"):
        roles("action[k:] |")
    with pytest.raises(ValueError, match="unknown free name"):
        roles("action[k:] |", j=1)


def test_conditions_named_and_required():
    assert Query.parse("action |").given_conditions(CONDITIONS) == ("state",)
    assert Query.parse("action | text").given_conditions(CONDITIONS) == ("text", "state")


@pytest.mark.parametrize(
    ("text", "message", "fault"),
    [
        ("acton | video", "Did you mean 'action'", "acton"),
        ("action | vdeo", "Possible: video", "vdeo"),
        ("action ! video", "not understood", "action ! video"),
        ("action | video | text", "one '|'", "|"),
        ("| video", "nothing is wanted", " "),
        ("action,, video |", "a name is missing", " "),
        ("-action | video", "absent cannot be wanted", "-action"),
        ("action | -wan[1:]", "drop the span", "-wan[1:]"),
        ("text | video", "never wanted", "text"),
        ("action | text[:2]", "no frames", "text[:2]"),
        ("action[3:2] |", "empty span: 'action' has 4 token frames", "action[3:2]"),
        ("action[9:] |", "empty span", "action[9:]"),
        ("action | action[:1]", "both want and given", "action[:1]"),
        ("video | video.wrist", "both want and given", "video.wrist"),
        ("action[1:2:3] |", "a span is", "[1:2:3]"),
        ("action[1.5:] |", "whole numbers", "1.5:"),
        ("action[:1f] |", "cuts a token frame; nearest legal bounds: 0f or 2f", "action[:1f]"),
        ("action[:9f] |", "9f lies outside; possible: 0 to 8f", "action[:9f]"),
        ("action[-0.5s:] |", "-0.5s lies outside; possible: 0 to 0.4s", "action[-0.5s:]"),
        ("action[1:2s] |", "same unit", "1:2s"),
        ("action[x y] |", "no bound", "x y"),
    ],
)
def test_faults_are_shown_with_a_caret(text, message, fault):
    with pytest.raises(ValueError) as error:
        roles(text)
    lines = str(error.value).splitlines()
    assert message in str(error.value)
    assert lines[-2] == f"  {text}"
    begin, end = lines[-1].index("^") - 2, lines[-1].rindex("^") - 1
    if fault.strip():
        assert text[begin:end] == fault
