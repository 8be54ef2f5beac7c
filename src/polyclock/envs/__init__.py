"""Worlds to act in and to collect data from, each with the exact truth of what its cameras see."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import unknown
from .world import Env, Observation, Start

__all__ = ["Env", "Observation", "Start", "open_env", "starts"]

PREFIX = "metaworld/"


def open_env(
    name: str,
    cameras: Sequence[str] = ("corner2",),
    size: int | tuple[int, int] = 64,
    variation: str | None = None,
) -> Env:
    """The world `name`, such as metaworld/drawer-open ("-v3" may follow), with pictures of `size` pixels.

    variation  of its looks, drawn from each start: light, background or clutter; None: as it was made

    Errors: ValueError for an unknown world, task, camera or variation, or a size below 16; ImportError without the
    simulator.
    """
    from .metaworld import Tabletop

    return Tabletop(_task(name), cameras, size, variation)


def starts(name: str, split: str = "evaluation", count: int = 50, first: int = 0) -> tuple[Start, ...]:
    """Starts number `first` to `first + count - 1` of a split, "evaluation" (50 published ones) or "training".

    `name` is as in `open_env`, or a task alone. The two splits never meet.
    """
    from .metaworld import starts as of_task

    return of_task(name.removeprefix(PREFIX), split, count, first)


def _task(name: str) -> str:
    if not name.startswith(PREFIX):
        raise unknown("world", name, [f"{PREFIX}TASK"])
    return name.removeprefix(PREFIX)
