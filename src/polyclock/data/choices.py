"""Samples that bring one signal of several: where a layout has a slot for whichever a sample has, data may have all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

from ..errors import unknown
from .mixture import Mixture
from .source import Source
from .window import Windows

NONE = "none"  # the share of episodes that have nothing for a slot


def one_each(
    windows: Windows,
    slots: Sequence[Sequence[str]],
    shares: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
) -> Source:
    """Windows of which each brings, for every slot, one of its names alone; only that one is read.

    Names are brought in proportion to `shares` (a name without one: 1), however many episodes have each of them, and
    "none" is the share of the episodes that have nothing for a slot. A name whose share is 0 is not brought.
    Errors: ValueError for a share of a name that stands in no slot, or where every share is 0.
    """
    shares = dict(shares or {})
    possible = [n for slot in slots for n in slot]
    for name, share in shares.items():
        if name not in (*possible, NONE):
            raise unknown("name of which a sample brings one:", name, (*possible, NONE))
        if not (math.isfinite(share) and share >= 0):
            raise ValueError(f"the share {share} of {name!r} must be a number of at least 0")
    if not slots:
        return windows
    members = []
    for chosen in product(*([*slot, NONE] for slot in slots)):
        share = math.prod(shares.get(n, 1.0) for n in chosen)
        episodes = _episodes(windows, slots, chosen, shares) if share else []
        if episodes:
            left_out = {n for n in possible if n not in chosen}
            members.append((share, windows.part([n for n in windows.signals if n not in left_out], episodes)))
    if not members:
        raise ValueError(f"nothing is left to learn from: the shares are {shares}")
    return members[0][1] if len(members) == 1 else Mixture(members, seed=seed)


def _episodes(
    windows: Windows, slots: Sequence[Sequence[str]], chosen: Sequence[str], shares: Mapping[str, float]
) -> list[int]:
    """The episodes that have what is chosen; nothing is chosen for a slot of which an episode has nothing to bring."""

    def has(episode: int, name: str) -> bool:
        return name in windows.present and windows.dataset.has(episode, windows.signals[name].key)

    found = []
    for episode in (e.index for e in windows.dataset.episodes):
        fits = (
            has(episode, name) if name != NONE else not any(has(episode, n) and shares.get(n, 1.0) for n in slot)
            for slot, name in zip(slots, chosen, strict=True)
        )
        if all(fits):
            found.append(episode)
    return found
