"""Merging files: every frame, value and time stays what it was, and large files are split."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from test_writer import FEATURES, H264, check, episode, record

from polyclock.data import compact as module
from polyclock.data.compact import compact
from polyclock.data.encode import VideoCodec
from polyclock.data.formats.lerobot import open_lerobot
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.data.verify import verify

CAMERA = "observation.images.top"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("compact") / "recorded", range(5))


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _same(left: Path, right: Path) -> None:
    """Both data sets give the same bits for every column of every frame."""
    a, b = open_lerobot(left), open_lerobot(right)
    assert a.episodes == b.episodes and a.facts == b.facts
    for one in a.episodes:
        for key in a.facts.columns:
            x, y = (data.read(one.index, key, range(one.length)) for data in (a, b))
            np.testing.assert_array_equal(x, y, err_msg=f"{key} of episode {one.index}")


def test_merged_equals_recorded_frame_by_frame(recorded: Path, tmp_path: Path) -> None:
    merged = compact(recorded, tmp_path / "merged")
    assert _files(merged) == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "videos/observation.depth.top/chunk-000/file-000.mp4",
        "videos/observation.images.top/chunk-000/file-000.mp4",
    ]
    _same(recorded, merged)
    assert verify(merged) == []
    assert pq.ParquetFile(merged / "data/chunk-000/file-000.parquet").num_row_groups == 5
    assert _files(recorded)[:2] == ["data/chunk-000/file-000.parquet", "data/chunk-000/file-001.parquet"]


def test_times_in_the_merged_video_are_exact(recorded: Path, tmp_path: Path) -> None:
    merged = compact(recorded, tmp_path / "merged")
    with av.open(str(merged / "videos" / CAMERA / "chunk-000" / "file-000.mp4")) as file:
        times = [f.pts * f.time_base for f in file.decode(video=0)]
    assert times == [Fraction(i, 30) for i in range(7 + 8 + 9 + 10 + 11)]


@pytest.mark.parametrize(("fps", "codec"), [(29.97, H264), (10, VideoCodec()), (12.5, H264)])
def test_other_rates_and_codecs(tmp_path: Path, fps: float, codec: VideoCodec) -> None:
    with LeRobotWriter(tmp_path / "set", fps=fps, features=FEATURES, video_codec=codec) as writer:
        for number in range(3):
            writer.add_episode(episode(number, 5 + number), "task 0")
    assert verify(tmp_path / "set") == []
    merged = compact(tmp_path / "set", tmp_path / "merged")
    assert len(_files(merged)) == 7
    _same(tmp_path / "set", merged)
    assert verify(merged) == []


def test_small_limits_make_several_files(recorded: Path, tmp_path: Path) -> None:
    size = (recorded / "videos" / CAMERA / "chunk-000" / "file-000.mp4").stat().st_size
    merged = compact(recorded, tmp_path / "merged", data_mb=1e-6, video_mb=2.6 * size / 2**20)
    files = _files(merged)
    assert sum(f.startswith("data/") for f in files) == 5
    assert 2 <= sum(f.startswith(f"videos/{CAMERA}") for f in files) <= 4
    _same(recorded, merged)
    assert verify(merged) == []


def test_in_place_then_recording_goes_on(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(recorded, folder)
    shutil.copy(folder / "data/chunk-000/file-000.parquet", folder / "data/chunk-000/file-009.parquet")
    (folder / "README.md").write_text("mine")
    (tmp_path / ".set.compact" / "data").mkdir(parents=True)  # a run was killed here
    with LeRobotWriter(folder), pytest.raises(ValueError, match="being written by another"):
        compact(folder)
    assert compact(folder) == folder
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert len(_files(folder)) == 8 and (folder / "README.md").read_text() == "mine"
    _same(recorded, folder)
    record(folder, range(5, 7))
    for number in (4, 5, 6):
        check(folder, number)
    assert verify(folder) == []
    compact(folder)
    assert len(_files(folder)) == 8
    for number in range(7):
        check(folder, number)
    assert verify(folder) == []


def test_without_the_exchange_of_the_system(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: object())
    folder = tmp_path / "set"
    shutil.copytree(recorded, folder)
    compact(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    _same(recorded, folder)


def test_of_two_at_once_one_is_refused_and_harms_nothing(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recorded"
    shutil.copytree(recorded, folder)
    merge, remove = module._merge, module.shutil.rmtree

    def refused() -> None:
        with monkeypatch.context() as undone:
            undone.setattr(module, "_merge", merge)
            undone.setattr(module.shutil, "rmtree", remove)
            with pytest.raises(ValueError, match="is being written by another process"):
                compact(folder)

    def merged(*args: object) -> None:
        merge(*args)  # type: ignore[arg-type]
        refused()

    def removed(path: Path, ignore_errors: bool = False) -> None:
        if path.exists():
            refused()
            remove(path, ignore_errors)

    monkeypatch.setattr(module, "_merge", merged)
    monkeypatch.setattr(module.shutil, "rmtree", removed)
    compact(folder)
    _same(recorded, folder)


def test_what_lerobot_wrote_can_be_merged(tmp_path: Path) -> None:
    theirs = Path(__file__).parents[1] / "fixtures" / "lerobot_v3"
    merged = compact(theirs, tmp_path / "merged")
    assert _files(merged) == _files(theirs)
    _same(theirs, merged)


def test_a_damaged_data_set_is_left_alone(recorded: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(recorded, folder)
    (folder / "data/chunk-000/file-003.parquet").write_bytes(b"PAR1")
    before = _files(folder)
    with pytest.raises(ValueError, match=r"episode 3: .*file-003.parquet cannot be read"):
        compact(folder)
    assert _files(folder) == before and [p.name for p in tmp_path.iterdir()] == ["set"]
    (folder / f"videos/{CAMERA}/chunk-000/file-002.mp4").unlink()
    shutil.copy(recorded / "data/chunk-000/file-003.parquet", folder / "data/chunk-000/file-003.parquet")
    with pytest.raises(ValueError, match=r"file-002.mp4, episode 2: cannot be read"):
        compact(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_merged(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        compact(recorded, tmp_path / "there")
    folder = tmp_path / "v2"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps({"codebase_version": "v2.1"}))
    with pytest.raises(ValueError, match="v2.1; only v3"):
        compact(folder)
