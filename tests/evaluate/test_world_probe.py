"""The probe of the predicted world, of stand-ins whose films are true, frozen, or of another window."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from acted import FRAMES, SIDE, clip
from torch import Tensor

from moving import FPS, Moving
from moving import recipe as moving_recipe
from polyclock.backbones.dit import DiT
from polyclock.codecs import DepthColor, FlowColor, Identity, MeanStd, Pixels
from polyclock.data.source import Episode, Facts
from polyclock.encoders import Vector
from polyclock.evaluate import evaluate
from polyclock.evaluate import probing as probing_module
from polyclock.evaluate.held_out import HeldOut
from polyclock.evaluate.kinds import kinds_of
from polyclock.evaluate.probing import Probing
from polyclock.evaluate.questions import questions
from polyclock.evaluate.reference import Reference
from polyclock.evaluate.world import OTHER, RECORDED, world
from polyclock.layout import Layout, Stream
from polyclock.modality import Condition, Modality
from polyclock.nn.modulation import Local
from polyclock.recipe import Recipe
from polyclock.timesteps import Independent, Mixture, Task

CAMERA, HELD = "observation.images.top", [8, 9, 10, 11]
MAPS = {"depth": 1, "flow": 3, "segmentation": 2}
KEYS = {"video": CAMERA} | {name: f"observation.{name}.top" for name in MAPS}


@dataclass(frozen=True)
class Acted:
    """Episodes of one clip each; the square's start, from 2 to 13 px, is the episode's number and its state."""

    episodes: tuple[Episode, ...] = tuple(Episode(index=i, length=FRAMES, tasks=("move",)) for i in range(12))
    masked: bool = True

    @property
    def dense(self) -> dict:
        notes = {KEYS[name]: {"kind": name, "steps": 1} if name == "flow" else {"kind": name} for name in MAPS}
        notes[KEYS["segmentation"]]["classes"] = {"1": "square", "2": "disc"}
        return notes if self.masked else {}

    @property
    def facts(self) -> Facts:
        shapes = {KEYS[n]: (SIDE, SIDE, c) for n, c in ({"video": 3} | (MAPS if self.masked else {})).items()}
        columns = {"observation.state": (1,), "task": (), **shapes}
        return Facts(fps=FPS, cameras=(CAMERA,), tasks=("move",), columns=columns)

    fingerprint = "acted"
    has = Moving.has

    def read(self, episode: int, key: str, frames, size=None) -> np.ndarray | str:
        if key == "observation.state":
            return np.full((len(frames), 1), episode, np.float32)
        if key == "task":
            return "move"
        name = next(n for n, k in KEYS.items() if k == key)
        values = clip(2 + episode)[name][0].numpy()[np.asarray(frames)]
        step = SIDE // (size or (SIDE, SIDE))[0]  # what is compared by the nearest neighbour is small
        return values[:, ::step, ::step]

    column = Moving.column

    def only(self, indices) -> Acted:
        return replace(self, episodes=tuple(e for e in self.episodes if e.index in set(indices)))

    def without(self, indices) -> Acted:
        return replace(self, episodes=tuple(e for e in self.episodes if e.index not in set(indices)))


def recipe(**codecs) -> Recipe:
    """Pictures, depth, flow and masks of four frames, told where the square begins."""
    film = Modality(key=CAMERA, shape=(FRAMES, SIDE, SIDE, 3), patch=(1, 8, 8), rate=FPS, codec=Pixels())
    made = {"video": film}
    for name, channels in MAPS.items():
        codec = codecs.get(name, Identity())
        shape = (FRAMES, SIDE, SIDE, getattr(codec, "channels", channels))
        made[name] = replace(film, key=KEYS[name], shape=shape, codec=codec)
    state = Condition(
        key="observation.state", shape=(1, None), encoder=Vector(width=16), codec=MeanStd(), required=True
    )
    return Recipe(
        name="acted",
        modalities=made,
        conditions={"state": state},
        layout=Layout(*(Stream(n) for n in made)),
        law=Mixture((0.5, Independent()), (0.5, Task("depth, flow, segmentation | video, state"))),
        modulation=Local(),
        backbone=DiT(width=32, depth=1, heads=2),
    )


@dataclass
class Player:
    """Stands in for `sample`: plays the clip that the state tells, changed by `act(name, values)`."""

    model: object
    act: object = None

    def __call__(self, model, query, *, noise, state, **_) -> dict[str, Tensor]:
        clips = [clip(2 + int(s)) for s in state.flatten().round().tolist()]
        out = {}
        for name in (n.strip().split("[")[0] for n in query.split("|")[0].split(",")):
            values = torch.cat([c[name] for c in clips])
            out[name] = model.codec(name).encode(self.act(name, values) if self.act else values)
        return out


@pytest.fixture(scope="module")
def model():
    return recipe().fit(Acted().without(HELD)).build()


def found(model, act=None, data=None, only=("joint", "maps from video")) -> dict:
    data = data or Acted()
    held = HeldOut(data, model.recipe.signals(), list(model.modalities), HELD, stride=1)
    kinds = kinds_of(model, data)
    asked = {q.name: q for q in questions(model, FPS, held.absent, kinds)[0] if q.name in only}
    assert set(asked) == set(only)
    reference = Reference(data.without(HELD), held, kinds, list(model.modalities))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["polyclock.evaluate.asking"], "sample", Player(model, act))
        return world(Probing(model=model, held=held, asked=asked, reference=reference, resamples=300))


def numbers(document: dict, question: str = "joint", series: str | None = None) -> dict[str, float]:
    row = document["rows"][question]
    return {k: v["mean"] for k, v in (row["beside"][series] if series else row["errors"]).items()}


def test_a_true_film_is_as_good_as_the_recording(model) -> None:
    document = found(model)
    mine = numbers(document)
    assert mine == pytest.approx(numbers(document, series=RECORDED), abs=1e-9) and document["windows"] == len(HELD)
    best = {"video.permanence": 1, "video.place_error": 0, "video.object_error": 0, "segmentation.permanence": 1}
    assert {k: mine[k] for k in best} == pytest.approx(best, abs=1e-6)
    assert mine["flow.warp_explained"] > 0.99 and mine["depth.edge_agreement"] > 0.9 and mine["video.flicker"] < 0.02
    # Other windows' squares are 1 to 3 px away, and their maps do not fit this film.
    other = numbers(document, series=OTHER)
    assert other["video.place_error_moving"] > 1 and other["video.permanence"] == 1
    assert other["flow.warp_explained"] < 0.9 and other["depth.depth_warp"] > mine["depth.depth_warp"] + 0.002
    assert other["depth.edge_agreement"] < mine["depth.edge_agreement"]
    verdicts = {r["measure"]: r["verdict"] for r in document["comparisons"] if r["second"] == f"joint with {OTHER}"}
    assert verdicts["video.place_error_moving"] == verdicts["flow.warp_explained"] == "better"
    assert verdicts["video.permanence"] == "no effect seen"


def test_a_frozen_film_fails_by_its_places(model) -> None:
    document = found(model, lambda name, v: v[:, :1].expand_as(v), only=("joint",))
    mine = numbers(document)
    assert mine["video.permanence"] == 1 and mine["video.place_error_moving"] == pytest.approx(4, abs=0.2)
    assert mine["video.place_error"] == pytest.approx(numbers(document, series="copy last frame")["video.place_error"])
    assert mine["flow.warp_error"] > 3 * numbers(document, series=RECORDED)["flow.warp_error"]
    assert mine["depth.depth_warp"] > numbers(document, series=RECORDED)["depth.depth_warp"] + 0.005


def test_one_that_loses_things_and_one_that_flickers(model) -> None:
    def gone(name: str, values: Tensor) -> Tensor:
        return torch.full_like(values, 110) if name == "video" else 0 * values

    mine = numbers(found(model, gone, only=("joint",)))
    assert mine["video.permanence"] == mine["segmentation.permanence"] == 0 and mine["video.object_error"] > 0.2
    assert "segmentation.place_error" not in mine, "nothing is left to have a place"
    assert mine["depth.edge_agreement"] == 0.5

    def shaken(name: str, values: Tensor) -> Tensor:
        turns = torch.tensor([0, 12, 0, 12])[:, None, None, None]
        return (values.int() + turns).clamp_max(255).to(values.dtype) if name == "video" else values

    mine = numbers(found(model, shaken, only=("joint",)))
    assert mine["video.flicker"] > 12 / 255 - 1e-3 and mine["video.place_error"] < 0.1


def test_maps_of_a_given_film_are_compared_with_it(model) -> None:
    document = found(model, lambda name, v: v.roll(12, 3) if name == "flow" else v)
    row = document["rows"]["maps from video"]
    assert not any(key.startswith("video.") for key in row["errors"]), "the film is the recording"
    assert row["errors"]["flow.warp_explained"]["mean"] < 0
    assert row["beside"][RECORDED]["flow.warp_explained"]["mean"] > 0.99
    assert row["errors"]["depth.edge_agreement"] == row["beside"][RECORDED]["depth.edge_agreement"]


def test_what_a_codec_loses_is_not_measured() -> None:
    relative = recipe(depth=DepthColor(range="clip"), flow=FlowColor(range="clip"))
    made = relative.fit(Acted().without(HELD)).build()
    mine = numbers(found(made, only=("joint",)))
    assert not {"flow.warp_error", "flow.warp_explained", "depth.depth_warp"} & set(mine)
    assert mine["depth.edge_agreement"] > 0.9


def test_flow_that_leads_where_no_picture_is_says_so() -> None:
    """The data's flow spans two frames; every second frame is predicted, or every one of two."""
    spans = {KEYS["flow"]: {"kind": "flow", "steps": 2}}
    data = type("Leaping", (Acted,), {"dense": property(lambda self: super(type(self), self).dense | spans)})()
    made = recipe()
    for stride, compared in ((2, True), (1, False)):
        short = {n: replace(m, shape=(2, *m.shape[1:]), rate=FPS / stride) for n, m in made.modalities.items()}
        small = replace(made, modalities=short).fit(data.without(HELD)).build()
        document = found(small, lambda _, values, stride=stride: values[:, : 2 * stride : stride], data)
        assert ("flow.warp_error" in document["rows"]["joint"]["errors"]) is compared
        said = [n for n in document["notes"] if "flow is not compared with video: it leads 2 data frames on" in n]
        assert len(said) == (not compared)


def test_data_without_maps_have_no_world() -> None:
    made = moving_recipe().fit(Moving().without([3])).build()
    document = evaluate(made, Moving(), episodes=[3], stride=20, steps=1, probes=["world"], resamples=100)
    (note,) = document["probes"]["world"]["notes"]
    assert note.startswith("not measured: the model predicts no pictures or maps of a camera of which the data know")


def test_the_probe_is_one_of_the_document(model, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules["polyclock.evaluate.asking"], "sample", Player(model))
    document = evaluate(model, Acted(), episodes=HELD, probes=["world"], resamples=100, only=["joint"])
    rows = document["probes"]["world"]["rows"]
    assert set(rows) >= {"joint", "maps from video"}
    interval = rows["joint"]["errors"]["video.permanence"]
    assert interval["mean"] == 1 and interval["n_blocks"] == len(HELD) and interval["better"] == "higher"


def test_what_a_probe_has_asked_of_a_window_is_not_asked_again(model, monkeypatch) -> None:
    """The same document, with each question about each window answered once; other inputs are asked about as ever."""
    player, calls = Player(model), []

    def counted(made, query, **more):
        calls.append(query)
        return player(made, query, **more)

    monkeypatch.setattr(sys.modules["polyclock.evaluate.asking"], "sample", counted)
    how = {"episodes": HELD, "probes": ["world"], "windows": 6, "probe_windows": 6, "batch_size": 3, "resamples": 100}
    once = evaluate(model, Acted(), **how)
    few = list(calls)
    calls.clear()
    monkeypatch.setattr(probing_module, "KEPT", 0)
    again = evaluate(model, Acted(), **how)
    for document in (once, again):
        del document["seconds"]
    assert once == again and set(few) == set(calls)
    # A question is asked about two batches: as it is, and with other inputs; of other windows by the probe alone.
    about_world = {q["query"] for n, q in once["questions"].items() if n in once["probes"]["world"]["rows"]}
    for query in about_world:
        assert few.count(query) == 2 * 3 < calls.count(query) == 2 * 4
