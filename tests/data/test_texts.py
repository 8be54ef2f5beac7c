"""Texts of a data set: any text column is read under its own name, and is absent where it says nothing."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numbered import write_video
from rich.console import Console

from polyclock.data import UntidyData, Windows, collate, open_dataset
from polyclock.data.compact import compact
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.data.show import info, show
from polyclock.data.verify import verify
from polyclock.evaluate.held_out import HeldOut
from polyclock.modality import Signal

FEATURES = {
    "action": {"dtype": "float32", "shape": (1,), "names": None},
    "prompt": {"dtype": "string", "shape": (1,), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
}
SIGNALS = {
    "action": Signal(key="action", kind="vector", shape=(1, 1)),
    "text": Signal(key="task", kind="text", shape=()),
    "prompt": Signal(key="prompt", kind="text", shape=()),
}
PROMPTS = (["one person"] * 3, ["two persons", "two persons", "", "a ball"])


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two episodes of 3 and 4 frames; the second says nothing at frame 2 and something else at frame 3."""
    with LeRobotWriter(tmp_path / "set", fps=10, features=FEATURES) as writer:
        for said in PROMPTS:
            action, note = np.arange(len(said), dtype=np.float32), [f"frame {i}" for i in range(len(said))]
            writer.add_episode({"action": action, "prompt": np.array(said), "note": note}, "look")
    return tmp_path / "set"


def batch_of(dataset, **more: Signal):
    windows = Windows(dataset, SIGNALS | more)
    return collate([windows[i] for i in range(len(windows))], range(len(windows)), SIGNALS | more)


@pytest.mark.parametrize("merged", [False, True])
def test_what_is_recorded_is_read_frame_by_frame(recorded: Path, tmp_path: Path, merged: bool) -> None:
    folder = compact(recorded, tmp_path / "merged") if merged else recorded
    dataset = open_dataset(folder)
    assert {k for k, shape in dataset.facts.columns.items() if not shape} == {"task", "prompt", "note"}
    for episode, said in enumerate(PROMPTS):
        assert [dataset.read(episode, "prompt", [i]) for i in range(len(said))] == said
    assert dataset.read(1, "note", [2, 0]) == "frame 2", "at the first of the frames asked for"
    assert verify(folder) == []


def test_a_text_travels_to_the_batch_and_is_absent_where_it_says_nothing(recorded: Path) -> None:
    batch = batch_of(open_dataset(recorded))
    assert batch.rows["prompt"].tolist() == [0, 1, 2, 3, 4, 6] and batch.rows["text"].tolist() == list(range(7))
    assert batch.values["prompt"] == [p for said in PROMPTS for p in said if p]
    without = batch_of(open_dataset(f"{recorded}?hide=prompt"))
    assert without.values["prompt"] == [] and without.values["text"] == ["look"] * 7
    renamed = batch_of(open_dataset(f"{recorded}?hide=prompt&rename=note:prompt"))
    assert renamed.values["prompt"] == [f"frame {i}" for said in PROMPTS for i in range(len(said))]
    assert open_dataset(f"{recorded}?hide=task").facts.tasks == ()


def test_what_is_asked_of_held_out_windows_is_said_in_all_of_them(recorded: Path) -> None:
    held = HeldOut(open_dataset(recorded), SIGNALS, ["action"], [0, 1])
    assert [(p.episode, p.frame) for p in held.places] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 3)]
    (_, batch, _), *_ = held.batches(6)
    assert len(batch.values["prompt"]) == batch.size == 6


def test_a_text_is_no_vector_and_a_vector_no_text(recorded: Path) -> None:
    dataset = open_dataset(recorded)
    with pytest.raises(ValueError, match="column 'note' does not hold vector"):
        Windows(dataset, {"action": Signal(key="note", kind="vector", shape=(1, 1))})
    with pytest.raises(ValueError, match="column 'action' does not hold text"):
        Windows(dataset, {"prompt": Signal(key="action", kind="text", shape=())})
    with pytest.raises(ValueError, match="no column 'promt'. Did you mean 'prompt'"):
        batch_of(dataset, other=Signal(key="promt", kind="text", shape=()), **{"prompt": SIGNALS["text"]})


def test_show_prints_what_is_said_and_when(recorded: Path, tmp_path: Path) -> None:
    screen = io.StringIO()
    show(recorded, tmp_path / "out", 1, console=Console(file=screen, width=120))
    text = screen.getvalue()
    assert "prompt, episode 1: from frame 0 two persons; from frame 2 (nothing); from frame 3 a ball" in text
    assert "task, episode 1: look" in text and "text" in text
    facts = info(recorded)
    assert facts["columns"]["prompt"] == [] and json.loads(json.dumps(facts)) == facts


def rewrite(folder: Path, values: pa.Array, key: str = "prompt") -> None:
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.ParquetFile(path).read()
    pq.write_table(table.set_column(table.column_names.index(key), key, values), path)


def test_verify_names_texts_that_are_none(recorded: Path) -> None:
    rewrite(recorded, pa.array(["a", None, "b"]))
    (problem,) = verify(recorded)
    assert (problem.episode, problem.frame, problem.what) == (0, 1, "prompt has no value")
    assert open_dataset(recorded).read(0, "prompt", [1]) == ""
    rewrite(recorded, pa.array([1, 2, 3]))
    (problem,) = verify(recorded)
    assert (problem.episode, problem.what) == (0, "prompt holds int64, the metadata say string")


def test_a_column_with_several_texts_a_row_is_left_out_and_told(recorded: Path) -> None:
    rewrite(recorded, pa.array([["a", "b"], [], ["c"]]))
    with pytest.warns(UntidyData, match="column prompt is declared as text and holds list<"):
        assert "prompt" not in open_dataset(recorded).facts.columns
    rewrite(recorded, pa.array(["x", "y", "x"]).dictionary_encode())
    assert open_dataset(recorded).read(0, "prompt", [1]) == "y"


def clip(folder: Path, *names: str) -> Path:
    for name in names:
        write_video(folder / name, range(4))
    return folder


def read_all(dataset, key: str) -> list[str | None]:
    here = [(e.index, dataset.has(e.index, key)) for e in dataset.episodes]
    return [str(dataset.read(e, key, [0])) if has else None for e, has in here]


def test_a_table_s_further_columns_are_texts(tmp_path: Path) -> None:
    clip(tmp_path, "a.mp4", "b.mp4")
    table = tmp_path / "t.csv"
    table.write_text('video,prompt,objects,grade\na.mp4,"a walk","two persons",3\nb.mp4,"a run",,4\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error", UntidyData)
        dataset = open_dataset(f"{table}?rename=objects:prompt")
    assert read_all(dataset, "prompt") == ["two persons", None] and read_all(dataset, "task") == ["a walk", "a run"]
    assert read_all(dataset, "grade") == ["3", "4"] and dataset.facts.columns["grade"] == ()
    before = open_dataset(table).fingerprint
    table.write_text(table.read_text().replace("two persons", "one person"))
    assert open_dataset(table).fingerprint != before

    rows = [{"video": "a.mp4", "task": "a walk", "objects": "two persons", "grade": 3}, {"video": "b.mp4"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.warns(UntidyData, match="columns grade hold what is neither file nor text"):
        dataset = open_dataset(tmp_path / "t.jsonl")
    assert read_all(dataset, "task") == ["a walk", None] and read_all(dataset, "objects") == ["two persons", None]

    (tmp_path / "both.csv").write_text("video,prompt,task\na.mp4,a walk,walking\n")
    with pytest.warns(UntidyData, match="column task is left out"):
        assert read_all(open_dataset(tmp_path / "both.csv"), "task") == ["a walk"]


def test_texts_beside_the_clips_of_a_folder(tmp_path: Path) -> None:
    clip(tmp_path, "a.mp4", "a.b.mp4")
    for name, text in (("a", "a walk"), ("a.prompt", "two persons\n"), ("a.b", "a run"), ("a.b.prompt", "")):
        (tmp_path / f"{name}.txt").write_text(text)
    (tmp_path / "README.txt").write_text("read me")
    dataset = open_dataset(tmp_path)
    assert read_all(dataset, "task") == ["a run", "a walk"] and read_all(dataset, "prompt") == [None, "two persons"]
    assert set(dataset.facts.columns) == {"video", "observation.images.video", "task", "prompt"}


def test_lists_of_texts(tmp_path: Path) -> None:
    clip(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "video.txt").write_text("a.mp4\nb.mp4\n")
    (tmp_path / "prompt.objects.txt").write_text("\ntwo persons\n")
    (tmp_path / "other.txt").write_text("one line of another file")
    dataset = open_dataset(tmp_path)
    assert read_all(dataset, "objects") == [None, "two persons"] and read_all(dataset, "task") == [None, None]
    (tmp_path / "prompt.objects.txt").write_text("two persons\n")
    with pytest.raises(ValueError, match="video.txt has 2 lines, prompt.objects.txt has 1"):
        open_dataset(tmp_path)
