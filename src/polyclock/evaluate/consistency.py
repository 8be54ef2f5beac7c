"""Do predicted pictures show the actions that they were predicted for? The inverse model is asked, and compared."""

from __future__ import annotations

from torch import Tensor

from .asking import Answer, Asking
from .compare import MODEL, Plain
from .probing import Probing, skipped
from .questions import Question
from .scores import Scores

WHAT = (
    "The actions that the inverse model reads off predicted pictures, compared with those that the pictures were "
    "predicted for (forward) or with (joint)."
)
TRUE = "the recorded video"
READING = 1  # the turn of the inverse model: actions must not agree with a film's because both began as the same noise


def consistency(probing: Probing) -> Plain:
    """The cycle error of forward and of joint, beside the recorded video and pictures of other actions."""
    inverse = probing.asked.get("inverse")
    if inverse is None:
        return skipped(WHAT, "the model cannot be asked which actions lead to a video")
    cycles = [q for n in ("forward", "joint") if (q := probing.asked.get(n)) and set(inverse.varied) <= set(q.wanted)]
    if not cycles:
        return skipped(WHAT, "the model cannot be asked for the video of actions")
    scores, strangers = probing.scores(), probing.held.strangers(probing.seed, probing.places)
    for places, batch, _ in probing.batches():
        asking = probing.recorded(places, batch)
        keep = [j for j, p in enumerate(places) if p in strangers]
        others = probing.elsewhere(places, strangers)
        for question in cycles:
            if question.name == "forward":
                _forward(scores, asking, others, keep, question, inverse)
            else:
                _joint(scores, asking, others, keep, question, inverse)
    return probing.found(WHAT, scores)


def _forward(
    scores: Scores, asking: Asking, others: Asking, keep: list[int], forward: Question, inverse: Question
) -> None:
    label, true = "forward, then inverse", {n: asking.batch.tensor(n) for n in inverse.wanted}
    mean = {n: scores.reference.spreads[n].mean.expand_as(v) for n, v in true.items()}
    told = _read_off(asking, inverse, asking.ask(forward))
    add = _adder(scores, asking, inverse, label)
    add(MODEL, told, true, None)
    add(TRUE, asking.ask(inverse, turn=READING), true, None)
    add("mean action", mean, true, None)
    if keep:
        other = asking.ask(forward, others.values(forward.varied))
        add(forward.control, _read_off(asking, inverse, other), true, keep)


def _joint(scores: Scores, asking: Asking, others: Asking, keep: list[int], joint: Question, inverse: Question) -> None:
    together = asking.ask(joint)
    if not set(inverse.wanted) <= set(together):
        return
    add = _adder(scores, asking, inverse, "joint, then inverse")
    add(MODEL, _read_off(asking, inverse, together), together, None)
    if keep:
        add("shuffled video", _read_off(asking, inverse, others.ask(joint)), together, keep)


def _adder(scores: Scores, asking: Asking, inverse: Question, label: str):
    """add(series, guess, true, windows or None for all)."""

    def add(series: str, guess: Answer, true: Answer, keep: list[int] | None) -> None:
        rows = list(range(len(asking.places))) if keep is None else keep
        scores.add(
            label,
            series,
            [asking.places[j] for j in rows],
            {n: guess[n][rows] for n in inverse.wanted},
            {n: true[n][rows] for n in inverse.wanted},
            inverse.wanted,
        )

    return add


def _read_off(asking: Asking, inverse: Question, film: Answer) -> Answer:
    """The inverse model's actions for predicted pictures film[name] (B, T', H, W, C)."""
    instead: dict[str, Tensor | list[str]] = {n: asking.encoded(n, film[n]) for n in inverse.varied}
    return asking.ask(inverse, instead, turn=READING)
