"""Paired and sequential tests against published numbers, exact sums and their own error rates by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polyclock.evaluate.paired import Pairs, Sequential, discordant


def test_pairs_are_counted_and_the_exact_test_is_a_fair_coin() -> None:
    first = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1]
    second = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    found = Pairs.of(first, second)
    assert (found.both, found.first, found.second, found.neither) == (3, 6, 0, 2)
    assert found.p_value == 2 / 2**6
    assert found.difference == pytest.approx(6 / 11)
    assert Pairs.of(second, first).p_value == found.p_value
    assert Pairs(both=9, first=0, second=0, neither=1).p_value == 1.0
    assert Pairs(both=0, first=2, second=2, neither=0).p_value == 1.0
    # 12 against 3: twice the lower tail of a binomial, summed by hand.
    tail = (1 + 15 + 105 + 455) / 2**15
    assert Pairs(both=20, first=12, second=3, neither=15).p_value == pytest.approx(2 * tail)


def test_the_sentence_names_the_better_one_only_where_the_test_rejects() -> None:
    clear = Pairs(both=20, first=1, second=14, neither=15).sentence("ours", "theirs")
    assert clear.startswith("theirs beats ours: McNemar p = 0.000977 on 50 pairs")
    assert "only ours 1" in clear and "only theirs 14" in clear and "both 20" in clear and "neither 15" in clear
    assert "not told apart" in Pairs(both=20, first=4, second=9, neither=17).sentence("ours", "theirs")


def test_pairs_of_different_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        Pairs.of([True, False], [True])
    with pytest.raises(ValueError, match="got 0 and 0"):
        Pairs.of([], [])


def test_the_interval_of_the_difference_covers_it() -> None:
    """Correlated outcomes with a known difference of shares, over 50 pairs as in an evaluation."""
    rng = np.random.default_rng(0)
    for both, first, second in ((0.5, 0.2, 0.1), (0.3, 0.0, 0.3), (0.85, 0.05, 0.05), (0.05, 0.1, 0.05)):
        chances = (both, first, second, 1 - both - first - second)
        hits, trials = 0, 1500
        for n in rng.multinomial(50, chances, size=trials):
            low, high = Pairs(both=int(n[0]), first=int(n[1]), second=int(n[2]), neither=int(n[3])).interval()
            hits += low <= first - second <= high
        assert 0.93 <= hits / trials <= 1.0
    low, high = Pairs(both=25, first=10, second=5, neither=10).interval()
    assert -1 <= low < 0.1 < high <= 1


def test_the_interval_of_a_published_table() -> None:
    """Fagerland, Lydersen and Laake (2014) give -0.507 to -0.026 for the 21 pairs of Bentur et al. (2009)."""
    low, high = Pairs(both=1, first=1, second=7, neither=12).interval()
    assert (round(low, 3), round(high, 3)) == (-0.507, -0.026)
    # So few pairs that the correlation seen is within its correction count as uncorrelated.
    mirrored = Pairs(both=1, first=7, second=1, neither=12).interval()
    assert mirrored == pytest.approx((-high, -low))


def test_without_correlation_the_interval_is_that_of_two_wilson_intervals() -> None:
    """phi = 0: the distances add up squared, worked by hand for 50 % against 50 % of 100 pairs."""
    low, high = Pairs(both=25, first=25, second=25, neither=25).interval()
    z2 = 1.959964**2
    half = 0.5 * math.sqrt(z2 / (100 + z2))
    assert high == pytest.approx(math.sqrt(2) * half, rel=1e-6) and low == pytest.approx(-high)


@pytest.mark.parametrize("share", [0.6, 0.4, 0.05])
def test_a_false_alarm_is_as_rare_as_promised_though_every_episode_is_looked_at(share: float) -> None:
    """At or under the threshold of 0.6, 400 looks: "above" in at most 2.5 % (three standard errors allowed)."""
    test, rng, trials = Sequential(threshold=0.6), np.random.default_rng(1), 500
    said = [test.verdict(rng.random(400) < share).word for _ in range(trials)]
    assert said.count("above") / trials <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / trials)
    if share < 0.5:
        assert said.count("below") == trials


def test_policies_that_are_equally_good_are_seldom_told_apart() -> None:
    """The discordant pairs are fair coins: either verdict is wrong, and both together come in at most 5 % of runs."""
    test, rng, trials = Sequential(), np.random.default_rng(4), 1000
    said = [test.verdict(rng.random(400) < 0.5).word for _ in range(trials)]
    assert 0 < trials - said.count("undecided") <= trials * 0.05


def test_looking_at_a_fixed_test_as_often_would_raise_false_alarms() -> None:
    """The reason for the sequential test, seen: an exact binomial test at 5 % looked at 100 times."""
    rng, trials, alarms = np.random.default_rng(2), 300, 0
    tails = {}
    for n in range(1, 101):
        pmf = np.array([math.comb(n, k) / 2**n for k in range(n + 1)])
        tails[n] = pmf[::-1].cumsum()[::-1]
    for _ in range(trials):
        good = np.cumsum(rng.random(100) < 0.5)
        alarms += any(tails[n][good[n - 1]] <= 0.05 for n in range(1, 101))
    assert alarms / trials > 0.12


def test_what_is_far_from_the_threshold_is_told_within_an_evaluation() -> None:
    test, rng, trials = Sequential(threshold=0.5), np.random.default_rng(3), 400
    found = [test.verdict(rng.random(50) < 0.8) for _ in range(trials)]
    assert sum(v.word == "above" for v in found) / trials > 0.9
    assert np.mean([v.trials for v in found]) < 30
    assert all(v.p_above <= 0.05 for v in found if v.word == "above")


def test_the_verdict_is_the_first_and_more_outcomes_do_not_change_it() -> None:
    test = Sequential(threshold=0.5)
    early = test.verdict([True] * 9)
    assert early.word == "above" and early.trials < 9 and early.successes == early.trials
    assert test.verdict([True] * early.trials + [False] * 500) == early
    assert test.verdict([True] * (early.trials - 1)).word == "undecided"
    empty = test.verdict([])
    assert (empty.word, empty.trials, empty.p_above, empty.p_below) == ("undecided", 0, 1.0, 1.0)
    down = test.verdict([False] * 9)
    assert (down.word, down.trials, down.p_below) == ("below", early.trials, pytest.approx(early.p_above))


def test_the_evidence_is_the_averaged_likelihood_ratio() -> None:
    """Three successes and one failure at 1/2: the integral of 2 q^3 (1 - q) 16 over q from 1/2 to 1."""
    found = Sequential(threshold=0.5)._evidence(np.array([True, False, True, True]))
    exact = 2 * 16 * ((1 / 4 - 1 / 5) - (1 / 64 - 1 / 160))
    assert math.exp(found[-1]) == pytest.approx(exact, rel=1e-4)


def test_of_pairs_only_the_discordant_count() -> None:
    assert discordant([1, 1, 0, 0, 1], [1, 0, 1, 0, 0]) == [True, False, True]


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"threshold": 1.0}, {"alpha": 0.0}, {"alpha": 1.5}])
def test_a_test_that_cannot_be_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        Sequential(**wrong)
