"""Videos with captions from a folder, a CSV or a JSONL."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from numbered import numbers_of, write_video

from polyclock.data import UntidyData, Windows, collate, open_dataset
from polyclock.modality import Signal


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    write_video(tmp_path / "clips/a.mp4", range(12))
    write_video(tmp_path / "clips/b.mp4", range(50, 59))
    write_video(tmp_path / "clips/b_depth.mp4", range(70, 79))
    np.save(tmp_path / "clips/a_action.npy", np.arange(24.0).reshape(12, 2))
    np.savez(tmp_path / "clips/b_action.npz", action=np.arange(18.0).reshape(9, 2), other=np.zeros(3))
    return tmp_path


def test_a_folder_of_videos(clips: Path) -> None:
    (clips / "clips/a.txt").write_text("a red cup\n")
    dataset = open_dataset(clips / "clips")
    assert [(e.index, e.length, e.tasks) for e in dataset.episodes] == [(0, 12, ("a red cup",)), (1, 9, ()), (2, 9, ())]
    assert dataset.facts.cameras == ("video",) and dataset.facts.fps == 30
    assert numbers_of(dataset.read(1, "video", [8, 0])) == [58, 50]
    assert numbers_of(dataset.read(1, "observation.images.video", [3], (16, 16))) == [53]
    assert dataset.read(0, "task", [0]) == "a red cup" and not dataset.has(1, "task")


TABLE = [
    {"video": "clips/a.mp4", "prompt": "a, quoted", "action": "clips/a_action.npy"},
    {"video": "clips/b.mp4", "prompt": "b", "depth": "clips/b_depth.mp4", "action": "clips/b_action.npz"},
]


def test_columns_may_lie_in_one_file(clips: Path) -> None:
    np.savez(clips / "clips/all.npz", action=np.zeros((12, 2)), state=np.ones((12, 3)))
    (clips / "table.csv").write_text("video,action,state\nclips/a.mp4,clips/all.npz,clips/all.npz\n")
    dataset = open_dataset(clips / "table.csv")
    assert (dataset.facts.columns["action"], dataset.facts.columns["state"]) == ((2,), (3,))
    assert dataset.read(0, "action", [1]).tolist() == [[0, 0]] and dataset.read(0, "state", [1]).tolist() == [[1, 1, 1]]


def test_a_caption_may_hold_marks_that_end_lines_elsewhere(clips: Path) -> None:
    caption = "one\u2028two\x85three"
    line = json.dumps({"video": "clips/a.mp4", "prompt": caption}, ensure_ascii=False)
    (clips / "table.jsonl").write_text(f"{line}\r\n\r\n{line}", encoding="utf-8", newline="")
    dataset = open_dataset(clips / "table.jsonl")
    assert [dataset.read(e, "task", [0]) for e in range(2)] == [caption, caption]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "absolute"])
def test_tables(clips: Path, kind: str) -> None:
    rows = [{k: str(clips / v) if kind == "absolute" and k != "prompt" else v for k, v in r.items()} for r in TABLE]
    if kind == "csv":
        path = clips / "table.csv"
        path.write_text('video,prompt,depth,action\nclips/a.mp4,"a, quoted",,clips/a_action.npy\n'
                        "clips/b.mp4,b,clips/b_depth.mp4,clips/b_action.npz\n")  # fmt: skip
    else:
        path = clips / "table.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
    dataset = open_dataset(path if kind == "absolute" else clips)
    facts = dataset.facts
    assert (facts.tasks, facts.action_dim, set(facts.cameras)) == (("a, quoted", "b"), 2, {"video", "depth"})
    assert not dataset.has(0, "depth") and numbers_of(dataset.read(1, "depth", [2])) == [72]
    assert dataset.read(1, "action", [8, 1]).tolist() == [[16, 17], [2, 3]]
    assert dataset.read(0, "action", [0]).dtype == np.float32
    assert [len(c) for c in dataset.column("depth")] == [9]
    assert [len(c) for c in dataset.without([0]).column("action")] == [9]
    signals = {
        "video": Signal(key="observation.images.video", kind="video", shape=(2, 16, 16, 3)),
        "depth": Signal(key="depth", kind="video", shape=(2, 16, 16, 3)),
        "text": Signal(key="task", kind="text", shape=()),
    }
    windows = Windows(dataset, signals)
    batch = collate([windows[3], windows[14]], [0, 1], signals)
    assert batch.rows["depth"].tolist() == [1] and batch.rows["video"].tolist() == [0, 1]
    assert batch.values["text"] == ["a, quoted", "b"]
    assert numbers_of(batch.values["depth"][0].numpy()) == [72, 73]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("clip,prompt\na.mp4,x\n", "has no column 'video'; it has: clip, prompt"),
        ("video,prompt\n", "has no rows"),
        ("video,prompt\nclips/none.mp4,x\n", r"row 0: .*none.mp4 is not there"),
        ("video,prompt\nclips/a.mp4,x\n,y\n", "row 1: 'video' is ''"),
        ("video,prompt\nclips/a.mp4,x\nslow.mp4,y\n", "rows 0 and 1 have 30 and 10 frames per second"),
    ],
)
def test_tables_that_cannot_be_used(clips: Path, table: str, message: str) -> None:
    write_video(clips / "slow.mp4", range(4), 10)
    (clips / "bad.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        open_dataset(clips / "bad.csv")


def test_files_of_another_length_are_named(clips: Path) -> None:
    np.save(clips / "short.npy", np.zeros((11, 2)))
    (clips / "t.csv").write_text(
        "video,prompt,depth,force\nclips/a.mp4,x,clips/b_depth.mp4,short.npy\nclips/b.mp4,y,none,\n"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = open_dataset(clips / "t.csv")
    assert [str(w.message) for w in caught] == [
        "t.csv: columns depth hold what is neither file nor text; it is left out."
    ]
    assert caught[0].category is UntidyData
    with pytest.raises(ValueError, match="row 0: .*b_depth.mp4 holds 9 pictures, the video 12"):
        dataset.read(0, "depth", [0])
    with pytest.raises(
        ValueError, match=r"short.npy holds float64 \(11, 2\); expected numbers, one row for each of 12"
    ):
        dataset.read(0, "force", [0])


def test_arrays_of_objects_are_refused(clips: Path) -> None:
    np.save(clips / "objects.npy", np.array([{"a": 1}] * 12, object), allow_pickle=True)
    (clips / "t.csv").write_text("video,prompt,action\nclips/a.mp4,x,objects.npy\n")
    with pytest.raises(ValueError, match="objects.npy cannot be read: Object arrays cannot be loaded"):
        _ = open_dataset(clips / "t.csv").facts


def test_what_cannot_be_opened_says_what_was_found(clips: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not there; possible: a LeRobot folder"):
        open_dataset(clips / "nowhere")
    (clips / "deep/set/meta").mkdir(parents=True)
    (clips / "deep/set/meta/info.json").write_text("{}")
    with pytest.raises(ValueError, match="is not a data set but holds some; open one of them: .*set"):
        open_dataset(clips / "deep")
    (clips / "other").mkdir()
    (clips / "other/notes.md").write_text("")
    with pytest.raises(ValueError, match="found notes.md; possible: meta/info.json"):
        open_dataset(clips / "other")


def test_lists_of_lines(clips: Path) -> None:
    (clips / "clips" / "video.txt").write_text("a.mp4\nb.mp4\n")
    (clips / "clips" / "prompt.txt").write_text("a red cup\na blue one, falling\n")
    dataset = open_dataset(clips / "clips")
    assert [(e.length, e.tasks) for e in dataset.episodes] == [(12, ("a red cup",)), (9, ("a blue one, falling",))]
    assert numbers_of(open_dataset(clips / "clips/video.txt").read(1, "video", [2])) == [52]
    (clips / "clips" / "prompt.txt").write_text("a red cup\n")
    with pytest.raises(ValueError, match="video.txt has 2 lines, prompt.txt has 1"):
        open_dataset(clips / "clips")
    (clips / "clips" / "prompt.txt").unlink()
    assert open_dataset(clips / "clips").facts.tasks == (), "captions may lack"


def test_pictures_spread_evenly_over_clips_of_any_rate(clips: Path) -> None:
    """As the published loader takes them: n indices from the first picture to the last, alike for all columns."""
    write_video(clips / "slow.mp4", range(30, 34), 10)
    (clips / "t.csv").write_text(
        "video,prompt,depth,action\nclips/b.mp4,x,clips/b_depth.mp4,clips/b_action.npz\nslow.mp4,y,,\nclips/a.mp4,z,,\n"
    )
    with pytest.warns(UntidyData, match="1 clips have less than 5 pictures; they are left out"):
        dataset = open_dataset(f"{clips / 't.csv'}?frames=5&fps=8")
    assert [(e.index, e.length) for e in dataset.episodes] == [(0, 5), (2, 5)] and dataset.facts.fps == 8
    assert numbers_of(dataset.read(0, "video", range(5))) == [50, 52, 54, 56, 58]
    assert numbers_of(dataset.read(0, "depth", range(5))) == [70, 72, 74, 76, 78]
    assert dataset.read(0, "action", [1, 4])[:, 0].tolist() == [4, 16]
    assert numbers_of(dataset.read(2, "video", range(5))) == [0, 3, 6, 8, 11]
    signals = {"video": Signal(key="video", kind="video", shape=(5, 16, 16, 3), rate=8.0)}
    windows = Windows(dataset, signals, stride=5)
    assert len(windows) == 2 and windows[1].valid["video"].all()
    with pytest.raises(ValueError, match=r"frames=5 spread over a clip have no rate .* frames=5&fps=8"):
        open_dataset(f"{clips / 't.csv'}?frames=5")
    with pytest.raises(ValueError, match="no clip has 50 pictures"):
        open_dataset(f"{clips / 't.csv'}?frames=50&fps=8")


def test_clips_of_different_rates_at_one_rate(clips: Path) -> None:
    write_video(clips / "slow.mp4", range(30, 34), 10)
    (clips / "t.csv").write_text("video,prompt\nclips/a.mp4,x\nslow.mp4,y\n")
    with pytest.raises(ValueError, match=r"one rate for all, t.csv\?fps=30, or one table per rate"):
        open_dataset(clips / "t.csv")
    dataset = open_dataset(clips / "t.csv", fps=15)
    assert [e.length for e in dataset.episodes] == [6, 6] and dataset.facts.fps == 15
    assert numbers_of(dataset.read(0, "video", range(6))) == [0, 2, 4, 6, 8, 10]
    assert numbers_of(dataset.read(1, "video", range(6))) == [30, 31, 31, 32, 33, 33], "the nearest, halves up"
    prints = {open_dataset(clips / "t.csv", fps=f).fingerprint for f in (10, 15, 30)}
    assert len(prints) == 3
    assert dataset.mark(0) != open_dataset(clips / "t.csv", fps=10).mark(0) and dataset.mark(0) != dataset.mark(1)


def test_what_lies_between_pictures_has_one_less(clips: Path) -> None:
    write_video(clips / "flow.mp4", range(20, 28))
    (clips / "t.csv").write_text("video,prompt,raft\nclips/b.mp4,x,flow.mp4\n")
    dataset = open_dataset(clips / "t.csv")
    with pytest.warns(UntidyData, match="flow.mp4 holds one picture less than its video"):
        assert numbers_of(dataset.read(0, "raft", [0, 7, 8])) == [20, 27, 27]


def test_maps_in_arrays_are_read_at_a_size(clips: Path) -> None:
    maps = np.arange(12 * 4 * 6, dtype=np.float32).reshape(12, 4, 6, 1)
    np.savez(clips / "depth.npz", depth=maps)
    (clips / "t.csv").write_text("video,prompt,depth\nclips/a.mp4,x,depth.npz\n")
    dataset = open_dataset(clips / "t.csv")
    assert (dataset.read(0, "depth", [3]) == maps[3:4]).all()
    assert (dataset.read(0, "depth", [3], (2, 3)) == maps[3:4, 1::2, 1::2]).all(), "the nearest, nothing is mixed"
