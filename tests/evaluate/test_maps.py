"""Estimates of maps from pictures, by a reader that is right, beside means, neighbours and shuffled pictures."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from io import StringIO

import pytest
import torch
from mapped import NOTES, SIDE, Mapped, Reader, recipe
from rich.console import Console

from polyclock.codecs import DepthColor, FlowColor
from polyclock.evaluate import evaluate, show

HELD = [2, 3]
MAPS = ("depth", "flow", "segmentation", "skeleton")


@pytest.fixture(scope="module")
def document() -> dict:
    """Asked of the reader, once."""
    model = recipe().fit(Mapped().without(HELD)).build()
    only = [f"{name} from video" for name in MAPS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["polyclock.evaluate.asking"], "sample", Reader(model))
        return evaluate(model, Mapped(), episodes=HELD, stride=4, only=only, probes=(), resamples=500)


def rows(document: dict, first: str, second: str) -> dict[str, dict]:
    return {r["measure"]: r for r in document["comparisons"] if (r["first"], r["second"]) == (first, second)}


@pytest.mark.parametrize(
    ("name", "measure", "best"),
    [
        ("depth", "absrel", 0),
        ("depth", "absrel_moving", 0),
        ("segmentation", "miou", 1),
        ("segmentation", "miou_moving", 1),
        ("skeleton", "joint_error", 0),
    ],
)
def test_reading_off_the_picture_beats_everything_that_does_not(document, name: str, measure: str, best: float) -> None:
    question, key = f"{name} from video", f"{name}.{measure}"
    assert document["questions"][question]["errors"][key]["mean"] == pytest.approx(best, abs=1e-6)
    for other in (f"mean {name}", f"{question} with shuffled video"):
        assert rows(document, question, other)[key]["verdict"] == "better", other
    near = rows(document, question, "nearest training frame")[key]
    assert abs(near["second_mean"] - best) < abs(rows(document, question, f"mean {name}")[key]["second_mean"] - best)


def test_flow_of_what_moves_stands_beside_no_flow_at_all(document) -> None:
    """The reader says that nothing moves: it is no better than zero flow, and the page says so."""
    beside = document["questions"]["flow from video"]["beside"]
    assert set(beside) == {"mean flow", "nearest training frame", "zero flow", "shuffled video"}
    still = rows(document, "flow from video", "zero flow")["flow.epe_moving"]
    assert still["mean"] == 0 and still["verdict"] == "undecided"
    shuffled = rows(document, "flow from video", "flow from video with shuffled video")["flow.epe_moving"]
    assert shuffled["verdict"] == "no effect seen"
    assert any(n.startswith("flow from video is not told apart from zero flow: flow.epe") for n in document["notes"])
    moving = document["questions"]["flow from video"]["errors"]["flow.epe_moving"]
    assert moving["mean"] > document["questions"]["flow from video"]["errors"]["flow.epe"]["mean"] > 0
    assert moving["unit"].startswith("px, where the true flow is longer than 0.5")


def test_windows_in_which_nothing_counts_are_left_out(document) -> None:
    errors = document["questions"]["depth from video"]["errors"]
    assert 0 < errors["depth.absrel_moving"]["n_windows"] < errors["depth.absrel"]["n_windows"]


def test_the_document_is_plain_json_with_kinds(document) -> None:
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["kinds"] == {"action": "numbers", "video": "picture"} | {n: n for n in MAPS}
    assert document["probes"] == {} and document["data"]["block"] == "time"


def test_what_has_no_measure_is_said_and_breaks_nothing(monkeypatch) -> None:
    """Depth and flow in colours of their own range, and classes that nobody names."""

    class Unnamed(Mapped):
        @property
        def dense(self) -> dict:
            return NOTES | {"observation.segmentation.top": {"kind": "segmentation"}}

    made = recipe()
    codecs = {"depth": DepthColor(range="frame"), "flow": FlowColor(range="clip")}
    drawn = {n: replace(made.modalities[n], codec=c, shape=(2, SIDE, SIDE, 3)) for n, c in codecs.items()}
    model = replace(made, modalities=made.modalities | drawn).fit(Unnamed().without(HELD)).build()
    monkeypatch.setattr(sys.modules["polyclock.evaluate.asking"], "sample", Reader(model))
    only = [f"{name} from video" for name in ("depth", "flow", "segmentation")]
    found = evaluate(model, Unnamed(), episodes=HELD, stride=8, only=only, probes=(), resamples=100)
    asked = found["questions"]
    assert asked["flow from video"]["errors"] == asked["segmentation from video"]["errors"] == {}
    depth = asked["depth from video"]
    assert set(depth["errors"]) == {"depth.absrel_aligned", "depth.delta_aligned"}
    assert depth["errors"]["depth.absrel_aligned"]["mean"] < 1e-3
    assert depth["beside"]["mean depth"]["depth.absrel_aligned"]["mean"] > 0.01
    for note in (
        "depth: its codec keeps relative depth, so each frame is fitted to the truth (scale and shift) before it is "
        "measured, baselines too",
        "flow: its codec does not bring back the scale, so there is no epe or epe_moving or fl",
        "segmentation: the data set names no classes, so there is no miou or map",
    ):
        assert note in found["notes"]
    show(found, Console(file=StringIO()))


def test_a_real_network_answers_all_of_them() -> None:
    model = recipe().fit(Mapped().without(HELD)).build()
    found = evaluate(model, Mapped(), episodes=[3], windows=3, steps=1, probes=(), resamples=100)
    asked = found["questions"]
    assert {"policy", "forward", "inverse", "joint", "depth", "video from flow", "skeleton from video"} <= set(asked)
    assert set(asked["joint"]["errors"]) >= {"action.error", "video.mse", "depth.absrel", "flow.epe", "skeleton.pck"}
    assert {s for q in asked.values() for s in q["beside"] if s.startswith("shuffled")} == {
        "shuffled inputs", "shuffled actions", "shuffled video", *(f"shuffled {n}" for n in MAPS)
    }  # fmt: skip
    assert torch.is_grad_enabled()
