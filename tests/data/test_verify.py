"""`verify` finds planted corruptions by file, episode and frame, and finds nothing in sound data sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_writer import H264, episode, record

from polyclock.data.compact import compact
from polyclock.data.encode import encode_video
from polyclock.data.files import aside
from polyclock.data.verify import verify

CAMERA, DEPTH = "observation.images.top", "observation.depth.top"
Found = tuple[str, int | None, int | None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four episodes of 7, 8, 9 and 10 frames, each in its own files."""
    return record(tmp_path_factory.mktemp("verify") / "sound", range(4))


def _data(number: int) -> str:
    return f"data/chunk-000/file-{number:03d}.parquet"


def _video(number: int, key: str = CAMERA) -> str:
    return f"videos/{key}/chunk-000/file-{number:03d}.mp4"


def _meta(number: int) -> str:
    return f"meta/episodes/chunk-000/file-{number:03d}.parquet"


def _change(path: Path, column: str, change: Callable[[list], None]) -> None:
    """Rewrite one column of a Parquet file; its type may become a list of any length."""
    table = pq.ParquetFile(path).read()
    values = table[column].to_pylist()
    change(values)
    kind = table[column].type
    kind = pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, kind)), path)


def _set(column: str, rows: dict[int, object]) -> Callable[[Path], None]:
    def change(values: list) -> None:
        for i, value in rows.items():
            values[i] = value(values[i]) if callable(value) else value

    return lambda path: _change(path, column, change)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def _cut_indexed(path: Path) -> None:
    """A video whose index stands in front, cut inside the picture 4."""
    moved = path.with_name("moved.mp4")
    _remux(path, moved, lambda packets: packets, {"movflags": "faststart"})
    with av.open(str(moved)) as file:
        places = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    path.write_bytes(moved.read_bytes()[: places[4][0] + places[4][1] // 2])
    moved.unlink()


def _remux(path: Path, out: Path, choose: Callable[[list], list], options: dict[str, str] | None = None) -> None:
    with av.open(str(path)) as source, av.open(str(out), "w", format="mp4", options=options or {}) as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in choose([p for p in source.demux(video=0) if p.size]):
            packet.stream = stream
            target.mux(packet)


def _drop_picture(path: Path) -> None:
    _remux(path, path.with_name("less.mp4"), lambda packets: packets[:3] + packets[4:])
    path.with_name("less.mp4").replace(path)


def _encode_again(number: int, **change: object) -> Callable[[Path], None]:
    frames = episode(number, 7 + number)[CAMERA]
    if "pictures" in change:
        frames = np.concatenate([frames, frames])[: change["pictures"]]
    if "size" in change:
        frames = frames[:, : change["size"][0], : change["size"][1]]
    return lambda path: encode_video(path, frames, change.get("fps", 30), H264)


def _flip_bits(path: Path) -> None:
    with av.open(str(path)) as file:
        places = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    at = places[5][0] + places[5][1] // 2
    for i in range(at, at + 4):
        content[i] ^= 0xFF
    path.write_bytes(content)


def _info(change: dict[str, object]) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | change))


def _not_a_number(path: Path) -> None:
    stats = json.loads(path.read_text())
    stats["action"]["std"][1] = float("nan")
    path.write_text(json.dumps(stats))


# name: (file that is damaged, how, where it must be found: file, episode, frame)
CORRUPTIONS: dict[str, tuple[str, Callable[[Path], None], Found]] = {
    "truncated video": (_video(1), _cut, (_video(1), 1, 0)),
    "truncated video with its index in front": (_video(2), _cut_indexed, (_video(2), 2, 4)),
    "parquet without footer": (_data(2), _cut, (_data(2), 2, 0)),
    "NaN in an episode's statistics": (
        _meta(1),
        _set("stats/action/mean", {0: [0.0, float("nan")]}),
        (_meta(1), 1, None),
    ),
    "NaN in stats.json": ("meta/stats.json", _not_a_number, ("meta/stats.json", None, None)),
    "stale statistics": (_meta(3), _set("stats/action/max", {0: [9.0, 9.0]}), (_meta(3), 3, None)),
    "shifted timestamps": (_data(2), _set("timestamp", {i: lambda t: t + 0.01 for i in range(3, 9)}), (_data(2), 2, 3)),
    "missing camera file": (_video(1), Path.unlink, (_video(1), 1, 0)),
    "missing depth file": (_video(3, DEPTH), Path.unlink, (_video(3, DEPTH), 3, 0)),
    "missing data file": (_data(3), Path.unlink, (_data(3), 3, 0)),
    "wrong length": (_meta(1), _set("length", {0: 9}), (_data(1), 1, 8)),
    "NaN in an action": (_data(2), _set("action", {4: [0.0, float("nan")]}), (_data(2), 2, 4)),
    "Inf in a state": (_data(0), _set("observation.state", {6: [float("inf"), 0.0, 0.0]}), (_data(0), 0, 6)),
    "vector of another length": (_data(2), _set("action", {1: [1.0, 2.0, 3.0]}), (_data(2), 2, 1)),
    "missing value": (_data(2), _set("step", {7: None}), (_data(2), 2, 7)),
    "unknown task": (_data(0), _set("task_index", {5: 7}), (_data(0), 0, 5)),
    "task of another episode": (_data(0), _set("task_index", {2: 1}), (_data(0), 0, 2)),
    "dropped picture": (_video(1), _drop_picture, (_video(1), 1, 3)),
    "picture too few": (_video(2), _encode_again(2, pictures=8), (_video(2), 2, 8)),
    "picture too many": (_video(2), _encode_again(2, pictures=10), (_video(2), 2, 9)),
    "video at half the rate": (_video(2), _encode_again(2, fps=15), (_video(2), 2, 1)),
    "video at twice the rate": (_video(2), _encode_again(2, fps=60), (_video(2), 2, 5)),
    "video of another size": (_video(2), _encode_again(2, size=(16, 16)), (_video(2), 2, 0)),
    "flipped bits": (_video(1, DEPTH), _flip_bits, (_video(1, DEPTH), 1, 5)),
    "flipped bits in colour": (_video(3), _flip_bits, (_video(3), 3, 5)),
    "zero-byte data": (_data(0), lambda p: p.write_bytes(b""), (_data(0), 0, 0)),
    "zero-byte video": (_video(3), lambda p: p.write_bytes(b""), (_video(3), 3, 0)),
    "swapped index": (_data(3), _set("index", {2: lambda i: i + 1, 3: lambda i: i - 1}), (_data(3), 3, 2)),
    "frame counted twice": (_data(1), _set("frame_index", {6: 5}), (_data(1), 1, 6)),
    "row of another episode": (_data(1), _set("episode_index", {4: 2}), (_data(1), 1, 4)),
    "zero-byte list of episodes": (_meta(3), lambda p: p.write_bytes(b""), (_meta(3), None, None)),
    "list of tasks without footer": ("meta/tasks.parquet", _cut, ("meta/tasks.parquet", None, None)),
    "wrong totals": ("meta/info.json", _info({"total_frames": 33}), ("meta/info.json", None, None)),
    "rate that is no number": ("meta/info.json", _info({"fps": "30"}), ("meta/info.json", None, None)),
    "info that is no JSON": ("meta/info.json", _cut, ("meta/info.json", None, None)),
}


def test_sound_data_have_no_problem(sound: Path, tmp_path: Path) -> None:
    assert verify(sound) == []
    assert verify(compact(sound, tmp_path / "merged")) == []
    assert verify(Path(__file__).parents[1] / "fixtures" / "lerobot_v3") == []


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_found_by_file_episode_and_frame(sound: Path, tmp_path: Path, name: str) -> None:
    file, damage, due = CORRUPTIONS[name]
    folder = tmp_path / "set"
    shutil.copytree(sound, folder)
    damage(folder / file)
    problems = [p for p in verify(folder) if not p.note]
    assert due in {(p.file, p.episode, p.frame) for p in problems}, [str(p) for p in problems]
    if due[1] is not None:
        assert {p.episode for p in problems} <= {due[1], None}, "a sound episode is accused"


def test_several_at_once_are_all_found(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(sound, folder)
    names = ["NaN in an episode's statistics", "NaN in an action", "unknown task", "dropped picture", "zero-byte video",
             "swapped index", "missing depth file", "NaN in stats.json", "frame counted twice"]  # fmt: skip
    for name in names:
        CORRUPTIONS[name][1](folder / CORRUPTIONS[name][0])
    found = {(p.file, p.episode, p.frame) for p in verify(folder)}
    assert {CORRUPTIONS[name][2] for name in names} <= found


def test_a_picture_dropped_in_a_merged_video(sound: Path, tmp_path: Path) -> None:
    """Picture 18 of the file is picture 3 of episode 2, which is preceded by 7 and 8."""
    folder = compact(sound, tmp_path / "set")
    path = folder / _video(0)
    _remux(path, path.with_name("less.mp4"), lambda packets: packets[:18] + packets[19:])
    path.with_name("less.mp4").replace(path)
    problems = verify(folder)
    assert [(p.file, p.episode, p.frame) for p in problems] == [(_video(0), 2, 3)]
    assert "no picture at 0.6000 s" in str(problems[0])


def test_v2_folders_and_what_is_only_unusual(real_data: Path) -> None:
    problems = verify(real_data / "g1_pick_bottle")
    assert all(p.note for p in problems), [str(p) for p in problems]
    assert any("100 episodes are listed, 4 are here (28-31)" in p.what for p in problems)
    untidy = verify(real_data / "gr00t_dreams_gr1_sim" / "demo_data" / "robot_sim.PickNPlace")
    assert all(p.note for p in untidy), [str(p) for p in untidy]
    said = " ".join(p.what for p in untidy)
    for part in ("3 are here (0-2)", "egoview is declared but no video", "frame_index", "timestamps lie 0.05 s late"):
        assert part in said


def test_v2_corruptions(real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(real_data / "g1_pick_bottle", folder)
    data, video = "data/chunk-000/episode_0000{}.parquet", "videos/chunk-000/{}/episode_0000{}.mp4"
    _set("action", {100: lambda row: [float("nan"), *row[1:]]})(folder / data.format(28))
    (folder / data.format(29)).write_bytes(b"")
    _remux_to = folder / video.format("observation.images.cam_high", 30)
    _remux(_remux_to, _remux_to.with_name("less.mp4"), lambda packets: packets[:51] + packets[52:])
    _remux_to.with_name("less.mp4").replace(_remux_to)
    (folder / video.format("observation.images.cam_high", 31)).unlink()
    found = {(p.episode, p.frame) for p in verify(folder) if not p.note}
    assert {(28, 100), (29, 0), (31, 0)} <= found
    assert any(e == 30 and f in (50, 51, 52) for e, f in found)  # pictures that need the dropped one are lost too


def test_leftovers_are_notes(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(sound, folder)
    shutil.copy(folder / _data(0), folder / _data(4))
    aside(folder / _video(4)).write_bytes(b"half")
    problems = verify(folder)
    assert [p.note for p in problems] == [True, True]
    assert {p.file for p in problems} == {_data(4), str(aside(Path(_video(4))))}


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no LeRobot folder"):
        verify(tmp_path)
