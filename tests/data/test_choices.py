"""Samples that bring one signal of several, in shares; sources one after another."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from polyclock.data import Loader, Mixture, Stages, Windows, one_each
from polyclock.data.source import Episode, Facts
from polyclock.data.subsets import Subsets
from polyclock.modality import Signal

MAPS = ("depth", "flow", "masks")
SIGNALS = {n: Signal(key=n, kind="vector", shape=(2, 1)) for n in ("video", *MAPS)}


class Toy(Subsets):
    """Episodes of four frames; the masks are in the last two alone, episode 3 has no map at all."""

    fingerprint = "toy"
    facts = Facts(fps=1.0, cameras=(), tasks=(), columns=dict.fromkeys(SIGNALS, (1,)))

    def __init__(self) -> None:
        self.episodes = tuple(Episode(index=i, length=4) for i in range(4))
        self.reads: list[str] = []

    def has(self, episode, key):
        return key == "video" or (episode < 3 and (key != "masks" or episode == 2))

    def read(self, episode, key, frames, size=None):
        self.reads.append(key)
        return np.full((len(frames), 1), episode, np.float32)

    def column(self, key):
        return iter([])


def counted(source, epochs=1) -> Counter:
    loader = Loader(source, SIGNALS, 1, seed=0)
    found = Counter()
    for k in range(epochs * len(source)):
        batch = loader.batch(k)
        found[next((n for n in MAPS if len(batch.rows[n])), "none")] += 1
        assert sum(len(batch.rows[n]) for n in MAPS) <= 1 and len(batch.rows["video"]) == 1
    return found


def test_each_sample_brings_one_and_shares_are_of_samples_not_of_episodes() -> None:
    data = Toy()
    source = one_each(Windows(data, SIGNALS), [MAPS], {"masks": 2, "none": 0.5})
    assert isinstance(source, Mixture)
    found = counted(source)
    total = sum(found.values())
    assert {n: found[n] / total for n in (*MAPS, "none")} == pytest.approx(
        {"depth": 1 / 4.5, "flow": 1 / 4.5, "masks": 2 / 4.5, "none": 0.5 / 4.5}, abs=0.04
    )
    assert Counter(data.reads)["depth"] == found["depth"], "only what is brought is read"


def test_what_has_no_share_is_not_brought() -> None:
    source = one_each(Windows(Toy(), SIGNALS), [MAPS], {"depth": 0, "none": 0})
    assert set(counted(source)) == {"flow", "masks"}
    alone = one_each(Windows(Toy(), SIGNALS), [MAPS], {"depth": 0, "none": 0, "flow": 0})
    assert isinstance(alone, Windows) and len(alone) == 4


def test_two_slots_have_every_pair() -> None:
    source = one_each(Windows(Toy(), SIGNALS), [("depth", "flow"), ("masks",)])
    pairs = {tuple(n for n in MAPS if n in source[i].values) for i in range(len(source))}
    assert pairs == {("depth", "masks"), ("flow", "masks"), ("depth",), ("flow",), ()}


def test_without_slots_windows_stay_as_they_are() -> None:
    windows = Windows(Toy(), SIGNALS)
    assert one_each(windows, []) is windows


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        ({"pose": 1.0}, "unknown name of which a sample brings one: 'pose'. Possible: depth, flow, masks, none"),
        ({"depth": -1.0}, "the share -1.0 of 'depth'"),
        ({n: 0.0 for n in (*MAPS, "none")}, "nothing is left to learn from"),  # noqa: C420
    ],
)
def test_faults_are_named(shares, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        one_each(Windows(Toy(), SIGNALS), [MAPS], shares)


def test_stages_follow_each_other_wherever_a_run_goes_on() -> None:
    windows = Windows(Toy(), SIGNALS)
    first, second = (one_each(windows, [MAPS], {n: float(n == only) for n in (*MAPS, "none")}) for only in MAPS[:2])
    stages = Stages([(3, first), (2, second)])
    assert len(stages) == len(first) + len(second)

    def brought(start, stop, workers=0):
        stream = stages.loader(SIGNALS, batch_size=2, seed=1, workers=workers).stream(start, stop)
        return [(k, [n for n in MAPS if len(b.rows[n])], b.tensor("video")[:, 0, 0].tolist()) for k, b in stream]

    whole = brought(0, 7)
    assert [(k, names) for k, names, _ in whole] == [(k, ["depth" if k < 3 else "flow"]) for k in range(7)]
    assert brought(2, 7) == whole[2:] and brought(4, 7, workers=2) == whole[4:]
    with pytest.raises(ValueError, match="at least one stage"):
        Stages([])
