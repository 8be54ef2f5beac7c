"""Is the predicted world one world? Objects that stay and stay themselves, flow and depth that fit the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..data.source import Dataset, noted
from ..data.window import offsets
from . import agreement
from .baselines import COPY_FRAME
from .compare import CONTROL, MODEL, Plain
from .held_out import HeldOut, Place
from .kinds import PICTURE, camera_of
from .objects import Sought, mask_errors
from .probing import Probing, skipped
from .questions import Question
from .scores import Scores

WHAT = (
    "Objects of the recording are looked for in the predicted pictures: are they still there, where the recording has "
    "them, and do they look as they did? Predicted flow should carry one predicted picture into the next, edges of "
    "predicted depth should be edges of the picture, and what stands still should not flicker."
)
RECORDED = "the recording"
OTHER = f"{CONTROL} windows"
KINDS = ("flow", "depth", "segmentation")


@dataclass(frozen=True)
class Shot:
    """What a question shows of one camera: its film, and the maps that it wants, by kind; `predicted`: the film too."""

    film: str
    maps: Mapping[str, str]
    predicted: bool


@dataclass(frozen=True)
class Truth:
    """What is true of one camera's film in a batch of windows."""

    held: HeldOut
    film: str
    places: Sequence[Place]
    data: Dataset
    pictures: Tensor

    def _beside(self, kind: str) -> Tensor | None:
        return self.held.beside(kind, self.film, self.places, self.data)

    @cached_property
    def sought(self) -> Sought | None:
        """The objects; None where the data have no masks."""
        labels = self._beside("segmentation")
        return None if labels is None else Sought(self.pictures, labels)

    @cached_property
    def moving(self) -> Tensor | None:
        """(B, T, H, W) bool; None where the data have no flow."""
        return self.held.moving(self.film, self.places, self.data)

    def of_film(self, pictures: Tensor, first: int) -> dict[str, Tensor]:
        """Measures of pictures (B, T, H, W, 3) alone, from frame `first` on."""
        found = {} if self.sought is None else self.sought.errors(pictures, first)
        if pictures.shape[1] > 1:
            still = None if self.moving is None else ~self.moving
            begin = max(first - 1, 0)
            found["flicker"] = agreement.flicker(pictures[:, begin:], still if still is None else still[:, begin:])
        return {f"{self.film}.{kind}": numbers for kind, numbers in found.items()}


class Agreement:
    """How the maps of a shot are compared with its pictures and with each other: which frames lead to which."""

    def __init__(self, probing: Probing, scores: Scores, question: Question, shot: Shot) -> None:
        held, fps = probing.held, probing.held.fps
        self.shot, self.question = shot, question
        due = {n: offsets(held.signals[n], fps) for n in (shot.film, *shot.maps.values())}
        about = {kind: scores.about(name) for kind, name in shot.maps.items()}
        self.flow, self.depth, self.masks = (shot.maps.get(kind) for kind in KINDS)
        if self.flow and "scale" in about["flow"].lost:
            self.flow = None  # without its length it says nothing of places
        self.steps: dict[str, list[agreement.Step]] = {}
        self.notes: list[str] = []
        if self.flow:
            spans = noted(held.dataset).dense.get(held.signals[self.flow].key, {}).get("steps", 1)
            # Relative depth says nothing of what it should be elsewhere.
            ends = [shot.film] + ([self.depth] if self.depth and about["depth"].align == "none" else [])
            every = {n: agreement.steps(due[self.flow], spans, due[n]) for n in ends}
            self.steps = {n: self._due(found, n) for n, found in every.items()}
            self.notes = [
                f"{self.flow} is not compared with {n}: it leads {spans} data frames on, and no frame of {n} that it "
                "leads from has one there"
                for n in ends
                if not every[n]
            ]
        self.common: list[tuple[int, int]] = []
        if self.depth:
            both = [(i, due[shot.film].index(d)) for i, d in enumerate(due[self.depth]) if d in due[shot.film]]
            firsts = question.wanted[self.depth], question.wanted.get(shot.film, len(due[shot.film]))
            self.common = [(i, j) for i, j in both if i >= firsts[0] or j >= firsts[1]]

    def _due(self, every: Sequence[agreement.Step], other: str) -> list[agreement.Step]:
        """The steps of which something was predicted."""
        assert self.flow
        first, begin = self.question.wanted[self.flow], self.question.wanted.get(other)
        return [s for s in every if s.flow >= first or (begin is not None and s.end >= begin)]

    def errors(
        self,
        pictures: Tensor,
        maps: Mapping[str, Tensor],
        true: Mapping[str, Tensor],
        moving: Tensor | None,
        along: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """{"flow.warp_error": (B,) or (B, k), ...} of pictures (B, T, H, W, 3) and maps by name, (B, T, H, W, C).

        true: the maps of the recording; moving (B, T, H, W): pixels of it that move; along: maps whose depth the flow
        of `maps` is compared with, where it is not their own.
        """
        found: dict[str, Tensor] = {}
        size = pictures.shape[2:4]
        if self.flow and maps[self.flow].shape[2:4] == size:
            flow, seen = maps[self.flow], true[self.flow][..., 2] <= 0.5
            both = agreement.flow_and_pictures(pictures, flow, self.steps[self.shot.film], seen)
            found |= {f"{self.flow}.{kind}": numbers for kind, numbers in both.items()}
            if self.depth and self.steps.get(self.depth):
                depth = (along or maps)[self.depth]
                found[f"{self.depth}.depth_warp"] = agreement.flow_and_depth(depth, flow, self.steps[self.depth], seen)
        if self.depth and self.common and maps[self.depth].shape[2:4] == size:
            rows, columns = (list(part) for part in zip(*self.common, strict=True))
            depth, shown = maps[self.depth][:, rows], pictures[:, columns]
            found[f"{self.depth}.edge_agreement"] = agreement.depth_and_pictures(depth, shown)
            if moving is not None:
                near = agreement.depth_and_pictures(depth, shown, moving[:, columns])
                found[f"{self.depth}.edge_agreement_moving"] = near
        if self.masks:
            kept = mask_errors(maps[self.masks], true[self.masks], self.question.wanted[self.masks])
            found |= {f"{self.masks}.{kind}": numbers for kind, numbers in kept.items()}
        return found


def shots(probing: Probing, question: Question) -> list[Shot]:
    """What a question shows: films that it wants, and films that it is given whole with maps that it wants of them."""
    kinds, signals = probing.reference.kinds, probing.held.signals
    found = []
    for film in probing.pictures(question) + [n for n in _given(probing, question) if n not in question.wanted]:
        camera = camera_of(signals[film].key)
        mine = [n for n in question.wanted if kinds[n] in KINDS and camera_of(signals[n].key) == camera]
        maps = {kinds[n]: n for n in reversed(mine)}
        if film in question.wanted or maps:
            found.append(Shot(film, maps, film in question.wanted))
    return found


def _given(probing: Probing, question: Question) -> list[str]:
    """The pictures that a question is given as a whole."""
    pictures = [n for n in question.given if probing.reference.kinds[n] == PICTURE]
    return [n for n in pictures if any(n == head or n.startswith(f"{head}.") for head in question.of)]


def world(probing: Probing) -> Plain:
    """Objects, flow, depth and flicker of every question with predicted pictures, or maps of given ones.

    Beside it: the recording by the same measures, the present picture held, and the same model's answer about another
    window: its film in place of this one's, its maps beside this one's film.
    """
    scores, held = probing.scores(), probing.held
    notes = noted(held.dataset).dense
    seen = {camera_of(key) for key, note in notes.items() if note["kind"] in KINDS}
    plan = {
        name: [(s, Agreement(probing, scores, question, s)) for s in shots(probing, question)]
        for name, question in probing.asked.items()
    }
    plan = {n: [s for s in pairs if camera_of(held.signals[s[0].film].key) in seen] for n, pairs in plan.items()}
    plan = {name: pairs for name, pairs in plan.items() if pairs}
    if not plan:
        return skipped(WHAT, "the model predicts no pictures or maps of a camera of which the data know masks or maps")
    strangers = held.strangers(probing.seed, probing.places)
    for places, batch, data in probing.batches():
        asking = probing.recorded(places, batch)
        others = probing.elsewhere(places, strangers)
        keep = [j for j, p in enumerate(places) if p in strangers]
        truths = {
            s.film: Truth(held, s.film, places, data, batch.tensor(s.film)) for pairs in plan.values() for s, _ in pairs
        }
        for name, pairs in plan.items():
            answer, other = (who.ask(probing.asked[name]) for who in (asking, others))
            for shot, agreed in pairs:
                _score(scores, probing.asked[name], shot, agreed, truths[shot.film], batch.values, answer, other, keep)
    notes = [note for pairs in plan.values() for _, agreed in pairs for note in agreed.notes]
    return probing.found(WHAT, scores, notes=list(dict.fromkeys(notes)))


def _score(
    scores: Scores,
    question: Question,
    shot: Shot,
    agreed: Agreement,
    truth: Truth,
    values: Mapping[str, Tensor | list[str]],
    answer: Mapping[str, Tensor],
    other: Mapping[str, Tensor],
    keep: Sequence[int],
) -> None:
    """Score one shot of one question about a batch, beside the recording, the present held, and other windows."""
    real = {n: v for n in shot.maps.values() if isinstance(v := values[n], Tensor)}
    film = answer[shot.film] if shot.predicted else truth.pictures
    first = question.wanted.get(shot.film, 0)

    def put(series: str, found: Mapping[str, Tensor], rows: Sequence[int] | None = None) -> None:
        some = range(len(truth.places)) if rows is None else rows
        for key, numbers in found.items():
            scores.put(question.name, series, key, [truth.places[j] for j in some], numbers[list(some)].numpy())

    put(MODEL, agreed.errors(film, answer, real, truth.moving))
    put(RECORDED, agreed.errors(truth.pictures, real, real, truth.moving))
    if keep:
        put(OTHER, agreed.errors(film, other, real, truth.moving, along=answer), keep)
    if not shot.predicted:
        return
    put(MODEL, truth.of_film(film, first))
    put(RECORDED, truth.of_film(truth.pictures, first))
    signal, size = truth.held.signals[shot.film], film.shape[2:4]
    now = [truth.data.read(p.episode, signal.key, [p.frame], (size[0], size[1])) for p in truth.places]
    put(COPY_FRAME, truth.of_film(torch.stack([torch.as_tensor(f) for f in now]).expand_as(film), first))
    if keep:
        put(OTHER, truth.of_film(other[shot.film], first), keep)
