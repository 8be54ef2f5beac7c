"""Collecting: the same bytes for any number of workers, after a kill, and when more is asked for; clear refusals."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from counted import Counted, Counter

from polyclock.cli import message
from polyclock.data import files, open_dataset
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.data.verify import verify
from polyclock.envs import collect as module
from polyclock.envs.collect import NOTE, Told, Unit, collect

HERE = Path(__file__).resolve().parent


class Here:
    """An executor that works where it stands."""

    def submit(self, function, *arguments) -> Future:
        future: Future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker processes."""

    @contextmanager
    def pool(source, workers):
        monkeypatch.setattr(module, "_maker", source.open())
        yield Here()

    monkeypatch.setattr(module, "_pool", pool)


def content(folder: Path) -> dict[str, str]:
    """{file: hash} of everything in a folder but stats.json: means of means differ in the last digit by their order."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "stats.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def whole_episodes(folder: Path) -> list[np.ndarray]:
    """The action column of each episode, (n, 2)."""
    return list(open_dataset(folder).column("action"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of two lines by one worker process; no test writes to it."""
    folder = tmp_path_factory.mktemp("collected") / "data"
    found = collect(Counted(), folder, workers=1)
    assert (found.episodes, found.new, found.frames) == (4, 4, 3 + 4 + 6 + 5)
    assert set(found.refused) == {Unit("red", 1), Unit("red", 2), Unit("blue", 0)}
    return folder


def test_lines_take_turns_and_bad_candidates_are_left_out(whole: Path) -> None:
    assert [p for p in verify(whole) if not p.note] == []
    numbers = np.concatenate([np.unique(part[:, 0]) for part in whole_episodes(whole)])
    assert list(numbers) == [0, 1, 3, 2]  # red 0, blue 1, red 3, blue 2
    note = json.loads((whole / NOTE).read_text(encoding="utf-8"))
    assert note["episodes"] == [["red", 0], ["blue", 1], ["red", 3], ["blue", 2]]
    assert note["settings"] == {"lines": ["red", "blue"], "shade": 0}


def test_workers_do_not_matter(whole: Path, tmp_path: Path) -> None:
    collect(Counted(), tmp_path / "two", workers=2)
    assert content(tmp_path / "two") == content(whole)


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_goes_on_where_it_stopped(whole: Path, tmp_path: Path, at_hand: None, stop: int) -> None:
    def interrupt(told: Told) -> None:
        if told.stage == "make" and told.done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(Counted(), tmp_path / "data", workers=1, told=interrupt)
    assert open_episodes(tmp_path / "data") == stop
    assert collect(Counted(), tmp_path / "data", workers=1).new == 4 - stop
    assert content(tmp_path / "data") == content(whole)
    assert collect(Counted(), tmp_path / "data", workers=1).new == 0


def open_episodes(folder: Path) -> int:
    return json.loads((folder / "meta" / "info.json").read_text(encoding="utf-8"))["total_episodes"]


def test_more_episodes_go_behind_those_that_are_there(whole: Path, tmp_path: Path, at_hand: None) -> None:
    collect(Counted(episodes=1), tmp_path / "data", workers=1)
    collect(Counted(episodes=2), tmp_path / "data", workers=1)
    assert content(tmp_path / "data") == content(whole)


def test_a_watcher_is_told_everything(tmp_path: Path, at_hand: None) -> None:
    told: list[Told] = []
    collect(Counted(), tmp_path / "data", workers=1, told=told.append)
    assert [(t.done, t.total) for t in told if t.stage == "make"] == [(k, 4) for k in range(5)]
    assert [t.line for t in told if t.line] == [
        f"{line}: the expert failed from start {number}; the next one was taken"
        for line, number in (("red", 1), ("red", 2), ("blue", 0))
    ]
    assert told[-1].done == 4 and max(t.done for t in told if t.stage == "choose") == 4


def test_a_folder_goes_on_with_the_columns_that_it_was_begun_with(
    whole: Path, tmp_path: Path, at_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A world that has learnt to write a further column does not refuse what it began before."""
    collect(Counted(episodes=1), tmp_path / "data", workers=1)
    features, make, told = Counted.features, Counter.make, []
    said = {"said": {"dtype": "string", "shape": (1,), "names": None}}

    def more(self, unit: Unit):
        columns, sentence = make(self, unit)
        return columns | {"said": np.full(len(columns["action"]), sentence)}, sentence

    monkeypatch.setattr(Counted, "features", lambda self: features(self) | said)
    monkeypatch.setattr(Counter, "make", more)
    assert collect(Counted(), tmp_path / "data", workers=1, told=told.append).new == 2
    assert [t.line for t in told if "begun" in t.line] == [f"{tmp_path / 'data'} was begun without said and goes on so"]
    assert content(tmp_path / "data") == content(whole)
    collect(Counted(), tmp_path / "fresh", workers=1)
    assert open_dataset(tmp_path / "fresh").read(0, "said", [1]) == "the red one"


def test_what_lies_in_the_folder_is_not_touched(whole: Path, tmp_path: Path, at_hand: None) -> None:
    before = content(whole)
    cases = [
        (Counted(shade=1), whole, "was collected with shade = 0, not 1"),
        (Counted(episodes=1), whole, "holds 4 episodes already; asked for 2"),
        (Counted(episodes=0), whole, "at least 1 of each"),
        (Counted(), whole / "meta" / "info.json", "is a file"),
        (Counted(), whole.parent, "holds something else"),
    ]
    for source, folder, said in cases:
        with pytest.raises(ValueError, match=said):
            collect(source, folder, workers=1)
    with pytest.raises(ValueError, match="at least 1 of each"):
        collect(Counted(), tmp_path / "new", workers=-1)
    assert content(whole) == before and not (tmp_path / "new").exists()


def test_a_data_set_of_another_making_is_refused(whole: Path, tmp_path: Path, at_hand: None) -> None:
    collect(Counted(episodes=1), tmp_path / "data", workers=1)
    (tmp_path / "data" / NOTE).unlink()
    with pytest.raises(ValueError, match="was not collected by this command"):
        collect(Counted(episodes=2), tmp_path / "data", workers=1)
    assert open_episodes(tmp_path / "data") == 2


def test_two_calls_at_once_do_not_mix(whole: Path, tmp_path: Path, at_hand: None) -> None:
    """While a call tries its candidates, another one collects in the same folder: with other settings, it keeps it."""
    for shade, refused in ((1, True), (0, False)):
        folder, begun = tmp_path / str(shade), []

        def meanwhile(told: Told, folder: Path = folder, shade: int = shade, begun: list = begun) -> None:
            if not begun:
                begun.append(collect(Counted(shade=shade, episodes=1), folder, workers=1))

        if refused:
            with pytest.raises(ValueError, match="was collected with shade = 1, not 0"):
                collect(Counted(), folder, workers=1, told=meanwhile)
            assert open_episodes(folder) == 2 and json.loads((folder / NOTE).read_text())["settings"]["shade"] == 1
        else:
            assert collect(Counted(), folder, workers=1, told=meanwhile).new == 2
            assert content(folder) == content(whole)


def test_a_folder_that_was_opened_and_no_more_is_new(whole: Path, tmp_path: Path, at_hand: None) -> None:
    LeRobotWriter(tmp_path / "data", fps=10, features=Counted().features()).close()
    collect(Counted(), tmp_path / "data", workers=1)
    assert content(tmp_path / "data") == content(whole)


def test_a_world_in_which_nothing_succeeds_is_given_up(tmp_path: Path, at_hand: None) -> None:
    with pytest.raises(ValueError, match=r"red: 0 of \d+ candidates were good; 2 wanted"):
        collect(Counted(hopeless=True), tmp_path / "data", workers=1)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["file-001.parquet", "file-002.mp4", "tasks.parquet"])
def test_a_full_disk_leaves_what_is_finished(
    whole: Path, tmp_path: Path, at_hand: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(event: str) -> None:
        if event == f"written {name}":
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "hook", full)
        with pytest.raises(OSError, match="no space left for .*; its finished episodes are whole") as caught:
            collect(Counted(), tmp_path / "data", workers=1)
    assert caught.value.errno is None  # a sentence, not a file's name
    done = open_episodes(tmp_path / "data")
    assert done < 4
    if done:
        assert verify(tmp_path / "data") == []
        assert len(whole_episodes(tmp_path / "data")) == done
        clip = open_dataset(tmp_path / "data").read(0, "observation.images.eye", [0, 1])
        assert np.array_equal(clip, open_dataset(whole).read(0, "observation.images.eye", [0, 1]))
    assert collect(Counted(), tmp_path / "data", workers=1).new == 4 - done
    assert content(tmp_path / "data") == content(whole)


def test_a_worker_that_dies_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a worker process was ended from outside"):
        collect(Counted(lines=("red",), deadly=3), tmp_path / "data", workers=1)


class Failing:
    """An executor whose work fails: as it is begun, or when its result is asked for."""

    def __init__(self, error: Exception, at_once: bool) -> None:
        self.error, self.at_once = error, at_once

    def submit(self, function, *arguments) -> Future:
        if self.at_once:
            raise self.error
        future: Future = Future()
        future.set_exception(self.error)
        return future


@pytest.mark.parametrize(
    ("error", "at_once", "said"),
    [
        (BrokenProcessPool("abruptly"), True, "a worker process was ended from outside"),
        (BrokenProcessPool("abruptly"), False, "a worker process was ended from outside"),
        (OSError("this machine cannot draw"), False, "this machine cannot draw"),
        (ValueError("no such start"), False, "no such start"),
    ],
)
def test_what_stops_a_worker_is_one_sentence(error: Exception, at_once: bool, said: str) -> None:
    with pytest.raises((OSError, ValueError)) as caught:
        list(module._results(Failing(error, at_once), len, [Unit("red", 0)], 1))  # type: ignore[arg-type]
    sentence = message(caught.value)
    assert sentence is not None and sentence.startswith(said)


def test_control_c_is_the_parents_alone(tmp_path: Path) -> None:
    """It reaches the whole group as the first worker comes to life: one traceback, of the parent; nobody is left."""
    script = """
import os, signal, sys, time
from pathlib import Path
from concurrent.futures import ProcessPoolExecutor

born, begin = Path(sys.argv[2]) / "born", ProcessPoolExecutor.submit
if __name__ == "__mp_main__":  # a worker's first moment
    born.touch()
    time.sleep(0.5)

sys.path.insert(0, sys.argv[1])
from counted import Counted
from polyclock.envs.collect import collect

def submit(*words):
    begin(*words)
    while not born.exists():
        time.sleep(0.02)
    os.killpg(0, signal.SIGINT)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin deaf to it
    ProcessPoolExecutor.submit = submit
    collect(Counted(), Path(sys.argv[2]) / "data", workers=1)
"""
    path = tmp_path / "run.py"
    path.write_text(script, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(path), str(HERE), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _, said = process.communicate(timeout=300)
    assert process.returncode != 0 and said.count("Traceback") == said.count("KeyboardInterrupt") == 1, said
    assert not (tmp_path / "data").exists()
    end = time.monotonic() + 60
    while time.monotonic() < end and any(same_group(int(p.name), process.pid) for p in Path("/proc").glob("[0-9]*")):
        time.sleep(0.1)
    assert time.monotonic() < end, "somebody is left"


def same_group(process: int, group: int) -> bool:
    try:
        return os.getpgid(process) == group and alive(process)
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.slow
def test_a_kill_leaves_no_worker_and_loses_no_episode(whole: Path, tmp_path: Path) -> None:
    """SIGKILL at the first finished episode: the workers end by themselves, and the same call gives the same bytes."""
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from counted import Counted\n"
        "from polyclock.envs.collect import collect\n"
        "def told(t):\n"
        "    if t.stage == 'make' and t.done == 1: print('one', flush=True); time.sleep(60)\n"
        "if __name__ == '__main__': collect(Counted(), sys.argv[2], workers=2, told=told)\n"
    )
    path = tmp_path / "run.py"
    path.write_text(script, encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(path), str(HERE), str(tmp_path / "data")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"one\n"
    children = descendants(process.pid)
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 20
    while any(alive(child) for child in children) and time.monotonic() < end:
        time.sleep(0.1)
    assert [child for child in children if alive(child)] == []
    assert collect(Counted(), tmp_path / "data", workers=1).new == 3
    assert content(tmp_path / "data") == content(whole)


def descendants(parent: int) -> list[int]:
    found = [int(p) for p in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return found + [below for child in found for below in descendants(child)]


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()


def test_the_toy_tells_its_episodes_apart() -> None:
    maker = Counted().open()
    one, other = (maker.make(Unit("red", n))[0]["observation.depth.eye"] for n in (0, 3))
    assert one.shape != other.shape and not np.array_equal(one[:3], other[:3])
