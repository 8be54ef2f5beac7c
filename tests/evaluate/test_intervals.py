"""Intervals against what they promise: coverage, known quantiles, known shares."""

from __future__ import annotations

import numpy as np
import pytest

from polyclock.evaluate.intervals import average, block_interval, paired_interval, pooled, student_t, wilson


@pytest.mark.parametrize("blocks", [8, 20])
def test_the_interval_covers_the_truth_as_often_as_it_says(blocks: int) -> None:
    """Windows of one block share most of their error, as windows of one second do."""
    rng = np.random.default_rng(0)
    hits, trials, inside = 0, 400, 5
    names = np.repeat(np.arange(blocks), inside).tolist()
    for trial in range(trials):
        shared = rng.normal(0, 1, blocks).repeat(inside)
        found = block_interval(0.3 + shared + rng.normal(0, 0.3, blocks * inside), names, seed=trial, resamples=2000)
        hits += found.low <= 0.3 <= found.high
    assert 0.9 <= hits / trials <= 0.99


def test_windows_taken_for_independent_would_not_cover() -> None:
    """The same data with a block per window: the reason for blocks, seen."""
    rng = np.random.default_rng(0)
    hits, trials = 0, 200
    for trial in range(trials):
        values = rng.normal(0, 1, 20).repeat(5) + rng.normal(0, 0.3, 100)
        found = block_interval(values, list(range(100)), seed=trial, resamples=500)
        hits += found.low <= 0 <= found.high
    assert hits / trials < 0.8


def test_the_mean_is_that_of_the_windows_and_blocks_of_any_size_count_by_windows() -> None:
    values, blocks = np.array([1.0, 2.0, 3.0, 10.0]), ["a", "a", "a", "b"]
    found = block_interval(values, blocks)
    assert found.mean == 4.0 and (found.n_windows, found.n_blocks) == (4, 2)
    assert found.low <= 2.0 and found.high >= 10.0 - 1e-9


def test_the_same_seed_gives_the_same_interval() -> None:
    values, blocks = np.random.default_rng(0).normal(size=30), [i // 3 for i in range(30)]
    assert block_interval(values, blocks, seed=3) == block_interval(values, blocks, seed=3)
    assert block_interval(values, blocks, seed=3) != block_interval(values, blocks, seed=4)


def test_one_block_has_a_mean_and_no_interval() -> None:
    found = block_interval(np.array([1.0, 2.0]), ["a", "a"])
    assert (found.mean, found.low, found.high) == (1.5, None, None)


def test_what_is_no_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="one block for each value"):
        block_interval(np.zeros(3), ["a"])
    with pytest.raises(ValueError, match="value 1 of 3 is not finite"):
        block_interval(np.array([0.0, np.nan, 1.0]), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.30265), (7, 2.36462), (19, 2.09302), (200, 1.97190)]
)
def test_student_t(degrees: int, quantile: float) -> None:
    assert student_t(0.975, degrees) == pytest.approx(quantile, rel=1e-4)


def test_wilson() -> None:
    """Newcombe 1998, table I: 81 of 263 and 0 of 20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(20, 20)[1] == 1.0
    with pytest.raises(ValueError, match="5 of 3 is no share"):
        wilson(5, 3)


def test_pairs_are_drawn_together() -> None:
    """What two answers share cancels, also where the number is a ratio of sums."""
    rng = np.random.default_rng(0)
    blocks, shared = [i // 4 for i in range(80)], rng.normal(0, 5, 80)
    a, b = shared + rng.normal(0.5, 0.1, 80), shared
    plain, pair = block_interval(a - b, blocks), paired_interval(a, b, blocks)
    assert (pair.mean, pair.low, pair.high) == pytest.approx((plain.mean, plain.low, plain.high))
    assert 0.4 < pair.low < pair.high < 0.6
    rows = np.stack([a, np.ones(80)], 1)
    assert pooled(rows, average) == pytest.approx(a.mean())
    same = paired_interval(rows, np.stack([b, np.ones(80)], 1), blocks, pool=average)
    assert (same.low, same.high) == pytest.approx((pair.low, pair.high))
    with pytest.raises(ValueError, match="pairs need values of one shape"):
        paired_interval(a, b[:3], blocks)


def test_a_ratio_of_sums_is_no_mean_of_ratios() -> None:
    rows = np.array([[1.0, 1.0], [0.0, 9.0], [1.0, 1.0], [0.0, 9.0]])
    found = block_interval(rows, ["a", "a", "b", "b"], pool=average)
    assert found.mean == 0.1 and (found.low, found.high) == (0.1, 0.1)


def test_resamples_that_hold_nothing_do_not_count() -> None:
    rows = np.array([[1.0, 2.0]] * 3 + [[0.0, 0.0]])
    with np.errstate(invalid="ignore"):
        found = block_interval(rows, [0, 1, 2, 3], pool=average)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
