"""Demonstrations in HDF5, as robomimic and LIBERO write them."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from arrays import SIGNALS, agrees, episodes, windows_agree
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclock.commands import data as data_command
from polyclock.commands import train as train_command
from polyclock.data import UntidyData, open_dataset
from polyclock.data.formats import robomimic
from polyclock.data.formats.options import parse_part
from polyclock.data.formats.recordings import fitted
from polyclock.data.verify import verify

FRONT, WRIST = "observation.images.agentview_rgb", "observation.images.eye_in_hand_rgb"
LIBERO = {
    "problem_info": json.dumps({"problem_name": "tabletop", "language_instruction": "open the top drawer"}),
    "env_args": json.dumps({"env_name": "Tabletop", "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}),
    "bddl_file_name": "chiliocosm/KITCHEN_SCENE1_open_the_top_drawer.bddl",
}


def write(
    path: Path, lengths: tuple[int, ...] = (9, 5, 7), seed: int = 0, attributes: dict | None = None, **packing: object
) -> dict[int, dict[str, np.ndarray]]:
    """A file in the layout of LIBERO; what each column is to be read as."""
    truth = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(LIBERO if attributes is None else attributes)
        data.attrs["total"], data.attrs["num_demos"] = sum(lengths), len(lengths)
        for i, columns in episodes(lengths, seed).items():
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = str(lengths[i])
            demo.attrs["model_file"] = "<mujoco/>"
            rewards = (np.arange(lengths[i]) == lengths[i] - 1).astype(np.uint8)
            states = np.random.default_rng(i).normal(size=(lengths[i], 13))
            stored = {
                "actions": columns["action"],
                "rewards": rewards,
                "dones": rewards,
                "states": states,
                "obs/agentview_rgb": columns["front"],
                "obs/eye_in_hand_rgb": columns["wrist"],
                "obs/ee_pos": columns["state"][:, :3],
                "obs/gripper_states": columns["state"][:, 3:],
            }
            for name, values in stored.items():
                demo.create_dataset(name, data=values, **packing)
            demo.create_dataset("init_state", data=states[0])
            truth[i] = {
                "action": columns["action"],
                "next.reward": rewards[:, None],
                "next.done": rewards[:, None],
                "states": states,
                FRONT: columns["front"],
                WRIST: columns["wrist"],
                "observation.ee_pos": columns["state"][:, :3],
                "observation.gripper_states": columns["state"][:, 3:],
            }
    return truth


@pytest.mark.parametrize("packing", [{}, {"compression": "gzip", "chunks": True}], ids=["plain", "packed"])
def test_a_file_is_read_as_it_lies(tmp_path: Path, packing: dict) -> None:
    truth = write(tmp_path / "one.hdf5", **packing)
    dataset = open_dataset(tmp_path / "one.hdf5")
    agrees(dataset, truth)
    facts = dataset.facts
    assert (facts.fps, facts.cameras, facts.action_dim, facts.state_dim) == (20, (FRONT, WRIST), 7, None)
    assert facts.tasks == ("open the top drawer",) and dataset.read(1, "task", [4]) == "open the top drawer"
    assert facts.columns == {k: v.shape[1:] for k, v in truth[0].items()} | {"task": ()}
    assert [len(c) for c in dataset.column("action")] == [9, 5, 7]
    assert [e.index for e in dataset.without([1]).episodes] == [0, 2]
    assert parse_part("a.b[:3]@euler:XYZ-6d") == parse_part(str(parse_part("a.b[:3]@euler:XYZ-6d")))
    assert dataset.only([1]).fingerprint != dataset.fingerprint == open_dataset(tmp_path / "one.hdf5").fingerprint
    assert verify(tmp_path / "one.hdf5") == []


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), SIGNALS, st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_windows_are_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], signal: tuple, stride: int
) -> None:
    path = tmp_path_factory.mktemp("w") / "one.hdf5"
    truth = write(path, tuple(lengths), compression="gzip")
    keys = {FRONT: "video", "action": "vector", "observation.ee_pos": "vector"}
    windows_agree(open_dataset(path), truth, keys, signal, stride)


def test_only_the_frames_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "one.hdf5", (200,), chunks=True)
    dataset = open_dataset(tmp_path / "one.hdf5")
    asked = []
    real = robomimic._selection
    monkeypatch.setattr(robomimic, "_selection", lambda frames: asked.append(real(frames)) or asked[-1])
    dataset.read(0, FRONT, [7, 3, 3, 4])
    dataset.read(0, FRONT, [5, 4])
    assert asked[0].tolist() == [3, 4, 7] and asked[1] == slice(4, 6)


def test_a_folder_has_one_task_a_file(tmp_path: Path) -> None:
    first = write(tmp_path / "suite" / "a_close_the_lid_demo.hdf5", (4, 6))
    other = LIBERO | {"problem_info": json.dumps({"language_instruction": ["turn", "on", "the", "stove"]})}
    second = write(tmp_path / "suite" / "b_demo.hdf5", (3,), seed=5, attributes=other)
    dataset = open_dataset(tmp_path / "suite")
    agrees(dataset, first | {2: second[0]})
    assert dataset.facts.tasks == ("open the top drawer", "turn on the stove")
    assert dataset.read(2, "task", [0]) == "turn on the stove"
    write(tmp_path / "mixed" / "a.hdf5", (2,))
    slow = LIBERO | {"env_args": json.dumps({"env_kwargs": {"control_freq": 10}})}
    write(tmp_path / "mixed" / "b.hdf5", (2,), attributes=slow)
    with pytest.raises(ValueError, match=r"a.hdf5 has 20 and .*b.hdf5 10 frames per second"):
        open_dataset(tmp_path / "mixed")
    assert open_dataset(tmp_path / "mixed", fps=20).facts.fps == 20
    with pytest.raises(ValueError, match=r"holds some; open one of them: .*suite"):
        open_dataset(tmp_path)


def test_options(tmp_path: Path) -> None:
    path = tmp_path / "one.hdf5"
    truth = write(path)
    with h5py.File(path, "a") as file:
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
        file["mask/valid"] = np.array([b"demo_1"])
    turned = open_dataset(path, flip="agentview_rgb", state=("ee_pos", "gripper_states"), mask="train")
    assert [e.index for e in turned.episodes] == [0, 2]
    np.testing.assert_array_equal(turned.read(2, FRONT, [3]), truth[2][FRONT][[3], ::-1])
    np.testing.assert_array_equal(turned.read(2, WRIST, [3]), truth[2][WRIST][[3]])
    state = np.concatenate([truth[0]["observation.ee_pos"], truth[0]["observation.gripper_states"]], -1)
    np.testing.assert_array_equal(turned.read(0, "observation.state", [4, 0]), state[[4, 0]].astype(np.float32))
    assert turned.facts.state_dim == 5
    said = open_dataset(f"{path}?flip=agentview_rgb&state=ee_pos,gripper_states&mask=train")
    assert said.fingerprint == turned.fingerprint != open_dataset(path, mask="train").fingerprint
    both = open_dataset(f"{path}?flip=all")
    small = both.read(0, WRIST, [2], (6, 6))
    assert small.shape == (1, 6, 6, 3)
    np.testing.assert_array_equal(small, fitted(truth[0][WRIST][[2], ::-1], (6, 6)))
    part = open_dataset(path, action="action[:3],action[3:6]@axis_angle-6d,action[6:]")
    assert part.facts.action_dim == 10
    np.testing.assert_array_equal(part.read(1, "action", [2])[:, [0, 1, 2, 9]],
                                  truth[1]["action"][[2]][:, [0, 1, 2, 6]].astype(np.float32))  # fmt: skip


def test_a_convention_is_told_and_never_acted_upon(tmp_path: Path) -> None:
    path = tmp_path / "one.hdf5"
    truth = write(path, attributes=LIBERO | {"macros_image_convention": "opengl"})
    with pytest.warns(UntidyData, match="lowest row first; flip=all turns them over"):
        dataset = open_dataset(path)
    np.testing.assert_array_equal(dataset.read(0, FRONT, [1]), truth[0][FRONT][[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not open_dataset(path, flip="none").flipped
        assert open_dataset(path, flip="all").flipped == {FRONT, WRIST}


def test_rate_and_sentence_are_asked_for_where_the_file_lacks_them(tmp_path: Path) -> None:
    path = tmp_path / "one.h5"
    write(path, attributes={"env_args": json.dumps({"env_name": "Lift", "env_kwargs": {}})})
    with pytest.raises(ValueError, match=r"do not say how many frames .* fps=10"):
        open_dataset(path)
    dataset = open_dataset(f"{path}?fps=20&task=lift the cube")
    assert dataset.facts.fps == 20 and dataset.read(1, "task", [0]) == "lift the cube"
    assert not open_dataset(path, fps=20).has(0, "task")
    path = tmp_path / "other.h5"
    write(path)
    with pytest.raises(ValueError, match="option task is for data without sentences, and episode 0 has 'open the top"):
        open_dataset(path, task="lift")
    with pytest.warns(UntidyData, match="10 frames per second, as asked; the files say 20"):
        assert open_dataset(path, fps=10).facts.fps == 10


def test_a_sentence_from_the_name_of_the_problem(tmp_path: Path) -> None:
    for name in ("bddl_file_name", "env_args"):
        write(tmp_path / f"{name}.hdf5", (2,), attributes={name: LIBERO[name]})
    assert open_dataset(tmp_path / "bddl_file_name.hdf5", fps=20).facts.tasks == ("open the top drawer",)
    assert open_dataset(tmp_path / "env_args.hdf5").facts.tasks == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flp": "all"}, r"unknown option of .*one.hdf5: 'flp'. Did you mean 'flip'"),
        ({"split": "train"}, "unknown option of .* 'split'"),
        ({"flip": "agentview"}, r"unknown camera to flip .*'agentview'. Did you mean 'agentview_rgb'"),
        ({"fps": "fast"}, "option fps: could not convert"),
        ({"fps": 0}, "option fps: 0 frames per second; it must be positive"),
        ({"mask": "train"}, "unknown mask of .* Possible: none"),
        ({"state": "ee_poss"}, "unknown column of .*'ee_poss'. Did you mean"),
        ({"state": "ee_pos,,ee_pos"}, "names with commas between"),
        ({"action": "action[3:9]"}, r"action\[3:9\] asks for more than its 7 numbers"),
        ({"action": "action[3:6]@eular-6d"}, "unknown rotation 'eular'. Did you mean 'euler'"),
        ({"action": "action[0:4]@euler-6d"}, "a rotation as euler has 3 numbers, got 4"),
        ({"action": "action(3)@"}, "is no part of a vector; write COLUMN"),
    ],
)
def test_options_that_are_wrong(tmp_path: Path, options: dict, message: str) -> None:
    write(tmp_path / "one.hdf5")
    with pytest.raises(ValueError, match=message):
        open_dataset(tmp_path / "one.hdf5", **options)


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("?fps", "'fps' is no option; write PATH[?]NAME=VALUE"),
        ("?fps=10&fps=20", "'fps' is given twice"),
        ("?fps=10&", "'' is no option"),
    ],
)
def test_options_behind_the_path_that_are_wrong(tmp_path: Path, tail: str, message: str) -> None:
    write(tmp_path / "one.hdf5")
    with pytest.raises(ValueError, match=message):
        open_dataset(f"{tmp_path}/one.hdf5{tail}")
    with pytest.raises(ValueError, match="'fps' is given twice"):
        open_dataset(f"{tmp_path}/one.hdf5?fps=10", fps=10)


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4000])


def _change(act: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            act(file)

    return change


def _cut(file: h5py.File) -> None:
    rows = file["data/demo_1/obs/agentview_rgb"][:-1]
    del file["data/demo_1/obs/agentview_rgb"]
    file["data/demo_1/obs/agentview_rgb"] = rows


def _elsewhere(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("other.bin"), "w") as other:
        other["secret"] = np.zeros((5, 7))
    del file["data/demo_1/actions"]
    file["data/demo_1/actions"] = h5py.ExternalLink("other.bin", "secret")


def _attribute(name: str, value: object) -> Callable[[Path], None]:
    return _change(lambda file: file["data/demo_1"].attrs.__setitem__(name, value))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_shorten, r"one.hdf5 cannot be read as HDF5: .*truncated"),
        (lambda path: path.write_bytes(b"not at all"), "one.hdf5 cannot be read as HDF5"),
        (_change(lambda file: file.__delitem__("data")), "one.hdf5 has no group 'data'; it has: nothing"),
        (_change(lambda file: file["data"].attrs.__setitem__("env_args", "{")), "attribute env_args is not JSON"),
        (_attribute("num_samples", "many"), "demo_1: num_samples is 'many'"),
        (_attribute("num_samples", 6), r"one, episode 1: .*demo_1, obs/agentview_rgb has shape \(5, 12, 16, 3\); the "),
        (
            _change(_cut),
            r"one, episode 1: .*demo_1, obs/agentview_rgb has shape \(4, 12, 16, 3\); the demonstration has 5",
        ),
        (_change(_elsewhere), "demo_1, actions lies in another file"),
        (_change(lambda file: file.__delitem__("data/demo_1/actions")), "unknown column of one, episode 1: 'action'"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "one" / "one.hdf5"
    write(path)
    damage(path)
    with pytest.raises(ValueError, match=message):
        dataset = open_dataset(path.parent)
        for key in (FRONT, "action"):
            dataset.read(1, key, [4])


def test_frames_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path / "one.hdf5")
    dataset = open_dataset(tmp_path / "one.hdf5")
    for frames in ([5], [-1], [0, 99]):
        with pytest.raises(ValueError, match=rf"episode 1: frame {frames[-1]} of 5"):
            dataset.read(1, FRONT, frames)
    with pytest.raises(ValueError, match="episode 7 is not in the data; possible: 0-2"):
        dataset.read(7, FRONT, [0])
    with pytest.raises(ValueError, match="unknown column of one.hdf5, episode 0: 'actions'. Did you mean 'action'"):
        dataset.read(0, "actions", [0])


def test_verify_names_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.hdf5"
    write(path)
    with h5py.File(path, "a") as file:
        _cut(file)
        file["data/demo_2/actions"][3, 2] = np.nan
        file["data"].attrs["total"] = 99
        file["mask/train"] = np.array([b"demo_8"])
    found = {(p.episode, p.frame): p.what for p in verify(path)}
    assert found.keys() == {(None, None), (1, 0), (2, 3)} and len(verify(path)) == 4
    assert "total of 'data' is 99" in found[None, None] or "demo_8" in found[None, None]
    assert "obs/agentview_rgb has shape (4, 12, 16, 3)" in found[1, 0] and found[2, 3] == "action holds NaN or Inf"
    assert data_command.run(["verify", str(path)]) == 1
    assert "4 faults" in capsys.readouterr().out
    _shorten(path)
    (problem,) = verify(path)
    assert "truncated" in problem.what and not problem.note


def test_info_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "one.hdf5")
    assert data_command.run(["info", f"{tmp_path}/one.hdf5?state=ee_pos,ee_pos[1:]&flip=all"]) == 0
    said = capsys.readouterr().out
    assert "robomimic HDF5" in said and "open the top drawer" in said and "observation.state  5" in said
    assert "flip  all" in said and "state  ee_pos, ee_pos[1:]" in said
    assert data_command.run(["show", f"{tmp_path}/one.hdf5", "--out", str(tmp_path / "out"), "--episode", "2"]) == 0
    assert (tmp_path / "out" / f"episode-000002-{FRONT}.png").is_file()


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "one.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py is not installed; .*polyclock\[formats\]"):
        open_dataset(tmp_path / "one.hdf5")


def test_a_model_is_trained_on_it(tmp_path: Path) -> None:
    write(tmp_path / "one.hdf5", (8, 6))
    words = [
        "tiny",
        "--data",
        f"{tmp_path}/one.hdf5?flip=all&state=ee_pos,gripper_states",
        "--out",
        str(tmp_path / "run"),
    ]
    assert train_command.run([*words, "--steps", "2", "--batch-size", "2", "--device", "cpu"]) == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    dataset = open_dataset(tmp_path / "one.hdf5", flip="all", state="ee_pos,gripper_states").only([0])
    assert run["facts"]["data"]["fingerprint"] == dataset.fingerprint
