"""Replay buffers in zarr v2: one frame a chunk under `obs.` names, or plain names with floating pictures."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from arrays import SIGNALS, agrees, episodes, windows_agree
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Blosc, Delta

from polyclock.commands import data as data_command
from polyclock.data import UntidyData, open_dataset
from polyclock.data.formats import zarr_buffer
from polyclock.data.verify import verify

FRONT, WRIST = "observation.images.front", "observation.images.wrist"
IMAGE = "observation.images.img"
PACKED = Blosc("lz4", 5)


def _put(group: zarr.Group, name: str, values: np.ndarray, rows: int, capacity: int, **packing: object) -> None:
    array = group.create_array(
        name,
        shape=(capacity, *values.shape[1:]),
        chunks=(rows, *values.shape[1:]),
        dtype=values.dtype,
        **({"compressors": None} | packing),
    )
    array[: len(values)] = values


def _ends(root: zarr.Group, lengths: tuple[int, ...]) -> None:
    meta = root.create_group("meta")
    ends = meta.create_array("episode_ends", shape=(len(lengths),), chunks=(2,), dtype="int64", compressors=None)
    ends[:] = np.cumsum(lengths)


def write(path: Path, lengths: tuple[int, ...] = (9, 5, 7), spare: int = 6) -> dict[int, dict[str, np.ndarray]]:
    """A buffer with room for more: pictures one to a chunk, packed, and plain numbers; what is to be read."""
    truth = episodes(lengths)
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    _ends(root, lengths)
    data = root.create_group("data")
    total = sum(lengths) + spare
    for name, rows, packing in (
        ("front", 1, {"compressors": PACKED}),
        ("wrist", 1, {"compressors": PACKED, "filters": None}),
        ("state", 4, {}),
        ("action", 16, {"order": "F"}),
    ):
        values = np.concatenate([columns[name] for columns in truth.values()])
        values = values.astype(np.float32) if values.dtype.kind == "f" else values
        _put(data, "action" if name == "action" else f"obs.{name}", values, rows, total, **packing)
    return {
        i: {FRONT: c["front"], WRIST: c["wrist"], "observation.state": c["state"], "action": c["action"]}
        for i, c in truth.items()
    }


def write_plain(path: Path, lengths: tuple[int, ...] = (6, 8)) -> dict[int, dict[str, np.ndarray]]:
    """A buffer with floating pictures of 0 to 255 in chunks of several, cut in space too; what is to be read."""
    truth = episodes(lengths)
    root = zarr.open_group(str(path), mode="w", zarr_format=2)
    _ends(root, lengths)
    data = root.create_group("data")
    total = sum(lengths)
    pictures = np.concatenate([c["front"] for c in truth.values()]).astype(np.float32)
    image = data.create_array("img", shape=pictures.shape, chunks=(5, 7, 16, 2), dtype="f4", compressors=PACKED)
    image[:] = pictures
    for name in ("state", "action"):
        _put(data, name, np.concatenate([c[name] for c in truth.values()]), 3, total)
    contacts = np.arange(total, dtype=np.int32)
    _put(data, "n_contacts", contacts[:, None], 4, total, filters=[Delta("<i4")])
    _put(data, "flow", np.full((total, 4, 4, 3), 0.5, np.float32), 4, total)
    starts = np.cumsum((0, *lengths))
    return {
        i: {
            IMAGE: c["front"],
            "observation.state": c["state"],
            "action": c["action"],
            "observation.n_contacts": contacts[starts[i] : starts[i + 1], None],
            "observation.flow": np.full((lengths[i], 4, 4, 3), 0.5, np.float32),
        }
        for i, c in truth.items()
    }


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, dict[str, np.ndarray]]]:
    path = tmp_path_factory.mktemp("stored") / "buffer.zarr"
    return path, write(path)


@pytest.fixture
def buffer(stored: tuple[Path, dict], tmp_path: Path) -> Path:
    """A copy of the buffer, to damage."""
    return Path(shutil.copytree(stored[0], tmp_path / "buffer.zarr"))


def packed(folder: Path, prefix: str = "") -> Path:
    """The same buffer as a zip."""
    path = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(path, "w") as file:
        for one in sorted(p for p in folder.rglob("*") if p.is_file()):
            file.write(one, prefix + str(one.relative_to(folder)))
    return path


def test_a_buffer_is_read_as_it_lies(stored: tuple[Path, dict], buffer: Path, tmp_path: Path) -> None:
    truth = stored[1]
    dataset = open_dataset(f"{tmp_path}/buffer.zarr?fps=20&task=fold the cloth")
    agrees(dataset, truth)
    facts = dataset.facts
    assert (facts.fps, facts.cameras, facts.action_dim, facts.state_dim) == (20, (FRONT, WRIST), 7, 5)
    assert facts.tasks == ("fold the cloth",) and dataset.read(2, "task", [0]) == "fold the cloth"
    assert facts.columns == {k: v.shape[1:] for k, v in truth[0].items()} | {"task": ()}
    assert dataset.only([1]).fingerprint != dataset.fingerprint
    shutil.copytree(tmp_path / "buffer.zarr", tmp_path / "moved.zarr")
    moved = open_dataset(tmp_path / "moved.zarr", fps=20, task="fold the cloth")
    assert moved.fingerprint == dataset.fingerprint != open_dataset(tmp_path / "moved.zarr", fps=20).fingerprint
    assert verify(tmp_path / "buffer.zarr") == []


@pytest.mark.parametrize("kind", ["folder", "zip", "zip of a folder"])
def test_floating_pictures_and_zips(tmp_path: Path, kind: str) -> None:
    truth = write_plain(tmp_path / "push.zarr")
    path = tmp_path / "push.zarr" if kind == "folder" else packed(tmp_path / "push.zarr", "push/" * (kind != "zip"))
    dataset = open_dataset(path, fps=10)
    agrees(dataset, truth)
    assert dataset.facts.cameras == (IMAGE,) and dataset.read(0, IMAGE, [0]).dtype == np.uint8
    turned = open_dataset(path, fps=10, flip="img", state="state[:2]")
    np.testing.assert_array_equal(turned.read(1, IMAGE, [3]), truth[1][IMAGE][[3], ::-1])
    assert turned.read(0, "observation.state", range(6)).shape == (6, 2)
    assert verify(path) == []


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(0, 5), SIGNALS, st.integers(1, 3))
@settings(max_examples=8, deadline=None)
def test_windows_are_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], spare: int, signal: tuple, stride: int
) -> None:
    path = tmp_path_factory.mktemp("w") / "buffer.zarr"
    truth = write(path, tuple(lengths), spare)
    keys = {FRONT: "video", "action": "vector", "observation.state": "vector"}
    windows_agree(open_dataset(path, fps=20), truth, keys, signal, stride)


def test_only_the_chunks_asked_for_are_read(buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(tmp_path / "buffer.zarr", fps=20)
    asked: list[str] = []
    real = zarr_buffer.Files.read
    monkeypatch.setattr(zarr_buffer.Files, "read", lambda self, name: asked.append(name) or real(self, name))
    dataset.read(1, FRONT, [4, 0, 4])
    assert asked == ["data/obs.front/9.0.0.0", "data/obs.front/13.0.0.0"]
    for _ in range(2):  # chunks of several frames are kept
        dataset.read(1, "action", [0, 4])
    assert asked[2:] == ["data/action/0.0"]


def test_the_rate_is_asked_for(buffer: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"buffer.zarr: the files do not say how many frames"):
        open_dataset(tmp_path / "buffer.zarr")
    with pytest.raises(ValueError, match="holds some; open one of them: .*buffer.zarr"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match="unknown option of .* 'mask'"):
        open_dataset(tmp_path / "buffer.zarr", fps=20, mask="train")


def test_a_chunk_that_is_not_there(buffer: Path, tmp_path: Path) -> None:
    (tmp_path / "buffer.zarr" / "data" / "obs.front" / "10.0.0.0").unlink()
    (tmp_path / "buffer.zarr" / "data" / "obs.front" / "23.0.0.0").unlink(missing_ok=True)  # behind the last episode
    dataset = open_dataset(tmp_path / "buffer.zarr", fps=20)
    with pytest.warns(UntidyData, match=r"obs.front/10.0.0.0 is not there; its rows are read as 0"):
        assert not dataset.read(1, FRONT, [1]).any()
    (problem,) = verify(tmp_path / "buffer.zarr")
    assert (problem.file, problem.episode, problem.frame) == ("data/obs.front/10.0.0.0", 1, 1) and not problem.note


Damage = Callable[[Path], None]


def _document(name: str, **changes: object) -> Damage:
    def change(root: Path) -> None:
        path = root / name / ".zarray"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def _cut(name: str) -> Damage:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-30])


def _numbers(name: str, *values: int) -> Damage:
    return lambda root: (root / name).write_bytes(np.array(values, np.int64).tobytes())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            _cut("data/obs.front/9.0.0.0"),
            r"buffer.zarr, episode 1: .*data/obs.front/9.0.0.0 cannot be decoded: .* its head says",
        ),
        (
            _cut("data/action/0.0"),
            r"buffer.zarr, episode 1: .*data/action/0.0 cannot be decoded: \d+ bytes, 448 are due",
        ),
        (lambda root: shutil.rmtree(root / "meta"), "is no replay buffer: it has no meta/episode_ends"),
        (lambda root: shutil.rmtree(root / "data"), "has no arrays below data/"),
        (_numbers("meta/episode_ends/0", 9, 4), r"episode_ends must rise from the first episode on, got \[9, 4, 21\]"),
        (_numbers("meta/episode_ends/1", 99, 0), r"data/action has 27 rows, the episodes end at 99"),
        (_document("data/action", dtype="|O"), r"data/action holds \|O, not numbers"),
        (_document("data/action", dtype=[["a", "<f4"]]), "data/action holds .*, not numbers"),
        (_document("data/action", dtype="<q9"), "data/action/.zarray is no zarr v2 array"),
        (_document("data/action", filters=[{"id": "pickle"}]), "data/action is packed by 'pickle'; possible: blosc"),
        (_document("data/obs.front", compressor={"id": "imagecodecs_jpegxl"}), "packed by 'imagecodecs_jpegxl'"),
        (_document("data/action", chunks=[0, 7]), "data/action/.zarray is no zarr v2 array"),
        (_document("data/action", chunks=[2**40, 7]), "more than 2147483648 bytes"),
        (_document("data/action", zarr_format=3), "data/action/.zarray is no zarr v2 array: format 3"),
        (lambda root: (root / "data/action/.zarray").write_text("{"), "data/action/.zarray is no zarr v2 array"),
        (lambda root: (root / "zarr.json").write_text("{}"), "is of zarr format 3"),
    ],
)
def test_damage_is_named(buffer: Path, damage: Damage, message: str) -> None:
    damage(buffer)
    with pytest.raises(ValueError, match=message):
        dataset = open_dataset(buffer, fps=20)
        for key in (FRONT, "action"):
            dataset.read(1, key, [0])


def test_a_picture_beyond_its_range_is_named(tmp_path: Path) -> None:
    write_plain(tmp_path / "push.zarr")
    array = zarr.open_group(str(tmp_path / "push.zarr"), mode="a")["data/img"]
    array[8] = 256.0
    with pytest.raises(ValueError, match=r"episode 1: .*data/img, frame 2: a picture holds numbers outside 0 to 255"):
        open_dataset(tmp_path / "push.zarr", fps=10).read(1, IMAGE, [0, 2, 3])
    assert [(p.episode, p.frame) for p in verify(tmp_path / "push.zarr")] == [(1, 2)]


def test_a_zip_that_is_not_whole(tmp_path: Path) -> None:
    write_plain(tmp_path / "push.zarr")
    path = packed(tmp_path / "push.zarr")
    whole = path.read_bytes()
    at = whole.index(b"data/img/0.0.0.0")
    path.write_bytes(whole[: at + 60] + bytes([whole[at + 60] ^ 255]) + whole[at + 61 :])
    with pytest.raises(ValueError, match=r"push.zarr.zip: data/img/0.0.0.0 cannot be read: Bad CRC"):
        open_dataset(path, fps=10).read(0, IMAGE, [0])
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="push.zarr.zip is a file of another kind"):
        open_dataset(path, fps=10)


def test_info_and_verify(buffer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_command.run(["info", f"{tmp_path}/buffer.zarr?fps=20"]) == 0
    assert "zarr replay buffer" in capsys.readouterr().out
    assert data_command.run(["verify", f"{tmp_path}/buffer.zarr"]) == 0
    _cut("data/obs.wrist/20.0.0.0")(tmp_path / "buffer.zarr")
    assert data_command.run(["verify", f"{tmp_path}/buffer.zarr"]) == 1
    assert "buffer.zarr, episode 2, frame 6: data/obs.wrist/20.0.0.0 cannot be decoded" in capsys.readouterr().out


def test_the_extra_is_named(buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(tmp_path / "buffer.zarr", fps=20)
    monkeypatch.setitem(sys.modules, "numcodecs", None)
    with pytest.raises(ImportError, match=r"numcodecs is not installed; .*polyclock\[formats\]"):
        dataset.read(0, FRONT, [0])
