"""`polyclock rollout` as a user gives it, in a world that costs nothing, and once on the tabletop."""

from __future__ import annotations

import errno
import json
import os
import sys
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from polyclock import save_pretrained
from polyclock.cli import main, message
from polyclock.commands.rollout import worlds
from polyclock.rollout import Planner, Policy, Tracker
from polyclock.rollout.ledger import read, timeless
from polyclock.rollout.world import World
from polyclock.train import checkpoint

sys.path.append(str(Path(__file__).parents[1] / "rollout"))
import reaching  # noqa: E402


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy worlds in place of the simulator's."""
    toy = partial(World, open_env=reaching.open_env, starts=reaching.starts)
    monkeypatch.setattr("polyclock.rollout.world.World", toy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder."""
    path = tmp_path_factory.mktemp("model") / "model"
    save_pretrained(reaching.model(), path)
    return path


def sentence(capsys: pytest.CaptureFixture, *words: object) -> str:
    """Roll out with a user's mistake; what is said."""
    assert main(["rollout", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("polyclock: ") and "Traceback" not in said
    return said.removeprefix("polyclock: ").rstrip("\n")


TOY = ("--world", "toy/reach,fragile", "--workers", "0", "--size", "16")


def test_a_model_is_rolled_out_and_goes_on(
    toys: None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["rollout", str(folder), *TOY, "--steps", "1", "--out", str(tmp_path / "out"), "--filmed", "2"]
    assert main([*words, "--episodes", "2"]) == 0
    said = capsys.readouterr().out
    assert "toy/reach" in said and "mean over 2 tasks" in said and "ms a call" in said
    first = read(tmp_path / "out" / "ledger.jsonl")
    assert main([*words, "--episodes", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "out" / "rollout.json").read_text())
    assert document["episodes"] == 6 and document["about"]["query"] == "action | video[:1], text, state"
    assert document["model"]["folder"] == str(folder) and document["versions"]["polyclock"]
    assert document["command"].startswith(f"polyclock rollout {folder} --world toy/reach,fragile")
    rows = read(tmp_path / "out" / "ledger.jsonl")
    assert [r for r in rows if r["number"] < 2] == first and len(rows) == 6
    assert (tmp_path / "out" / "grid.mp4").stat().st_size > 1000
    assert len(list((tmp_path / "out" / "clips").glob("*.mp4"))) == 4


def test_ways_to_act(toys: None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Real-time chunking, planning and tracking, each by its flags, into ledgers that say so."""
    goal = tmp_path / "goal.png"
    write_picture(goal, reaching.Reaching("reach", 32).reset(reaching.starts("toy/reach")[0])[reaching.CAMERA])
    ways = {
        "soft": ("--overlap", "soft", "--execute", "2"),
        "hard": ("--overlap", "hard", "--execute", "2", "--delay", "1"),
        "plan": ("--plan", "3", "--goal", "expert"),
        "picture": ("--plan", "2", "--goal", goal, "--imagine", "video[1:] | video[:1], action, state"),
        "track": ("--track", "expert", "--execute", "3"),
        "goal": ("--track", "goal", "--execute", "3"),
    }
    rows = {}
    for name, words in ways.items():
        out = tmp_path / name
        base = ("rollout", folder, "--world", "toy/reach", "--workers", "0", "--size", "16", "--steps", "1")
        more = ("--episodes", "2", "--filmed", "0", "--out", out)
        assert main([str(word) for word in (*base, *more, *words)]) == 0
        rows[name] = read(out / "ledger.jsonl")[1]
    capsys.readouterr()
    assert rows["soft"]["overlap"] == {"kind": "soft", "delay": 2} and rows["soft"]["policy"] == "model"
    assert rows["hard"]["query"].startswith("action[1f:] | action[:1f], ") and rows["hard"]["overlap"]["delay"] == 1
    assert rows["plan"]["plan"]["goal"] == {"from": "expert"} and rows["plan"]["plan"]["count"] == 3
    assert rows["picture"]["plan"]["goal"]["name"] == str(goal) and rows["picture"]["policy"] == "planner"
    assert rows["track"]["policy"] == "tracker" and rows["track"]["query"] == "action | video, text, state"
    assert rows["goal"]["demonstration"] == {"from": "expert", "shows": "its end"}
    assert len({row["actions"] for row in rows.values()}) == 6 and all(row["calls"] for row in rows.values())


def write_picture(path: Path, picture: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))


def test_floors_ceilings_and_comparisons(toys: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name in ("still", "random", "expert"):
        out = tmp_path / name
        more = ["--against", str(tmp_path / "still" / "ledger.jsonl")] if name == "expert" else []
        assert main(["rollout", name, *TOY, "--episodes", "9", "--out", str(out), "--filmed", "0", *more]) == 0
        assert not (out / "grid.mp4").exists()
    said = " ".join(capsys.readouterr().out.split())
    assert "expert beats still: McNemar p = " in said and "neither 0" not in said
    assert said.count("- toy/fragile, start 3, counted as a failure: RuntimeError: the table broke") == 3
    found = json.loads((tmp_path / "expert" / "rollout.json").read_text())["against"]
    assert found["first"] + found["both"] == 17 and found["second"] == 0 and found["neither"] == 1  # one broke
    # Stopped as soon as it is clear, by a threshold and by the other's ledger.
    words = ["rollout", "expert", *TOY, "--episodes", "40", "--json"]
    assert main([*words, "--out", str(tmp_path / "above"), "--enough", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["verdicts"]["toy/reach"]["word"] == "above"
    # How many starts that rollout has was chosen by its own success: nor is there a p-value of one against it.
    again = ["rollout", "still", *TOY, "--episodes", "9", "--json", "--out", str(tmp_path / "still")]
    assert main([*again, "--against", str(tmp_path / "above" / "ledger.jsonl")]) == 0
    after = json.loads(capsys.readouterr().out)["against"]
    assert after["p_value"] is after["low"] is None and "no p-value" in after["sentence"]
    more = ["--enough", "better", "--against", str(tmp_path / "still" / "ledger.jsonl"), "--episodes", "9"]
    assert main([*words, "--out", str(tmp_path / "better"), *more]) == 0
    early = json.loads(capsys.readouterr().out)
    assert early["episodes"] < 18 and early["enough"]["paired"] and early["against"]["p_value"] is None
    assert "no p-value" in early["against"]["sentence"] and "McNemar" not in early["against"]["sentence"]


def test_what_a_user_gets_wrong(toys: None, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = ("--out", tmp_path / "out", "--episodes", "1")
    assert "--world" in sentence(capsys, folder)
    assert "nothing is not there" in sentence(capsys, tmp_path / "nothing", *TOY, *out)
    assert "execute=9 of 4 actions" in sentence(capsys, folder, *TOY, *out, "--execute", "9")
    assert "unknown name 'smell'" in sentence(capsys, folder, *TOY, *out, "--query", "action | smell")
    assert "which the world does not bring" in sentence(capsys, folder, *TOY, *out, "--cameras", "corner2", "--query",
                                                        "action | video[:1]", "--world", "toy/blind")  # fmt: skip
    assert "must be a share such as 0.6, or better" in sentence(capsys, "still", *TOY, *out, "--enough", "soon")
    assert "name it with --against" in sentence(capsys, "still", *TOY, *out, "--enough", "better")
    assert "a ledger (JSON lines) is needed" in sentence(capsys, "still", *TOY, *out, "--against", tmp_path / "no")
    assert "has none, so it would have no effect" in sentence(capsys, "expert", *TOY, *out, "--query", "action | state")
    assert "has none, so it would" in sentence(capsys, "still", *TOY, *out, "--track", "expert")
    assert "say how many chunks" in sentence(capsys, folder, *TOY, *out, "--goal", "expert")
    assert "one of --track and --plan" in sentence(capsys, folder, *TOY, *out, "--track", "expert", "--plan", "2")
    assert "is no picture that can be read" in sentence(capsys, folder, *TOY, *out, "--plan", "2", "--goal", __file__)
    assert sentence(capsys, "still", *TOY, *out, "--variation", "light") == (
        "toy/reach, toy/fragile: this world has no variations; asked for light"
    )
    assert "together at most 4" in sentence(capsys, folder, *TOY, *out, "--overlap", "soft")
    assert "use --workers 0" in sentence(capsys, folder, *TOY, *out, "--workers", "2", "--code", tmp_path / "x.py")
    assert not (tmp_path / "out").exists(), "what fails before its first episode leaves nothing"
    assert main(["rollout", "still", *TOY, *map(str, out)]) == 0
    capsys.readouterr()
    ledger = ("--out", tmp_path / "other", "--against", tmp_path / "out" / "ledger.jsonl")
    assert "no start in common" in sentence(capsys, "expert", *TOY, *ledger, "--world", "toy/blind")
    assert not (tmp_path / "other").exists(), "it is said before anything is played"
    assert "policy is still there and random here" in sentence(capsys, "random", *TOY, *out)


def test_other_looks_are_said_and_paired(
    monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A world that has a variation: the ledger, the document and the table name it, and it is compared without it."""
    toy = partial(World, open_env=dimmable, starts=reaching.starts)
    monkeypatch.setattr("polyclock.rollout.world.World", toy)
    world = ("--world", "toy/reach", "--workers", "0", "--size", "16", "--episodes", "3", "--filmed", "0")
    words = ["rollout", str(folder), *world, "--steps", "1", "--out"]
    assert main([*words, str(tmp_path / "plain")]) == 0
    assert "varied" not in capsys.readouterr().out
    varied = ["--variation", "dark", "--against", str(tmp_path / "plain" / "ledger.jsonl")]
    assert main([*words, str(tmp_path / "dark"), *varied]) == 0
    assert "varied dark" in " ".join(capsys.readouterr().out.split())
    plain, dark = (read(tmp_path / name / "ledger.jsonl") for name in ("plain", "dark"))
    assert {row["variation"] for row in dark} == {"dark"} and not any("variation" in row for row in plain)
    assert [row["start"] for row in dark] == [row["start"] for row in plain]
    assert [row["actions"] for row in dark] != [row["actions"] for row in plain], "what is seen is another thing"
    document = json.loads((tmp_path / "dark" / "rollout.json").read_text())
    assert document["about"]["variation"] == "dark"
    assert sum(document["against"][who] for who in ("both", "first", "second", "neither")) == 3
    said = sentence(capsys, *words[1:], tmp_path / "plain", "--variation", "dark")
    assert "variation is None there and dark here" in said


def dimmable(name: str, cameras: tuple[str, ...] = (), size: int = 16, variation: str | None = None) -> object:
    """The toy world, darker if wanted."""
    world = reaching.open_env(name, cameras, size)
    bright = world.observe
    if variation:
        world.observe = lambda: {k: v // 2 if k == reaching.CAMERA else v for k, v in bright().items()}
    return world


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """Whoever met it: the system without a name, with one, a library's text, a part of ours with its own words."""

    class SafetensorError(Exception):
        """As the library's."""

    words = os.strerror(errno.ENOSPC)
    assert message(OSError(errno.ENOSPC, words)) == f"no space left for what was to be written ({words})"
    assert message(OSError(errno.EDQUOT, "", "a.json")).startswith("no space left for a.json (")
    assert message(SafetensorError(f"IO error: {words} (os error {errno.ENOSPC})")).startswith("no space left")
    assert message(OSError(errno.EIO, "Input/output error")) is None

    def full(folder: Path) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    with pytest.raises(OSError) as problem:
        checkpoint.write(tmp_path, 3, full, keep=1)
    assert message(problem.value).startswith("the checkpoint of step 3 could not be written")


def test_tasks_of_one_world_share_its_name() -> None:
    assert worlds("metaworld/drawer-open, reach") == ("metaworld/drawer-open", "metaworld/reach")
    assert worlds("a/b,c/d") == ("a/b", "c/d") and worlds("b") == ("b",)


@pytest.mark.slow
def test_a_model_acts_on_the_tabletop_alike_in_any_number_of_processes(tmp_path: Path) -> None:
    """Every action of every episode to the bit, from pictures that each process drew for itself."""
    pytest.importorskip("metaworld")
    ledgers = []
    for workers in (0, 1, 2):
        policy = Policy(reaching.model(rate=80.0, numbers=4), "action | video[:1], state, text", steps=2)
        tasks = ("metaworld/drawer-close", "metaworld/handle-press")
        found = World(tasks, workers, size=32).evaluate(policy, 2, ledger=tmp_path / f"{workers}.jsonl")
        assert found.rows[0]["calls"] == -(-found.rows[0]["steps"] // 4)
        ledgers.append(timeless(read(tmp_path / f"{workers}.jsonl")))
    assert ledgers[0] == ledgers[1] == ledgers[2] and len({row["actions"] for row in ledgers[0]}) == 4


@pytest.mark.slow
def test_a_plan_and_a_track_on_the_tabletop(tmp_path: Path) -> None:
    """The expert's demonstration leaves the simulator as it was: the same rows in this process and in another."""
    pytest.importorskip("metaworld")
    model = reaching.model(rate=80.0, numbers=4)
    policy = Policy(model, "action | video[:1], state, text", steps=1)
    for actor in (Planner(policy, 2), Tracker(model, steps=1)):
        rows = []
        for workers in (0, 1):
            path = tmp_path / f"{type(actor).__name__}-{workers}.jsonl"
            World("metaworld/drawer-close", workers, size=32).evaluate(actor, 2, ledger=path)
            rows.append(timeless(read(path)))
        assert rows[0] == rows[1] and rows[0][0]["calls"] and rows[0][0]["error"] is None
    alone = World("metaworld/drawer-close", 0, size=32).evaluate(policy, 2)
    same = World("metaworld/drawer-close", 0, size=32).evaluate(Planner(policy, 1), 2)
    assert [row["actions"] for row in alone.rows] == [row["actions"] for row in same.rows]


@pytest.mark.slow
def test_the_expert_solves_the_tabletop(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The same ledger from one process, from two and from this one; standing still solves nothing."""
    pytest.importorskip("metaworld")
    ledgers = []
    for workers in ("0", "1", "2"):
        out = tmp_path / workers
        words = ["--world", "metaworld/drawer-close,handle-press-v3", "--episodes", "3", "--size", "32"]
        assert main(["rollout", "expert", *words, "--workers", workers, "--out", str(out), "--filmed", "2"]) == 0
        ledgers.append(timeless(read(out / "ledger.jsonl")))
    assert ledgers[0] == ledgers[1] == ledgers[2] and all(row["success"] for row in ledgers[0])
    assert [row["task"] for row in ledgers[0]] == ["metaworld/drawer-close"] * 3 + ["metaworld/handle-press"] * 3
    assert (tmp_path / "2" / "grid.mp4").stat().st_size > 1000
    capsys.readouterr()
    assert "Did you mean 'drawer-open'" in sentence(capsys, "still", "--world", "metaworld/drawer-opne")
