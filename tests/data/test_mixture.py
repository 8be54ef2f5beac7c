"""Weighted mixtures without randomness of their own."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from polyclock.data import Mixture, Sample
from polyclock.data import mixture as module
from polyclock.data.mixture import shuffled


class Numbers:
    """Samples that say which source and item they are."""

    def __init__(self, name: str, length: int) -> None:
        self.name, self.length = name, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Sample:
        assert 0 <= i < self.length
        return Sample({}, {}, f"{self.name}{i}")


def test_shares_follow_the_weights() -> None:
    mixture = Mixture(((3, Numbers("a", 50)), (1, Numbers("b", 150))))
    assert len(mixture) == 200 and mixture.counts == [150, 50]
    assert Counter(mixture[i].where[0] for i in range(200)) == {"a": 150, "b": 50}
    thirds = Mixture([(1, Numbers("a", 1)), (1, Numbers("b", 1)), (1, Numbers("c", 1))], length=10)
    assert sorted(thirds.counts) == [3, 3, 4]


def test_a_member_is_gone_through_before_it_repeats() -> None:
    mixture = Mixture(((3, Numbers("a", 50)), (1, Numbers("b", 150))), seed=5)
    seen = Counter(mixture.draw(0, i).where for i in range(200))
    assert {seen[f"a{i}"] for i in range(50)} == {3}
    small = Counter(mixture.draw(epoch, i).where for epoch in range(3) for i in range(150, 200))
    assert {small[f"b{i}"] for i in range(150)} == {1}


def test_items_depend_on_seed_epoch_and_number_alone() -> None:
    members = ((1, Numbers("a", 40)), (1, Numbers("b", 30)))
    one, two = Mixture(members, seed=1), Mixture(members, seed=1)
    assert [one.draw(2, i).where for i in range(70)] == [two.draw(2, i).where for i in reversed(range(70))][::-1]
    assert [one[i].where for i in range(70)] == [one.draw(0, i).where for i in range(70)]
    assert [one[i].where for i in range(70)] != [Mixture(members, seed=2)[i].where for i in range(70)]
    assert [one.draw(0, i).where for i in range(70)] != [one.draw(1, i).where for i in range(70)]


@pytest.mark.parametrize("weights", [[1] * 40, [99, 1]])
def test_an_order_is_drawn_once_in_an_epoch(weights: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many members there are, and however often one of them is gone through."""
    drawn: list[tuple] = []
    monkeypatch.setattr(module, "shuffled", lambda *key: drawn.append(key) or shuffled(*key))
    mixture = Mixture([(w, Numbers(str(n), 20)) for n, w in enumerate(weights)], length=20 * len(weights) * 10)
    for i in random.Random(0).sample(range(len(mixture)), len(mixture)):
        mixture.draw(0, i)
    assert len(drawn) == len(set(drawn)) == sum(-(-count // 20) for count in mixture.counts)


def test_a_mixture_of_mixtures() -> None:
    inner = Mixture(((1, Numbers("a", 4)), (1, Numbers("b", 4))))
    outer = Mixture(((1, inner), (1, Numbers("c", 8))))
    seen = Counter(outer.draw(epoch, i).where[0] for epoch in range(4) for i in range(16))
    assert seen == {"a": 16, "b": 16, "c": 32}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((), "at least one"),
        (((0, Numbers("a", 1)),), "weight 0 of member 0"),
        (((1, Numbers("a", 1)), (float("nan"), Numbers("b", 1))), "weight nan of member 1"),
        (((1, Numbers("a", 0)),), "member 0 of the mixture has no samples"),
        (((1e6, Numbers("a", 9)), (1, Numbers("b", 9))), "member 1 of the mixture gets no item of 18"),
    ],
)
def test_mixtures_that_cannot_be(members: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(members)
    with pytest.raises(IndexError):
        Mixture(((1, Numbers("a", 3)),))[3]
