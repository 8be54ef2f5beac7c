"""One trainer per run folder: a lock that the kernel lets go of when its owner dies, with the owner's name in it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import weakref
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

_held: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """Holds `folder`/lock until `release`, the end of the `with` block, or the death of the process.

    Raises `ValueError` naming the owner (process, host, start) if another trainer holds it. `recovered` is the
    name of a dead owner that left without cleaning up, else None.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "lock"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        owner = _owner(os.pread(self._file, 4096, 0))
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.forget()
            raise ValueError(
                f"{self.path.parent} is being trained by {owner or 'another process'}; "
                "wait for it, stop it, or choose another folder"
            ) from None
        self.recovered = owner
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(" ", "seconds")}
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, (json.dumps(mine) + "\n").encode(), 0)
        os.fsync(self._file)
        _held.add(self)

    def release(self) -> None:
        """Wipe the name and let go. The file stays: removing it would let two processes lock two files."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            self.forget()

    def forget(self) -> None:
        """Close the file without letting go of a lock that a parent process still holds."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _owner(text: bytes) -> str | None:
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (ValueError, KeyError, TypeError):
        return None


def _leave_to_parent() -> None:
    for lock in list(_held):
        lock.forget()


# A forked loader worker shares the open file; without this it would hold the lock after its parent was killed.
os.register_at_fork(after_in_child=_leave_to_parent)
