"""The log: whole lines, each step once, numbers that JSON can hold."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from polyclock.train import log


def train_row(step: int, loss: float = 1.0) -> log.Row:
    return {
        "kind": "train", "step": step, "loss": loss, "grad_norm": 1.0, "losses": {"video": loss}, "lr": 1e-3,
        "steps_per_s": 2.0, "data_wait": 0.25, "bad_steps": 0,
    }  # fmt: skip


def validation_row(step: int) -> log.Row:
    return {"kind": "validation", "step": step, "loss": 1.0, "losses": {"video": 1.0}, "best": True}


def test_rows_are_written_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paper = log.Log(tmp_path, steps=100)
    paper.write(train_row(20))
    paper.write(validation_row(20))
    paper.write(train_row(40, math.nan))
    paper.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 20/100  loss 1.0000  (video 1.0000)  lr 1.00e-03  grad 1.000  2.00 steps/s")
    assert "waiting 25%  left 0:00:40" in lines[0] and "validation, the best so far" in lines[1]
    rows = log.read(tmp_path / "log.jsonl")
    assert [row["step"] for row in rows] == [20, 20, 40]
    assert rows[0] == train_row(20) and rows[2]["loss"] is None and rows[2]["losses"] == {"video": None}


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [train_row(2), train_row(4), validation_row(4), train_row(6), validation_row(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "train", "st')
    log.truncate(path, step=4, validated=-1)
    assert [(row["kind"], row["step"]) for row in log.read(path)] == [("train", 2), ("train", 4)]
    assert path.read_text().endswith("}\n")
    log.truncate(tmp_path / "none.jsonl", 4, 4)


def test_a_process_that_is_not_the_first_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paper = log.Log(tmp_path, steps=100, active=False)
    paper.write(train_row(20))
    paper.say("hello")
    paper.sync()
    paper.close()
    assert capsys.readouterr().out == "" and not (tmp_path / "log.jsonl").exists()


def test_a_terminal_gets_a_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    paper = log.Log(tmp_path, steps=100)
    paper.write(train_row(20))
    paper.say("a word in [brackets]")
    paper.close()
    text = capsys.readouterr().out
    assert "20/100" in text and "a word in [brackets]" in text


def test_tensorboard_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'polyclock\[log\]'"):
        log.Log(tmp_path, steps=1, tensorboard=True)


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    paper = log.Log(tmp_path, steps=100, tensorboard=True)
    paper.write(train_row(20))
    paper.write(validation_row(20))
    paper.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"train/loss", "train/loss/video", "train/lr", "validation/loss"} <= set(events.Tags()["scalars"])
    assert [(e.step, e.value) for e in events.Scalars("train/loss/video")] == [(20, 1.0)]
