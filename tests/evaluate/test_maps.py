"""Estimates of maps from pictures, by a reader that is right, beside means, neighbours and shuffled pictures."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from mapped import Mapped, Reader, recipe

from polyclock.evaluate import evaluate

pytest.importorskip("torchmetrics")
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
    assert document["probes"] == {} and document["data"]["block"] == "second"


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
