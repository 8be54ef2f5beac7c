"""Augmentations: what lies together stays together, sample by sample, whatever the batch."""

import pytest
import torch

from polyclock.augment import Shift, shifted
from polyclock.batch import Batch
from polyclock.dice import Dice


def batch(index=(0, 1, 2, 3)):
    """Video (4, 2, 6, 5, 3) with every pixel's own number, depth with the same in one channel for samples 1 and 3."""
    place = torch.arange(30.0).reshape(1, 1, 6, 5, 1)
    video = (place + 100 * torch.arange(4.0).reshape(4, 1, 1, 1, 1)).expand(4, 2, 6, 5, 3)[list(index)]
    have = [j for j, i in enumerate(index) if i in (1, 3)]
    rows = {"video": torch.arange(len(index)), "depth": torch.tensor(have, dtype=torch.long)}
    return Batch(torch.tensor(index), {"video": video, "depth": video[have, ..., :1]}, rows)


def test_a_shift_repeats_the_edge():
    x = torch.arange(4.0).reshape(1, 1, 2, 2, 1)
    assert shifted(x, torch.tensor([[1, 0]])).flatten().tolist() == [0, 1, 0, 1]
    assert shifted(x, torch.tensor([[0, -1]])).flatten().tolist() == [1, 1, 3, 3]


def test_signals_of_a_sample_move_together_and_samples_differently():
    before = batch()
    after = Shift(of=("video", "depth"), pixels=2)(before, Dice(0, 5, range(4)))
    assert torch.equal(after.tensor("depth")[..., 0], after.tensor("video")[[1, 3], ..., 0])
    offsets = {tuple((v - 100 * j)[0, 2:4, 2, 0].tolist()) for j, v in enumerate(after.tensor("video"))}
    assert len(offsets) > 1
    assert after.tensor("video").shape == before.tensor("video").shape


def test_a_sample_moves_the_same_way_in_any_cut_of_the_batch():
    shift = Shift(of=("video",), pixels=2)
    whole = shift(batch(), Dice(0, 5, range(4))).tensor("video")
    part = shift(batch((2, 3)), Dice(0, 5, (2, 3))).tensor("video")
    assert torch.equal(whole[2:], part)


def test_what_cannot_move_together_is_refused():
    uneven = batch()
    values = dict(uneven.values) | {"depth": torch.zeros(2, 2, 3, 5, 1)}
    with pytest.raises(ValueError, match="of one size"):
        Shift(of=("video", "depth"), pixels=1)(Batch(uneven.index, values, uneven.rows), Dice(0, 0, range(4)))
    with pytest.raises(ValueError, match="wrist"):
        Shift(of=("wrist",), pixels=1).check({"video": None})
    with pytest.raises(ValueError, match="at least one"):
        Shift(of=(), pixels=1)
