"""Worlds: counts and ledgers that depend on nothing but policy, seed, task and start; what dies, breaks and goes on."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import reaching

from polyclock.cli import message
from polyclock.evaluate.intervals import wilson
from polyclock.evaluate.paired import Sequential
from polyclock.rollout import Expert, Policy, Random, Still, World
from polyclock.rollout.actor import Scripted
from polyclock.rollout.ledger import Ledger, read, timeless

QUERY = "action | video[:1], state, text"


def world(task: str | tuple[str, ...] = "toy/reach", num_envs: int = 0) -> World:
    return World(task, num_envs, **reaching.WORLD)


def policy(**settings) -> Policy:
    return Policy(reaching.model(), QUERY, **{"execute": 4, "steps": 1, **settings})


# Counting.


def test_success_is_counted_task_by_task(tmp_path: Path) -> None:
    path = tmp_path / "below" / "ledger.jsonl"
    found = world(("toy/reach", "toy/fragile")).evaluate(Expert(), 5, ledger=path)
    reach, fragile = found.tasks["toy/reach"], found.tasks["toy/fragile"]
    assert (reach.successes, reach.episodes, reach.crashed) == (5, 5, 0)
    assert (fragile.successes, fragile.episodes, fragile.crashed) == (4, 5, 1)
    assert (reach.low, reach.high) == wilson(5, 5)
    assert found.mean[0] == pytest.approx(0.9) and found.mean[1] < 0.9 < found.mean[2]
    assert found.ledger == path and read(path) == list(found.rows) and len(found.rows) == 10
    row = found.rows[0]
    assert row["steps"] == row["first_success"] and row["calls"] == 0 and row["latency_ms"] is None
    broken = next(row for row in found.rows if row["error"])
    assert broken["number"] == 3 and not broken["success"] and broken["error"] == "RuntimeError: the table broke"
    assert broken["first_success"] is None and broken["steps"] == 1


def test_a_world_that_broke_is_opened_anew() -> None:
    opened = []

    def counting(name, cameras, size):
        opened.append(name)
        return reaching.open_env(name, cameras, size)

    found = World("toy/fragile", 0, **{**reaching.WORLD, "open_env": counting}).evaluate(Expert(), 6)
    assert found.successes == 5 and len(opened) == 2


def test_floors_are_lower_than_the_ceiling() -> None:
    solved = [world().evaluate(actor, 20).successes for actor in (Expert(), Random(), Still())]
    assert solved[0] == 20 > solved[1] >= solved[2]


def test_the_row_of_a_model_says_what_was_asked() -> None:
    acting = policy(seed=3)
    found = world().evaluate(acting, 2)
    row = found.rows[1]
    assert (row["policy"], row["query"], row["execute"], row["solver_steps"], row["seed"]) == ("model", QUERY, 4, 1, 3)
    assert row["model"] == acting.sha256 and len(row["model"]) == 64 and row["size"] == 16 and row["number"] == 1
    assert row["calls"] == -(-row["steps"] // 4) and 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"]
    assert found.latency["mean"] > 0
    assert len({row["start"] for row in found.rows}) == len({row["actions"] for row in found.rows}) == 2


def test_the_table_and_the_document() -> None:
    found = world(("toy/reach", "toy/fragile")).evaluate(Expert(), 5)
    grid = found.grid()
    assert [row[0] for row in grid.rows] == ["toy/reach", "toy/fragile", "mean over 2 tasks"]
    assert grid.rows[1][1:4] == ("4/5", "80 % (38 to 96)", "1") and grid.rows[2][1] == "9/10"
    plain = json.loads(json.dumps(found.plain()))
    assert plain["tasks"]["toy/fragile"]["share"] == 0.8 and plain["mean"]["share"] == 0.9
    assert plain["about"]["policy"] == "expert" and plain["ledger"] is None


def test_a_process_and_this_one_write_the_same_ledger(tmp_path: Path) -> None:
    ledgers = []
    for num_envs in (0, 1):
        path = tmp_path / f"{num_envs}.jsonl"
        world(("toy/reach", "toy/fragile"), num_envs).evaluate(policy(), 4, ledger=path)
        ledgers.append(timeless(read(path)))
    assert len(ledgers[0]) == 8 and ledgers[0] == ledgers[1]


def test_the_number_of_episodes_does_not_change_the_first_ones() -> None:
    few, many = world().evaluate(policy(), 2), world().evaluate(policy(), 6)
    assert timeless(few.rows) == timeless(many.rows[:2])
    assert timeless(world().evaluate(policy(seed=1), 2).rows) != timeless(few.rows)


@pytest.mark.slow
def test_one_two_and_five_processes_write_the_same_ledger(tmp_path: Path) -> None:
    rows, early = [], []
    for num_envs in (1, 2, 5):
        path = tmp_path / f"{num_envs}.jsonl"
        world(("toy/reach", "toy/fragile"), num_envs).evaluate(policy(execute=2), 8, ledger=path)
        rows.append(timeless(read(path)))
        path = tmp_path / f"early {num_envs}.jsonl"
        found = world(num_envs=num_envs).evaluate(Expert(), 50, ledger=path, enough=Sequential(threshold=0.6))
        early.append((timeless(read(path)), found.verdicts["toy/reach"]))
    assert rows[0] == rows[1] == rows[2] and len({row["steps"] for row in rows[0]}) > 3
    assert early[0] == early[1] == early[2] and 5 < len(early[0][0]) < 20


# Going on.


def test_a_rollout_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    told = []

    def stop(row):
        told.append(row)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world().evaluate(policy(), 6, ledger=path, report=stop)
    assert [row["number"] for row in read(path)] == [0, 1, 2]
    with path.open("a") as file:
        file.write('{"task": "toy/rea')  # what a kill leaves
    assert len(read(path)) == 3
    again = []
    found = world().evaluate(policy(), 6, ledger=path, report=again.append)
    assert [row["number"] for row in again] == [3, 4, 5] and len(read(path)) == 6
    assert timeless(found.rows) == timeless(world().evaluate(policy(), 6).rows)
    # Fewer are asked for: nothing is played and nothing is lost.
    assert world().evaluate(policy(), 2, ledger=path).episodes == 2 and len(read(path)) == 6


def test_a_ledger_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    world().evaluate(policy(), 1, ledger=path)
    before = path.read_bytes()
    for other, said in (
        (policy(execute=3), "execute is 4 there and 3 here"),
        (policy(seed=1), "seed is 0 there and 1 here"),
        (policy(solver="heun"), "solver is None there and heun here"),
        (Still(), "policy is model there and still here"),
    ):
        with pytest.raises(ValueError, match=f"holds episodes of another rollout: {said}"):
            world().evaluate(other, 1, ledger=path)
    assert path.read_bytes() == before
    other = tmp_path / "other.jsonl"
    world().evaluate(policy(solver="heun"), 1, ledger=other)
    with pytest.raises(ValueError, match="solver is heun there and None here"):
        world().evaluate(policy(), 1, ledger=other)
    path.write_text('{"task": "x"}\n')
    with pytest.raises(ValueError, match="line 1, is no episode of a ledger: it lacks number"):
        world().evaluate(policy(), 1, ledger=path)
    with pytest.raises(ValueError, match="is not there"):
        read(tmp_path / "nothing.jsonl")


def test_two_rollouts_do_not_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path, {"policy": "still"}) as first:
        with pytest.raises(ValueError, match="is being written by another rollout"):
            Ledger(path, {"policy": "still"})
        first.add({"task": "toy/reach", "number": 0, "start": "a", "success": True})
    Ledger(path, {"policy": "still"}).close()
    assert len(read(path)) == 1


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """A limit on the size of a file stands in for a full disk: both end a write in its middle."""
    path, soft = tmp_path / "ledger.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    row = {"task": "toy/reach", "number": 0, "start": "a" * 100, "success": True}
    with Ledger(path, {"policy": "still"}) as book:
        book.add(row)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, soft[1]))
        try:
            with pytest.raises(OSError) as problem:
                book.add(row)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)
        assert message(problem.value).startswith(f"no space left for {path}")
        book.add({**row, "number": 1})
    assert [r["number"] for r in read(path)] == [0, 1] and path.read_text().count("\n") == 2


# What dies and breaks.


def test_a_process_that_dies_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    began = time.monotonic()
    with pytest.raises(OSError, match=r"played toy/fatal, start 3, died \(SIGKILL: killed") as problem:
        world("toy/fatal", 2).evaluate(Expert(), 6, ledger=path)
    assert message(problem.value) == str(problem.value), "one sentence at the command line"
    assert time.monotonic() - began < 200  # and no hang; an idle machine takes 3 s
    kept = [row["number"] for row in read(path)]
    assert len(kept) >= 2 and 3 not in kept  # what the other process was playing is lost with it


class Broken(Still):
    """An actor with a mistake of its own, or of its user's."""

    def __init__(self, error: type[Exception]) -> None:
        object.__setattr__(self, "error", error)

    @property
    def cameras(self):
        return ()

    def begin(self, env, start):
        raise self.error("no hands")


def test_a_mistake_in_the_policy_is_no_failed_episode(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        world().evaluate(Broken(ZeroDivisionError), 2, ledger=tmp_path / "new" / "below" / "a.jsonl")
    assert list(tmp_path.iterdir()) == [], "nothing was played, so nothing is left"


class Answering(Still):
    """An actor that always does the same, whatever that is."""

    def __init__(self, action: object) -> None:
        object.__setattr__(self, "action", action)

    def begin(self, env, start):
        return Scripted(lambda: self.action, [])


@pytest.mark.parametrize("action", [np.zeros(3), np.zeros((1, 2)), [0.0, np.nan], [np.inf, 0.0], 0.0])
def test_an_action_that_is_none_is_no_failed_episode(action) -> None:
    with pytest.raises(ValueError, match="an action of this world is 2 finite numbers"):
        world().evaluate(Answering(action), 1)


def no_display(name, cameras, size):
    raise OSError("this machine cannot draw off screen")


def full_disk(name, cameras, size):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "clip.mp4")


def test_a_full_disk_in_another_process_comes_back_as_what_it_is() -> None:
    with pytest.raises(OSError) as problem:
        World("toy/reach", 1, **{**reaching.WORLD, "open_env": full_disk}).evaluate(Still(), 1)
    assert message(problem.value) == "no space left for clip.mp4 (No space left on device)"


@pytest.mark.slow
def test_a_mistake_in_another_process_comes_back() -> None:
    with pytest.raises(ValueError, match="no hands"):
        world(num_envs=1).evaluate(Broken(ValueError), 2)
    with pytest.raises(RuntimeError, match=r"the policy failed in its process\n(.*\n)*ZeroDivisionError: no hands"):
        world(num_envs=1).evaluate(Broken(ZeroDivisionError), 2)
    with pytest.raises(ValueError, match="toy/shut does not open"):
        world("toy/shut", 1).evaluate(Still(), 2)
    with pytest.raises(OSError) as problem:
        World("toy/reach", 1, **{**reaching.WORLD, "open_env": no_display}).evaluate(Still(), 1)
    assert message(problem.value) == "this machine cannot draw off screen"


LAMBDA = lambda *a, **k: None  # noqa: E731


def test_what_cannot_be_played_is_told() -> None:
    with pytest.raises(ValueError, match="toy/shut does not open"):
        world("toy/shut").evaluate(Still(), 1)
    with pytest.raises(ValueError, match="unknown task 'nothing'"):
        world("toy/nothing").evaluate(Still(), 1)
    with pytest.raises(ValueError, match="episodes=0"):
        world().evaluate(Still(), 0)
    with pytest.raises(ValueError, match="each once"):
        world(("toy/reach", "toy/reach"))
    with pytest.raises(ValueError, match="num_envs=-1"):
        world(num_envs=-1)
    with pytest.raises(ValueError, match="needs enough"):
        world().evaluate(Still(), 1, against=[])
    for local in (lambda *a, **k: None, LAMBDA):
        lost = World("toy/reach", 1, **{**reaching.WORLD, "open_env": local})
        with pytest.raises(ValueError, match="cannot be sent to another process.*top level of a module"):
            lost.evaluate(Still(), 1)


SCRIPT = """
import signal, sys, time
sys.path[:0] = {paths!r}
import reaching
from polyclock.rollout import Expert, World

def slow(name, cameras, size):
    env = reaching.open_env(name, cameras, size)
    act = env.act
    env.act = lambda action: (time.sleep(0.2), act(action))[1]
    return env

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin deaf to it
    print("ready", flush=True)
    World("toy/reach", 2, open_env=slow, starts=reaching.starts, size=16).evaluate(
        Expert(), 50, ledger={ledger!r}, report=lambda row: print(row["number"], flush=True))
"""


def gone(group: int, seconds: float = 60) -> bool:
    """Whether no process of a group is left, soon."""
    for _ in range(int(seconds * 10)):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_control_c_leaves_a_readable_ledger_and_no_process(tmp_path: Path) -> None:
    path, script = tmp_path / "ledger.jsonl", tmp_path / "script.py"
    script.write_text(SCRIPT.format(paths=[str(Path(__file__).parent)], ledger=str(path)))
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(4):  # "ready" and three episodes
        assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and said.count("KeyboardInterrupt") == 1
    rows = read(path)
    assert 3 <= len(rows) < 50 and all(row["success"] for row in rows)
    assert gone(process.pid)
    again = world().evaluate(Expert(), 12, ledger=path)
    assert again.successes == 12
