"""Measures on the page: every error beside what it is held against, probes as charts, nothing hidden."""

from __future__ import annotations

import re

import pytest
from test_chart import points
from test_page import Tags

from polyclock.evaluate.compare import NO_EFFECT
from polyclock.report.chart import Line, chart
from polyclock.report.measures import by_question, evaluation, named, sentence
from polyclock.report.run import read


def interval(mean: float, low: float | None = None, high: float | None = None, **more: object) -> dict:
    return {"mean": mean, "low": low, "high": high, "n_windows": 9, "n_blocks": 3, **more}


def compared(first: str, second: str, measure: str, verdict: str) -> dict:
    return {"first": first, "second": second, "measure": measure, "first_mean": 0.1, "second_mean": 0.2, "mean": -0.1,
            "low": -0.2, "high": 0.1, "verdict": verdict}  # fmt: skip


@pytest.fixture
def made(document: dict) -> dict:
    """The evaluation of a small model, with depth and with probes put in."""
    control = "shuffled video"
    errors = {"depth.absrel": interval(0.1, 0.05, 0.15), "depth.delta": interval(0.9)}
    beside = {
        control: {"depth.absrel": interval(0.11)},
        "mean depth": {"depth.absrel": interval(0.4)},
        "nearest training frame": {"depth.absrel": interval(0.2)},
    }
    document = dict(document)
    document["questions"] = {
        "depth from video": {"query": "depth | video", "errors": errors, "beside": beside},
        "masks": {
            "query": "masks |",
            "errors": {"segmentation.miou": interval(0.6)},
            "beside": {s: {"segmentation.miou": interval(v)} for s, v in (("a", 0.2), ("b", 0.5))},
        },
    }
    document["comparisons"] = [
        compared("depth from video", f"depth from video with {control}", "depth.absrel", NO_EFFECT),
        compared("depth from video", "nearest training frame", "depth.absrel", "better"),
    ]
    chunk = lambda i: {  # noqa: E731
        "errors": {"video.mse": interval(0.01 * i, 0.005 * i, 0.02 * i), "video.psnr": interval(20)},
        "beside": {"copy first frame": {"video.mse": interval(0.03)}},
    }
    coverage = {"errors": {"action.coverage": interval(0.7, 0.6, 0.8)}, "beside": {}}
    document["probes"] = {
        "horizon": {"what": "Chained.", "windows": 4, "seconds_per_chunk": 0.2, "comparisons": [], "notes": ["holds"],
                    "rows": {f"forward, chunk {i}": chunk(i) for i in (1, 2, 3)}},
        "calibration": {"what": "Sets.", "windows": 4, "nominal": 0.9, "comparisons": [], "notes": [],
                        "rows": {"policy": coverage}},
        "counterfactual": {"what": "Other.", "windows": 0, "comparisons": [], "notes": ["not measured"], "rows": {}},
    }  # fmt: skip
    return document


def shown(run_folder, document: dict) -> str:
    text = "".join(map(str, evaluation(read(run_folder, document))))
    Tags(text)
    return text


def test_inputs_without_effect_are_said(run_folder, made: dict) -> None:
    text = shown(run_folder, made)
    assert f'<span class="verdict bad">{NO_EFFECT}</span>' in text
    assert text.index("Do the inputs matter?") < text.index("Errors: depth") < text.index("Paired differences")
    assert "absrel: share of the true depth" in text and "0.1 (0.05 to 0.15)" in text


def test_error_against_horizon_is_a_chart_with_whiskers(run_folder, made: dict) -> None:
    text = shown(run_folder, made)
    part = text[text.index("How far ahead") : text.index("Does it know")]
    network, copy = points(part)
    assert len(network) == 3 and network[0][1] > network[1][1] > network[2][1], "the error grows"
    assert copy[0][1] == copy[2][1]
    assert part.count("whisk") == 3 and "Holds." in part and "video.psnr" not in part
    assert re.findall(r"at ([\d.]+)</title>", part)[:3] == ["0.2", "0.4", "0.6"]


def test_calibration_has_a_mark_at_what_is_right(run_folder, made: dict) -> None:
    text = shown(run_folder, made)
    part = text[text.index("Does it know") : text.index("Do the inputs matter?")]
    assert 'class="mark" style="left:90.00%"' in part and "left:0.00%;width:70.00%" in part
    assert "Other actions from the same state" not in text, "a probe that found nothing has no chart"
    assert "Counterfactual: not measured." in text


def test_each_question_has_its_main_numbers(made: dict) -> None:
    found = by_question(made)
    row = " ".join(" ".join(Tags(found["depth from video"]).words).split())
    assert "depth: relative error (absrel) 0.1 (0.05 to 0.15) 0.2 (nearest training frame) better 0.11" in row
    assert row.endswith(NO_EFFECT) and "delta" not in row
    assert "0.5 (b)" in found["masks"], "of overlaps the largest is the best"
    assert by_question(None) == {}


def test_words_of_measures() -> None:
    assert named("segmentation.miou") == "segmentation: overlap (miou, higher is better)"
    assert named("video.mse") == "video: squared error of pixels (mse)"
    assert sentence("it holds.") == "It holds."


def test_many_notes_are_folded(run_folder, made: dict) -> None:
    made["notes"] = [f"note {i}" for i in range(9)]
    text = shown(run_folder, made)
    assert "<summary>11 notes</summary>" in text and text.count("<li>Note") == 9


def test_axes_from_zero_and_whiskers_inside() -> None:
    line = Line(label="a", x=[1, 2], y=[5.0, 6.0], low=[4.0, None], high=[9.0, 8.0], dots=True)
    text = chart([line], x="x", y="y", zero=True)
    assert ">0</text>" in text and text.count("whisk") == 1
    found = re.search(r'y1="([\d.]+)" y2="([\d.]+)" class="line c0 whisk', text)
    assert found and 10 <= float(found[2]) < float(found[1]) <= 226, "inside the picture"
