"""Evaluation of answers that are known: an oracle in place of the solver, then a real model."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from moving import FPS, Moving, Oracle, recipe
from polyclock.data import open_dataset
from polyclock.evaluate import evaluate, questions, show
from polyclock.evaluate.asking import Asking
from polyclock.evaluate.held_out import HeldOut
from polyclock.evaluate.intervals import block_interval
from polyclock.evaluate.table import errors
from polyclock.recipes import uwm

HELD = [2, 3]


@pytest.fixture(scope="module")
def model():
    return recipe().fit(Moving().without(HELD)).build()


@pytest.fixture
def oracle(model, monkeypatch) -> Oracle:
    stand_in = Oracle(model)
    monkeypatch.setattr(sys.modules["polyclock.evaluate.asking"], "sample", stand_in)
    return stand_in


def rows(document: dict, first: str, second: str) -> dict[str, dict]:
    return {r["measure"]: r for r in document["comparisons"] if (r["first"], r["second"]) == (first, second)}


def test_an_oracle_beats_shuffled_actions_and_its_own_policy(model, oracle) -> None:
    found = evaluate(model, Moving(), episodes=HELD, stride=5, probes=(), resamples=1000)
    forward = rows(found, "forward", "forward with shuffled actions")["video.mse"]
    assert forward["first_mean"] == pytest.approx(0.0, abs=1e-9) and forward["high"] < 0 < forward["second_mean"]
    assert forward["verdict"] == "better"
    inverse = rows(found, "inverse", "policy")["action.error"]
    assert inverse["high"] < 0 and inverse["verdict"] == "better"
    assert rows(found, "video", "copy last frame")["video.mse"]["verdict"] == "worse"
    assert any(n.startswith("video does not beat copy last frame: video.mse") for n in found["notes"])
    assert not any(n.startswith("forward ") for n in found["notes"])
    assert json.loads(json.dumps(found)) == found


def test_everything_is_asked_once_a_window_with_all_conditions_and_the_same_noise(model, oracle) -> None:
    evaluate(
        model, Moving(), episodes=[2], stride=10, batch_size=100, only=["forward", "policy"], probes=(), resamples=100
    )
    queries = [(query, values) for query, values, _ in oracle.asked]
    given = {"camera", "state"}
    forward = ("video | action", given | {"action"})
    assert queries == [("action |", given), ("action |", given), forward, forward]
    noise = [n for _, _, n in oracle.asked]
    assert all(torch.equal(n, noise[0]) for n in noise[1:]), "true and shuffled inputs are asked with the same noise"
    assert not torch.equal(noise[0][0], noise[0][1])


def test_baselines_are_what_their_names_say(model, oracle) -> None:
    data = Moving()
    document = evaluate(model, data, episodes=HELD, stride=1, only=["policy"], probes=(), resamples=100)
    found = document["questions"]["policy"]["beside"]
    train = np.concatenate(list(data.without(HELD).column("action")))
    held, mean = [], []
    for e in HELD:
        level = data.levels(e).astype(np.float32)
        for a in range(80 - 4):  # the last picture lies four frames ahead
            true = level[a + 1 : a + 5]
            held.append(np.abs(level[a] - true).mean() / train[:, 0].std())
            mean.append(np.abs(train[:, 0].mean() - true).mean() / train[:, 0].std())
    assert found["copy current state"]["action.error"]["mean"] == pytest.approx(np.mean(held), rel=1e-4)
    assert found["mean action"]["action.error"]["mean"] == pytest.approx(np.mean(mean), rel=1e-4)


def test_the_dimension_that_never_moves_is_named(model, oracle) -> None:
    notes = evaluate(model, Moving(), episodes=[2], stride=10, probes=(), resamples=100)["notes"]
    assert "action: dimensions 1 never move in the training data; errors leave them out" in notes


def test_actions_that_never_move_have_no_unit_and_the_rest_is_measured() -> None:
    class Fixed(Moving):
        def read(self, episode, key, frames, size=None):
            values = super().read(episode, key, frames, size)
            return np.full_like(values, 3) if key == "action" else values

    made = recipe().fit(Fixed().without(HELD)).build()
    found = evaluate(made, Fixed(), episodes=[3], stride=20, steps=1, probes=["calibration"], resamples=100)
    assert set(found["questions"]["policy"]["errors"]) == {"action.rmse"} and "video.mse" in str(found["questions"])
    assert "action: dimensions 0-1 never move in the training data; errors leave them out" in found["notes"]
    assert found["probes"]["calibration"]["notes"] == ["not measured: no action moves in the training data"]


def test_a_dimension_that_hardly_moved_in_training_is_named(model, oracle) -> None:
    class Still(Moving):
        def levels(self, episode: int) -> np.ndarray:
            return super().levels(episode) * (1 if episode in HELD else 0.01)

    notes = evaluate(model, Still(), episodes=HELD, stride=10, probes=(), resamples=100)["notes"]
    assert any(n.startswith("action: dimensions 0 move more than 5 times as far") for n in notes)
    assert not any(
        "as far" in n for n in evaluate(model, Moving(), episodes=HELD, stride=10, probes=(), resamples=100)["notes"]
    )


def test_an_interval_of_long_windows_is_told_from_blocks_as_long() -> None:
    """Windows of two seconds share frames with those of the second behind: blocks of one second would be too sure."""
    made = recipe()
    long = {n: replace(m, shape=(20 // (2 if n == "video" else 1), *m.shape[1:])) for n, m in made.modalities.items()}
    signals = replace(made, modalities=long).fit(Moving()).signals()
    held = HeldOut(Moving(), signals, ["action", "video"], [1], stride=1)
    assert held.last == 20 and held.seconds == 2.1
    assert [held.block(p) for p in held.places][20:22] == [(1, 0), (1, 1)]
    # Errors that windows which share `span` seconds make alike, as overlapping ones do.
    rng, hits, trials = np.random.default_rng(0), {1.0: 0, held.seconds: 0}, 150
    for trial in range(trials):
        errors = np.convolve(rng.normal(size=321), np.ones(21), "valid")
        for seconds in hits:
            blocks = [int(i / FPS / seconds) for i in range(len(errors))]
            interval = block_interval(errors, blocks, seed=trial, resamples=1000)
            hits[seconds] += interval.low <= 0 <= interval.high
    assert hits[1.0] / trials < 0.8 < hits[held.seconds] / trials


def test_windows_that_leave_the_episode_are_not_used_and_blocks_are_seconds() -> None:
    signals = recipe().fit(Moving()).signals()
    held = HeldOut(Moving(), signals, ["action", "video"], [1], stride=1)
    assert [p.frame for p in held.places] == list(range(76))
    assert [held.block(p) for p in held.places][9:11] == [(1, 0), (1, 1)]
    assert held.last == 4


def test_strangers_are_far_away_and_the_same_however_the_windows_are_cut() -> None:
    signals = recipe().fit(Moving()).signals()
    held = HeldOut(Moving(), signals, ["action", "video"], HELD)
    found = held.strangers(0)
    assert len(found) == len(held.places)
    assert all(a.episode != b.episode for a, b in found.items())
    assert len({b.frame for b in found.values()}) > 20
    assert found == held.strangers(0) != held.strangers(1)
    alone = HeldOut(Moving(), signals, ["action", "video"], HELD[:1]).strangers(0)
    assert len(alone) == 76 and all(abs(a.frame - b.frame) >= 2 * FPS for a, b in alone.items())


def test_windows_spread_over_all_episodes_and_many_episodes_are_blocks() -> None:
    data = Moving(tuple(replace(Moving().episodes[0], index=i) for i in range(12)))
    signals = recipe().fit(Moving()).signals()
    held = HeldOut(data, signals, ["action", "video"], range(11), stride=1, count=22)
    assert [p.episode for p in held.places] == [i // 2 for i in range(22)]
    assert held.by_episode and {held.block(p) for p in held.places} == {(i, 0) for i in range(11)}
    assert HeldOut(data, signals, ["action", "video"], range(9)).by_episode is False
    assert [p.frame for p in held.fitting(1, more=70) if p.episode == 3] == list(range(6))


def test_windows_that_lie_close_are_read_as_those_that_do_not() -> None:
    signals = recipe().fit(Moving()).signals()
    held = HeldOut(Moving(), signals, ["action", "video"], HELD, stride=1)
    (places, close, data), *_ = held.batches(5)
    assert data is not held.dataset, "an episode is decoded once"
    far = held.gather(places)
    assert all(torch.equal(close.values[n], far.values[n]) for n in signals)
    ((few, _, plain),) = held.batches(5, held.places[::40])
    assert plain is held.dataset and {p.episode for p in few} == set(HELD)


def test_an_episode_too_short_for_a_stranger_is_said(model, oracle) -> None:
    data = Moving(tuple(replace(e, length=20 if e.index == 3 else 80) for e in Moving().episodes))
    found = evaluate(model, data, episodes=[3], resamples=100)
    assert not rows(found, "forward", "forward with shuffled actions")
    assert any("have no other at least 2 s away" in n for n in found["notes"])
    assert any("only 2 blocks of 1 s: the intervals say little" in n for n in found["notes"])


def test_batch_size_changes_nothing_but_rounding(model) -> None:
    one, many = (
        evaluate(model, Moving(), episodes=[3], stride=8, steps=2, batch_size=size, probes=(), resamples=200)
        for size in (1, 7)
    )
    for name, answer in one["questions"].items():
        for key, found in answer["errors"].items():
            assert found["mean"] == pytest.approx(many["questions"][name]["errors"][key]["mean"], rel=1e-3), key
    again = evaluate(model, Moving(), episodes=[3], stride=8, steps=2, batch_size=7, probes=(), resamples=200)
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in many.items() if k != "seconds"}


def test_a_window_s_noise_does_not_depend_on_which_others_are_asked(model, oracle) -> None:
    evaluate(model, Moving(), episodes=HELD, stride=20, only=["policy"], probes=(), resamples=100)
    every = oracle.asked[-1][2]
    assert len(every) == 8
    oracle.asked.clear()
    evaluate(model, Moving(), episodes=[3], stride=40, only=["policy"], probes=(), resamples=100)
    assert torch.equal(oracle.asked[-1][2], every[4::2])  # four windows of each episode


def test_pictures_of_any_size_are_as_large_as_the_data(oracle) -> None:
    made = recipe()
    video = replace(made.modalities["video"], shape=(2, None, None, 3))
    made = replace(made, modalities=made.modalities | {"video": video}).fit(Moving().without(HELD))
    oracle.model = made.build()
    held = HeldOut(Moving(), made.signals(), ["action", "video"], [3], stride=20)
    asking = Asking(oracle.model, held.places, held.gather(held.places))
    assert asking._shape("video") == [2, 16, 16, 3] and asking._shape("action") == [4, 2]
    (question,) = (q for q in questions(oracle.model, FPS)[0] if q.name == "forward")
    assert asking.ask(question)["video"].shape == (len(held.places), 2, 16, 16, 3)
    blind = Asking(oracle.model, held.places, held.gather(held.places, ["action", "camera", "state"]))
    with pytest.raises(ValueError, match="the size of 'video' is open, .*, and the data do not show it"):
        blind.ask(question)


def test_data_without_actions(model) -> None:
    found = evaluate(model, Moving(actions=False), episodes=[3], stride=20, steps=1, resamples=100)
    assert list(found["questions"]) == ["video"]


def test_what_cannot_be_is_refused_in_a_sentence(model) -> None:
    with pytest.raises(ValueError, match="episode 9 is not in the data"):
        evaluate(model, Moving(), episodes=[9])
    with pytest.raises(ValueError, match="unknown question 'forwards'. Did you mean 'forward'"):
        evaluate(model, Moving(), episodes=[3], only=["forwards"])
    with pytest.raises(ValueError, match="no episode is left"):
        evaluate(model, Moving().only([3]), episodes=[3])
    for name in ("stride", "windows", "steps", "batch_size", "probe_windows", "starts", "resamples"):
        for count in (0, -1):
            with pytest.raises(ValueError, match=f"^{name}={count}; needed: 1 or more$"):
                evaluate(model, Moving(), episodes=[3], **{name: count})
    half = type("Half", (Moving,), {"has": lambda self, episode, key: key != "action" or episode not in HELD})
    with pytest.raises(ValueError, match="every held-out episode lacks one of the columns action"):
        evaluate(model, half(), episodes=[3])
    short = Moving(tuple(replace(e, length=4) for e in Moving().episodes))
    with pytest.raises(ValueError, match="it spans 5 data frames, and the longest of the held-out episodes has 4"):
        evaluate(model, short, episodes=[3])


def test_the_document_is_printed(model, oracle) -> None:
    found = evaluate(model, Moving(), episodes=HELD, stride=5, probe_windows=2, resamples=100)
    console = Console(width=140, record=True, file=StringIO())
    show(found, console)
    text = console.export_text()
    assert "in 16 blocks of 1 s; means with 95 % intervals" in text
    assert "copy current state" in text and "forward with shuffled actions" in text and "no effect seen" in text
    assert "does not beat copy last frame" in text


def test_a_baseline_has_one_row_or_rows_of_its_own() -> None:
    """A row holds the numbers of one question alone, also where some of them agree."""

    def row(mean: float) -> dict:
        return {"mean": mean, "low": None, "high": None}

    beside = [{"video.mse": row(1), "video.ssim": row(v)} for v in (2, 2, 3)]
    asked = {q: {"errors": {"video.mse": row(0)}, "beside": {"copy": b}} for q, b in zip("abc", beside, strict=True)}
    (grid,) = errors({"questions": asked})
    assert grid.columns == ("question", "mse", "ssim")
    assert grid.rows[:3] == (("a", "0", "-"), ("b", "0", "-"), ("c", "0", "-"))
    assert grid.rows[3:] == (("copy", "1", "2"), ("c, copy", "1", "3")) and grid.quiet == (False,) * 3 + (True,) * 2


def test_the_uwm_recipe_on_a_real_robot(real_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = open_dataset(real_data / "g1_pick_bottle")
    last = data.episodes[-1].index
    made = uwm(cameras=data.facts.cameras, image=32, patch=16).fit(data.without([last]))
    found = evaluate(made.build(), data, episodes=[last], windows=12, steps=2, probes=(), resamples=200)
    assert list(found["questions"]) == ["policy", "forward", "inverse", "video", "joint"]
    assert rows(found, "policy", "copy current state") and rows(found, "forward", "copy last frame")
    assert found["questions"]["forward"]["errors"]["video.psnr"]["mean"] > 3
