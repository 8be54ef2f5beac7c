"""Two sides that take turns in one process, and how sure the ratio of their times is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

Call = Callable[[], Any]


def turns(calls: dict[str, Call], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Seconds of each call in each round, by the wall and of the processor; who begins changes from round to round."""
    for call in calls.values():
        call()
    spent: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    names = list(calls)
    for k in range(rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            wall, processor = time.perf_counter(), time.process_time()
            calls[name]()
            spent[name].append({"wall": time.perf_counter() - wall, "processor": time.process_time() - processor})
    return spent


def order_interval(values: list[float]) -> tuple[float, float] | None:
    """95 % for the median, whatever the distribution: two order statistics; None for fewer than six values."""
    ordered, n = sorted(values), len(values)
    # The median lies outside the k-th least and the k-th largest with twice P(binomial(n, 1/2) < k).
    outside = [2 * sum(math.comb(n, i) for i in range(k)) / 2**n for k in range(1, n // 2 + 1)]
    k = sum(share <= 0.05 for share in outside)
    return (ordered[k - 1], ordered[n - k]) if k else None


def compared(spent: dict[str, list[dict[str, float]]], slow: str, fast: str) -> dict[str, Any]:
    """How many times as long `slow` takes as `fast`: the median over rounds of the ratio, and its interval."""
    found: dict[str, Any] = {}
    for clock in ("wall", "processor"):
        ratios = [a[clock] / b[clock] for a, b in zip(spent[slow], spent[fast], strict=True)]
        interval = order_interval(ratios)
        found[clock] = {
            "ratio": round(median(ratios), 4),
            "low": interval and round(interval[0], 4),
            "high": interval and round(interval[1], 4),
            "seconds": {name: round(median(s[clock] for s in spent[name]), 5) for name in (slow, fast)},
        }
    return found


def show(title: str, found: dict[str, Any]) -> None:
    for clock in ("wall", "processor"):
        one = found[clock]
        sure = "" if one["low"] is None else f" (95 %: {one['low']:.3f} to {one['high']:.3f})"
        seconds = ", ".join(f"{name} {value:.4f} s" for name, value in one["seconds"].items())
        print(f"  {title:28s} {clock:9s} {one['ratio']:8.3f}x{sure}   {seconds}", flush=True)
