"""One trainer per run folder: the second is refused by name, the dead are forgotten, children hold nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from standin import end, in_child

from polyclock.train.lock import Lock


def wait_for(path: Path) -> None:
    until = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def hold(folder: Path) -> None:
    with Lock(folder):
        (folder / "held").touch()
        time.sleep(60)


def test_the_second_is_refused_by_the_name_of_the_owner(tmp_path: Path) -> None:
    owner = in_child(lambda: hold(tmp_path))
    wait_for(tmp_path / "held")
    try:
        with pytest.raises(ValueError, match=rf"is being trained by process {owner} on {os.uname().nodename} since 20"):
            Lock(tmp_path)
    finally:
        os.kill(owner, signal.SIGKILL)
        end(owner)
    with Lock(tmp_path) as lock:
        assert lock.recovered is not None and f"process {owner} " in lock.recovered
        with pytest.raises(ValueError, match=f"process {os.getpid()} "):
            Lock(tmp_path)
    with Lock(tmp_path) as lock:
        assert lock.recovered is None


def test_a_child_of_a_killed_owner_does_not_hold_the_lock(tmp_path: Path) -> None:
    def with_child() -> None:
        with Lock(tmp_path):
            child = in_child(lambda: time.sleep(30))
            (tmp_path / "pid").write_text(str(child))
            (tmp_path / "held").touch()
            time.sleep(60)

    owner = in_child(with_child)
    wait_for(tmp_path / "held")
    os.kill(owner, signal.SIGKILL)
    end(owner)
    child = int((tmp_path / "pid").read_text())
    try:
        os.kill(child, 0)  # it is still there
        Lock(tmp_path).release()
    finally:
        os.kill(child, signal.SIGKILL)


def test_nonsense_in_the_file_is_no_owner(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"\xff[1, 2")
    with Lock(tmp_path) as lock:
        assert lock.recovered is None
