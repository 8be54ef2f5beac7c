"""Recording: what is written is read back, mistakes are named, and a kill at any point loses no finished episode."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polyclock.data import dense
from polyclock.data.encode import VideoCodec
from polyclock.data.formats import lerobot_schema as schema
from polyclock.data.formats.lerobot import open_lerobot
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.data.statistics import PixelCounts, aggregate, of_column

H264 = VideoCodec(encoder="h264", crf=10)
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
    "action": {"dtype": "float32", "shape": (2,), "names": None},
    "step": {"dtype": "int32", "shape": (1,), "names": None},
    "observation.images.top": {"dtype": "video", "shape": (32, 48, 3), "names": ["height", "width", "channels"]},
    "observation.depth.top": dense.feature("depth", (32, 48)),
}


def episode(number: int, length: int) -> dict[str, np.ndarray]:
    """Columns whose every frame tells episode and frame."""
    i = np.arange(length)
    picture = np.zeros((length, 32, 48, 3), np.uint8)
    picture[:] = (20 * number + 4 * i)[:, None, None, None]
    depth = np.broadcast_to((1 + number + i / 100)[:, None, None, None], (length, 32, 48, 1))
    return {
        "observation.state": np.stack([i, i * 0 + number, -i], 1).astype(np.float32),
        "action": np.stack([np.sin(i), np.cos(i)], 1).astype(np.float32),
        "step": (100 * number + i).astype(np.int32),
        "observation.images.top": picture,
        "observation.depth.top": depth.astype(np.float32),
    }


def record(folder: Path, numbers: range, features: dict = FEATURES) -> Path:
    with LeRobotWriter(folder, fps=30, features=features, video_codec=H264) as writer:
        for number in numbers:
            assert writer.add_episode(episode(number, 7 + number), f"task {number % 2}") == number
    return folder


def check(folder: Path, number: int) -> None:
    """Episode `number` reads back frame by frame."""
    data = open_lerobot(folder)
    length = 7 + number
    meta = next(e for e in data.episodes if e.index == number)
    assert (meta.length, meta.tasks) == (length, (f"task {number % 2}",))
    true = episode(number, length)
    for key in ("observation.state", "action", "step"):
        np.testing.assert_array_equal(np.squeeze(data.read(number, key, range(length))), true[key])
    picture = data.read(number, "observation.images.top", range(length))
    assert np.abs(picture.astype(int) - true["observation.images.top"]).max() <= 2
    note = dense.decoder_for(data.meta.info, "observation.depth.top")
    stored = data.read(number, "observation.depth.top", range(length))
    values = stored if stored.dtype == np.float32 else note(stored)
    np.testing.assert_allclose(values, true["observation.depth.top"], atol=5e-4)
    assert data.read(number, "task", [0]) == f"task {number % 2}"


def test_episodes_read_back_and_a_second_writer_continues(tmp_path: Path) -> None:
    folder = record(tmp_path / "set", range(2))
    record(folder, range(2, 4))
    for number in range(4):
        check(folder, number)
    info = json.loads((folder / "meta" / "info.json").read_text())
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (4, 7 + 8 + 9 + 10, 2)
    table = pq.ParquetFile(folder / "data" / "chunk-000" / "file-003.parquet").read()
    assert table["index"].to_pylist() == list(range(24, 34))
    assert info["polyclock"]["dense"]["observation.depth.top"]["kind"] == "depth"


def test_frame_by_frame_equals_whole_episodes(tmp_path: Path) -> None:
    whole = record(tmp_path / "whole", range(1))
    frames = episode(0, 7)
    with LeRobotWriter(tmp_path / "frames", fps=30, features=FEATURES, video_codec=H264) as writer:
        writer.start("task 0")
        for i in range(7):
            writer.add({key: values[i] for key, values in frames.items()})
        writer.end()
    for path in sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file()):
        assert (whole / path).read_bytes() == (tmp_path / "frames" / path).read_bytes(), path


def test_a_sentence_for_each_frame(tmp_path: Path) -> None:
    frames = episode(0, 4)
    with LeRobotWriter(tmp_path, fps=30, features=FEATURES, video_codec=H264) as writer:
        writer.add_episode(frames, ["reach", "reach", "grasp", "reach"])
    data = open_lerobot(tmp_path)
    assert data.episodes[0].tasks == ("reach", "grasp")
    assert [data.read(0, "task", [i]) for i in range(4)] == ["reach", "reach", "grasp", "reach"]


def test_a_new_sentence_leaves_the_numbers_of_others(tmp_path: Path) -> None:
    """Tables of other writers may have gaps in their numbers."""
    columns = {"action": np.ones((3, 2), np.float32)}
    with LeRobotWriter(tmp_path, fps=10, features={"action": FEATURES["action"]}) as writer:
        for sentence in ("reach", "grasp"):
            writer.add_episode(columns, sentence)
    path, data = tmp_path / "meta/tasks.parquet", tmp_path / "data/chunk-000/file-001.parquet"
    schema.write_table(path, [schema.tasks_table({0: "reach", 5: "grasp"})])
    table = pq.read_table(data)
    numbers = pa.array([5, 5, 5])
    schema.write_table(data, [table.set_column(table.column_names.index("task_index"), "task_index", numbers)])
    with LeRobotWriter(tmp_path) as writer:
        writer.add_episode(columns, "lift")
    found = open_lerobot(tmp_path)
    assert [found.read(e, "task", [0]) for e in range(3)] == ["reach", "grasp", "lift"]


def test_without_cameras(tmp_path: Path) -> None:
    features = {"action": FEATURES["action"]}
    with LeRobotWriter(tmp_path, fps=12.5, features=features) as writer:
        writer.add_episode({"action": np.ones((3, 2), np.float32)}, "wait")
    info = json.loads((tmp_path / "meta" / "info.json").read_text())
    assert (info["fps"], info["video_path"]) == (12.5, None)
    times = pq.ParquetFile(tmp_path / "data" / "chunk-000" / "file-000.parquet").read()["timestamp"].to_pylist()
    np.testing.assert_allclose(times, [0, 0.08, 0.16], rtol=1e-6)


def test_mistakes_are_named_and_leave_the_recording_usable(tmp_path: Path) -> None:
    good = {key: values[0] for key, values in episode(0, 1).items()}
    camera, depth = "observation.images.top", "observation.depth.top"
    wrong = {
        "action.*dtype float64.*float32": {"action": np.ones(2)},
        r"action.*shape \(3,\).*\(2,\)": {"action": np.ones(3, np.float32)},
        "episode 0, frame 1: 'action' holds NaN": {"action": np.array([0, np.nan], np.float32)},
        "images.top.*float32; needed: uint8": {camera: np.ones((32, 48, 3), np.float32)},
        r"images.top' is \(48, 32, 3\)": {camera: np.zeros((48, 32, 3), np.uint8)},
        "depth of shape": {depth: np.zeros((32, 48, 2), np.float32)},
        "'extra' is not a feature; possible: action": {"extra": 1},
    }
    with LeRobotWriter(tmp_path, fps=30, features=FEATURES, video_codec=H264) as writer:
        with pytest.raises(ValueError, match="call start"):
            writer.add(good)
        writer.start("task 0")
        writer.add(good)
        for message, change in wrong.items():
            with pytest.raises(ValueError, match=message):
                writer.add({**good, **change})
        with pytest.raises(ValueError, match="'action' is missing"):
            writer.add({key: value for key, value in good.items() if key != "action"})
        with pytest.raises(ValueError, match="is being recorded"):
            writer.start("task 1")
        with pytest.raises(ValueError, match="neither|not ended"):
            writer.close()
        writer.add(good)
        assert writer.end() == 0
        writer.start("task 0")
        with pytest.raises(ValueError, match="episode 1 has no frames"):
            writer.end()
        writer.discard()
        with pytest.raises(ValueError, match="equally long"):
            writer.add_episode({**episode(0, 3), "step": np.zeros(2, np.int32)}, "task 0")
        with pytest.raises(ValueError, match="2 sentences for 3 frames"):
            writer.add_episode(episode(0, 3), ["a", "b"])
    assert open_lerobot(tmp_path).episodes[0].length == 2
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(
    ("key", "entry", "message"),
    [
        ("a/b", FEATURES["action"], "must not hold '/'"),
        ("index", FEATURES["action"], "must not hold"),
        ("a", {"dtype": "float31", "shape": (1,)}, "float32"),
        ("a", {"dtype": "float32", "shape": ()}, r"\(1,\) for a single number"),
        ("a", {"dtype": "video", "shape": (4, 4)}, "height, width, 3"),
        ("a", {"dtype": "video", "shape": (31, 48, 3)}, "both numbers must be even"),
    ],
)
def test_features_that_cannot_be_stored(tmp_path: Path, key: str, entry: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LeRobotWriter(tmp_path / "set", fps=30, features={key: entry})


def test_opening_what_does_not_fit(tmp_path: Path) -> None:
    folder = record(tmp_path / "set", range(1))
    with pytest.raises(ValueError, match="30 frames per second, not 20"):
        LeRobotWriter(folder, fps=20, features=FEATURES)
    changed = {**FEATURES, "action": {"dtype": "float32", "shape": (4,)}}
    with pytest.raises(ValueError, match=r"'action'.*\(2,\)"):
        LeRobotWriter(folder, features=changed)
    with LeRobotWriter(folder), pytest.raises(ValueError, match="another process"):
        LeRobotWriter(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="no LeRobot data set"):
        LeRobotWriter(tmp_path / "other", fps=30, features=FEATURES)
    with pytest.raises(ValueError, match="fps and features are needed"):
        LeRobotWriter(tmp_path / "new")


def test_appending_to_what_lerobot_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "lerobot_v3", folder)
    frame = {
        "observation.state": np.zeros((5, 3), np.float32),
        "action": np.zeros((5, 2), np.float32),
        "observation.images.front": np.zeros((5, 48, 64, 3), np.uint8),
        "observation.pose": np.zeros((5, 4, 4), np.float32),
        "next.reward": np.zeros(5, np.float32),
        "next.done": np.zeros(5, bool),
        "note": ["a", "b", "c", "d", "e"],
    }
    with LeRobotWriter(folder) as writer:
        assert writer.episodes == 2
        assert writer.add_episode(frame, "wait") == 2
    data = open_lerobot(folder)
    assert [e.length for e in data.episodes] == [6, 9, 5]
    assert data.read(2, "task", [0]) == "wait" and data.read(1, "task", [0]) == "open the drawer"
    assert data.read(1, "observation.images.front", [8]).shape == (1, 48, 64, 3)


KILL = """
import json, os, signal, sys
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from polyclock.data import files
from test_writer import FEATURES, H264, episode
from polyclock.data.formats.lerobot_writer import LeRobotWriter

def run(folder, point):
    def hook(name):
        run.count += 1
        if run.count == point:
            os.kill(os.getpid(), 9)
    run.count = 0
    files.hook = hook
    writer = LeRobotWriter(folder, fps=30, features=FEATURES, video_codec=H264)
    writer.start("task 1")
    frames = episode(1, 8)
    for i in range(8):
        writer.add({key: values[i] for key, values in frames.items()})
        hook(f"frame {i}")
    writer.end()
    writer.close()

ends = []
for point, folder in enumerate(sys.argv[2:], 1):
    child = os.fork()
    if child == 0:
        run(Path(folder), point)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    ends.append(os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status))
print(json.dumps(ends))
"""


@pytest.mark.filterwarnings("ignore::polyclock.data.source.UntidyData")
def test_a_kill_at_every_point_loses_no_finished_episode(tmp_path: Path) -> None:
    """8 frames, then written, synced and renamed of 2 videos, tasks, data, episodes, stats and info: 29 points."""
    start = record(tmp_path / "start", range(1))
    folders = [tmp_path / f"kill-{i:02d}" for i in range(1, 32)]
    for folder in folders:
        shutil.copytree(start, folder)
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", KILL, here, *map(str, folders)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    ends = json.loads(done.stdout)
    killed = 8 + 7 * 3
    assert ends == [signal.SIGKILL] * killed + [0] * (len(folders) - killed)
    for folder in folders[: killed + 1]:
        check(folder, 0)
        listed = len(open_lerobot(folder).episodes)
        record(folder, range(listed, 3))  # continuing puts right what the killed writer left
        assert not list(folder.rglob(".*"))
        for number in range(3):
            check(folder, number)
        info = json.loads((folder / "meta" / "info.json").read_text())
        assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 7 + 8 + 9, 2)
        files = sorted(p.name for p in folder.glob("*/**/file-*") if "meta" not in p.parts)
        assert files == sorted([f"file-00{i}.{end}" for i in range(3) for end in ("parquet", "mp4", "mp4")])
        counted = json.loads((folder / "meta" / "stats.json").read_text())["action"]["count"]
        assert counted == [24]


def test_statistics_by_hand() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4000, 2)) * (1, 5) + (0, 3)
    found = of_column(values)
    np.testing.assert_allclose(found["mean"], values.mean(0))
    np.testing.assert_allclose(found["std"], values.std(0))
    for name, q in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        np.testing.assert_allclose(found[name], np.quantile(values, q, axis=0), atol=0.02 * values.std(0).max())
    halves = aggregate([{"x": of_column(values[:1000])}, {"x": of_column(values[1000:])}])["x"]
    for name in ("mean", "std", "min", "max", "count"):
        np.testing.assert_allclose(halves[name], found[name])


def test_pixel_statistics_equal_those_of_all_pixels() -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 65536, (3, 20, 30, 2), dtype=np.uint16)
    counts = PixelCounts(2, 65536)
    for frame in frames:
        counts.add(frame)
    found, unit = counts.result(), frames / 65535
    assert found["mean"].shape == (2, 1, 1) and found["count"].tolist() == [3]
    np.testing.assert_allclose(found["mean"].ravel(), unit.mean((0, 1, 2)))
    np.testing.assert_allclose(found["std"].ravel(), unit.std((0, 1, 2)))
    np.testing.assert_allclose(found["q90"].ravel(), np.quantile(unit.reshape(-1, 2), 0.9, axis=0), atol=2e-3)


@pytest.mark.filterwarnings("ignore::polyclock.data.source.UntidyData")
def test_a_real_episode_written_as_v3(real_data: Path, tmp_path: Path) -> None:
    """Columns come back to the bit, pictures within what AV1 at its default quality loses."""
    source, number, length = open_lerobot(real_data / "g1_pick_bottle"), 29, 24
    keys = ("observation.state", "action", "observation.images.cam_high")
    columns = {key: source.read(number, key, range(length)) for key in keys}
    features = {key: {**source.meta.info["features"][key], "info": None} for key in keys}
    with LeRobotWriter(tmp_path, fps=source.facts.fps, features=features, robot_type="Unitree_G1_Inspire") as writer:
        writer.add_episode(columns, source.facts.tasks[0])
    data = open_lerobot(tmp_path)
    assert data.episodes[0].tasks == source.facts.tasks
    for key in keys[:2]:
        np.testing.assert_array_equal(data.read(0, key, range(length)), columns[key])
    error = data.read(0, keys[2], range(length)).astype(float) - columns[keys[2]]
    assert 10 * np.log10(255**2 / (error**2).mean()) > 35
