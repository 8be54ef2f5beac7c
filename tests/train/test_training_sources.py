"""Which samples a run learns from: both data sets or one, less some modalities, one stage after another."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from polyclock.commands.train import check_answerable
from polyclock.data import Loader, Stages, Windows
from polyclock.layout import Layout, Stream, one_of
from polyclock.modality import Modality
from polyclock.timesteps import Mixture, Shared, Task
from polyclock.train.sources import Sources

sys.path.append(str(Path(__file__).resolve().parents[1] / "data"))
sys.path.append(str(Path(__file__).resolve().parents[1]))
from test_choices import MAPS, Toy  # noqa: E402

from worlds import recipe  # noqa: E402

ONE = Modality(shape=(2, 1), patch=(1,))
RECIPE = recipe(
    modalities=dict.fromkeys(("video", *MAPS), ONE), layout=Layout(Stream("video"), Stream(one_of(*MAPS))), law=Shared()
)


def sources(**changes) -> Sources:
    signals = RECIPE.signals()
    sets = {"data": Windows(Toy(), signals), "also": Windows(Toy().only([2]), signals)}
    return Sources(**({"recipe": RECIPE, "sets": sets} | changes))


def brought(source) -> Counter:
    loader = Loader(source, RECIPE.signals(), 1, seed=0)
    batches = [loader.batch(k) for k in range(len(source))]
    return Counter(next((n for n in MAPS if len(b.rows[n])), "none") for b in batches)


def test_a_word_names_data_less_modalities() -> None:
    made = sources()
    assert set(brought(made.source("data"))) == {*MAPS, "none"}
    assert set(brought(made.source("also-depth"))) == {"flow", "masks"}
    assert set(brought(made.source("also-depth-flow-masks"))) == {"none"}
    only = replace(made, shares={"masks": 3.0})
    assert brought(only.source("also"))["masks"] == pytest.approx(3 * brought(only.source("also"))["depth"], abs=3)


def test_shares_of_data_sets() -> None:
    whole = sources(weights={"data": 0.25, "also": 0.75}).source()
    assert whole.counts[1] == pytest.approx(0.75 * len(whole), abs=1)
    assert sources().source().counts[0] > sources().source().counts[1], "else as many as each has"


def test_stages_last_as_long_as_the_run() -> None:
    stages = sources().staged([("all-masks", 2), ("all", 3)], steps=5, accumulate=4)
    assert isinstance(stages, Stages) and [count for count, _ in stages.stages] == [8, 12]
    assert "masks" not in brought(stages.stages[0][1])
    with pytest.raises(ValueError, match="the stages last 5 steps, and the run 6"):
        sources().staged([("all-masks", 2), ("all", 3)], steps=6)


def test_a_law_may_be_for_the_second_data_alone() -> None:
    made = replace(RECIPE, law=Mixture((0.5, Task("video |")), (0.5, Task("depth | video"))))

    def data(*names: str) -> SimpleNamespace:
        signals = made.signals()
        return SimpleNamespace(signals=signals, present=names, absent=tuple(n for n in signals if n not in names))

    check_answerable(made, data("video", "depth"))
    check_answerable(made, data("video"), data("video", "depth"))
    with pytest.raises(ValueError, match="'depth . video': the data lack depth, flow, masks$"):
        check_answerable(made, data("video"))
    with pytest.raises(ValueError, match="the data lack depth, flow, masks, and those of --also video, flow, masks"):
        check_answerable(made, data("video"), data("depth"))


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("people", "unknown data of a stage 'people'. Possible: data, also, all"),
        ("all-pose", "unknown modality that a stage leaves out 'pose'"),
    ],
)
def test_faults_are_named(word, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        sources().source(word)
