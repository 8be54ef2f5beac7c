"""Parts of a data set: chosen episodes, hidden and renamed columns, and training on two sets with unequal columns."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from polyclock.cli import main
from polyclock.data import Mixture, Windows, open_dataset
from polyclock.data.collate import collate
from polyclock.data.excerpt import excerpt
from polyclock.data.source import numbers, spans
from polyclock.recipes import uwm

sys.path.append(str(Path(__file__).parents[1] / "cli"))
import toy  # noqa: E402

STATE, OTHER = "observation.state", "observation.images.main"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write(tmp_path_factory.mktemp("toy") / "data", episodes=4)


def test_what_is_hidden_is_absent_and_the_rest_is_as_it_was(folder: Path) -> None:
    whole = open_dataset(folder)
    part = open_dataset(f"{folder}?episodes=1-2&hide=action,{STATE}&rename={toy.CAMERA}:{OTHER}")
    assert [e.index for e in part.episodes] == [1, 2]
    assert set(part.facts.columns) == {OTHER, *whole.facts.columns} - {toy.CAMERA, "action", STATE}
    assert part.facts.cameras == (OTHER,) and (part.facts.action_dim, part.facts.state_dim) == (None, None)
    assert part.has(1, OTHER) and not any(part.has(1, c) for c in (toy.CAMERA, "action", STATE))
    assert list(part.column("action")) == []
    assert np.array_equal(part.read(1, OTHER, [3, 7]), whole.read(1, toy.CAMERA, [3, 7]))
    with pytest.raises(ValueError, match="unknown column 'action'"):
        part.read(1, "action", [0])
    assert [e.index for e in part.without([1]).episodes] == [2] and not part.only([2]).has(2, "action")
    prints = {d.fingerprint for d in (whole, part, whole.only([1, 2]), open_dataset(folder, hide="action"))}
    assert len(prints) == 4
    many = ",".join(["0-1"] * 900)  # longer than a name may be
    assert [e.index for e in open_dataset(f"{folder}?episodes={many}").episodes] == [0, 1]
    assert open_dataset(f"{folder}?episodes=0-3").fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": "7"}, "episode 7 is not in the data"),
        ({"episodes": "two"}, "'two' does not name episodes"),
        ({"hide": "acton"}, "unknown column 'acton'. Did you mean 'action'"),
        ({"rename": "action"}, "must be OLD:NEW"),
        ({"rename": f"action:{STATE}"}, "two columns would be called"),
        ({"rename": "action:a,action:b"}, "'action' is to be hidden or renamed twice"),
        ({"hide": "action", "rename": "action:a"}, "'action' is to be hidden or renamed twice"),
        ({"fps": 3}, "takes no options; got 'fps'"),
    ],
)
def test_faults_are_named(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_dataset(folder, **options)


def test_a_column_may_take_the_name_of_a_hidden_one(folder: Path) -> None:
    part = excerpt(open_dataset(folder), hide="action", rename=f"{STATE}:action")
    whole = open_dataset(folder)
    assert np.array_equal(part.read(0, "action", [5]), whole.read(0, STATE, [5])) and part.facts.action_dim == 2


def test_what_is_renamed_to_an_action_is_one(folder: Path) -> None:
    bare = excerpt(open_dataset(folder), hide="action")
    assert (bare.facts.action_dim, excerpt(bare, rename=f"{STATE}:action").facts.action_dim) == (None, 2)


def test_numbers_are_the_inverse_of_spans() -> None:
    assert numbers(spans([1, 2, 3, 7]).replace(" ", "")) == [1, 2, 3, 7]
    assert numbers("1-9:4,20") == [1, 5, 9, 20]
    with pytest.raises(ValueError, match="no rising span"):
        numbers("0-9:0")


def test_a_batch_of_two_data_sets_has_rows_of_what_each_has(folder: Path) -> None:
    recipe = uwm(cameras=(toy.CAMERA,), image=16, horizon=4, optional=True).fit(open_dataset(folder, episodes="0"))
    labelled = Windows(open_dataset(folder, episodes="0"), recipe.signals())
    films = Windows(open_dataset(folder, episodes="1-3", hide=f"action,{STATE}"), recipe.signals())
    mixture = Mixture([(1, labelled), (3, films)])
    batch = collate([mixture[i] for i in range(0, len(mixture), 20)], range(8), recipe.signals())
    assert batch.rows["action"].tolist() == batch.rows["state"].tolist() == [0, 1]
    assert batch.rows["video"].tolist() == batch.rows["camera"].tolist() == list(range(8))


def test_training_learns_from_a_second_data_set_what_it_has(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = toy.write(tmp_path / "other", episodes=2)
    also = f"{other}?hide=action,{STATE}"
    words = [
        "train",
        "tiny",
        "--data",
        f"{folder}?episodes=0,3",
        "--cameras",
        toy.CAMERA,
        "--out",
        str(tmp_path / "run"),
    ]
    words += ["--steps", "2", "--batch-size", "4", "--workers", "0", "--log-every", "1", "--warmup", "0"]
    assert main([*words, "--also", also, "--also-share", "0.75"]) == 0
    said = capsys.readouterr().out
    assert "learn from also" in said and "episodes 0-1" in said and "not in the second" in said
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["facts"]["data"]
    assert (facts["episodes"], facts["held_out"]) == ([0], [3])
    assert facts["also"]["share"] == 0.75 and facts["also"]["windows"] == 80
    assert main(words) == 2 and "also" in capsys.readouterr().err, "a run does not go on without what it learnt from"

    def fault(*more: str) -> str:
        assert main([*words[:6], "--out", str(tmp_path / "no"), *more]) == 2
        return capsys.readouterr().err

    assert "must lie between 0 and 1" in fault("--also", also, "--also-share", "1.5")
    assert "there is none" in fault("--also-share", "0.5")
    words[1] = "uwm"  # which needs the state
    assert "the recipe needs 'state'" in fault("--also", also, "--image", "16", "--horizon", "4")
