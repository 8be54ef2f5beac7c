"""Episodes in processes: each process holds one world and its own copy of the policy, on one thread.

Processes are spawned, not forked: a simulator's graphics context and a GPU do not survive a fork. One that dies is
noticed by its end of the pipe, so that nothing waits for it; and one whose parent is gone ends by the same sign.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from .episode import Job, Player, Station
from .ledger import Row

PATIENCE = 5.0  # seconds that a process has to end by itself
KINDS = {kind.__name__: kind for kind in (ValueError, ImportError, OSError)}  # what is no bug stays what it is
UNSENDABLE = ("AttributeError", "TypeError", "PicklingError")  # what spawning raises for a local function or a lambda


def play_all(take: Callable[[], Job | None], station: Station, processes: int) -> Iterator[tuple[Job, Row]]:
    """Play what `take` hands out until it returns None; (job, row) as episodes end. 0 processes: in this one.

    `take` is called when a process is free. Errors: those of the policy, of opening a world and of writing a clip;
    OSError naming the episode in which a process died. Closing the iterator ends the processes.
    """
    return _crew(take, station, processes) if processes else _alone(take, station)


def _alone(take: Callable[[], Job | None], station: Station) -> Iterator[tuple[Job, Row]]:
    threads, player = torch.get_num_threads(), Player(station)
    try:
        while (job := take()) is not None:
            # As in a process of its own, so that sums are taken in the same order.
            torch.set_num_threads(1)
            row = player.play(job)
            torch.set_num_threads(threads)
            yield job, row
    finally:
        torch.set_num_threads(threads)
        player.close()


def _crew(take: Callable[[], Job | None], station: Station, processes: int) -> Iterator[tuple[Job, Row]]:
    members: dict[Connection, Any] = {}
    busy: dict[Connection, Job] = {}
    try:
        while True:
            while len(busy) < processes and (job := take()) is not None:
                free = next((pipe for pipe in members if pipe not in busy), None)
                if free is None:
                    free, member = _start(station)
                    members[free] = member
                busy[free] = job
                _send(free, job, members[free])
            if not busy:
                return
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                row = _receive(pipe, busy[pipe], members[pipe])
                yield busy.pop(pipe), row
    finally:
        _end(members, busy)


def _start(station: Station) -> tuple[Connection, Any]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    member = context.Process(target=work, args=(theirs, station), daemon=True)
    resource_tracker.ensure_running()  # its own start, which comes with the first process, would unblock the signal
    # A process inherits what is blocked: ctrl-C reaches the whole group, and the parent alone is to act on it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        member.start()
    except Exception as error:
        ours.close()
        if type(error).__name__ not in UNSENDABLE:
            raise
        raise ValueError(
            f"the policy or the world cannot be sent to another process: {error}; define its parts at the top level of "
            "a module, or use num_envs=0"
        ) from None
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ours, member


def _send(pipe: Connection, job: Job, member: Any) -> None:
    try:
        pipe.send(job)
    except (BrokenPipeError, ConnectionResetError):
        raise _death(job, member) from None


def _receive(pipe: Connection, job: Job, member: Any) -> Row:
    try:
        kind, value = pipe.recv()
    except (EOFError, ConnectionResetError):
        raise _death(job, member) from None
    if kind == "row":
        return value
    if kind in KINDS:
        raise KINDS[kind](*value)
    raise RuntimeError(f"{job.task}, start {job.start.number}: the policy failed in its process\n{value[0]}")


def _death(job: Job, member: Any) -> OSError:
    member.join(PATIENCE)
    code = member.exitcode
    how = f"exit status {code}"
    if code is not None and code < 0:
        how = signal.Signals(-code).name + (": killed, perhaps for memory" if code == -signal.SIGKILL else "")
    return OSError(
        f"the process that played {job.task}, start {job.start.number}, died ({how}); the ledger holds the episodes "
        "that had ended, and the same call goes on from there"
    )


def _end(members: dict[Connection, Any], busy: dict[Connection, Job]) -> None:
    """Let idle processes finish, stop busy ones, wait for all."""
    for pipe, member in members.items():
        if pipe in busy:
            member.terminate()
        pipe.close()
    for member in members.values():
        member.join(PATIENCE)
        if member.is_alive():
            member.kill()
            member.join()


def work(pipe: Connection, station: Station) -> None:
    """The life of a process: play jobs until the other end of the pipe is closed."""
    torch.set_num_threads(1)
    player = Player(station)
    try:
        while True:
            pipe.send(_played(player, pipe.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        player.close()


def _played(player: Player, job: Job) -> tuple[str, Any]:
    try:
        return "row", player.play(job)
    except Exception as error:
        kind = next((name for name, one in KINDS.items() if isinstance(error, one)), "")
        if isinstance(error, OSError) and error.errno is not None:
            return kind, (error.errno, error.strerror, error.filename)
        return kind, (str(error) if kind else traceback.format_exc(),)
