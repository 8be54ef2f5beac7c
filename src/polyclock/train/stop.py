"""Reasons to stop early: Ctrl-C, SIGTERM, the time limit. Each lets the running step end and the run be saved."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

REASONS = ("SIGINT", "SIGTERM", "time limit")
EXIT_CODE = {"SIGINT": 130, "SIGTERM": 143, "time limit": 0}


class Stop:
    """While active, SIGINT and SIGTERM set `reason` instead of ending the process; a second one ends it at once.

    minutes: time limit, counted from the start of the block; None: none.
    """

    def __init__(self, minutes: float | None) -> None:
        self._until = None if minutes is None else time.monotonic() + 60 * minutes
        self._caught: str | None = None
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        if self._caught:
            return self._caught
        late = self._until is not None and time.monotonic() >= self._until
        return "time limit" if late else None

    def flags(self) -> list[float]:
        """(3,) one for the reason seen here, to be summed over processes."""
        reason = self.reason
        return [float(reason == name) for name in REASONS]

    def __enter__(self) -> Stop:
        # Python allows signal handlers in the main thread only; elsewhere the time limit still works.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a forked loader worker: Ctrl-C is its parent's business, SIGTERM its own
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self._caught = signal.Signals(number).name
        self._restore()


def agreed(flags: list[float]) -> str | None:
    """The reason that any process saw, from the summed flags."""
    return next((name for name, flag in zip(REASONS, flags, strict=True) if flag), None)
