"""How far ahead predictions hold: chunks of the forward model chained on what it predicted itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..batch import Batch
from ..data.source import Dataset
from ..data.window import offsets
from .compare import MODEL, Plain
from .held_out import HeldOut, Place, spread
from .kinds import PICTURE
from .probing import Probing, primary, skipped
from .questions import Question
from .scores import Scores

CHUNKS = 8
FIRST = "copy first frame"
WHAT = (
    "Error of the forward model by chunk when each chunk starts from what it predicted before, with the recorded "
    "actions. Past pictures, also those of conditions, are rebuilt from predicted frames (the nearest in time); "
    "sentences stay; other conditions (the robot's state) are no longer given where the model was trained without "
    "them, else held as they were at the start."
)


def horizon(probing: Probing) -> Plain:
    """Errors of chunks 1 to 8, beside the first frame held still and beside actions of another window."""
    forward, held = probing.asked.get("forward"), probing.held
    if forward is None:
        return skipped(WHAT, "the model cannot be asked for the video of actions")
    films = probing.pictures(forward)
    advance = max(max(offsets(held.signals[n], held.fps)) for n in films)
    if advance < 1:
        return skipped(WHAT, "the predicted video does not reach beyond the present")
    chunks, places = _starts(held, advance, probing.windows)
    if chunks < 2:
        return skipped(WHAT, f"no held-out episode is long enough for two chunks of {advance} data frames")
    scores, strangers = probing.scores(), held.strangers(probing.seed, places)
    for begin in range(0, len(places), probing.batch_size):
        part = places[begin : begin + probing.batch_size]
        chain = Chain(probing, forward, part, advance, chunks)
        chain.run(scores, MODEL, part)
        chain.still(scores)
        keep = [p for p in part if p in strangers]
        if keep:
            Chain(probing, forward, keep, advance, chunks).run(scores, forward.control, [strangers[p] for p in keep])
    found = probing.found(WHAT, scores, chunks=chunks, seconds_per_chunk=advance / held.fps) | {"windows": len(places)}
    found["notes"].append(_said(found["comparisons"], chunks, advance / held.fps))
    return found


def _starts(held: HeldOut, advance: int, count: int) -> tuple[int, tuple[Place, ...]]:
    """As many chunks as fit into half of the episodes, at most 8, and `count` places where they fit."""
    episodes = len({p.episode for p in held.fitting(1)})
    for chunks in range(CHUNKS, 0, -1):
        places = held.fitting(1, (chunks - 1) * advance)
        if 2 * len({p.episode for p in places}) >= episodes:
            return chunks, spread(places, count)
    return 0, ()


def label(chunk: int) -> str:
    """What chunk 1, 2, ... is called."""
    return f"forward, chunk {chunk}"


class Film:
    """Frames of cameras that are known so far: film[column][data frames from the start] is (B, H, W, 3) uint8."""

    def __init__(self) -> None:
        self._frames: dict[str, dict[int, Tensor]] = {}

    def add(self, key: str, due: Sequence[int], frames: Tensor) -> None:
        """frames (B, T', H, W, 3) at `due` (T',); what is known already stays."""
        for i, at in enumerate(due):
            self._frames.setdefault(key, {}).setdefault(at, frames[:, i])

    def __contains__(self, key: str) -> bool:
        return key in self._frames

    def at(self, key: str, due: Sequence[int], size: tuple[int, int]) -> Tensor:
        """(B, T', *size, 3): for each time the frame nearest to it, of two the earlier."""
        known = sorted(self._frames[key])
        return torch.stack([_fit(self._frames[key][min(known, key=lambda k, d=d: abs(k - d))], size) for d in due], 1)


@dataclass
class Chain:
    """The forward model on its own predictions, from the windows at `places` (B) on."""

    probing: Probing
    forward: Question
    places: Sequence[Place]
    advance: int
    chunks: int

    def __post_init__(self) -> None:
        self.held, model = self.probing.held, self.probing.model
        self.films = self.probing.pictures(self.forward)
        forward = self.forward
        names = {*forward.wanted, *forward.given, *forward.conditions}
        self.truth = [self.held.gather(self._at(self.places, k), names) for k in range(self.chunks)]
        kinds = self.probing.reference.kinds
        # A condition that is no picture of a predicted camera and no sentence grows stale.
        self.stale = tuple(
            c for c in self.forward.conditions
            if kinds.get(c, PICTURE) != PICTURE and not model.conditions[c].required and model.conditions[c].drop > 0
        )  # fmt: skip

    def run(self, scores: Scores, series: str, actors: Sequence[Place]) -> None:
        """Predict all chunks with the recorded actions of the windows `actors` (B) and score them."""
        film = self._known()
        for k in range(self.chunks):
            here = self._at(self.places, k)
            actions = self.truth[k]
            if actors is not self.places:
                actions = self.held.gather(self._at(actors, k), self.forward.varied)
            asking = self.probing.asking(here, self._batch(film, k, actions))
            answer = asking.ask(self.forward if k == 0 else self.forward.without(self.stale))
            self._score(scores, series, k, here, answer)
            for name in self.films:
                signal, first = self.held.signals[name], self.forward.wanted[name]
                due = [k * self.advance + o for o in offsets(signal, self.held.fps)]
                film.add(signal.key, due[first:], answer[name][:, first:])

    def still(self, scores: Scores) -> None:
        """Score the first frame, held for all chunks."""
        now = {}
        for name in self.films:
            shape, key = self.truth[0].tensor(name).shape, self.held.signals[name].key
            frames = [self.held.dataset.read(p.episode, key, [p.frame], shape[2:4]) for p in self.places]
            now[name] = torch.stack([torch.as_tensor(f) for f in frames]).expand(shape)
        for k in range(self.chunks):
            self._score(scores, FIRST, k, self._at(self.places, k), now)

    def _score(self, scores: Scores, series: str, k: int, here: list[Place], answer: Mapping[str, Tensor]) -> None:
        data: Dataset = self.held.dataset
        scores.add(label(k + 1), series, here, dict(answer), self.truth[k].values, self.forward.wanted, data)

    def _at(self, places: Sequence[Place], k: int) -> list[Place]:
        return [Place(p.episode, p.frame + k * self.advance) for p in places]

    def _known(self) -> Film:
        """What is seen at the start: the pictures of conditions and the given first frames."""
        film, first = Film(), self.truth[0]
        for name in (*self.forward.conditions, *self.forward.given):
            if self.probing.reference.kinds.get(name) == PICTURE:
                due = offsets(self.held.signals[name], self.held.fps)[: self.forward.wanted.get(name)]
                film.add(self.held.signals[name].key, due, first.tensor(name)[:, : len(due)])
        return film

    def _batch(self, film: Film, k: int, actions: Batch) -> Batch:
        """What is given to chunk k (0, 1, ...): `actions` as recorded, the rest as the film and the start have it."""
        first, values = self.truth[0], {}
        predicted = {self.held.signals[n].key for n in self.films}
        for name in (*self.forward.conditions, *self.forward.given):
            signal, value = self.held.signals[name], first.values[name]
            if name in self.forward.varied:
                value = actions.values[name]
            elif signal.key in predicted and isinstance(value, Tensor):
                due = [k * self.advance + o for o in offsets(signal, self.held.fps)]
                value = film.at(signal.key, due, value.shape[2:4])
            values[name] = value
        rows = {n: torch.arange(len(self.places)) for n in values}
        return Batch(index=torch.arange(len(self.places)), values=values, rows=rows)


def _fit(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, *size, 3), averaged over areas where it is made smaller."""
    if tuple(frames.shape[1:3]) == tuple(size):
        return frames
    return interpolate(frames.movedim(-1, 1).float(), size, mode="area").movedim(1, -1).round().to(torch.uint8)


def _said(rows: Sequence[Plain], chunks: int, seconds: float) -> str:
    """Up to which chunk the forward model beats the first frame held still."""
    won = 0
    while won < chunks:
        at = label(won + 1)
        mine = primary(rows, lambda r, at=at: r["first"] == at and r["second"] == FIRST)
        if not mine or any(r["verdict"] != "better" for r in mine):
            break
        won += 1
    if not won:
        return "already in the first chunk forward does not beat the first frame held still"
    return f"forward beats the first frame held still up to chunk {won} of {chunks} ({won * seconds:g} s)"
