"""Which of two policies succeeds more often on the same starts, and when enough episodes were run to say so.

McNemar's exact test looks at a fixed number of pairs. `Sequential` may be looked at after every episode: it bets
against "the share is at most p0" with likelihood ratios averaged over the shares above p0. That average is a
supermartingale where the claim is true, so it ever exceeds 2 / alpha with probability alpha / 2 at most (Ville 1939;
Robbins 1970, "Statistical methods related to the law of the iterated logarithm"), however long one looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .intervals import wilson

SHARES = 200  # alternatives that a sequential test averages over


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Outcomes of two policies on the same starts: how many both solved, the first alone, the second alone, neither."""

    both: int
    first: int
    second: int
    neither: int

    @classmethod
    def of(cls, first: Sequence[bool], second: Sequence[bool]) -> Pairs:
        """From successes (n,) of each. Errors: ValueError where their numbers differ or there are none."""
        if len(first) != len(second) or not len(first):
            raise ValueError(f"pairs need one outcome of each policy, got {len(first)} and {len(second)}")
        met = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
        return cls(
            both=met.count((True, True)),
            first=met.count((True, False)),
            second=met.count((False, True)),
            neither=met.count((False, False)),
        )

    @property
    def number(self) -> int:
        """How many pairs."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """Share of successes of the first minus that of the second."""
        return (self.first - self.second) / self.number

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided: how often as uneven a split of the discordant pairs comes by fair coins."""
        n, few = self.first + self.second, min(self.first, self.second)
        return min(1.0, 2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n)

    def interval(self) -> tuple[float, float]:
        """95 % interval of the difference, from Wilson's intervals of both shares and their correlation.

        Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
        data", method 10: a correlation above 0 is corrected for continuity, towards 0.
        """
        n = self.number
        won, lost = self.both + self.first, self.both + self.second
        (low_a, high_a), (low_b, high_b) = wilson(won, n), wilson(lost, n)
        a, b = won / n, lost / n
        spread = math.sqrt(won * (n - won) * lost * (n - lost))
        product = self.both * self.neither - self.first * self.second
        phi = (max(0.0, product - n / 2) if product > 0 else product) / spread if spread else 0.0
        below = (a - low_a) ** 2 - 2 * phi * (a - low_a) * (high_b - b) + (high_b - b) ** 2
        above = (high_a - a) ** 2 - 2 * phi * (high_a - a) * (b - low_b) + (b - low_b) ** 2
        return a - b - math.sqrt(max(0.0, below)), a - b + math.sqrt(max(0.0, above))

    def plain(self) -> dict[str, float | int]:
        """Counts, p-value and difference with its interval, as a dict that JSON can hold."""
        low, high = self.interval()
        return asdict(self) | {"p_value": self.p_value, "difference": self.difference, "low": low, "high": high}

    def sentence(self, first: str, second: str, alpha: float = 0.05) -> str:
        """What the test says, with its p-value and counts."""
        counts = f"both {self.both}, only {first} {self.first}, only {second} {self.second}, neither {self.neither}"
        better, worse = (first, second) if self.first > self.second else (second, first)
        told = f"{better} beats {worse}" if self.p_value < alpha else f"{first} and {second} are not told apart"
        return f"{told}: McNemar p = {self.p_value:.3g} on {self.number} pairs ({counts})"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a sequential test says: "above", "below" or "undecided" after `trials` outcomes, `successes` of them good.

    p_above, p_below: valid p-values, at any stopping time, of "the share is at most the threshold" and "at least".
    """

    word: str
    trials: int
    successes: int
    p_above: float
    p_below: float

    def plain(self) -> dict[str, float | int | str]:
        """As a dict that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Sequential:
    """A test of whether a share lies above or below `threshold`, good to be looked at after every outcome.

    Whatever the share, it ever says what is wrong with probability `alpha` at most: half of it goes to "above", where
    the share is at most the threshold, half to "below", where it is at least that. For two policies on the same starts
    the outcomes are those of the discordant pairs (`discordant`) and the threshold is 1/2.
    """

    threshold: float = 0.5
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1 or not 0 < self.alpha < 1:
            raise ValueError(
                f"threshold={self.threshold} and alpha={self.alpha} must lie between 0 and 1, both ends excluded"
            )

    def verdict(self, outcomes: Sequence[bool]) -> Verdict:
        """The verdict at the first outcome that decides, in their order; later ones change nothing."""
        won = np.asarray(outcomes, bool)
        above, below = self._evidence(won), Sequential(threshold=1 - self.threshold)._evidence(~won)
        limit = math.log(2 / self.alpha)
        decided = np.flatnonzero((above >= limit) | (below >= limit))
        trials = int(decided[0]) + 1 if len(decided) else len(won)
        best = [float(max(0.0, e[:trials].max(initial=0.0))) for e in (above, below)]
        word = "undecided" if not len(decided) else "above" if above[decided[0]] >= limit else "below"
        return Verdict(
            word=word,
            trials=trials,
            successes=int(won[:trials].sum()),
            p_above=math.exp(-best[0]),
            p_below=math.exp(-best[1]),
        )

    def _evidence(self, won: np.ndarray) -> np.ndarray:
        """(n,) bool -> (n,) the logarithm of what a bettor of 1 against "share <= threshold" holds after each."""
        p0 = self.threshold
        shares = p0 + (1 - p0) * (np.arange(SHARES) + 0.5) / SHARES
        good = np.cumsum(won)[:, None]
        bad = np.arange(1, len(won) + 1)[:, None] - good
        each = good * np.log(shares / p0) + bad * np.log((1 - shares) / (1 - p0))
        top = each.max(1, initial=-math.inf, keepdims=True)
        return (top[:, 0] + np.log(np.exp(each - top).mean(1))) if len(won) else np.zeros(0)


def discordant(first: Sequence[bool], second: Sequence[bool]) -> list[bool]:
    """Of the pairs in which one policy alone succeeded, in order: whether it was the first."""
    return [bool(a) for a, b in zip(first, second, strict=True) if bool(a) != bool(b)]
