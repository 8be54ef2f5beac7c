"""A curriculum: sources that are learnt from one after another, each for so many batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from ..batch import Batch
from ..modality import Signal
from .loader import Loader
from .source import Source


class Stages:
    """(batches, source) in order. What is asked for behind the last batch comes from the last source."""

    def __init__(self, stages: Sequence[tuple[int, Source]]) -> None:
        if not stages or any(count < 1 for count, _ in stages):
            raise ValueError("a curriculum needs at least one stage, and each at least one batch")
        self.stages = tuple(stages)

    def __len__(self) -> int:
        return sum(len(source) for _, source in self.stages)

    def loader(
        self,
        signals: Mapping[str, Signal],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> StagedLoader:
        """Batches of all stages; the arguments are those of `Loader`."""
        loaders = [Loader(source, signals, batch_size, seed, rank, world, workers) for _, source in self.stages]
        return StagedLoader([count for count, _ in self.stages], loaders)


class StagedLoader:
    """Batch k of a run is batch k - first of the loader whose stage begins at batch `first`."""

    def __init__(self, counts: Sequence[int], loaders: Sequence[Loader]) -> None:
        self.loaders = tuple(loaders)
        self.first = tuple(accumulate(counts[:-1], initial=0))

    def stream(self, start: int, stop: int | None = None) -> Iterator[tuple[int, Batch]]:
        """(k, batch k) for k = start, start + 1, ... before `stop` (None: without end), as `Loader.stream`."""
        for loader, first, behind in zip(self.loaders, self.first, (*self.first[1:], stop), strict=True):
            ends = [n for n in (behind, stop) if n is not None]
            last = min(ends) if ends else None
            if last is None or start < last:
                stream = loader.stream(max(start, first) - first, None if last is None else last - first)
                try:
                    for k, batch in stream:
                        yield first + k, batch
                finally:
                    stream.close()  # type: ignore[attr-defined]
