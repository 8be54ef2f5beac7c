"""Success: bars with intervals, the ledger, the film, others beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from test_page import Tags

from polyclock.data.encode import VideoCodec, encode_video
from polyclock.evaluate.intervals import wilson
from polyclock.report import success as module
from polyclock.report.bars import Bar, bars
from polyclock.report.success import headline, read_rollout, success
from polyclock.rollout.outcome import percent


def document(**solved: tuple[int, int]) -> dict:
    return {
        "kind": "rollout",
        "about": {
            "policy": "planner",
            "query": "action | <camera>",
            "execute": 4,
            "model": "0123456789" * 6,
            "solver": "heun",
            "plan": {"count": 8, "goal": {"from": "expert"}, "within": None},
        },
        "tasks": {f"metaworld/{t.replace('_', '-')}": {"successes": a, "episodes": b} for t, (a, b) in solved.items()},
        "latency_ms": {"mean": 31.4, "p50": 30.0, "p95": 44.6},
        "model": {"sha256": "abc" * 20},
    }


def row(task: str, number: int, good: bool, **more: object) -> dict:
    start = f"{number:016d}"
    return {"task": task, "number": number, "start": start, "success": good, "policy": "model", "steps": 50, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "rollout"
    made.mkdir()
    (made / "rollout.json").write_text(json.dumps(document(door_close=(7, 8), coffee=(2, 8))))
    rows = [row("metaworld/door-close", i, i < 7) for i in range(8)]
    rows += [row("metaworld/coffee", i, i < 2, error="<boom>" if i == 7 else None) for i in range(8)]
    (made / "ledger.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    pictures = np.random.default_rng(0).integers(0, 255, (12, 32, 64, 3)).astype(np.uint8)
    encode_video(made / "grid.mp4", pictures, 10.0, VideoCodec(encoder="h264", group=12, crf=20))
    return made


def html(parts: list) -> str:
    text = "".join(map(str, parts))
    Tags(text)
    return text


def test_shares_stand_with_wilsons_intervals_and_rivals_beside(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "yardstick.json"
    other.write_text(json.dumps({"tasks": {"metaworld/coffee": {"successes": 5, "episodes": 10}}}))
    text = html(success(read_rollout(folder, "mine"), [read_rollout(other, "yardstick")], "hint"))
    assert "7 of 8" in text and percent(7 / 8) in text and "9 of 16" in text and "mean of 2 tasks" in text
    low, high = wilson(7, 8)
    assert f"{percent(low)} to {percent(high)}" in text
    assert f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%" in text
    assert re.search(r"yardstick.*?5 of 10", text) and "hint" not in text
    assert "31 in the mean, 95\u00a0% of an episode&#x27;s calls at most 45" in text


def test_the_ledger_names_every_episode_and_escapes(folder: Path, monkeypatch) -> None:
    text = html(success(read_rollout(folder, "mine"), [], ""))
    assert "Ledger: all 16 episodes" in text and text.count('good">solved<') == 9 and text.count(">not solved<") == 7
    assert "&lt;boom&gt;" in text and "<camera>" not in text
    assert "heun" in text and "count 8, goal from expert<" in text and "0123456789" not in text, (
        "all that acted is said"
    )
    assert "metaworld/coffee, start 7" in text
    monkeypatch.setattr(module, "EPISODES", 5)
    few = html(success(read_rollout(folder, "mine"), [], ""))
    assert "Ledger: the first 5 of 16 episodes" in few and few.count("solved</span>") == 5


def test_the_same_starts_are_paired(folder: Path, tmp_path: Path) -> None:
    worse = tmp_path / "worse"
    worse.mkdir()
    (worse / "rollout.json").write_text(json.dumps(document(door_close=(0, 8))))
    lines = [json.dumps(row("metaworld/door-close", i, False)) for i in range(8)]
    (worse / "ledger.jsonl").write_text("\n".join(lines) + "\n")
    text = html(success(read_rollout(folder, "mine"), [read_rollout(worse, "still")], ""))
    assert "mine beats still: McNemar p = 0.0156 on 8 pairs" in text


def test_rows_that_the_document_does_not_count_are_left_out(folder: Path) -> None:
    """A ledger keeps what an earlier command played; the last one asked for less."""
    (folder / "rollout.json").write_text(json.dumps(document(door_close=(4, 4))))
    own = read_rollout(folder, "mine")
    assert [(r["task"], r["number"]) for r in own.rows] == [("metaworld/door-close", i) for i in range(4)]
    assert "Ledger: all 4 episodes" in html(success(own, [], ""))


@pytest.mark.parametrize(
    ("enough", "lines"),
    [
        ({"threshold": 0.6, "alpha": 0.05, "paired": False}, ("above 60", "below 60", "above or below 60")),
        ({"threshold": 0.5, "alpha": 0.05, "paired": True}, ("this one", "the other", "one of the two solves alone")),
        ({}, ("above", "below", "high enough")),
    ],
)
def test_verdicts_of_a_sequential_test_stand_in_place_of_p_values(folder: Path, enough: dict, lines: tuple) -> None:
    told = [("door-close", "above", 8), ("coffee", "below", 5), ("reach", "undecided", 8)]
    verdicts = {f"metaworld/{t}": {"word": w, "trials": n, "p_above": 0.01, "p_below": 1.0} for t, w, n in told}
    plain = json.loads((folder / "rollout.json").read_text())
    still = read_rollout(folder, "still")
    (folder / "rollout.json").write_text(json.dumps(plain | {"verdicts": verdicts, "enough": enough}))
    text = html(success(read_rollout(folder, "mine"), [still], ""))
    for word in (*lines, "undecided", "read the verdict", "no p-value"):
        assert word in text, word
    assert "McNemar" not in text and text.count(">0.02<") == 3, "either way, so twice the smaller one"


def test_the_film_is_inside_the_page(folder: Path, monkeypatch) -> None:
    text = html(success(read_rollout(folder, "mine"), [], ""))
    assert text.count("data:video/mp4;base64,") == 1 and "aria-label=" in text and 'width="128"' in text
    size = (folder / "grid.mp4").stat().st_size
    monkeypatch.setattr(module, "FILM", size - 1)
    smaller = html(success(read_rollout(folder, "mine"), [], ""))
    assert "data:video/mp4" in smaller and len(smaller) < len(text)
    monkeypatch.setattr(module, "FILM", 10)
    assert "too large for this page" in html(success(read_rollout(folder, "mine"), [], ""))


def test_the_headline_is_the_mean_over_tasks(folder: Path) -> None:
    what, share, more = headline(read_rollout(folder, "mine"))
    assert (what, share) == ("solved, mean of 2 tasks", percent(9 / 16)) and more.startswith("9 of 16 episodes")
    assert headline(read_rollout(folder, "mine"), [read_rollout(folder, "before")])[2].endswith("; before: 9 of 16")


def test_without_a_rollout_the_command_stands_there() -> None:
    assert "polyclock rollout RUN" in html(success(None, [], "polyclock rollout RUN --world W"))


def test_what_is_no_rollout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no rollout: there is no rollout.json in it"):
        read_rollout(tmp_path, "a")
    with pytest.raises(ValueError, match="is no rollout: there is no such file"):
        read_rollout(tmp_path / "b.json", "a")
    for text in ("{", "{}", '{"tasks": {}}', '{"tasks": {"t": {"successes": 1}}}', '{"tasks": 3}', "[]"):
        (tmp_path / "c.json").write_text(text)
        with pytest.raises(ValueError, match="needs tasks with successes and episodes"):
            read_rollout(tmp_path / "c.json", "a")


def test_bars_reach_from_zero_to_their_value() -> None:
    rows = [Bar(name="a", value=-0.5, low=-1, high=0, more=("x",)), Bar(name="b", value=0.5, low=None, high=None)]
    text = html([bars(rows, ("", "who", "share", "more"), ends=(-1, 1), mark=0.9)])
    fills = re.findall(r'class="fill k0" style="left:([\d.]+)%;width:([\d.]+)%"', text)
    assert fills == [("25.00", "25.00"), ("50.00", "25.00")]
    assert text.count('class="whisker"') == 1 and text.count("left:95.00%") == 2
    assert text.count("<th ") == 3 + 2, "no column for groups where there are none"


def test_many_bars_all_have_a_colour() -> None:
    rows = [Bar(name=str(i), value=0.5, low=None, high=None, color=i) for i in range(9)]
    used = re.findall(r'class="fill k(\d+)"', html([bars(rows, ("", "who", "share"))]))
    assert used == list("012345123")
    style = Path(module.__file__).with_name("style.css").read_text()
    assert all(f".k{k} {{ background" in style for k in used)


def test_groups_span_their_rows() -> None:
    rows = [Bar(group=g, name=n, value=0.5, low=None, high=None) for g, n in ("1a", "1b", "2a")]
    text = html([bars(rows, ("task", "who", "share"))])
    assert re.findall(r'rowspan="(\d)"', text) == ["2", "1"]
