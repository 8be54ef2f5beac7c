"""What every probe works with: the model, the held-out windows, its questions, and a way to say what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..batch import Batch
from ..data.source import Dataset
from ..guidance import Guide
from ..model import WorldModel
from ..recent import Recent
from .asking import Answered, Asking
from .compare import CONTROL, MODEL, Block, Plain, compare, summary
from .held_out import HeldOut, Place, spread
from .kinds import PICTURE, spec
from .questions import Question
from .reference import Reference
from .scores import Scores

KEPT = 2**29  # bytes of answers: what one probe has asked of a window the next one need not


@dataclass(frozen=True, kw_only=True)
class Probing:
    """The setting of a probe; `windows` is how many windows (or starts of a world) it looks at, at most.

    `spread_steps` are the solver's where answers are to differ as widely as they should, which one step cannot give.
    """

    model: WorldModel
    held: HeldOut
    asked: Mapping[str, Question]
    reference: Reference
    windows: int = 16
    steps: int = 10
    spread_steps: int = 10
    batch_size: int = 16
    seed: int = 0
    resamples: int = 10_000
    guides: Sequence[Guide] = ()
    known: Recent[Answered] = field(default_factory=lambda: Recent(KEPT))

    def scores(self) -> Scores:
        """An empty table."""
        return Scores(self.held, self.reference, self.model)

    def asking(self, places: Sequence[Place], batch: Batch, steps: int | None = None) -> Asking:
        """Questions about a batch, in `steps` of the solver (None: the probe's)."""
        return Asking(self.model, places, batch, steps or self.steps, self.seed, self.guides)

    def recorded(self, places: Sequence[Place], batch: Batch) -> Asking:
        """Questions about windows as they were recorded, whose answers are kept."""
        return Asking(self.model, places, batch, self.steps, self.seed, self.guides, self.known)

    def elsewhere(self, places: Sequence[Place], strangers: Mapping[Place, Place]) -> Asking:
        """Questions about the window that stands in for each of `places`, with that window's own noise."""
        theirs = [strangers.get(p, p) for p in places]
        return self.recorded(theirs, self.held.gather(theirs))

    def batches(self) -> Iterator[tuple[list[Place], Batch, Dataset]]:
        """Batches of the windows that are looked at."""
        return self.held.batches(self.batch_size, self.places)

    @property
    def places(self) -> tuple[Place, ...]:
        """The windows that are looked at."""
        return spread(self.held.places, self.windows)

    def pictures(self, question: Question) -> list[str]:
        """The pictures that a question wants."""
        return [n for n in question.wanted if self.reference.kinds[n] == PICTURE]

    def found(self, what: str, scores: Scores, block: Block | None = None, **more: Any) -> Plain:
        """The document of a probe: {"what", "rows": {label: {"errors", "beside"}}, "comparisons", ...}."""
        table, block = scores.table, block or self.held.block
        labels = dict.fromkeys(label for label, _ in table)
        how = {"seed": self.seed, "resamples": self.resamples}
        pairs = [
            ((label, MODEL), (label, series), key)
            for label, series in sorted(table, key=lambda at: not at[1].startswith(CONTROL))
            for key in table[label, series]
            if series != MODEL and key in table[label, MODEL]
        ]
        windows = {place for measures in table.values() for rows in measures.values() for place in rows}
        return {
            "what": what,
            "windows": len(windows),
            "rows": {label: summary(table, label, block, **how) for label in labels},
            "comparisons": compare(pairs, table, block, **how),
            "notes": [],
            **more,
        }


def skipped(what: str, why: str) -> Plain:
    """The document of a probe that could not be made."""
    return {"what": what, "windows": 0, "rows": {}, "comparisons": [], "notes": [f"not measured: {why}"]}


def primary(rows: Iterable[Plain], where: Callable[[Plain], bool]) -> list[Plain]:
    """The comparisons by main measures that hold `where`."""
    return [row for row in rows if spec(row["measure"]).primary and where(row)]
