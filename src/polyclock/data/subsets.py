"""Parts of a data set by episode, as every format makes them: a copy that reads the same files."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Self

from .source import Episode, Noted, spans


def chosen(episodes: Sequence[Episode], indices: Iterable[int], *, keep: bool) -> tuple[Episode, ...]:
    """The episodes whose numbers are among `indices` (`keep`) or are not; ValueError for a number that is not here."""
    numbers = {int(i) for i in indices}
    absent = sorted(numbers - {e.index for e in episodes})
    if absent:
        raise ValueError(f"episode {absent[0]} is not in the data; possible: {spans([e.index for e in episodes])}")
    left = tuple(e for e in episodes if (e.index in numbers) == keep)
    if not left:
        raise ValueError(f"no episode is left of {spans([e.index for e in episodes])}")
    return left


class Subsets(Noted):
    """`only` and `without` of a data set whose `episodes` are a plain attribute: a copy that reads the same files."""

    episodes: tuple[Episode, ...] = ()

    def only(self, indices: Iterable[int]) -> Self:
        """These episodes alone; ValueError for one that is not here."""
        return self._choose(chosen(self.episodes, indices, keep=True))

    def without(self, indices: Iterable[int]) -> Self:
        """All but these episodes; ValueError for one that is not here."""
        return self._choose(chosen(self.episodes, indices, keep=False))

    def _choose(self, episodes: tuple[Episode, ...]) -> Self:
        other = copy.copy(self)
        other.episodes = episodes
        for name in [n for n in vars(other) if isinstance(getattr(type(other), n, None), cached_property)]:
            del other.__dict__[name]  # found out of all episodes
        return other
