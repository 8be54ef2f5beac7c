"""Probes of stand-ins whose answers are known: who is consistent, holds on, knows what it does not know."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from mapped import Pushing

from moving import FPS, Moving, Oracle, level_of, picture, recipe
from polyclock.envs import Start
from polyclock.evaluate.calibration import calibration, judged
from polyclock.evaluate.consistency import consistency
from polyclock.evaluate.counterfactual import counterfactual
from polyclock.evaluate.evaluate import check_probes
from polyclock.evaluate.held_out import HeldOut
from polyclock.evaluate.horizon import horizon
from polyclock.evaluate.kinds import kinds_of
from polyclock.evaluate.probing import Probing
from polyclock.evaluate.questions import questions
from polyclock.evaluate.reference import Reference
from polyclock.evaluate.table import probes as grids_of

HELD = [2, 3]


@pytest.fixture(scope="module")
def model():
    return recipe().fit(Moving().without(HELD)).build()


def probing(model, data=None, **changes) -> Probing:
    data = data or Moving()
    held = HeldOut(data, model.recipe.signals(), list(model.modalities), HELD, stride=2)
    kinds = kinds_of(model, data)
    asked = {q.name: q for q in questions(model, data.facts.fps, held.absent, kinds)[0]}
    reference = Reference(data.without(HELD), held, kinds, list(model.modalities))
    return Probing(model=model, held=held, asked=asked, reference=reference, resamples=300, **changes)


@pytest.fixture
def answering(model, monkeypatch):
    """answering(stand-in) puts it in place of the solver."""

    def put(stand_in):
        monkeypatch.setattr(sys.modules["polyclock.evaluate.asking"], "sample", stand_in)
        return stand_in

    return put


def row(found: dict, first: str, second: str, measure: str) -> dict:
    (one,) = (r for r in found["comparisons"] if (r["first"], r["second"], r["measure"]) == (first, second, measure))
    return one


def test_the_oracle_is_consistent_and_other_pictures_are_not(model, answering) -> None:
    answering(Oracle(model))
    found = consistency(probing(model))
    cycle = found["rows"]["forward, then inverse"]
    # Pictures are of every other step: the oracle takes what lies between to be in the middle.
    assert cycle["errors"]["action.error"]["mean"] == cycle["beside"]["the recorded video"]["action.error"]["mean"]
    shuffled = row(found, "forward, then inverse", "forward, then inverse with shuffled actions", "action.error")
    assert shuffled["verdict"] == "better" and shuffled["second_mean"] > 1.3 * shuffled["first_mean"]
    assert "joint, then inverse" in found["rows"] and found["windows"] == 16


def test_actions_that_are_noise_do_not_agree_with_themselves(model, answering) -> None:
    """Both the film's actions and those read off it are the noise that they began as: no agreement may come of it."""
    answering(lambda model, query, *, noise, **_: {n: noise[n] for n in noise if n in query.split("|")[0]})
    found = consistency(probing(model))
    # The mean distance of two independent standard normal numbers is 2 / sqrt(pi).
    assert found["rows"]["joint, then inverse"]["errors"]["action.error"]["mean"] == pytest.approx(1.13, abs=0.2)


def test_a_film_of_another_window_has_noise_of_its_own(model, answering) -> None:
    """Film and actions are what the noise alone says: they agree with each other, not with another window's film."""

    def dreaming(model, query, *, noise, **values):
        level = torch.sigmoid(4 * noise["action"][:, :1, 0]).expand(-1, 2)
        if "video" in values:
            level = level_of(model.codec("video").decode(values["video"]))
        level = (16 * level).round() / 16
        film = torch.from_numpy(picture(level.flatten().numpy())).view(len(level), 2, 16, 16, 3)
        raw = torch.stack([level[:, :1], torch.full_like(level[:, :1], 7.0)], -1).expand(-1, 4, -1)
        wanted = query.split("|")[0]
        return {n: model.codec(n).encode(v) for n, v in (("video", film), ("action", raw)) if n in wanted}

    answering(dreaming)
    found = consistency(probing(model))
    shuffled = row(found, "joint, then inverse", "joint, then inverse with shuffled video", "action.error")
    assert shuffled["first_mean"] == pytest.approx(0, abs=1e-6) and shuffled["verdict"] == "better"


def test_a_model_that_cannot_be_asked_is_said_to_be_so(model) -> None:
    setting = probing(model)
    alone = replace(setting, asked={"policy": setting.asked["policy"]})
    assert consistency(alone)["notes"] == ["not measured: the model cannot be asked which actions lead to a video"]
    assert "video of actions" in horizon(alone)["notes"][0]
    assert "actions alone" in calibration(replace(setting, asked={}))["notes"][0]
    assert "video of actions" in counterfactual(alone, ["square"])["notes"][0]


def test_the_oracle_holds_for_eight_chunks(model, answering) -> None:
    asked = answering(Oracle(model)).asked
    found = horizon(probing(model, windows=6))
    assert (found["chunks"], found["seconds_per_chunk"], found["windows"]) == (8, 4 / FPS, 6)
    assert [r["errors"]["video.mse"]["mean"] for r in found["rows"].values()] == pytest.approx([0] * 8, abs=1e-9)
    last = row(found, "forward, chunk 8", "forward, chunk 8 with shuffled actions", "video.mse")
    assert last["verdict"] == "better"
    assert row(found, "forward, chunk 8", "copy first frame", "video.mse")["second_mean"] > 0.01
    assert found["notes"] == ["forward beats the first frame held still up to chunk 8 of 8 (3.2 s)"]
    assert len(asked) == 2 * 8


def test_a_chain_sees_its_own_predictions_and_a_stale_state(model, answering) -> None:
    """A stand-in that lets the square of its camera sink by one row a chunk: after k chunks it has sunk k rows."""
    states = []

    def sink(model, query, *, steps, seed, noise, decode, **values):
        level = (level_of(values["camera"])[:, :1] - 1 / 16).clamp(0, 1).expand(-1, 2)
        states.append(values["state"])
        pictures = torch.from_numpy(picture(level.flatten().numpy())).view(len(level), 2, 16, 16, 3)
        return {"video": model.codec("video").encode(pictures)}

    answering(sink)
    setting = probing(model, windows=3)
    found = horizon(setting)
    from polyclock.evaluate.horizon import _starts

    _, places = _starts(setting.held, 4, 3)
    for k in range(8):
        true = setting.held.gather([replace(p, frame=p.frame + 4 * k) for p in places]).tensor("video")
        start = setting.held.gather(places).tensor("camera")
        level = (level_of(start) - (k + 1) / 16).clamp(0, 1).expand(-1, 2)
        guess = torch.from_numpy(picture(level.flatten().numpy())).view(true.shape)
        wrong = ((guess.double() - true.double()) / 255).square().mean().item()
        assert found["rows"][f"forward, chunk {k + 1}"]["errors"]["video.mse"]["mean"] == pytest.approx(wrong)
    # The state is required here, so it is held: each chunk is told that of the start.
    assert all(torch.equal(s, states[0]) for s in states)


def test_episodes_too_short_for_two_chunks_are_said(model, answering) -> None:
    short = Moving(tuple(replace(e, length=7) for e in Moving().episodes))
    answering(Oracle(model))
    assert "long enough for two chunks of 4 data frames" in horizon(probing(model, short))["notes"][0]


class Noisy(Moving):
    """Actions are independent standard normal numbers."""

    def read(self, episode, key, frames, size=None):
        if key != "action":
            return super().read(episode, key, frames, size)
        return np.random.default_rng(episode).normal(size=(81, 2)).astype(np.float32)[np.asarray(frames)]


@pytest.mark.parametrize(("scale", "says"), [(1.0, "not told apart from 90%"), (0.3, "too narrow"), (3.0, "too wide")])
def test_coverage_is_ninety_percent_of_draws_from_the_truth(scale: float, says: str, answering) -> None:
    model = recipe().fit(Noisy().without(HELD)).build()

    def draw(model, query, *, noise, **_):
        raw = noise["action"] * scale
        return {"action": model.codec("action").encode(raw)}

    answering(draw)
    setting = probing(model, Noisy(), windows=40)
    found = calibration(setting)
    (note,) = found["notes"]
    assert says in note
    mine = found["rows"]["policy"]
    if scale == 1:
        assert mine["errors"]["action.coverage"]["mean"] == pytest.approx(0.9, abs=0.05)
        # The mean range of 19 normal draws, in units of what these few training episodes spread.
        unit = float((1 / setting.reference.spreads["action"].std).mean())
        assert mine["errors"]["action.width"]["mean"] == pytest.approx(3.69 * unit, abs=0.15)
        assert mine["beside"]["training 90% range"]["action.width"]["mean"] == pytest.approx(3.29, abs=0.3)
        same = row(found, "policy", "policy with shuffled inputs", "action.coverage")
        assert same["verdict"] == "no effect seen"


def test_calibration_takes_steps_of_its_own(model, answering) -> None:
    """One step gives the mean of all answers; whether they differ as they should needs more."""
    taken = set()

    def draw(model, query, *, noise, steps, **_):
        taken.add(steps)
        return {"action": noise["action"]}

    answering(draw)
    assert calibration(probing(model, steps=1, spread_steps=7, windows=2))["steps"] == 7
    assert taken == {7}


def test_of_equal_numbers_none_is_surely_inside() -> None:
    """Twenty draws of one distribution: the last lies in the set of the others in 90 % of cases, in steps or not."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(20, 20_000, 1))
    for made in (draws, draws.clip(-1, 1), draws.clip(-0.2, 3), draws.round(), np.sign(draws), 0 * draws):
        inside, width = judged(made[:-1], made[-1])
        assert inside.mean() == pytest.approx(0.9, abs=0.006) and (width >= 0).all()
    inside, width = judged(np.array([[[1.0]], [[1.0]], [[0.0]]]), np.array([[1.0]]))
    assert (inside.item(), width.item()) == (pytest.approx(2 / 3), 1.0)
    assert [judged(np.array([[[0.0]], [[2.0]]]), np.array([[v]]))[0].item() for v in (-1.0, 1.0, 3.0)] == [0, 1, 0]


class Limited(Noisy):
    """The robot goes no further than 1."""

    def read(self, episode, key, frames, size=None):
        found = super().read(episode, key, frames, size)
        return found.clip(-1, 1) if key == "action" else found


def test_samples_beyond_what_the_robot_does_count_as_at_its_limit(answering) -> None:
    model = recipe().fit(Limited().without(HELD)).build()
    answering(lambda model, query, *, noise, **_: {"action": model.codec("action").encode(noise["action"])})
    found = calibration(probing(model, Limited(), windows=40))
    assert "not told apart from 90%" in found["notes"][0]
    errors = found["rows"]["policy"]["errors"]
    assert errors["action.coverage"]["mean"] == pytest.approx(0.9, abs=0.05)
    spread = Limited().without(HELD)
    std = np.concatenate(list(spread.column("action"))).std(0).mean()
    assert errors["action.width"]["mean"] <= 2 / std + 1e-6


STARTS = tuple(Start("square", (level,), i) for i, level in enumerate((0.1, 0.25, 0.4, 0.55)))


def stage(name, cameras, size, count):
    assert (name, cameras, size) == ("square", ("top",), (16, 16))
    return Pushing(), STARTS[:count]


def test_changes_that_follow_the_simulator_s_score_one(model, answering) -> None:
    asked = answering(Oracle(model)).asked
    found = counterfactual(probing(model), ["square"], stage=stage)
    errors = found["rows"]["square"]["errors"]
    assert errors["video.cosine"]["mean"] == pytest.approx(1) and errors["video.explained"]["mean"] == pytest.approx(1)
    assert row(found, "square", "square with shuffled actions", "video.cosine")["second_mean"] < 0.99
    noise = [n for _, _, n in asked]
    assert len(asked) == 4 and all(torch.equal(n, noise[0]) for n in noise), "both are asked with the same noise"
    assert found["windows"] == 4 and grids_of({"probes": {"counterfactual": found}})[0].rows


def test_a_model_that_does_not_listen_scores_nothing(model, answering) -> None:
    def deaf(model, query, *, noise, **values):
        level = level_of(values["camera"]).expand(-1, 2)
        pictures = torch.from_numpy(picture(level.flatten().numpy())).view(len(level), 2, 16, 16, 3)
        return {"video": model.codec("video").encode(pictures)}

    answering(deaf)
    found = counterfactual(probing(model), ["square"], stage=stage)
    errors = found["rows"]["square"]["errors"]
    assert errors["video.cosine"]["mean"] == 0 and errors["video.explained"]["mean"] == 0
    assert row(found, "square", "square with shuffled actions", "video.cosine")["verdict"] == "no effect seen"


def test_a_world_that_does_not_fit_is_refused(model, answering) -> None:
    answering(Oracle(model))

    def other(**changes):
        def made(name, cameras, size, count):
            world = type("Other", (Pushing,), changes)()
            return world, STARTS[:count]

        return made

    with pytest.raises(ValueError, match="makes 25 steps a second, the data have 10"):
        counterfactual(probing(model), ["square"], stage=other(fps=25.0))
    with pytest.raises(ValueError, match="an action of the world has 3 numbers, the model's 2"):
        counterfactual(probing(model), ["square"], stage=other(action_dim=3))
    blind = other(seen=lambda self: {k: v for k, v in Pushing.seen(self).items() if "state" not in k})
    with pytest.raises(ValueError, match="does not bring 'state' .column 'observation.state'"):
        counterfactual(probing(model), ["square"], stage=blind)


def test_unknown_probes_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown probe 'horizn'. Did you mean 'horizon'"):
        check_probes(["horizn"], ())
    with pytest.raises(ValueError, match="counterfactual needs a world"):
        check_probes(["counterfactual"], ())
