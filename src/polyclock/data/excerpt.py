"""A part of a data set, under names of one's choosing: some episodes, some columns hidden, some called otherwise."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ..codecs.codec import Codec
from ..errors import unknown
from .source import Around, Dataset, Facts, numbers

OPTIONS = ("episodes", "hide", "rename")  # of a data set of any format: PATH?episodes=0-99&hide=action&rename=a:b

Note = TypeVar("Note")


@dataclass(frozen=True)
class Excerpt(Around):
    """`dataset` without its columns `hidden`, and with columns that `names` calls otherwise: {its name: new name}.

    What is hidden is absent, as in a data set that never had it.
    """

    dataset: Dataset
    hidden: frozenset[str] = frozenset()
    names: Mapping[str, str] | None = None

    def _shown(self, column: str) -> str:
        return (self.names or {}).get(column, column)

    def _stored(self, key: str) -> str | None:
        """The data set's own name of a column; None for one that is not shown."""
        back = {new: old for old, new in (self.names or {}).items()}
        column = back.get(key, key)
        return None if column in self.hidden or (key not in back and column in (self.names or {})) else column

    def _said(self, notes: dict[str, Note]) -> dict[str, Note]:
        """What is said of columns, of those that are shown."""
        return {self._shown(c): note for c, note in notes.items() if c not in self.hidden}

    @property
    def facts(self) -> Facts:
        facts = self.dataset.facts
        columns = {self._shown(c): shape for c, shape in facts.columns.items() if c not in self.hidden}
        return replace(
            facts,
            cameras=tuple(self._shown(c) for c in facts.cameras if c not in self.hidden),
            columns=columns,
            tasks=() if "task" in self.hidden else facts.tasks,
        )

    @property
    def fingerprint(self) -> str:
        said = json.dumps([self.dataset.fingerprint, sorted(self.hidden), sorted((self.names or {}).items())])
        return hashlib.sha256(said.encode()).hexdigest()

    def made_by(self, key: str) -> Codec | None:
        """The codec that made a column before it was stored; None: it is raw."""
        column = self._stored(key)
        return None if column is None else super().made_by(column)

    def fingerprint_of(self, key: str) -> str:
        """sha256 over all that the values of a column depend on, whatever it is called."""
        return super().fingerprint_of(self._stored(key) or key)

    @property
    def dense(self) -> dict[str, dict[str, Any]]:
        """What the data set notes of its dense modalities; empty where it has none."""
        return self._said(super().dense)

    @property
    def number_names(self) -> dict[str, list]:
        """{column: what its numbers are called}, where the data say that."""
        return self._said(super().number_names)

    def has(self, episode: int, key: str) -> bool:
        """Whether this episode has this column, and shows it."""
        column = self._stored(key)
        return column is not None and self.dataset.has(episode, column)

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        """As the data set reads. Errors: ValueError for a column that is not shown."""
        column = self._stored(key)
        if column is None:
            raise unknown("column", key, self.facts.columns)
        return self.dataset.read(episode, column, frames, size)

    def column(self, key: str) -> Iterator[np.ndarray]:
        """One (length, *S, C) array per episode that has the column; none where it is not shown."""
        column = self._stored(key)
        return iter(()) if column is None else self.dataset.column(column)


def excerpt(dataset: Dataset, *, episodes: str = "", hide: str = "", rename: str = "") -> Dataset:
    """A data set as the options say it: `episodes="0-99,395"`, `hide="action,observation.state"`, `rename="old:new"`.

    Errors: ValueError for an episode or column that it lacks, one that is named twice, a new name that another column
    has, what is no OLD:NEW.
    """
    hidden = frozenset(c for c in hide.split(",") if c)
    pairs = [tuple(word.split(":")) for word in rename.split(",") if word]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError(f"rename={rename!r} must be OLD:NEW, several with commas between")
    said = [*hidden, *(pair[0] for pair in pairs)]
    again = next((column for column in said if said.count(column) > 1), None)
    if again:
        raise ValueError(f"column {again!r} is to be hidden or renamed twice; possible: one of them")
    names = {str(old): str(new) for old, new in pairs}
    part = dataset.only(numbers(episodes)) if episodes else dataset
    if not hidden and not names:
        return part
    for column in (*hidden, *names):
        if column not in dataset.facts.columns:
            raise unknown("column", column, dataset.facts.columns)
    shown = [names.get(c, c) for c in dataset.facts.columns if c not in hidden]
    twice = next((c for c in shown if shown.count(c) > 1), None)
    if twice:
        raise ValueError(f"rename={rename!r}: two columns would be called {twice!r}; hide one of them")
    return Excerpt(part, hidden, names)
