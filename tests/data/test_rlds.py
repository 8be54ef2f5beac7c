"""RLDS without TensorFlow: real data, and data sets written by other people's code."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from arrays import SIGNALS, agrees, episodes, windows_agree
from hypothesis import given, settings
from hypothesis import strategies as st
from rlds_files import EXAMPLE, declare, group, image, message, png, tensor, write

from polyclock.codecs.rotation import convert
from polyclock.commands import data as data_command
from polyclock.data import UntidyData, open_dataset
from polyclock.data.formats import rlds
from polyclock.data.verify import verify

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
OCTO = "octo_bridge_debug/tests/debug_dataset/bridge_dataset/1.0.0"
FEATURES = declare(
    {
        "action": tensor(7, dtype="float64"),
        "observation": group(
            {
                "front": image(12, 16, 3),
                "wrist": image(12, 12, 3),
                "state": tensor(5),
                "depth": image(4, 5, 1, dtype="uint16"),
            }
        ),
        "is_last": tensor(dtype="bool"),
        "counts": tensor(2, dtype="int32"),
        "mask": tensor(3, dtype="uint8", encoding="bytes"),
        "map": tensor(2, 3, encoding="zlib"),
        "reward": tensor(),
        "language_instruction": {"text": {}},
        "notes": {"sequence": {"feature": {"text": {}}, "length": "-1"}},
    },
    {"file_path": {"text": {}}},
)


def records(lengths: tuple[int, ...], seed: int = 0) -> tuple[list[bytes], dict[int, dict[str, np.ndarray]]]:
    """(serialized episodes, what is to be read)."""
    stored, truth = [], {}
    for i, c in episodes(lengths, seed).items():
        n = lengths[i]
        last = np.arange(n) == n - 1
        counts = np.stack([np.arange(n) - 3, np.arange(n) * 10**8], -1)
        mask = np.random.default_rng(i).integers(0, 9, (n, 3), dtype=np.uint8)
        depth = np.random.default_rng(i).integers(0, 2**16, (n, 4, 5, 1), dtype=np.uint16)
        field = np.random.default_rng(i).normal(size=(n, 2, 3)).astype(np.float32)
        features = {
            "steps/action": c["action"],
            "steps/observation/front": [png(p) for p in c["front"]],
            "steps/observation/wrist": [png(p) for p in c["wrist"]],
            "steps/observation/state": c["state"],
            "steps/observation/depth": [png(p) for p in depth],
            "steps/is_last": last,
            "steps/counts": counts,
            "steps/mask": [m.tobytes() for m in mask],
            "steps/map": [zlib.compress(m.tobytes()) for m in field],
            "steps/reward": last.astype(np.float32),
            "steps/language_instruction": [f"task {i % 2}".encode()] * n,
            "steps/notes/ragged_flat_values": [b"x"] * n,
            "episode_metadata/file_path": [b"there"],
        }
        stored.append(message(features))
        truth[i] = {
            "action": c["action"],
            FRONT: c["front"],
            WRIST: c["wrist"],
            "observation.state": c["state"],
            "observation.depth": depth,
            "is_last": last[:, None],
            "counts": counts.astype(np.int32),
            "mask": mask,
            "map": field,
            "next.reward": last[:, None].astype(np.float32),
        }
    return stored, truth


def written(root: Path, lengths: tuple[int, ...] = (6, 4, 9)) -> dict[int, dict[str, np.ndarray]]:
    stored, truth = records(lengths)
    write(root, FEATURES, [stored[:1], stored[1:]])
    return truth


def test_a_data_set_is_read_as_it_lies(tmp_path: Path) -> None:
    truth = written(tmp_path / "arm")
    with pytest.warns(UntidyData, match="steps/notes: of a kind that is not read; left out"):
        dataset = open_dataset(f"{tmp_path}/arm?fps=20")
    agrees(dataset, truth)
    facts = dataset.facts
    assert (facts.fps, facts.cameras, facts.action_dim, facts.state_dim) == (20, (FRONT, WRIST), 7, 5)
    assert facts.tasks == ("task 0", "task 1") and dataset.read(1, "task", [3]) == "task 1"
    assert facts.columns == {k: v.shape[1:] for k, v in truth[0].items()} | {"task": ()}
    assert dataset.only([2]).fingerprint != dataset.fingerprint
    assert [p.note for p in verify(tmp_path / "arm")] == [True]


quiet = pytest.mark.filterwarnings("ignore::polyclock.data.UntidyData")


@quiet
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), SIGNALS, st.integers(1, 3))
@settings(max_examples=12, deadline=None)
def test_windows_are_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], signal: tuple, stride: int
) -> None:
    stored, truth = records(tuple(lengths))
    root = write(tmp_path_factory.mktemp("w") / "arm", FEATURES, [stored])
    keys = {FRONT: "video", "action": "vector", "observation.state": "vector"}
    windows_agree(open_dataset(root, fps=20), truth, keys, signal, stride)


@quiet
def test_only_the_pictures_asked_for_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = written(tmp_path / "arm")
    dataset = open_dataset(tmp_path / "arm", fps=20)
    decoded: list[int] = []
    real = rlds._picture
    monkeypatch.setattr(rlds, "_picture", lambda stored, field: decoded.append(len(stored)) or real(stored, field))
    dataset.read(2, FRONT, [8, 1, 8, 1])
    assert decoded == [len(png(truth[2][FRONT][i])) for i in (1, 8)]


@quiet
def test_a_part_of_the_files_keeps_its_numbers(tmp_path: Path) -> None:
    truth = written(tmp_path / "arm")
    whole = open_dataset(tmp_path / "arm", fps=20)
    (tmp_path / "arm" / "arm-train.tfrecord-00000-of-00002").unlink()
    with pytest.warns(UntidyData, match=r"1 of the 2 files of split train are here \(episodes 1-2\)"):
        part = open_dataset(tmp_path / "arm", fps=20)
    agrees(part, {i: truth[i] for i in (1, 2)})
    assert part.fingerprint != whole.fingerprint
    (tmp_path / "arm" / "arm-train.tfrecord-00001-of-00002").unlink()
    with pytest.raises(
        ValueError, match="no record of split train is here; expected arm-train.tfrecord-00000-of-00002"
    ):
        open_dataset(tmp_path / "arm", fps=20)


def droid(root: Path, lengths: tuple[int, ...] = (5, 3)) -> dict[int, dict[str, np.ndarray]]:
    """The layout of DROID: three cameras, three sentences, actions as a vector and as a group, all float64."""
    cameras = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
    sizes = {"cartesian_position": 6, "cartesian_velocity": 6, "gripper_position": 1, "gripper_velocity": 1,
             "joint_position": 7, "joint_velocity": 7}  # fmt: skip
    seen = {"cartesian_position": 6, "gripper_position": 1, "joint_position": 7}
    sentences = ("language_instruction", "language_instruction_2", "language_instruction_3")
    declared = declare(
        {
            "action": tensor(7, dtype="float64"),
            "action_dict": group({k: tensor(n, dtype="float64") for k, n in sizes.items()}),
            "observation": group(
                {c: image(9, 16, 3, encoding="jpeg") for c in cameras}
                | {k: tensor(n, dtype="float64") for k, n in seen.items()}
            ),
            **{k: tensor(dtype="float32") for k in ("reward", "discount")},
            **{k: tensor(dtype="bool") for k in ("is_first", "is_last", "is_terminal")},
            **{s: {"text": {}} for s in sentences},
        },
        {"file_path": {"text": {}}, "recording_folderpath": {"text": {}}},
    )
    truth, stored = {}, []
    for i, n in enumerate(lengths):
        dice = np.random.default_rng(i)
        numbers = {f"action_dict/{k}": dice.uniform(-1, 1, (n, m)) for k, m in sizes.items()}
        numbers |= {f"observation/{k}": dice.uniform(-1, 1, (n, m)) for k, m in seen.items()}
        numbers["action"] = dice.uniform(-1, 1, (n, 7))
        pictures = {c: dice.integers(0, 256, (n, 9, 16, 3), dtype=np.uint8) for c in cameras}
        flags = {k: np.zeros(n, bool) for k in ("is_first", "is_last", "is_terminal")}
        stored.append(
            message(
                {f"steps/{k}": v for k, v in (numbers | flags).items()}
                | {f"steps/observation/{c}": [png(p) for p in v] for c, v in pictures.items()}
                | {f"steps/{k}": np.zeros(n, np.float32) for k in ("reward", "discount")}
                | {f"steps/{s}": [f"{s} of {i}".encode()] * n for s in sentences}
                | {"episode_metadata/file_path": [b"a"], "episode_metadata/recording_folderpath": [b"b"]}
            )
        )
        truth[i] = {k.replace("/", "."): v for k, v in numbers.items()}
        truth[i] |= {f"observation.images.{c}": v for c, v in pictures.items()}
    write(root, declared, [stored], name="r2d2_faceblur")
    return truth


def test_the_layout_of_droid(tmp_path: Path) -> None:
    truth = droid(tmp_path / "droid" / "1.0.0")
    path = tmp_path / "droid" / "1.0.0"
    agrees(open_dataset(path, fps=15), truth)
    state = "observation.cartesian_position,gripper_position"
    dataset = open_dataset(f"{path}?fps=15&action=droid&state={state}&instruction=language_instruction_2")
    facts = dataset.facts
    assert (facts.action_dim, facts.state_dim, len(facts.cameras)) == (10, 7, 3)
    assert facts.tasks == ("language_instruction_2 of 0", "language_instruction_2 of 1")
    velocity = truth[1]["action_dict.cartesian_velocity"].astype(np.float32)
    turn = convert(torch.from_numpy(velocity[:, 3:]), "euler", "6d", "XYZ").numpy()
    expected = np.concatenate([velocity[:, :3], turn, truth[1]["action_dict.gripper_position"].astype(np.float32)], -1)
    np.testing.assert_array_equal(dataset.read(1, "action", range(3)), expected)
    angles = velocity[0, 3:].astype(np.float64)
    about = [np.eye(3) for _ in angles]
    for k, (a, matrix) in enumerate(zip(angles, about, strict=True)):
        p, q = (k + 1) % 3, (k + 2) % 3
        matrix[p, p] = matrix[q, q] = np.cos(a)
        matrix[p, q], matrix[q, p] = -np.sin(a), np.sin(a)
    whole = about[0] @ about[1] @ about[2]
    np.testing.assert_allclose(dataset.read(1, "action", [0])[0, 3:9], whole[:2].ravel(), atol=1e-6)
    with pytest.raises(ValueError, match="unknown text of .*Did you mean 'language_instruction_3'"):
        open_dataset(path, fps=15, instruction="language_instruction_4")


def _edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        value = json.loads((root / name).read_text())
        change(value)
        (root / name).write_text(json.dumps(value))

    return act


def _bytes(change: Callable[[bytearray], object]) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        path = root / "arm-train.tfrecord-00001-of-00002"
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return act


def _without(name: str, value: object = None) -> Callable[[Path], None]:
    """Episode 1 without a feature, or with another value."""

    def act(root: Path) -> None:
        stored, _ = records((6, 4, 9))
        example = EXAMPLE.FromString(stored[1])
        del example.features.feature[name]
        if value is not None:
            example.MergeFromString(message({name: value}))
        write(root, FEATURES, [stored[:1], [example.SerializeToString(), stored[2]]])

    return act


def _info(change: Callable[[dict], object]) -> Callable[[Path], None]:
    return _edit("dataset_info.json", change)


def _split(**changes: object) -> Callable[[Path], None]:
    return _info(lambda info: info["splits"][0].update(changes))


def _declared(**changes: object) -> Callable[[Path], None]:
    """Other features of the steps."""
    return _edit("features.json", lambda features: _step(features).update(changes))


SPLIT = "train.tfrecord-00001-of-00002"
STEPS = ("featuresDict", "features", "steps", "sequence", "feature", "featuresDict", "features")


def _step(features: dict) -> dict:
    for word in STEPS:
        features = features[word]
    return features


@quiet
@pytest.mark.parametrize(
    ("damage", "message_"),
    [
        (_bytes(lambda b: b.__delitem__(slice(-7, None))), rf"{SPLIT} ends within record 1: \d+ bytes are due, \d+ "),
        (_bytes(lambda b: b.extend(b"\0\0\0")), rf"{SPLIT} ends within the head of record 2"),
        (_bytes(lambda b: b.__setitem__(2, 1)), rf"{SPLIT}, record 0: the checksum of its length \(byte 0\)"),
        (_bytes(lambda b: b.__setitem__(9, b[9] ^ 1)), rf"{SPLIT}, record 0: the checksum of its length \(byte 0\)"),
        (_bytes(lambda b: b.__setitem__(12, 255)), rf"{SPLIT}, record 0 is no tf.train.Example"),
        (_bytes(lambda b: b.clear()), rf"{SPLIT} holds 0 records, dataset_info.json says 2"),
        (_info(lambda info: info.update(splits=[])), "unknown split of .* 'train'"),
        (_info(lambda info: info.update(fileFormat="riegeli")), "the files are riegeli; possible: tfrecord"),
        (_split(shardLengths=["1", "3"]), "holds 2 records, dataset_info.json says 3"),
        (_split(shardLengths=None), "split train has no shardLengths"),
        (_split(shardLengths=["one"]), "shardLengths of train are no list of numbers"),
        (_split(filepathTemplate="../{SPLIT}"), "not a plain path inside the data set"),
        (lambda root: (root / "dataset_info.json").write_text("["), "dataset_info.json cannot be read as JSON"),
        (lambda root: (root / "features.json").unlink(), "has no features.json"),
        (_edit("features.json", lambda f: f["featuresDict"]["features"].clear()), "features.json declares no steps"),
        (_edit("features.json", lambda f: f.update(featuresDict=3)), "is not as TensorFlow Datasets write it"),
        (_declared(action=tensor(5)), "28 values as steps/action; 4 steps of 5 are due"),
        (_declared(action=tensor(7, dtype="int64")), "has floating numbers as steps/action; features.json says whole"),
        (_declared(observation=group({"front": image(8, 8, 3)})),
         "steps/observation/front, frame 0: a picture of 12 x 16; features.json says 8 x 8"),
        (_without("steps/action"), "arm, episode 1: .*record 0 has nothing as steps/action; features.json"),
        (_without("steps/action", [b"x"] * 4), "arm, episode 1: .*record 0 has strings as steps/action"),
        (_without("steps/action", np.zeros(27)), "record 0: 27 values as steps/action; 4 steps of 7 are due"),
        (_without("steps/observation/front", [b"x"] * 4), "front, frame 0: its 1 bytes are neither JPEG nor PNG"),
        (_without("steps/observation/front", [b"x"] * 3), "record 0: 3 values as steps/observation/front; 4 steps"),
        (_without("steps/map", [zlib.compress(bytes(99))] * 4), "steps/map, frame 0: 25 bytes or more, 24 are due"),
        (_without("steps/mask", [b"ab"] * 4), "steps/mask, frame 0: 2 bytes or more, 3 are due"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], message_: str) -> None:
    written(tmp_path / "arm")
    damage(tmp_path / "arm")
    with pytest.raises(ValueError, match=message_):
        dataset = open_dataset(tmp_path / "arm", fps=20)
        for key in ("action", FRONT, "map", "mask"):
            dataset.read(1, key, [0])


@quiet
def test_verify_compares_the_checksums_of_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = written(tmp_path / "arm")
    path = tmp_path / "arm" / "arm-train.tfrecord-00001-of-00002"
    stored = path.read_bytes()
    at = stored.rindex(png(truth[2][FRONT][4]))
    path.write_bytes(stored[: at + 60] + bytes([stored[at + 60] ^ 255]) + stored[at + 61 :])
    faults = [p for p in verify(tmp_path / "arm") if not p.note]
    assert (path.name, 2, None, "the checksum of the data of record 1 does not agree") in [
        (p.file, p.episode, p.frame, p.what) for p in faults
    ]
    assert all((p.file, p.episode) == (path.name, 2) and p.frame in (None, 4) for p in faults)
    assert data_command.run(["verify", str(tmp_path / "arm")]) == 1
    assert "episode 2: the checksum of the data of record 1" in capsys.readouterr().out


@quiet
@pytest.mark.parametrize(
    ("options", "message_"),
    [
        ({}, "the files do not say how many frames"),
        ({"fps": 5, "split": "validation"}, "unknown split of .* 'validation'. Possible: train"),
        ({"fps": 5, "mask": "train"}, "unknown option of .* 'mask'. .*Possible: fps, flip, state, action, task, split"),
        ({"fps": 5, "action": "droid"}, "unknown column of .* 'action_dict.cartesian_velocity'"),
        ({"fps": 5, "task": "stack"}, "option task is for data without sentences, and episode 0 has 'task 0'"),
    ],
)
def test_options_that_are_wrong(tmp_path: Path, options: dict, message_: str) -> None:
    written(tmp_path / "arm")
    with pytest.raises(ValueError, match=message_):
        open_dataset(tmp_path / "arm", **options)


def test_real_data_are_read_whole(real_data: Path, tmp_path: Path) -> None:
    root = real_data / OCTO
    if not root.is_dir():
        pytest.skip(f"{OCTO} is not among the real data")
    dataset = open_dataset(root, fps=5)
    facts = dataset.facts
    assert [e.length for e in dataset.episodes] == [10] * 25
    assert facts.cameras == tuple(f"observation.images.image_{i}" for i in range(4))
    assert all(facts.columns[c] == (64, 64, 3) for c in facts.cameras)
    assert (facts.action_dim, facts.state_dim) == (7, 7) and len(facts.tasks) == 4
    assert "put carrot on plate" in facts.tasks and facts.columns["language_embedding"] == (512,)
    # The sentence embedding is one vector for a sentence, of length 1: what a shifted byte would not give.
    by_task: dict[str, set[bytes]] = {}
    for episode in dataset.episodes:
        embedding = dataset.read(episode.index, "language_embedding", range(10))
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=-1)[embedding.any(-1)], 1, atol=1e-4)
        if episode.tasks:
            by_task.setdefault(episode.tasks[0], set()).add(embedding.tobytes())
    assert by_task and all(len(found) == 1 for found in by_task.values())
    assert len({found.copy().pop() for found in by_task.values()}) == len(by_task)
    first = np.stack([dataset.read(e.index, "is_first", range(10))[:, 0] for e in dataset.episodes])
    assert first[:, 0].all() and not first[:, 1:].any()
    pictures = dataset.read(3, facts.cameras[0], range(10))
    assert pictures.std() > 20 and np.abs(np.diff(pictures.astype(int), axis=0)).mean() < 20
    assert verify(root) == []
    copy = tmp_path / "1.0.0"
    shutil.copytree(root, copy)
    (shard,) = copy.glob("*.tfrecord*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.chmod(0o644)
    shard.write_bytes(content)
    assert [p.what for p in verify(copy) if p.frame is None][0].startswith("the checksum of the data of record")
