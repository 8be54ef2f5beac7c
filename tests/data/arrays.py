"""What the tests of array formats share: episodes of random arrays, and whether a data set gives them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import strategies as st

from polyclock.data import Dataset, Windows
from polyclock.modality import Signal

Truth = Mapping[int, Mapping[str, np.ndarray]]  # episode -> column -> (length, *S)
# Signals of a window: rate in 1/s, start in frames of 20 a second, frames.
SIGNALS = st.tuples(st.sampled_from([None, 20.0, 10.0, 40.0, 5.0]), st.integers(-6, 6), st.integers(1, 6))


def episodes(lengths: Sequence[int], seed: int = 0, size: int = 12) -> dict[int, dict[str, np.ndarray]]:
    """{number: cameras front and wrist, action (7), state (5)}."""
    dice = np.random.default_rng(seed)
    return {
        i: {
            "front": dice.integers(0, 256, (n, size, size + 4, 3), dtype=np.uint8),
            "wrist": dice.integers(0, 256, (n, size, size, 3), dtype=np.uint8),
            "action": dice.uniform(-1, 1, (n, 7)),
            "state": dice.uniform(-3, 3, (n, 5)),
        }
        for i, n in enumerate(lengths)
    }


def agrees(dataset: Dataset, truth: Truth) -> None:
    """Every column of every episode is what was written: whole, out of order, twice over, none, and from threads."""
    assert {e.index: e.length for e in dataset.episodes} == {
        i: len(next(iter(columns.values()))) for i, columns in truth.items()
    }
    jobs = [(i, key, values) for i, columns in truth.items() for key, values in columns.items()]

    def compare(job: tuple[int, str, np.ndarray]) -> None:
        i, key, values = job
        values = values.astype(np.float32) if values.dtype.kind == "f" else values
        whole = dataset.read(i, key, range(len(values)))
        assert isinstance(whole, np.ndarray)
        assert whole.dtype == values.dtype and whole.shape == values.shape, (key, whole.dtype, whole.shape)
        np.testing.assert_array_equal(whole, values)
        for some in ([len(values) - 1, 0, len(values) // 2, 0], []):
            np.testing.assert_array_equal(dataset.read(i, key, some), values[np.array(some, int)])

    for job in jobs:
        compare(job)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(compare, jobs * 3))


def windows_agree(dataset: Dataset, truth: Truth, keys: Mapping[str, str], signal: tuple, stride: int) -> None:
    """Every window of `keys` (column -> kind) holds the written frames that it should, the ends repeated."""
    rate, start, frames = signal
    signals = {
        key: Signal(
            key=key,
            kind=kind,
            shape=(frames, *next(iter(truth.values()))[key].shape[1:]),
            rate=rate,
            start=start / 20,
        )
        for key, kind in keys.items()
    }
    windows = Windows(dataset, signals, stride)
    assert len(windows) == sum(-(-e.length // stride) for e in dataset.episodes)
    step = 1.0 if rate is None else 20 / rate
    for i in range(len(windows)):
        episode, anchor = windows.anchor(i)
        sample = windows[i]
        for key in keys:
            values = truth[episode][key]
            due = anchor + np.floor(start + np.arange(frames) * step + 0.5).astype(int)
            inside = np.clip(due, 0, len(values) - 1)
            expected = values[inside].astype(np.float32) if values.dtype.kind == "f" else values[inside]
            np.testing.assert_array_equal(sample.values[key], expected)
            assert (sample.valid[key] == (due == inside)).all()
