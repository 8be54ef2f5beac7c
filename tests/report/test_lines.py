"""Commands on the page, model folders as runs, and what the page says of a run that began from other weights."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import staged
from test_chart import points
from test_page import words

from moving import Moving
from polyclock.commands.report import run as command
from polyclock.report import lines, sections, write
from polyclock.report.markup import Markup
from polyclock.report.page import unseen
from polyclock.report.run import read


def test_every_question_can_be_asked_again(run_folder: Path) -> None:
    run = read(run_folder)
    found = lines.ask(run, "my data", staged.scenes())
    assert set(found) == {"policy", "forward", "video from depth"}
    given = shlex.split(found["forward"])
    assert given[:4] == ["polyclock", "sample", str(run_folder), staged.FORWARD.query]
    assert given[4:] == ["--data", "my data", "--episode", "7", "--at", "0", "--out", "answers/forward"]
    assert lines.ask(run, None, staged.scenes()) == {}


def test_the_world_is_read_off_the_data(run_folder: Path, tmp_path: Path) -> None:
    run = read(run_folder)
    assert "--world metaworld/TASK" in lines.act(run, str(tmp_path))
    (tmp_path / "meta").mkdir()
    note = tmp_path / "meta" / "collect.json"
    note.write_text(json.dumps({"settings": {"world": "metaworld", "tasks": ["door-close", "reach"]}}))
    assert "--world metaworld/door-close,reach" in lines.act(run, str(tmp_path))
    assert any("collect metaworld/door-close,reach" in line for _, line in lines.jobs(run, str(tmp_path)))
    for text in ("{", "{}", '{"settings": {"world": "people"}}', "[]"):
        note.write_text(text)
        assert "metaworld/TASK" in lines.act(run, str(tmp_path))


def test_a_model_folder_has_a_page_too(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shipped"
    shutil.copytree(run_folder / "model", folder)
    page = write(folder, tmp_path / "a.html", dataset=Moving(), episodes=[3], count=1, seconds=0.4, steps=1)
    said = words(page)
    assert "shipped" in said and "What should be done now?" in said and "0.1 million numbers" in said
    assert "name some with --episodes" in words(write(folder, tmp_path / "b.html", dataset=Moving()))


def test_loss_before_and_after_stand_at_the_top(run_folder: Path) -> None:
    run = read(run_folder)
    rows = [{"kind": "validation", "step": s, "loss": v, "losses": {"a": v}} for s, v in ((0, 2.0), (60, 1.25))]
    said = sections.tiles(replace(run, rows=rows))
    assert "1.25" in said and "from 2 at step 0, at step 60" in said


def test_what_was_not_learnt_in_a_step_is_a_gap(run_folder: Path) -> None:
    values = [1.0, 0.0, 0.1, 0.01, 0.0]
    rows = [{"kind": "train", "step": i, "loss": v, "losses": {"a": v}, "lr": 0.1} for i, v in enumerate(values)]
    drawn = sections.losses(replace(read(run_folder), rows=rows))
    assert [len(line) for line in points(Markup(drawn))][:2] == [2, 2], "a lone point, then two; no zeros"


def test_the_command_takes_others_to_stand_beside(run_folder: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"tasks": {"metaworld/reach": {"successes": 1, "episodes": 4}}}))
    out = tmp_path / "page.html"
    assert command([str(run_folder), "--beside", f"yard stick={other}", "--out", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert "yard stick" in words(out) and "1 of 4" in words(out)
    for text in ("yardstick", "=a", "a="):
        with pytest.raises(ValueError, match="must be NAME=DIR"):
            command([str(run_folder), "--beside", text, "--out", str(out)])
    with pytest.raises(ValueError, match="belong to one run"):
        write([run_folder, run_folder], out, rollout=tmp_path)


def test_episodes_that_were_not_trained_on_are_found(run_folder: Path) -> None:
    run = replace(read(run_folder), evaluation=None)
    assert unseen(run, Moving()) == [3], "what it held out"
    assert unseen(run, Moving().only([0, 2])) == [0, 2], "data of another fingerprint: all of it"
    measured = replace(run, evaluation={"data": {"fingerprint": Moving().fingerprint, "episodes": [1, 3]}})
    assert unseen(measured, Moving()) == [1, 3], "what the evaluation looked at"
    assert unseen(replace(run, started={}), Moving()) == [], "a model alone does not say"
