"""A model that looks at a part of each picture is compared with that part, in questions, chains and worlds."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from mapped import Mapped, Pushing
from torch import Tensor

from moving import CAMERA, FPS, SIDE, Moving, picture, recipe
from polyclock.encoders import Patches
from polyclock.envs import Start
from polyclock.evaluate import evaluate
from polyclock.evaluate.counterfactual import counterfactual
from polyclock.evaluate.held_out import HeldOut
from polyclock.evaluate.kinds import kinds_of
from polyclock.evaluate.probing import Probing
from polyclock.evaluate.questions import questions
from polyclock.evaluate.reference import Reference
from polyclock.evaluate.viewed import Viewed, signals_of, views_of
from polyclock.views import Jitter, View

HELD = [2, 3]
MIDDLE = slice(4, 12)


@pytest.fixture(scope="module")
def model():
    whole = recipe()
    small = {
        "modalities": whole.modalities
        | {"video": replace(whole.modalities["video"], shape=(2, 8, 8, 3), patch=(1, 4, 4))},
        "conditions": whole.conditions
        | {"camera": replace(whole.conditions["camera"], shape=(1, 8, 8, 3), encoder=Patches(patch=(4, 4)))},
        "views": (View(of=("camera", "video"), size=(16, 16), crop=(8, 8)),),
    }
    return replace(whole, **small).fit(Moving().without(HELD)).build()


def knowing(model, query, *, noise, **values) -> dict[str, Tensor]:
    """In place of the solver: the middle of the true pictures, where the actions are told."""
    camera = values["camera"]
    assert camera.is_floating_point() and camera.shape[2:4] == (8, 8) and float(camera.max()) <= 1
    level = model.codec("action").decode(values["action"])[:, 1::2, 0]
    whole = torch.from_numpy(picture(level.flatten().numpy())).view(len(level), 2, 16, 16, 3)
    return {"video": model.codec("video").encode(whole[:, :, MIDDLE, MIDDLE].contiguous())}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["polyclock.evaluate.asking"], "sample", knowing)


def test_pictures_are_read_as_they_are_shown(model) -> None:
    data, views = Moving(), views_of(model)
    seen = Viewed(data, views)
    whole = data.read(2, CAMERA, [3, 4])
    assert np.array_equal(seen.read(2, CAMERA, [3, 4], (8, 8)), whole[:, MIDDLE, MIDDLE])
    assert np.array_equal(seen.read(2, CAMERA, [3, 4]), whole[:, MIDDLE, MIDDLE])
    assert seen.read(2, CAMERA, [3], (4, 4)).shape == (1, 4, 4, 3)
    assert np.array_equal(seen.read(2, "action", [3]), data.read(2, "action", [3]))
    assert [e.index for e in seen.only([1]).episodes] == [1] and len(seen.without([1]).episodes) == 3
    assert model.recipe.signals()["camera"].shape == (1, 16, 16, 3), "what is read is larger than what is shown"


def test_the_truth_and_what_stands_beside_it_are_cut_alike(model, known) -> None:
    found = evaluate(model, Moving(), episodes=HELD, only=["forward"], stride=5, probes=["horizon"], resamples=300)
    question = found["questions"]["forward"]
    assert question["errors"]["video.mse"]["mean"] == pytest.approx(0.0, abs=1e-9)
    copied = question["beside"]["copy last frame"]["video.mse"]["mean"]
    assert 0 < copied < 0.62, "at most all pixels of the middle change by 200 of 255"
    chain = found["probes"]["horizon"]["rows"]
    assert len(chain) == 8
    assert all(part["errors"]["video.mse"]["mean"] == pytest.approx(0.0, abs=1e-9) for part in chain.values())


def test_worlds_are_seen_in_part_too(model, known) -> None:
    data = Moving()
    held = HeldOut(data, signals_of(model), list(model.modalities), HELD, stride=2, views=views_of(model))
    kinds = kinds_of(model, data)
    asked = {q.name: q for q in questions(model, FPS, held.absent, kinds)[0]}
    reference = Reference(data.without(HELD), held, kinds, list(model.modalities))
    probing = Probing(model=model, held=held, asked=asked, reference=reference, resamples=300)

    def stage(name, cameras, size, count):
        assert size == (16, 16)
        return Pushing(), tuple(Start("square", (k / 10,), k) for k in range(count))

    found = counterfactual(probing, ["square"], 4, stage)
    assert found["rows"]["square"]["errors"]["video.cosine"]["mean"] == pytest.approx(1.0, abs=1e-6)


def test_one_column_looked_at_in_two_ways_has_no_truth(model) -> None:
    recipe = model.recipe
    apart = replace(recipe, views=tuple(View(of=(n,), crop=(8, 8)) for n in ("camera", "video")))
    with pytest.raises(ValueError, match="in two ways"):
        evaluate(apart.build(), Moving(), episodes=HELD, stride=20, probes=(), resamples=100)


def test_what_moves_is_as_large_as_pictures_that_are_only_recoloured() -> None:
    """The data are stored at twice the size that the model works on."""

    class Stored(Mapped):
        @property
        def facts(self):
            shapes = {k: (2 * SIDE, 2 * SIDE, s[2]) if len(s) == 3 else s for k, s in super().facts.columns.items()}
            return replace(super().facts, columns=shapes)

        def read(self, episode, key, frames, size=None):
            values = super().read(episode, key, frames)
            doubled = isinstance(values, np.ndarray) and values.ndim == 4 and size is None
            return values.repeat(2, 1).repeat(2, 2) if doubled else values

    made = replace(recipe(), views=(View(of=("camera", "video"), jitter=Jitter()),)).fit(Stored().without(HELD)).build()
    held = HeldOut(Stored(), signals_of(made), list(made.modalities), HELD, stride=20, views=views_of(made))
    moving = held.moving("video", held.places, held.dataset)
    assert moving.shape == held.gather(held.places).tensor("video").shape[:-1] == (len(held.places), 2, SIDE, SIDE)
