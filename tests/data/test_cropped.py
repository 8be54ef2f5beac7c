"""Pictures cut to one shape in their middle: resized to cover and cropped, with maps, joints and intrinsics alike."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numbered import write_video

from polyclock.data import dense, open_dataset
from polyclock.data.cropped import cut, ratio
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.data.source import noted

SIZE, CAMERA = (48, 80), "observation.images.front"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One episode of 3 frames: red grows to the right, green downwards; depth and joints say the same."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    picture = np.stack([columns * 3, rows * 5, 0 * rows], -1).astype(np.uint8)
    features = {
        CAMERA: {"dtype": "video", "shape": (*SIZE, 3), "names": None},
        "observation.depth.front": dense.feature("depth", SIZE),
        "observation.flow.front": dense.feature("flow", SIZE),
        "observation.skeleton.front": dense.feature("skeleton", joints=("a", "b")),
        "observation.intrinsics.front": dense.feature("intrinsics"),
    }
    frames = {
        CAMERA: np.stack([picture] * 3),
        "observation.depth.front": np.stack([1 + columns / 100] * 3)[..., None].astype(np.float32),
        "observation.flow.front": np.full((3, *SIZE, 3), (4, 2, 0), np.float32),
        "observation.skeleton.front": np.array([[(40, 24, 1), (3, 9, 1)]] * 3, np.float32),
        "observation.intrinsics.front": np.array([[(50, 0, 40), (0, 50, 24), (0, 0, 1)]] * 3, np.float32),
    }
    out = tmp_path_factory.mktemp("data") / "set"
    with LeRobotWriter(out, fps=10, features=features, video_codec=VideoCodec(encoder="h264", crf=1)) as writer:
        writer.add_episode(frames, "look")
    return out


def test_the_middle_is_cut_out_at_any_size(folder: Path) -> None:
    whole, found = open_dataset(folder), open_dataset(f"{folder}?aspect=1:1")
    assert found.facts.columns[CAMERA] == (48, 48, 3) and found.facts.columns["observation.depth.front"] == (48, 48, 1)
    assert (found.read(0, CAMERA, [1]) == whole.read(0, CAMERA, [1])[:, :, 16:64]).all()
    small = found.read(0, CAMERA, [0], (24, 24)).astype(int)
    assert small.shape == (1, 24, 24, 3)
    assert np.abs(small[0, 12, :, 0] - 3 * (16 + np.arange(24) * 2 + 0.5)).max() < 6, "not stretched"
    depth = found.read(0, "observation.depth.front", [2], (24, 24))
    assert np.abs(depth[0, :, :, 0] - (1 + (16 + np.arange(24) * 2 + 0.5) / 100)).max() < 0.011
    assert np.allclose(found.read(0, "observation.flow.front", [0], (24, 24))[0, ..., :2], (2, 1))
    assert [c.shape for c in found.column(CAMERA)] == [(3, 48, 48, 3)]


def test_joints_and_intrinsics_are_those_of_the_part(folder: Path) -> None:
    found = open_dataset(folder, aspect="1:1")
    assert found.read(0, "observation.skeleton.front", [0])[0].tolist() == [[24, 24, 1], [0, 0, 0]]
    assert found.read(0, "observation.intrinsics.front", [0])[0, :2, 2].tolist() == [24, 24]
    assert found.read(0, "task", [0]) == "look" and found.only([0]).aspect == 1
    assert found.fingerprint != open_dataset(folder).fingerprint


def test_shapes() -> None:
    assert ratio("16:9") == Fraction(16, 9) and ratio("832x480") == Fraction(26, 15)
    assert cut((480, 640), Fraction(1)) == (480, 480) and cut((480, 640), Fraction(2)) == (320, 640)
    assert cut((720, 1280), Fraction(832, 480)) == (720, 1248)
    for bad in ("16", "0:9", "a:b", "1:2:3"):
        with pytest.raises(ValueError, match="is no shape of a picture; write width:height"):
            ratio(bad)


def test_what_was_said_of_a_clip_holds_when_others_come(tmp_path: Path) -> None:
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", range(9))
    (tmp_path / "table.csv").write_text("video,prompt\na.mp4,one\n")
    cut, hidden = (f"{tmp_path}/table.csv?{option}" for option in ("aspect=1:1", "hide=task"))
    before = [noted(open_dataset(path)).mark(0) for path in (cut, hidden)]
    (tmp_path / "table.csv").write_text("video,prompt\na.mp4,one\nb.mp4,two\n")
    assert [noted(open_dataset(path)).mark(0) for path in (cut, hidden)] == before
    write_video(tmp_path / "a.mp4", range(8))
    assert noted(open_dataset(cut)).mark(0) != before[0]


def test_clips_of_several_sizes_are_each_cut_by_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", range(9))
    wide = np.zeros((9, 32, 80, 3), np.uint8)
    wide[:, :, 24:56] = 255
    encode_video(tmp_path / "b.mp4", wide, 30, VideoCodec(encoder="h264", crf=1))
    inner = open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, aspect="1:1")
    assert inner.facts.columns["video"][:2] == (None, None)
    asked: list[list[int]] = []
    read = type(inner).read
    monkeypatch.setattr(type(inner), "read", lambda *a: asked.append(list(a[3])) or read(*a))
    for start in (3, 5):
        found = dataset.read(1, "video", [start, start + 1], (16, 16))
        assert found.shape == (2, 16, 16, 3) and found.min() > 200
    assert asked == [[0], [3, 4], [5, 6]], "its size is looked up once"
    assert dataset.read(0, "video", [2], (16, 16)).shape == (1, 16, 16, 3)
