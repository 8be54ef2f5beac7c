"""Batches by number: batch k is a pure function of (seed, k), whoever loads it and however often training restarted.

Workers are threads. Decoding, resizing and array copies leave the interpreter lock, so threads load in parallel;
they share the file indices, open decoders and columns of numbers; samples need not cross a process border; and there
is no child that could be killed, leak shared memory or outlive its parent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache

from ..batch import Batch
from ..modality import Signal
from .collate import collate
from .mixture import draw, shuffled
from .source import Sample, Source


class Loader:
    """Batches of `source`, every sample once per epoch in an order that depends on (seed, epoch) alone.

    Sample number n = k batch_size + j of the run is place n mod len of epoch n // len, so batches run across the
    border of epochs and nothing is dropped. `batch_size` is global: rank r of `world` gets the r-th part of each
    batch, and `Batch.index` holds the places j in the global batch. `wait` is the number of seconds that `stream` kept
    its caller waiting. Errors: ValueError for an empty source or a batch that `world` does not divide.
    """

    def __init__(
        self,
        source: Source,
        signals: Mapping[str, Signal],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        *,
        ahead: int = 3,
        timeout: float = 300.0,
    ) -> None:
        if not len(source):
            raise ValueError("the source has no samples")
        if batch_size < 1 or world < 1 or batch_size % world or not 0 <= rank < world:
            raise ValueError(f"batch_size={batch_size} cannot be shared by world={world} (rank {rank})")
        if workers < 0 or ahead < 1:
            raise ValueError(f"workers={workers} must be at least 0 and ahead={ahead} at least 1")
        self.source = source
        self.signals = dict(signals)
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers
        self.ahead = ahead
        self.timeout = timeout
        self.wait = 0.0
        self._order = lru_cache(4)(shuffled)  # of the epochs that coming batches lie in
        share = batch_size // world
        self.places = range(rank * share, (rank + 1) * share)

    def item(self, k: int, j: int) -> tuple[int, int]:
        """Place j of global batch k -> (epoch, item of the source)."""
        size = len(self.source)
        epoch, place = divmod(k * self.batch_size + j, size)
        return epoch, int(self._order(size, self.seed, "epoch", epoch)[place])

    def sample(self, k: int, j: int) -> Sample:
        """The sample at place j of global batch k; errors name it."""
        epoch, i = self.item(k, j)
        try:
            return draw(self.source, epoch, i)
        except Exception as error:
            kind = ValueError if isinstance(error, ValueError) else RuntimeError
            what = str(error) if kind is ValueError else f"{type(error).__name__}: {error}"
            raise kind(f"batch {k}, place {j} (item {i} of epoch {epoch}): {what}") from error

    def batch(self, k: int) -> Batch:
        """This rank's share of global batch k."""
        return collate([self.sample(k, j) for j in self.places], self.places, self.signals)

    def stream(self, start: int, stop: int | None = None) -> Iterator[tuple[int, Batch]]:
        """(k, batch k) for k = start, start + 1, ... before `stop` (None: without end), prepared ahead by the workers.

        Errors: those of `batch`, at the batch they belong to; TimeoutError naming the sample when a batch is not there
        after `timeout` seconds. Closing the iterator ends its workers.
        """
        crew = _Crew(self, start, stop) if self.workers else None
        try:
            k = start
            while stop is None or k < stop:
                begun = time.perf_counter()
                try:
                    batch = crew.take(k) if crew else self.batch(k)
                finally:
                    self.wait += time.perf_counter() - begun
                yield k, batch
                k += 1
        finally:
            if crew:
                crew.close()


class _Crew:
    """Threads that load the samples of coming batches, in order, at most `ahead` batches before the caller."""

    def __init__(self, loader: Loader, start: int, stop: int | None) -> None:
        self.loader = loader
        self.stop = stop
        self.changed = threading.Condition()
        self.taken = start  # the batch the caller waits for
        self.k, self.n = start, 0  # the next sample to be loaded
        self.loaded: dict[int, dict[int, Sample | BaseException]] = {}
        self.ready: dict[int, Batch | BaseException] = {}
        self.busy: dict[int, tuple[int, int]] = {}
        self.closed = False
        self.threads = [
            threading.Thread(target=self._work, args=(w,), name=f"polyclock-loader-{w}", daemon=True)
            for w in range(loader.workers)
        ]
        for thread in self.threads:
            thread.start()

    def _next(self, worker: int) -> tuple[int, int] | None:
        """The next (batch, place) to load; None when there is none left."""
        places = self.loader.places
        with self.changed:
            while not self.closed:
                if self.stop is not None and self.k >= self.stop:
                    return None
                if self.k < self.taken + self.loader.ahead:
                    task = self.k, places[self.n]
                    self.n += 1
                    if self.n == len(places):
                        self.k, self.n = self.k + 1, 0
                    self.busy[worker] = task
                    return task
                self.changed.wait()
            return None

    def _work(self, worker: int) -> None:
        while (task := self._next(worker)) is not None:
            k, j = task
            result: Sample | BaseException
            try:
                result = self.loader.sample(k, j)
            except BaseException as error:
                result = error
            with self.changed:
                del self.busy[worker]
                samples = self.loaded.setdefault(k, {})
                samples[j] = result
                whole = len(samples) == len(self.loader.places)
                if whole:
                    del self.loaded[k]
            if whole:
                self._finish(k, samples)

    def _finish(self, k: int, samples: dict[int, Sample | BaseException]) -> None:
        places = self.loader.places
        failed = next((s for j in places if isinstance(s := samples[j], BaseException)), None)
        result: Batch | BaseException
        try:
            good = [s for j in places if isinstance(s := samples[j], Sample)]
            result = failed or collate(good, places, self.loader.signals)
        except BaseException as error:
            result = error
        with self.changed:
            self.ready[k] = result
            self.changed.notify_all()

    def take(self, k: int) -> Batch:
        with self.changed:
            self.taken = k
            self.changed.notify_all()
            if not self.changed.wait_for(lambda: k in self.ready, self.loader.timeout):
                stuck = ", ".join(f"batch {b}, place {j} (item {self.loader.item(b, j)[1]})" for b, j in
                                  self.busy.values())  # fmt: skip
                raise TimeoutError(f"batch {k} was not loaded within {self.loader.timeout:g} s; still loading: {stuck}")
            result = self.ready.pop(k)
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """End the threads; one that hangs in a read is left behind, it does not keep the process alive."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        for thread in self.threads:
            thread.join(timeout=min(5.0, self.loader.timeout))
