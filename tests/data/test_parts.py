"""What a data set need not have: another's may lack all of it, and nothing that stands around a data set loses any."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import polyclock.data
import polyclock.evaluate
from polyclock.codecs import Identity
from polyclock.data import Cached, Windows
from polyclock.data.cropped import Cropped
from polyclock.data.excerpt import Excerpt, excerpt
from polyclock.data.formats.annotated import Annotated
from polyclock.data.latents import Latents
from polyclock.data.source import PARTS, Around, Dataset, Episode, Facts, Foreign, Noted, noted
from polyclock.evaluate.viewed import Viewed
from polyclock.modality import Signal

REQUIRED = ("facts", "episodes", "fingerprint", "has", "read", "column", "only", "without")
CODEC = Identity()


class Bare:
    """All that a data set must have, and nothing else."""

    def __init__(self, numbers: Sequence[int] = (0, 1)) -> None:
        self.episodes = tuple(Episode(index=i, length=3) for i in numbers)
        self.fingerprint = f"bare {self.episodes}"
        columns = {"action": (2,), "video": (8, 8, 3), "depth": (8, 8, 1)}
        self.facts = Facts(fps=10.0, cameras=("video",), tasks=(), columns=columns)

    def has(self, episode: int, key: str) -> bool:
        return key in self.facts.columns

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        shape = (len(frames), *(int(n or 0) for n in self.facts.columns[key]))
        return np.full(shape, episode, np.float32 if key == "action" else np.uint8)

    def column(self, key: str) -> Iterator[np.ndarray]:
        for e in self.episodes:
            yield np.asarray(self.read(e.index, key, range(e.length)))

    def only(self, indices: Iterable[int]) -> Dataset:
        return type(self)(sorted(indices))

    def without(self, indices: Iterable[int]) -> Dataset:
        return type(self)([e.index for e in self.episodes if e.index not in set(indices)])


class Talkative(Bare):
    """One that says all there is to say, though it inherits nothing of ours."""

    format, opened_with, number_names = "wax", {"speed": 78}, {"action": ["left", "right"]}
    dense, latents = {"depth": {"kind": "depth", "scale": 2.0}}, Path("beside")

    @property
    def whole(self) -> Dataset:
        return self if len(self.episodes) == 2 else type(self)()

    def made_by(self, key: str) -> Identity | None:
        return CODEC if key == "action" else None

    def fingerprint_of(self, key: str) -> str:
        return f"of {key}"

    def mark(self, episode: int) -> str:
        return f"mark {episode}"


def of(name: str) -> list[tuple]:
    """What to call a part with."""
    return {"made_by": [("action",), ("depth",)], "fingerprint_of": [("action",)], "mark": [(0,), (1,)]}.get(name, [])


def told(dataset: Noted, name: str) -> object:
    """A part, or what it answers."""
    part = getattr(dataset, name)
    if name == "whole":
        return [e.index for e in part.episodes]
    return [part(*given) for given in of(name)] if of(name) else part


AROUND = {
    Annotated: lambda d: Annotated(Path("annotated"), {"columns": {}, "filters": {}}, d),
    Cached: lambda d: Cached(d, {}),
    Cropped: lambda d: Cropped(d, Fraction(1)),
    Excerpt: lambda d: Excerpt(d, frozenset({"video"}), {}),
    Foreign: Foreign,
    Viewed: lambda d: Viewed(d, {}),
}
OWN = {  # what is another's there on purpose
    (Annotated, "latents"): None,  # they lie in its own folder
    (Cropped, "fingerprint_of"): [noted(Cropped(Talkative(), Fraction(1))).fingerprint_of("action")],
}


def ours() -> set[type]:
    """Every class of the package that could be taken for a data set."""
    found = set()
    for package in (polyclock.data, polyclock.evaluate):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            found |= {c for _, c in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)}
    found = {c for c in found if c.__module__.startswith("polyclock.") and not getattr(c, "_is_protocol", False)}
    return {c for c in found if all(hasattr(c, part) for part in REQUIRED)} | {c for c in found if issubclass(c, Noted)}


def test_every_data_set_of_ours_has_all_parts_and_every_one_around_another_is_tried_here() -> None:
    assert all(issubclass(c, Noted) for c in ours()), "inherit from Around, Subsets or Noted"
    assert {c for c in ours() if issubclass(c, Around)} - {Around} == set(AROUND)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("kind", AROUND, ids=lambda c: c.__name__)
def test_each_part_passes_through(kind: type, name: str) -> None:
    plain, inner = noted(Bare()), noted(Talkative())
    want = OWN.get((kind, name), told(inner, name))
    if name != "whole":
        assert told(plain, name) != told(inner, name), "the default and what is said must differ, to be told apart"
    assert told(AROUND[kind](Talkative()), name) == want
    # Of a part of the data too, and through two of them; `whole` leads back to all of it.
    assert told(AROUND[kind](Talkative()).only([1]), name) == want
    if (kind, name) not in OWN:
        assert told(Excerpt(AROUND[kind](Talkative()), frozenset({"video"})), name) == want


def test_what_is_said_of_columns_bears_their_new_names() -> None:
    part = noted(excerpt(Talkative(), rename="depth:far,action:pull"))
    assert part.dense == {"far": {"kind": "depth", "scale": 2.0}} and part.number_names == {"pull": ["left", "right"]}
    assert (
        part.made_by("pull") is CODEC and part.made_by("action") is None and part.fingerprint_of("pull") == "of action"
    )
    hidden = noted(excerpt(Talkative(), hide="depth,action"))
    assert hidden.dense == {} and hidden.number_names == {} and hidden.made_by("action") is None


def test_a_data_set_with_nothing_but_what_it_must_have(tmp_path: Path) -> None:
    bare = Bare()
    said = noted(bare)
    assert (said.dense, said.number_names, said.opened_with, said.latents) == ({}, {}, {}, None)
    assert said.made_by("action") is None and said.fingerprint_of("action") == said.mark(1) == bare.fingerprint
    assert said.whole is said and [e.index for e in said.only([1]).episodes] == [1]
    signals = {"action": Signal(key="action", kind="vector", shape=(2, 2), made="a digest")}
    with pytest.raises(ValueError, match="'action' here is raw"):
        Windows(bare, signals)
    plain = {"action": Signal(key="action", kind="vector", shape=(2, 2))}
    assert np.asarray(Windows(Cropped(bare, Fraction(1)), plain)[4].values["action"]).tolist() == [[1, 1], [1, 1]]
    assert Latents(bare, tmp_path, {"column": "action"}).about["data"] == bare.fingerprint
    assert len(excerpt(bare, episodes="1", hide="video").episodes) == 1
