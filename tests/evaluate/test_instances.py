"""Average precision of masks without confidences, counted by hand; and depth after a fit of its inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from polyclock.evaluate.instances import THRESHOLDS, PrecisionOf, found_instances
from polyclock.evaluate.kinds import About, measure


def strip(*ids: tuple[int, int]) -> Tensor:
    """(instance, class) of each of ten-pixel blocks -> (1, 1, 1, n, 2)."""
    return torch.tensor([pair for pair in ids for _ in range(10)])[None, None, None].int()


def precision(counts: Tensor, thresholds: int = len(THRESHOLDS)) -> float:
    return float(PrecisionOf(thresholds)(counts.flatten(1).sum(0).numpy()))


def test_the_truth_is_found_whole() -> None:
    true = strip((1, 1), (2, 1), (3, 2), (0, 0))
    counts = found_instances(true, true, (1, 2))
    assert counts[0, :, :2].tolist() == [[2, 2], [1, 1]] and counts[0, :, 2:].tolist() == [[2] * 10, [1] * 10]
    assert precision(counts) == 1
    # Other numbers for the same instances are the same instances.
    assert precision(found_instances(true * torch.tensor([7, 1]), true, (1, 2))) == 1


def test_half_found() -> None:
    """Of two true instances one is found whole, of the other 5 of 10 px; a third is invented: p = 2/3, r = 1 at 0.5."""
    true = strip((1, 1), (2, 1), (0, 0))
    guess = true.clone()
    guess[0, 0, 0, 15:20] = 0
    guess[0, 0, 0, 20:] = torch.tensor([5, 1], dtype=torch.int32)
    counts = found_instances(guess, true, (1,))
    assert counts[0, 0, :4].tolist() == [3, 2, 2, 1]
    half = 1 / 3 * 51 / 101  # found 1 of 3 predicted and of 2 true: recalls 0 to 0.50
    assert precision(counts) == pytest.approx((2 / 3 + 9 * half) / 10)
    assert precision(counts[..., :3], 1) == pytest.approx(2 / 3)


def test_what_is_not_found_and_what_is_not_there() -> None:
    true = strip((1, 1), (0, 0))
    assert precision(found_instances(torch.zeros_like(true), true, (1, 2))) == 0
    nothing = found_instances(true, torch.zeros_like(true), (1, 2))
    assert np.isnan(precision(nothing)), "no class truly occurs"
    # A class that truly occurs nowhere does not count, as in COCO.
    wrong = strip((1, 2), (0, 0))
    assert precision(found_instances(wrong, true, (1, 2))) == 0
    assert precision(found_instances(wrong, true)) == 1, "classes are not told apart"


def test_an_instance_that_changes_its_number_is_two() -> None:
    true = strip((1, 1), (0, 0)).repeat(1, 4, 1, 1, 1)
    guess = true.clone()
    guess[:, 3:, ..., 0] *= 2
    counts = found_instances(guess, true, (1,))
    assert counts[0, 0, :2].tolist() == [2, 1] and counts[0, 0, 2:].tolist() == [1] * 6 + [0] * 4  # it overlaps by 3/4
    merged = strip((1, 1), (1, 1))
    assert found_instances(merged, strip((1, 1), (2, 1)), (1,))[0, 0, :4].tolist() == [1, 2, 1, 0]


def test_windows_are_pooled() -> None:
    """Two windows: three found of four predicted, of four true ones."""
    true = torch.cat([strip((1, 1), (2, 1)), strip((1, 1), (2, 1))])
    guess = true.clone()
    guess[1, ..., 10:, 0] = 0
    guess[1, 0, 0, 10:13, 0] = 2
    counts = found_instances(guess, true, (1,))
    assert counts[:, 0, :3].tolist() == [[2, 2, 2], [2, 2, 1]]
    assert precision(counts) == pytest.approx(3 / 4 * 76 / 101)
    with pytest.raises(ValueError, match=r"segmentations have shapes \(2, 1, 1, 20, 2\) and \(1, 1, 1, 20, 2\)"):
        found_instances(guess, true[:1])


def test_it_is_measured_where_instances_are_told_apart() -> None:
    true = strip((1, 1), (2, 1), (0, 0))
    known = About(kind="segmentation", classes=(1,))
    assert set(measure(true, true, known)) == {"map", "map_half", "miou"}
    assert set(measure(true, true, About(kind="segmentation", classes=(1,), lost=("instance",)))) == {"miou"}
    alone = measure(true, true * torch.tensor([1, 0]), About(kind="segmentation", classes=(1,), lost=("class",)))
    assert set(alone) == {"map", "map_half"} and precision(alone["map"].view(1, 1, 12)) == 1
    none = measure(true, true * torch.tensor([0, 1]), known)["map"]
    assert np.isnan(precision(none.view(1, 1, 12))), "the data have no instances"


def test_depth_up_to_scale_and_shift_of_its_inverse() -> None:
    """1 / d = 2 / p + 0.1: a fit of the inverse finds it, one of the depth does not."""
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(1, 2, 8, 8, 1, generator=generator) * 4 + 1
    guess = 2 / (1 / true - 0.1)
    found = {k: float(v) for k, v in measure(guess, true, About(kind="depth")).items()}
    assert found["absrel_disparity"] == pytest.approx(0, abs=1e-6) and found["delta_disparity"] == 1
    assert found["absrel_fitted"] > 0.02 and found["absrel"] > 0.5 and found["delta"] < 0.5
