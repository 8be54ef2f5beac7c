"""Weighted mixtures of sources, without randomness of their own: item i of an epoch is a pure function of (seed, i)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

from ..dice import seed_of
from .source import Sample, Source

ORDERS = 4096  # permutations that a mixture remembers at most


def shuffled(length: int, *key: object) -> np.ndarray:
    """(length,) a permutation that depends on `key` alone."""
    order = np.random.Generator(np.random.PCG64(seed_of(*key))).permutation(length)
    order.flags.writeable = False
    return order


class Mixture:
    """Sources in given proportions; a source of samples itself.

    An epoch has `length` items (default: as many as all members together). Member m has the share weight_m of them,
    rounded so that they add up, in one block: the loader shuffles. Over epochs a member's samples are taken in shuffled
    rounds, each once before any twice, so a small member with a large weight is seen evenly.
    Errors: ValueError for no member, an empty member, a weight that is not positive or too small to give one item.
    """

    def __init__(self, members: Sequence[tuple[float, Source]], *, seed: int = 0, length: int | None = None) -> None:
        if not members:
            raise ValueError("a mixture needs at least one (weight, source)")
        for number, (weight, source) in enumerate(members):
            if not (np.isfinite(weight) and weight > 0):
                raise ValueError(f"weight {weight} of member {number} of the mixture must be positive")
            if not len(source):
                raise ValueError(f"member {number} of the mixture has no samples")
        self.members = tuple(members)
        self.seed = seed
        self.length = length if length is not None else sum(len(s) for _, s in members)
        if self.length < 1:
            raise ValueError(f"length={length} of the mixture must be at least 1")
        self.counts = _shares([w for w, _ in members], self.length)
        if 0 in self.counts:
            number = self.counts.index(0)
            raise ValueError(
                f"member {number} of the mixture gets no item of {self.length}; a larger weight or length is needed"
            )
        self._ends = list(accumulate(self.counts))
        # Those of an epoch, which are asked for in any order; where they are very many, they are short.
        turns = sum(-(-count // len(s)) + 1 for count, (_, s) in zip(self.counts, members, strict=True))
        self._order = lru_cache(min(turns, ORDERS))(shuffled)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Sample:
        return self.draw(0, i)

    def place(self, epoch: int, i: int) -> tuple[int, int, int]:
        """Item i of an epoch -> (member, round through that member, its sample)."""
        if not 0 <= i < self.length:
            raise IndexError(f"item {i} of {self.length}")
        member = int(np.searchsorted(self._ends, i, side="right"))
        before = self._ends[member - 1] if member else 0
        size = len(self.members[member][1])
        turn, place = divmod(epoch * self.counts[member] + i - before, size)
        return member, turn, int(self._order(size, self.seed, "mixture", member, turn)[place])

    def draw(self, epoch: int, i: int) -> Sample:
        """Item i of an epoch."""
        member, turn, item = self.place(epoch, i)
        return draw(self.members[member][1], turn, item)


def draw(source: Source, epoch: int, i: int) -> Sample:
    """Item i of an epoch of any source; most sources are the same in every epoch."""
    ask = getattr(source, "draw", None)
    return source[i] if ask is None else ask(epoch, i)


def _shares(weights: Sequence[float], length: int) -> list[int]:
    """Whole numbers in proportion to `weights` that sum to `length`: largest remainders get the rest."""
    exact = np.array(weights, np.float64) / sum(weights) * length
    counts = np.floor(exact).astype(int)
    for m in np.argsort(counts - exact, kind="stable")[: length - int(counts.sum())]:
        counts[m] += 1
    return counts.tolist()
