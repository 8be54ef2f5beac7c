"""What is kept in memory stays within its budget, and what is used goes last."""

from __future__ import annotations

import threading

import numpy as np

from polyclock.recent import Recent


def test_what_was_used_longest_ago_goes_first() -> None:
    recent: Recent[np.ndarray] = Recent(300)
    made: list[str] = []

    def get(key: str, size: int = 100) -> int:
        return recent.get(key, lambda: made.append(key) or np.zeros(size, np.uint8)).nbytes  # type: ignore[func-returns-value]

    for key in "abcab":
        get(key)
    assert made == ["a", "b", "c"]
    for key in "dabd":
        get(key)
    assert made == ["a", "b", "c", "d"], "c had to go"
    assert get("large", 1000) == get("large", 1000) == 1000, "one too large stays until another is asked for"
    get("a")
    get("b")
    assert made[4:] == ["large", "a", "b"]
    get("a")
    assert made[4:] == ["large", "a", "b"], "what was let go is off the budget"


def test_threads_have_one_value() -> None:
    recent: Recent[np.ndarray] = Recent(10)
    both = threading.Barrier(2)
    found: list[np.ndarray] = []

    def make() -> np.ndarray:
        both.wait(10)
        return np.zeros(8, np.uint8)

    threads = [threading.Thread(target=lambda: found.append(recent.get("key", make))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found[0] is found[1] and recent.get("key", make) is found[0]
    small = recent.get("other", lambda: np.zeros(2, np.uint8))
    assert recent.get("key", make) is found[0] and recent.get("other", make) is small, "it was counted once"
