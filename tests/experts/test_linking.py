"""Things keep their numbers from frame to frame, by overlap and class."""

from __future__ import annotations

import numpy as np

from polyclock.experts.instances import distinct, linked


def scene(places: list[dict[int, tuple[int, int]]]) -> np.ndarray:
    """(T, 20, 40): squares of 6 px, {number: its left upper corner} for each frame."""
    out = np.zeros((len(places), 20, 40), np.int32)
    for frame, things in zip(out, places, strict=True):
        for number, (row, column) in things.items():
            frame[row : row + 6, column : column + 6] = number
    return out


def test_numbers_of_frames_become_those_of_the_clip() -> None:
    ids = scene([{1: (2, 2), 2: (2, 20)}, {2: (2, 3), 1: (2, 21)}, {5: (2, 22), 9: (12, 2)}])
    found = linked(ids, (ids > 0).astype(np.int32))
    assert [found[t][4, 6] for t in range(2)] == [1, 1] and [found[t][4, 24] for t in range(3)] == [2, 2, 2]
    assert found[2][14, 4] == 3, "what is new has a new number"
    assert ((found > 0) == (ids > 0)).all()


def test_only_things_of_one_class_are_linked() -> None:
    ids = scene([{1: (2, 2)}, {1: (2, 2)}])
    classes = np.stack([ids[0] * 3, ids[1] * 4])
    assert linked(ids, classes)[1].max() == 2


def test_of_masks_that_cover_each_other_the_surest_stays() -> None:
    masks = np.zeros((4, 10, 10), bool)
    masks[0, :5], masks[1, :6], masks[2, 7:] = True, True, True
    assert distinct(masks, np.array([0.5, 0.9, 0.7, 1.0]), 0.5) == [1, 2], "an empty mask is nothing"
