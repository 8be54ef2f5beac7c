"""The page: whole, self-contained, escaped, and honest about what is not there."""

from __future__ import annotations

import copy
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from moving import Moving, recipe
from polyclock.pretrained import save_pretrained
from polyclock.report import write
from polyclock.report.run import brief, ledger, read
from polyclock.timesteps import Fixed
from polyclock.train import checkpoint

VOID = ("meta", "img", "input", "br")


class Tags(HTMLParser):
    """Collects tags with their attributes and checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words(page: Path) -> str:
    return " ".join(" ".join(Tags(page.read_text(encoding="utf-8")).words).split())


def test_a_page_with_everything(run_folder: Path, document: dict, tmp_path: Path) -> None:
    page = write(run_folder, tmp_path / "page.html", document, dataset=Moving(), steps=2)
    text = page.read_text(encoding="utf-8")
    parsed = Tags(text)
    said = words(page)
    assert "episode 3 held out" in said and "Checkpoints" in said and "best/step-" in said
    for question in ("policy", "forward", "inverse", "video", "joint"):
        assert f"> {question}" in text or f">{question} " in text
    assert "copy current state" in said and "does not beat" in said and "95 % interval" in said
    pictures = [a for tag, a in parsed.tags if tag == "img"]
    assert len(pictures) == 3 * (1 + 3 + 1 + 3 + 3), "given, predicted and true of five questions in three stretches"
    assert len([1 for _, a in parsed.tags if a.get("class") == "player"]) == 15
    assert all(a.get("alt") for a in pictures)
    order = ("Try it", "Success", "Questions", "Measures", "Training", "Checkpoints", "Made with")
    at = [text.index(f"<h2>{title}</h2>") for title in order]
    assert at == sorted(at)
    assert len(text) < 5e6


def test_nothing_is_fetched(run_folder: Path, document: dict, tmp_path: Path) -> None:
    text = write(run_folder, tmp_path / "page.html", document, dataset=Moving(), steps=1, count=1).read_text()
    for tag, attributes in Tags(text).tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert "src" not in attributes or (attributes["src"] or "").startswith(("data:image/", "data:video/"))
        assert "href" not in attributes or (attributes["href"] or "").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text and "@import" not in text and not re.search(r"https?:", text)
    assert "default-src &#x27;none&#x27;" in text


def test_links_lead_to_parts_that_are_there(run_folder: Path, tmp_path: Path) -> None:
    tags = Tags(write([run_folder, run_folder], tmp_path / "two.html").read_text()).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for _, a in tags if "href" in a} <= set(ids)


def test_a_network_that_regresses_answers_in_its_one_step(tmp_path: Path) -> None:
    save_pretrained(replace(recipe(), law=Fixed(1.0)).fit(Moving()).build(), tmp_path / "model")
    page = write(tmp_path / "model", tmp_path / "page.html", dataset=Moving(), episodes=[3], count=1, seconds=0.4)
    assert "solver steps 1, seed 0" in page.read_text() and "--steps" not in page.read_text()


def test_a_run_without_evaluation_clips_or_checkpoints(run_folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run_folder / "run.json", bare)
    page = write(bare)
    assert page == bare / "report.html"
    said = words(page)
    assert "There is no evaluation of this run yet" in said and "No clips: there are no weights" in said
    assert "The log holds no step yet" in said and "No checkpoint has been written yet" in said
    assert "no data set was given" in words(write(run_folder, tmp_path / "plain.html"))


def test_what_comes_from_data_cannot_become_markup(run_folder: Path, document: dict, tmp_path: Path) -> None:
    evil = "</style><script>alert(1)</script>"
    bad = tmp_path / "bad <b>run"
    shutil.copytree(run_folder, bad, symlinks=True)
    started = json.loads((bad / "run.json").read_text())
    started["facts"]["command"] = started["facts"]["recipe"]["name"] = evil
    started["facts"]["data"][evil] = evil
    (bad / "run.json").write_text(json.dumps(started))
    rows = [json.loads(line) for line in (bad / "log.jsonl").read_text().splitlines()]
    for row in rows:
        row["losses"] = {evil: 0.5}
    (bad / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spoilt = copy.deepcopy(document)
    spoilt["notes"] = [evil]
    spoilt["questions"] = {evil: spoilt["questions"]["policy"]}
    spoilt["comparisons"][0]["first"] = evil
    text = write(bad, tmp_path / "page.html", spoilt, dataset=Moving(), steps=1, count=1).read_text()
    Tags(text)
    assert text.count("<script>") == 1 and text.count("</style>") == 1 and "bad <b>" not in text
    assert text.count("&lt;script&gt;") >= 6


def test_several_runs_are_compared(run_folder: Path, document: dict, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_folder, other, symlinks=True)
    (other / "evaluation.json").write_text(json.dumps(document))
    said = words(write([run_folder, other], tmp_path / "both.html"))
    assert said.index("2 runs") < said.index("policy: action.error") < said.index("Training")
    assert "cannot be compared" not in said
    started = json.loads((other / "run.json").read_text())
    started["facts"]["data"]["fingerprint"] = "another"
    (other / "run.json").write_text(json.dumps(started))
    assert "their losses cannot be compared" in words(write([run_folder, other], tmp_path / "both.html"))


def test_a_damaged_checkpoint_is_said(run_folder: Path, tmp_path: Path) -> None:
    hurt = tmp_path / "hurt"
    shutil.copytree(run_folder, hurt, symlinks=True)
    (weights,) = (hurt / "best").glob("*/model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    said = words(write(hurt))
    assert "model/model.safetensors is damaged" in said and "No clips: there are no weights" in said


def test_what_is_no_run_or_no_evaluation_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no run folder: it has none of run.json"):
        write(tmp_path)
    with pytest.raises(ValueError, match="a report on 2 runs needs the name of the page"):
        write([run_folder, run_folder])
    with pytest.raises(ValueError, match="is no evaluation"):
        write(run_folder, tmp_path / "x.html", {"kind": "results"})
    (tmp_path / "torn.json").write_text('{"kind": "eval')
    with pytest.raises(ValueError, match="torn.json cannot be read as JSON"):
        write(run_folder, tmp_path / "x.html", tmp_path / "torn.json")
    with pytest.raises(ValueError, match="episode 9 is not in the data"):
        write(run_folder, tmp_path / "x.html", dataset=Moving(), episodes=[9])


def test_the_ledger_names_every_checkpoint(run_folder: Path) -> None:
    rows = ledger(run_folder)
    assert [r["step"] for r in rows if r["kind"] == "resume from"] == [6, 12]
    best = next(r for r in rows if r["kind"] == "use")
    assert len(best["sha256"]) == 64 and best["bytes"] > 10_000 and best["note"].startswith("validation loss")
    assert read(run_folder).held_out == [3]


def test_recipes_are_written_in_short() -> None:
    codec = {"is": "Quantile", "q": [0.01, 0.99], "clip": None, "low": {"tensor": "a"}}
    assert brief(codec) == "Quantile(q=[0.01, 0.99], low=fitted)"
    assert brief({"map": {"a": {"is": "Linear"}}}) == "{a: Linear()}"
    drawn = {"is": "DepthColor", "map": "spectral", "set": 1, "tensor": 2.0}  # fields of a part may have any name
    assert brief(drawn) == "DepthColor(map=spectral, set=1, tensor=2)"
    assert (brief(None), brief([]), brief(True), brief(1e-4)) == ("none", "none", "True", "0.0001")


def test_clips_are_of_the_weights_that_were_measured(run_folder: Path, document: dict) -> None:
    last = checkpoint.newest(run_folder / "checkpoints")
    assert last is not None
    measured = document | {"about": {"sha256": checkpoint.sha256(last / "model" / "model.safetensors")}}
    run = read(run_folder, measured)
    assert run.model == last / "model" and run.average == last / "ema.safetensors"
    other = read(run_folder, document)
    assert other.model is not None and other.model.parent.parent.name == "best" and other.average is None
