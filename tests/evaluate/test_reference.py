"""Baselines from training data, against what they must be by hand."""

from __future__ import annotations

from dataclasses import replace

import mapped
import numpy as np
import pytest
import torch
from mapped import Mapped, recipe

from moving import CAMERA
from polyclock.evaluate.baselines import baselines
from polyclock.evaluate.held_out import HeldOut
from polyclock.evaluate.kinds import kinds_of
from polyclock.evaluate.questions import questions
from polyclock.evaluate.reference import AVERAGES, Gallery, Reference

HELD = [2, 3]


@pytest.fixture(scope="module")
def setting():
    data = Mapped()
    model = recipe().fit(data.without(HELD)).build()
    held = HeldOut(data, model.recipe.signals(), list(model.modalities), HELD, stride=10)
    kinds = kinds_of(model, data)
    asked = {q.name: q for q in questions(model, data.facts.fps, held.absent, kinds)[0]}
    return Reference(data.without(HELD), held, kinds, list(model.modalities)), held, asked


def test_a_mean_map_is_read_a_few_frames_at_a_time(setting, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, held, _ = setting
    name = next(n for n, kind in reference.kinds.items() if kind in AVERAGES)
    once = reference.mean_map(name)
    read, sizes = Reference._read, []
    monkeypatch.setattr("polyclock.evaluate.reference.AT_ONCE", 3)
    monkeypatch.setattr(Reference, "_read", lambda *a: sizes.append(len(a[3])) or read(*a))
    again = Reference(reference.training, held, reference.kinds, [])
    np.testing.assert_array_equal(again.mean_map(name), once)
    assert max(sizes) == 3 and sum(sizes) > 3


def test_mean_maps_by_hand() -> None:
    rows = np.array([0.0, 2.0, 4.0]).reshape(3, 1, 1, 1)
    assert AVERAGES["depth"](rows).item() == 3.0  # 0 is unknown
    assert AVERAGES["depth"](0 * rows).item() == 0.0
    levels = np.array([[0, 10, 255], [1, 20, 255], [3, 30, 254]]).reshape(3, 1, 1, 3)
    assert AVERAGES["picture"](levels).ravel().tolist() == [1, 20, 255]  # whole levels
    flow = np.array([[1.0, 2, 1], [3, 4, 0]]).reshape(2, 1, 1, 3)
    assert AVERAGES["flow"](flow).ravel().tolist() == [2, 3, 0]
    labels = np.array([[1.0, 5], [1, 6], [2, 6]]).reshape(3, 1, 1, 2)
    assert AVERAGES["segmentation"](labels).ravel().tolist() == [1, 6]
    surface = np.array([[1, 0.2, 0.4], [1, 0.4, 0.6], [2, 0.9, 0.9]]).reshape(3, 1, 1, 3)
    assert AVERAGES["surface"](surface).ravel().tolist() == pytest.approx([1, 0.3, 0.5])
    joints = np.array([[10.0, 20, 1], [20, 40, 1], [999, 999, 0]]).reshape(3, 1, 3)
    assert AVERAGES["skeleton"](joints).ravel().tolist() == [15, 30, 1]


def test_the_mean_of_the_training_episodes_is_theirs_alone(setting) -> None:
    reference, _, _ = setting
    rows = np.concatenate(list(Mapped().without(HELD).column("observation.depth.top")))
    np.testing.assert_allclose(reference.mean_map("depth"), rows.mean(0), rtol=1e-6)


@pytest.mark.parametrize(("lengths", "count"), [((80, 3, 41, 80), 17), ((3,) * 40, 10), ((5, 9), 1000)])
def test_frames_are_spread_evenly_whatever_the_length_of_episodes(
    setting, lengths: tuple[int, ...], count: int
) -> None:
    _, held, _ = setting
    data = Mapped(tuple(replace(Mapped().episodes[0], index=i, length=n) for i, n in enumerate(lengths)))
    begins = np.cumsum((0, *lengths))
    found = list(Reference(data, held, {}, ())._frames((CAMERA,), count))
    rows = [begins[episode] + frame for episode, due in found for frame in due]
    assert len(rows) == min(count, sum(lengths)) and all(0 <= f < lengths[e] for e, due in found for f in due)
    step = sum(lengths) / len(rows)
    assert set(np.diff(rows).tolist()) <= {int(step), int(np.ceil(step))}
    assert rows[0] <= step and rows[-1] >= sum(lengths) - 1 - step


def test_neighbours_are_sought_where_there_is_a_map_to_read(setting) -> None:
    class Partly(Mapped):
        def has(self, episode: int, key: str) -> bool:
            return super().has(episode, key) and (episode, key) != (0, "observation.depth.top")

    _, held, asked = setting
    reference = Reference(Partly().without(HELD), held, setting[0].kinds, ())
    for name, episodes in (("depth", {1}), ("flow", {0, 1})):
        assert reference.nearest(name, asked[f"{name} from video"], held.places[:2], held.dataset) is not None
        gallery = reference._gallery(CAMERA, f"observation.{name}.top")
        assert {episode for episode, _ in gallery.where} == episodes
    assert reference._gallery(CAMERA, "observation.surface.top") is None


def test_the_nearest_picture_is_nearest() -> None:
    pictures = np.random.default_rng(0).random((50, 12)).astype(np.float32)
    gallery = Gallery(pictures, [(i, 2 * i) for i in range(50)])
    for i in (0, 17, 49):
        assert gallery.nearest(pictures[i] + 0.01) == (i, 2 * i)


def test_the_map_of_the_nearest_training_frame(setting) -> None:
    """The picture tells the level to one row: the map found is that of a frame with the same level."""
    reference, held, asked = setting
    places = held.places[:5]
    found = reference.nearest("segmentation", asked["segmentation from video"], places, held.dataset)
    true = held.gather(places).tensor("segmentation").numpy()
    levels = np.concatenate(list(Mapped().without(HELD).column(CAMERA)))[:, :, 0, 0] > 0
    have = set(levels.sum(1).tolist())
    shared = [(j, f) for j in range(5) for f in range(2) if int((true[j, f, :, 0, 1] == 1).sum()) in have]
    assert len(shared) > 5
    for j, f in shared:
        np.testing.assert_array_equal(found[j, f, ..., 1], true[j, f, ..., 1])


def test_the_mean_picture_stands_beside_questions_that_give_none(setting) -> None:
    """What is given a picture has the present one to be held against; without, that is more than anyone was told."""
    reference, held, asked = setting
    places = held.places[:2]
    true = held.gather(places).tensor("video")
    for given, expected in (((), {"copy last frame", "mean video"}), (("video",), {"copy last frame"})):
        question = replace(asked["video from depth"], given=("depth", *given), conditions=())
        found = baselines("video", true, question, places, held.dataset, reference)
        assert set(found) == expected and all(v.shape == true.shape and v.dtype == true.dtype for v in found.values())
    rows = np.concatenate(list(Mapped().without(HELD).column(CAMERA)))
    np.testing.assert_array_equal(reference.mean_map("video"), np.round(rows.mean(0)))


def test_frames_ahead_of_the_picture_are_taken_as_far_ahead(setting) -> None:
    """`depth |` gives only the picture of now: the answer is what lay 2 and 4 frames behind one like it."""
    reference, held, asked = setting
    place = held.places[3]
    found = reference.nearest("depth", asked["depth"], [place], held.dataset)
    now = held.dataset.read(place.episode, CAMERA, [place.frame])
    training = Mapped().without(HELD)
    best = min(
        (float(np.square(training.read(e, CAMERA, [f]).astype(float) - now).sum()), e, f)
        for e in (0, 1)
        for f in range(80)
    )
    answers = [
        mapped.depth(training.levels(e)[np.minimum([f + 2, f + 4], 79)])
        for e in (0, 1)
        for f in range(80)
        if np.square(training.read(e, CAMERA, [f]).astype(float) - now).sum() == best[0]
    ]
    assert any(np.array_equal(found[0], a) for a in answers)


def test_without_pictures_or_maps_there_is_no_nearest_frame(setting) -> None:
    reference, held, asked = setting
    blind = replace(asked["depth"], conditions=("state",))
    assert reference.nearest("depth", blind, held.places[:1], held.dataset) is None


def test_pixels_that_move_are_those_of_the_flow(setting) -> None:
    _, held, _ = setting
    place = held.places[2]
    moves = held.moving("depth", [place], held.dataset)
    flow = held.dataset.read(place.episode, "observation.flow.top", [place.frame + 2, place.frame + 4])
    assert torch.equal(moves[0], torch.from_numpy(np.abs(flow[..., 1]) > 0.5))
    assert held.moving("action", [place], held.dataset) is None
