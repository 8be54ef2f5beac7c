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
from polyclock.data import files
from polyclock.report import lines, sections, write
from polyclock.report.lines import Made, jobs
from polyclock.report.markup import Markup
from polyclock.report.page import unseen, whose
from polyclock.report.run import read


def test_every_question_can_be_asked_again(run_folder: Path) -> None:
    run = read(run_folder)
    found = lines.ask(Made(run=run, data="my data", steps=5, seed=3), staged.scenes())
    assert set(found) == {"policy", "forward", "video from depth"}
    given = shlex.split(found["forward"])
    assert given[:4] == ["polyclock", "sample", str(run_folder), staged.FORWARD.query]
    assert given[4:] == [
        *("--checkpoint", "best", "--data", "my data", "--episode", "7", "--at", "0"),
        *("--steps", "5", "--seed", "3", "--out", "answers/forward"),
    ]
    assert lines.ask(Made(run=run), staged.scenes()) == {}


def test_jobs_repeat_what_the_page_shows(run_folder: Path, document: dict) -> None:
    run = read(run_folder, document)
    about = {"solver_steps": 5, "seed": 7}
    acted = {"about": about, "tasks": {"metaworld/a": {"episodes": 9}, "metaworld/b": {"episodes": 9}}}
    made = Made(run=run, data="my data", steps=3, rollout=acted, folder="DIR", page=["RUN", "--beside", "a b=DIR"])
    found = dict(jobs(made))
    weights = f"{run_folder} --checkpoint best"
    assert found["this page again"] == "polyclock report RUN --beside 'a b=DIR'"
    assert found["let it act"] == (
        f"polyclock rollout {weights} --world metaworld/a,metaworld/b --episodes 9 --steps 5 --seed 7 --out DIR"
    )
    assert found["how good its answers are"] == "a", "as the evaluation says itself"
    unsaid = replace(run, evaluation=document | {"about": {}})
    assert dict(jobs(replace(made, run=unsaid)))["how good its answers are"] == (
        f"polyclock evaluate {weights} --data 'my data' --stride 8 --steps 2 --seed 0"
    )
    assert lines.act(replace(made, rollout=acted | {"command": "polyclock rollout X"})) == "polyclock rollout X"


def test_the_world_is_read_off_the_data(run_folder: Path, tmp_path: Path) -> None:
    run = Made(run=read(run_folder), data=str(tmp_path))
    assert "--world metaworld/TASK" in lines.act(run)
    (tmp_path / "meta").mkdir()
    note = tmp_path / "meta" / "collect.json"
    note.write_text(json.dumps({"settings": {"world": "metaworld", "tasks": ["door-close", "reach"]}}))
    assert "--world metaworld/door-close,reach" in lines.act(run)
    assert any("collect metaworld/door-close,reach" in line for _, line in jobs(run))
    for text in ("{", "{}", '{"settings": {"world": "people"}}', "[]"):
        note.write_text(text)
        assert "metaworld/TASK" in lines.act(run)


def test_a_model_folder_has_a_page_too(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shipped"
    shutil.copytree(run_folder / "model", folder)
    page = write(folder, tmp_path / "a.html", dataset=Moving(), episodes=[3], count=1, seconds=0.4, steps=1)
    said = words(page)
    assert "shipped" in said and "What should be done now?" in said and "0.1 million numbers" in said
    assert "episode 3; whether the network was trained on them is not known here" in said
    assert "Clips by the model (sha256" in said and "solver steps 1, seed 0" in said
    assert f"This is a model alone, without the checkpoints of its training; sha256 {read(folder).sha256}" in said
    assert "name some with --episodes" in words(write(folder, tmp_path / "b.html", dataset=Moving()))
    # With the record of its training beside it a model says as much as its run.
    for name in ("run.json", "log.jsonl"):
        shutil.copy(run_folder / name, folder)
    said = words(write(folder, tmp_path / "c.html", dataset=Moving(), count=1, seconds=0.4, steps=1))
    assert "Every clip is of an episode that the network has not seen: episode 3." in said and "of 12" in said


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
    with pytest.raises(ValueError, match="--beside names 'a' twice"):
        command([str(run_folder), "--beside", f"a={other}", "--beside", f"a={tmp_path}", "--out", str(out)])
    more = ["--rollout", str(other), "--name", "after learning", "--out", str(out)]
    assert command([str(run_folder), "--beside", f"yard stick={other}", *more]) == 0
    assert "after learning" in words(out) and "--name 'after learning'" in words(out)
    with pytest.raises(ValueError, match="two rollouts are called 'after learning'"):
        command([str(run_folder), "--beside", f"after learning={other}", *more])
    with pytest.raises(ValueError, match="belong to one run"):
        write([run_folder, run_folder], out, rollout=tmp_path)


def test_episodes_that_were_not_trained_on_are_found(run_folder: Path) -> None:
    run = replace(read(run_folder), evaluation=None)
    assert unseen(run, Moving()) == [3], "what it held out"
    assert unseen(run, Moving().only([0, 2])) == [0, 2], "data of another fingerprint: all of it"
    measured = replace(run, evaluation={"data": {"fingerprint": Moving().fingerprint, "episodes": [1, 3]}})
    assert unseen(measured, Moving()) == [1, 3], "what the evaluation looked at"
    assert unseen(replace(run, started={}), Moving()) == [], "a model alone does not say"


def test_only_what_is_known_to_be_unseen_is_said_to_be(run_folder: Path) -> None:
    run, data = replace(read(run_folder), evaluation=None), Moving()
    assert "has not seen: episode 3 of D." in whose(run, data, "D", [3])
    assert "episodes 1, 3 of D; the network was trained on 1 of them" in whose(run, data, "D", [1, 3])
    assert "By their hash these are other data" in whose(run, data.only([0, 2]), "D", [0])
    assert "is not known here" in whose(replace(run, started={}), data, "D", [3])
    tuned = replace(run, started={"facts": run.facts | {"weights": "abc"}})
    said = whose(tuned, data, "D", [3])
    assert "held out from this training" in said and "is not known here" in said and "has not seen" not in said


def test_numbers_of_other_weights_are_marked(run_folder: Path, document: dict, tmp_path: Path) -> None:
    mine = read(run_folder).sha256
    folder = tmp_path / "rollout"
    folder.mkdir()

    def page(measured: str, acted: str) -> str:
        done = {"tasks": {"reach": {"successes": 1, "episodes": 2}}, "model": {"sha256": acted, "step": 8}}
        (folder / "rollout.json").write_text(json.dumps(done))
        about = document | {"about": {"sha256": measured}}
        return words(write(run_folder, tmp_path / "page.html", about, rollout=folder))

    assert mine and "of other weights" not in page(mine, mine)
    said = page("e" * 64, "f" * 64)
    assert "The evaluation is of other weights (sha256 eeeeeeeeeeeeeeee) than the rest of this page: the best" in said
    assert "The rollout is of other weights (sha256 ffffffffffffffff, step 8)" in said


def test_one_modality_is_not_modelled_together_with_another(run_folder: Path) -> None:
    run = read(run_folder)
    assert "together: each can be asked for" in sections.lead(run)
    recipe = run.recipe["modalities"]["map"]
    one = {"recipe": run.recipe | {"modalities": {"map": {"action": recipe["action"]}}}}
    said = sections.lead(replace(run, started={"facts": run.facts | one}))
    assert "models action." in said or "models action;" in said
    assert "together" not in said


def test_a_page_is_whole_or_the_old_one(run_folder: Path, tmp_path: Path, monkeypatch) -> None:
    page = write(run_folder, tmp_path / "page.html")
    before = page.read_text()

    def killed(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "hook", killed)
    with pytest.raises(KeyboardInterrupt):
        write(run_folder, page, dataset=None)
    assert page.read_text() == before and list(tmp_path.iterdir()) == [page]
