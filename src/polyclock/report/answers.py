"""The part of a report that is looked at: given, predicted and true, side by side, for every question."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..evaluate.questions import Question
from .chart import Line, chart, legend
from .markup import Markup, element
from .scenes import Scene, Scenes
from .strips import strip

DIMENSIONS = 4  # of a vector that are drawn: those that move most
MEANING = {
    "policy": "What to do, from the present alone.",
    "forward": "What will be seen if these actions are taken.",
    "inverse": "Which actions lead to what was seen.",
    "video": "What will be seen, whatever is done.",
    "joint": "Actions and pictures together.",
}


def answers(scenes: Scenes) -> list[Markup]:
    """One section per question, one player per window."""
    moving = {name: _moving(scenes, name) for name in _vectors(scenes)}
    out = []
    for question in scenes.asked:
        head = element("h3", question.name, " ", element("code", question.query))
        rows = [_row(scenes, scene, question, moving) for scene in scenes.scenes]
        out.append(element("section", head, element("p", MEANING.get(question.name, "")), rows, class_="question"))
    return out


def _row(scenes: Scenes, scene: Scene, question: Question, moving: dict[str, list[int]]) -> Markup:
    """One window: strips, curves, and the handle that moves them."""
    strips = [*_given(scenes, scene, question), *_asked(scenes, scene, question)]
    curves = [*_curves(scenes, scene, question, moving)]
    named = {line.label: line for lines, _ in curves for line in lines}
    drawn = [element("div", [figure for _, figure in curves], class_="grid")]
    drawn.append(element("div", legend([*named.values()]), class_="legend"))
    times = sorted({t for n in (*question.wanted, *question.given) for t in scenes.times(n)} | {0.0})
    handle = element(
        "div",
        element("button", "Play", type="button", class_="play"),
        element("input", type="range", min=0, max=1, value=0, step=1, aria_label="time"),
        element("output", ""),
        class_="handle",
    )
    caption = f"Episode {scene.place.episode} at {scene.seconds:.1f} s"
    return element(
        "div",
        element("h4", caption, *_sentences(scene, question)),
        element(
            "div",
            element("div", strips, class_="strips") if strips else None,
            element("div", drawn, class_="curves") if curves else None,
            class_="sides",
        ),
        handle,
        class_="player",
        data_times=" ".join(f"{t:g}" for t in times),
    )


def _sentences(scene: Scene, question: Question) -> Iterator[Markup]:
    for name in question.conditions:
        value = scene.values.get(name)
        if isinstance(value, str):
            yield element("span", f"given {name}: “{value}”", class_="sentence")


def _given(scenes: Scenes, scene: Scene, question: Question) -> Iterator[Markup]:
    """Strips of what was given: one for each camera among the conditions, and the given pictures."""
    longest: dict[str, str] = {}
    for name in question.conditions:
        value = scene.values.get(name)
        if isinstance(value, np.ndarray) and value.ndim == 4:
            key = scenes.signals[name].key
            if key not in longest or len(value) > len(scene.values[longest[key]]):
                longest[key] = name
    for name in longest.values():
        yield _strip(scenes, scene.values[name], name, "given", 0, None)
    for name in question.given:
        value = scene.values[name]
        if isinstance(value, np.ndarray) and value.ndim == 4:
            yield _strip(scenes, value, name, "given", 0, question.wanted.get(name))


def _asked(scenes: Scenes, scene: Scene, question: Question) -> Iterator[Markup]:
    for name, first in question.wanted.items():
        value = scene.values[name]
        if isinstance(value, np.ndarray) and value.ndim == 4:
            yield _strip(scenes, scene.answers[question.name][name], name, "predicted", first, None)
            yield _strip(scenes, value, name, "true", first, None)


def _strip(scenes: Scenes, value: np.ndarray | str, name: str, word: str, first: int, stop: int | None) -> Markup:
    assert isinstance(value, np.ndarray)
    return strip(value[first:stop], scenes.times(name)[first:stop], f"{word}: {name}")


def _curves(
    scenes: Scenes, scene: Scene, question: Question, moving: dict[str, list[int]]
) -> Iterator[tuple[list[Line], Markup]]:
    """(lines, chart) of the dimensions that move most: predicted and true, or given."""
    for name in (*question.wanted, *(n for n in question.given if n not in question.wanted)):
        value = scene.values[name]
        if name not in moving or not isinstance(value, np.ndarray):
            continue
        times = scenes.times(name)
        for d in moving[name]:
            if name in question.wanted:
                first = question.wanted[name]
                guess = scene.answers[question.name][name]
                lines = [
                    Line(label="true", x=times, y=value[:, d].tolist(), color=0),
                    Line(label="predicted", x=times[first:], y=guess[first:, d].tolist(), color=1),
                ]
            else:
                lines = [Line(label="given", x=times, y=value[:, d].tolist(), color=2)]
            label = f"{name}[{d}]"
            yield lines, chart(lines, x="seconds", y=label, width=240, height=116, cursor=True, with_legend=False)


def _vectors(scenes: Scenes) -> list[str]:
    values = scenes.scenes[0].values if scenes.scenes else {}
    names = {n for q in scenes.asked for n in (*q.wanted, *q.given)}
    return [n for n, v in values.items() if n in names and isinstance(v, np.ndarray) and v.ndim == 2]


def _moving(scenes: Scenes, name: str) -> list[int]:
    """The dimensions of a vector that move most in these windows, in units of what is usual."""
    reach = np.max(
        [np.ptp(np.asarray(s.values[name]), axis=0) / np.maximum(s.scale[name], 1e-9) for s in scenes.scenes], axis=0
    )
    return sorted(np.argsort(-reach, kind="stable")[:DIMENSIONS].tolist())
