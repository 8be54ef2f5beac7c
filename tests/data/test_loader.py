"""Batch k is a pure function of (seed, k): any workers, any ranks, any restart; faults reach the caller."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered import CAMERA, lerobot_v2

from polyclock.batch import Batch
from polyclock.data import Cached, Loader, Mixture, Sample, Windows, open_dataset
from polyclock.modality import Signal

pytestmark = pytest.mark.filterwarnings("ignore::polyclock.data.UntidyData")

NUMBER = {"n": Signal(key="n", kind="vector", shape=(1, 1))}


class Numbers:
    """Sample i holds i; some fail or hang."""

    def __init__(self, length: int, fail: int = -1, hang: int = -1) -> None:
        self.length, self.fail, self.hang = length, fail, hang
        self.free = threading.Event()
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Sample:
        self.asked.append(i)
        if i == self.fail:
            raise ValueError("episode 3, frame 9: damaged")
        if i == self.hang:
            self.free.wait()
        time.sleep(0.0005 * (i % 3))  # so that workers overtake each other
        return Sample({"n": np.array([[i]], np.float32)}, {}, f"item {i}")


def numbers(batch: Batch) -> list[int]:
    return batch.values["n"].flatten().int().tolist()


def same(a: Batch, b: Batch) -> bool:
    pairs = [(x[n], y[n]) for x, y in ((a.values, b.values), (a.rows, b.rows), (a.valid, b.valid)) for n in x]
    return torch.equal(a.index, b.index) and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    return open_dataset(lerobot_v2(tmp_path_factory.mktemp("l") / "arm", {0: 20, 1: 12, 2: 9}))


SIGNALS = {
    "video": Signal(key=CAMERA, kind="video", shape=(3, 16, 16, 3), rate=10.0),
    "action": Signal(key="action", kind="vector", shape=(4, 2)),
    "text": Signal(key="task", kind="text", shape=()),
    "wrist": Signal(key="observation.images.wrist", kind="video", shape=(1, 8, 8, 3)),
}


def test_workers_change_nothing(dataset) -> None:
    windows = Windows(dataset, SIGNALS)
    source = Mixture(((2, windows), (1, Windows(dataset.only([1]), SIGNALS))), seed=1)
    want = [Loader(source, SIGNALS, 6, seed=7).batch(k) for k in range(20)]
    for workers in (0, 1, 4):
        loader = Loader(source, SIGNALS, 6, seed=7, workers=workers)
        got = list(loader.stream(0, 20))
        assert [k for k, _ in got] == list(range(20))
        assert all(same(a, b) for a, (_, b) in zip(want, got, strict=True))
        assert loader.wait > 0
        k, batch = next(loader.stream(13))
        assert k == 13 and same(batch, want[13])
    assert not same(want[0], Loader(source, SIGNALS, 6, seed=8).batch(0))


def test_every_sample_once_per_epoch_and_none_dropped() -> None:
    loader = Loader(Numbers(23), NUMBER, 5, seed=0)
    order = [n for k in range(23) for n in numbers(loader.batch(k))]
    epochs = [order[e * 23 : (e + 1) * 23] for e in range(5)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    big = Loader(Numbers(3), NUMBER, 8, seed=0).batch(0)
    assert sorted(numbers(big)[:3]) == sorted(numbers(big)[3:6]) == [0, 1, 2]


@pytest.mark.parametrize("world", [2, 3, 6])
def test_ranks_share_the_global_batch(world: int) -> None:
    whole = Loader(Numbers(50), NUMBER, 6, seed=3)
    ranks = [Loader(Numbers(50), NUMBER, 6, seed=3, rank=r, world=world, workers=2) for r in range(world)]
    for k in (0, 7, 40):
        parts = [next(r.stream(k))[1] for r in ranks]
        assert sum((p.index.tolist() for p in parts), []) == list(range(6))
        assert sum((numbers(p) for p in parts), []) == numbers(whole.batch(k))


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_error_reaches_the_caller_at_its_batch(workers: int) -> None:
    loader = Loader(Numbers(40, fail=17), NUMBER, 4, seed=0, workers=workers)
    at = next((k, j) for k in range(10) for j in range(4) if loader.item(k, j) == (0, 17))
    seen = []
    with pytest.raises(
        ValueError, match=f"batch {at[0]}, place {at[1]} .item 17 of epoch 0.: episode 3, frame 9: damaged"
    ):
        for k, _ in loader.stream(0, 10):
            seen.append(k)
    assert seen == list(range(at[0]))


def workers_alive() -> int:
    return sum(t.name.startswith("polyclock-loader") for t in threading.enumerate())


@pytest.mark.parametrize("workers", [1, 4])
def test_a_worker_that_hangs_is_an_error_and_not_a_hang(workers: int) -> None:
    source = Numbers(40, hang=17)
    loader = Loader(source, NUMBER, 4, seed=0, workers=workers, timeout=0.4)
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"was not loaded within 0.4 s; still loading: batch .*item 17"):
        for _ in loader.stream(0, 10):
            pass
    assert time.monotonic() - begun < 10
    source.free.set()
    until = time.monotonic() + 5
    while workers_alive() and time.monotonic() < until:
        time.sleep(0.01)
    assert workers_alive() == 0


def test_a_worker_that_is_told_to_exit_is_an_error() -> None:
    class Exits(Numbers):
        def __getitem__(self, i: int) -> Sample:
            raise SystemExit(1)

    loader = Loader(Exits(10), NUMBER, 2, seed=0, workers=2, timeout=5)
    with pytest.raises(SystemExit):
        next(loader.stream(0))


def test_closing_the_stream_ends_the_workers() -> None:
    before = workers_alive()
    stream = Loader(Numbers(1000), NUMBER, 4, seed=0, workers=3).stream(0)
    next(stream)
    assert workers_alive() == before + 3
    stream.close()
    assert workers_alive() == before


def test_workers_stay_few_batches_ahead() -> None:
    source = Numbers(1000)
    stream = Loader(source, NUMBER, 4, seed=0, workers=2, ahead=3).stream(0)
    next(stream)
    time.sleep(0.3)
    assert len(source.asked) <= 4 * 3
    stream.close()


def test_settings_that_cannot_be() -> None:
    for source, settings in (
        (Numbers(0), {}),
        (Numbers(4), {"world": 3}),
        (Numbers(4), {"rank": 1}),
        (Numbers(4), {"workers": -1}),
    ):
        with pytest.raises(ValueError, match=r"no samples|cannot be shared|workers=-1"):
            Loader(source, NUMBER, 4, 0, **settings)


def test_cached_cameras_are_the_same_pictures(dataset, tmp_path: Path) -> None:
    want = Windows(dataset, SIGNALS)
    for folder in (None, tmp_path / "cache"):
        cached = Cached(dataset, SIGNALS, folder=folder)
        windows = Windows(cached, SIGNALS)
        for i in range(0, len(windows), 7):
            a, b = want[i], windows[i]
            assert (a.values["video"] == b.values["video"]).all() and (a.values["action"] == b.values["action"]).all()
        held = Windows(cached.without([0]), SIGNALS)
        assert (held[0].values["video"] == want[20].values["video"]).all()
        assert cached.fingerprint == dataset.fingerprint and cached.facts == dataset.facts
        assert cached.read(0, CAMERA, [0]).shape == (1, 64, 64, 3)
        with pytest.raises(ValueError, match="episode 0: frame 20 of 20"):
            cached.read(0, CAMERA, [20], (16, 16))


def test_a_cache_folder_is_decoded_once_and_never_half(
    dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    calls: list[int] = []
    read = type(dataset).read

    def counting(self, episode, key, frames, size=None):
        calls.append(episode)
        if len(calls) == 3 and key == CAMERA and size:
            raise ValueError("the disk went away")
        return read(self, episode, key, frames, size)

    monkeypatch.setattr(type(dataset), "read", counting)
    with pytest.raises(ValueError, match="the disk went away"):
        Cached(dataset, {CAMERA: (16, 16)}, folder=folder, workers=1)
    assert list(folder.iterdir()) == []
    Cached(dataset, {CAMERA: (16, 16)}, folder=folder)
    (file,) = folder.iterdir()
    written = file.stat().st_mtime_ns
    calls.clear()
    again = Cached(dataset, {CAMERA: (16, 16)}, folder=folder)
    assert len(calls) <= 1 and file.stat().st_mtime_ns == written
    assert again.read(2, CAMERA, [8], (16, 16)).shape == (1, 16, 16, 3)
    with pytest.raises(ValueError, match="unknown camera 'front'"):
        Cached(dataset, {"front": (16, 16)})


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room")
def test_a_disk_without_room_is_told_before_anything_is_decoded(
    dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a write through the map would be the signal SIGBUS."""

    def full(handle: int, start: int, size: int) -> None:
        assert (start, size) == (0, os.fstat(handle).st_size) and size > 9 * 16 * 16 * 3
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(Cached, "_decode", lambda *_: pytest.fail("something was decoded"))
    with pytest.raises(OSError, match="No space left"):
        Cached(dataset, {CAMERA: (16, 16)}, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_several_at_once_one_decodes(dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = Cached._decode

    def counting(self, array, key, size, episode):
        decoded.append(episode.index)
        decode(self, array, key, size, episode)

    monkeypatch.setattr(Cached, "_decode", counting)
    with ThreadPoolExecutor(3) as pool:
        many = list(pool.map(lambda _: Cached(dataset, {CAMERA: (16, 16)}, folder=tmp_path), range(3)))
    assert sorted(decoded) == [e.index for e in dataset.episodes]
    assert len({m.read(2, CAMERA, [8], (16, 16)).tobytes() for m in many}) == 1


def test_real_batches(real_data: Path) -> None:
    dataset = open_dataset(real_data / "gr00t_dreams_gr1_sim/demo_data/robot_sim.PickNPlace")
    signals = {
        "video": Signal(key="observation.images.ego_view", kind="video", shape=(2, 64, 64, 3), rate=5.0),
        "action": Signal(key="action", kind="vector", shape=(8, 44)),
    }
    windows = Windows(dataset, signals)
    want = [Loader(windows, signals, 4, seed=0).batch(k) for k in (2, 3)]
    got = [b for _, b in Loader(windows, signals, 4, seed=0, workers=4).stream(2, 4)]
    assert all(same(a, b) for a, b in zip(want, got, strict=True))
