"""What the tests of the worlds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def tabletop() -> Iterator[Callable[..., Any]]:
    """(task, size) -> its world: one for all tests of a file, since to open one takes longer than most tests.

    An episode depends on nothing before it, as test_metaworld.py shows.
    """
    from polyclock.envs.metaworld import Tabletop

    worlds: dict[tuple[str, int], Tabletop] = {}

    def find(task: str, size: int = 48) -> Tabletop:
        if (task, size) not in worlds:
            worlds[task, size] = Tabletop(task, size=size)
        return worlds[task, size]

    yield find
    for world in worlds.values():
        world.close()
