"""The part of a report that is looked at: given, predicted and true, side by side, for every question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..evaluate.kinds import PICTURE, camera_of
from ..evaluate.questions import Question
from . import words
from .chart import Line, chart, legend
from .draw import Paint, beneath, drawn, joint_colours, paints
from .markup import Markup, element
from .scenes import Clip, Scene, Scenes
from .strips import strip

DIMENSIONS = 4  # of a vector that are drawn: those that move most
MOMENTS = 40  # that the handle stops at, where there are only numbers
COLORS = {"true": 0, "predicted": 1, "given": 2}


def answers(scenes: Scenes, commands: Mapping[str, str], measured: Mapping[str, Markup]) -> list[Markup]:
    """One section per question, one player per scene.

    commands  question -> the line that asks it again; measured: question -> what the evaluation found
    """
    board = Board(scenes)
    out: list[Markup] = [] if board.key is None else [board.key]
    for question in scenes.asked:
        about = [
            element("p", words.sentence(scenes, question), class_="says"),
            measured.get(question.name),
            element("p", element("b", "Right is "), f"{words.right(scenes, question)}.", class_="quiet"),
        ]
        head = element("h3", words.title(scenes, question), " ", element("span", question.name, class_="tag"))
        rows = [board.player(scene, question) for scene in scenes.scenes]
        out.append(element("section", head, about, rows, _again(question, commands), class_="question"))
    return out


def _again(question: Question, commands: Mapping[str, str]) -> Markup:
    line = commands.get(question.name)
    query = element("p", element("span", "query ", class_="quiet"), element("code", question.query))
    return element("div", query, element("pre", line) if line else None, class_="again")


class Board:
    """Draws scenes; what does not depend on one of them is found once."""

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes
        self.paints: dict[str, Paint] = paints(scenes)
        self.moving = {name: self._moving(name) for name in self._vectors()}

    @property
    def key(self) -> Markup | None:
        """What the colours mean; None where all clips are plain pictures."""
        scenes, rows = self.scenes, []
        for name, paint in self.paints.items():
            if paint.legend is not None and self._asked(name):
                rows.append((words.noun(scenes, name).capitalize(), paint.legend))
        for name in scenes.signals:
            if scenes.kinds.get(name) == "skeleton" and scenes.true(name) and self._asked(name):
                rows.append((words.noun(scenes, name).capitalize(), self._joints(name)))
        if not rows:
            return None
        entries = [element("div", element("dt", name), element("dd", value)) for name, value in rows]
        return element("div", element("h3", "How to read the colours"), element("dl", entries, class_="key-of-colours"))

    def player(self, scene: Scene, question: Question) -> Markup:
        """One stretch: clips by signal, curves, and the handle that moves them."""
        given, asked = [*self._given(scene, question)], [*self._answered(scene, question)]
        curves = [*self._curves(scene, question)]
        sentence = next((v for n in question.conditions if isinstance(v := scene.values.get(n), str)), None)
        caption = element(
            "h4",
            f"Episode {scene.places[0].episode} from {scene.seconds:.2f} s",
            element("span", f"“{sentence}”", class_="sentence") if sentence else None,
            element("span", self._pace(scene), class_="pace"),
        )
        times = self._times(scene, question)
        label = f"{words.title(self.scenes, question)} Episode {scene.places[0].episode}"
        handle = element(
            "div",
            element("button", "Play", type="button", class_="play", aria_label=f"Play: {label}"),
            element("input", type="range", min=0, max=len(times) - 1, value=0, step=1, aria_label=f"Time: {label}"),
            element("output", ""),
            class_="handle",
        )
        return element(
            "div",
            caption,
            element(
                "div",
                element("div", given, class_="board given") if given else None,
                element("div", asked, class_="board") if asked else None,
                self._plotted(curves, alone=not asked) if curves else None,
                class_="sides",
            ),
            handle,
            class_="player",
            data_times=" ".join(f"{t:g}" for t in times),
        )

    def _pace(self, scene: Scene) -> str:
        if len(scene.places) == 1:
            return "asked once"
        every = f"asked {len(scene.places)} times, every {self.scenes.seconds:.2g} s"
        return f"{every}, each time given what was recorded and never what it said before"

    def _given(self, scene: Scene, question: Question) -> Iterator[Markup]:
        """One column: the pictures and maps that were given, of each camera the longest."""
        clips: dict[str, Clip] = {}
        for name in question.conditions:
            clip = scene.values.get(name)
            if isinstance(clip, Clip) and clip.values.ndim == 4:
                clips[name] = clip
        whole = {n: c for n, c in scene.given[question.name].items() if n not in question.wanted}
        seen = {self.scenes.signals[n].key for n in clips}
        for name, clip in scene.given[question.name].items():
            if name in whole or self.scenes.signals[name].key not in seen:
                clips[name] = clip
        # A camera's pictures are shown once, as the signal with most of them.
        best: dict[str, str] = {}
        for name, clip in clips.items():
            key = self.scenes.signals[name].key
            if key not in best or len(clip.times) > len(clips[best[key]].times):
                best[key] = name
        for name in best.values():
            figure = self._figure(name, clips[name], "given", clips)
            if figure is not None:
                yield element("div", element("h5", words.noun(self.scenes, name).capitalize()), figure, class_="signal")

    def _answered(self, scene: Scene, question: Question) -> Iterator[Markup]:
        """A column for each signal that was asked for: predicted above true."""
        mine = scene.answers[question.name]
        known = {n: c for n, c in scene.values.items() if isinstance(c, Clip)}
        for name in sorted(question.wanted, key=lambda n: self.scenes.kinds.get(n) != PICTURE):
            truth = self._cut(known[name], mine[name])
            figures = [
                self._figure(name, mine[name], "predicted", {**known, **mine}),
                self._figure(name, truth, "true", known),
            ]
            if None not in figures:
                head = element("h5", words.noun(self.scenes, name).capitalize())
                yield element("div", head, figures, class_="signal asked")

    @staticmethod
    def _cut(true: Clip, guess: Clip) -> Clip:
        """The frames of the truth that were asked for."""
        keep = [i for i, t in enumerate(true.times) if any(abs(t - u) < 1e-6 for u in guess.times)]
        times, window = (tuple(v[i] for i in keep) for v in (true.times, true.window))
        return Clip(times=times, values=true.values[keep], window=window)

    def _figure(self, name: str, clip: Clip, word: str, around: Mapping[str, Clip]) -> Markup | None:
        """A clip as a strip; None for what cannot be drawn."""
        about = f"{word} {words.noun(self.scenes, name)}"
        if self.scenes.kinds.get(name) == "skeleton":
            key = self.scenes.signals[name].key
            under = beneath(self.scenes, key, around, clip.times)
            size = next((s for k, s in self.scenes.sizes.items() if camera_of(k) == camera_of(key)), None)
            pictures = drawn(clip.values, under, size, self.scenes.notes.get(key, {}))
            return strip(pictures, clip.times, word, about)
        if name not in self.paints:
            return None
        paint = self.paints[name]
        return strip(paint.colour(clip.values), clip.times, word, about, paint.sharp)

    def _joints(self, name: str) -> Markup:
        """Names of joints in their colours."""
        names = self.scenes.notes.get(self.scenes.signals[name].key, {}).get("joints") or []
        colours = joint_colours(max(len(names), 1))
        entries = [
            element("span", element("i", class_="swatch round", style=f"background:rgb{c}"), n, class_="entry")
            for n, c in zip(names, colours, strict=False)
        ]
        return element("span", "drawn into the picture: " if names else "drawn into the picture", entries)

    def _times(self, scene: Scene, question: Question) -> list[float]:
        """Where the handle stops: the frames of what is shown; of numbers alone at most `MOMENTS` moments."""
        clips = [*scene.answers[question.name].values(), *scene.given[question.name].values()]
        pictures = sorted({t for c in clips if c.values.ndim == 4 or c.values.shape[-1] == 3 and c.values.ndim == 3
                           for t in c.times} | {0.0})  # fmt: skip
        if len(pictures) > 1:
            return pictures
        every = sorted({t for c in clips for t in c.times} | {0.0})
        keep = np.unique(np.linspace(0, len(every) - 1, min(len(every), MOMENTS)).round().astype(int))
        return [every[i] for i in keep]

    def _plotted(self, curves: list[tuple[list[Line], Markup]], alone: bool) -> Markup:
        named = {line.label: line for lines, _ in curves for line in lines}
        figures = element("div", [figure for _, figure in curves], class_="grid")
        return element(
            "div",
            figures,
            element("div", legend([*named.values()]), class_="legend"),
            class_="curves few" if alone else "curves",
        )

    def _curves(self, scene: Scene, question: Question) -> Iterator[tuple[list[Line], Markup]]:
        """(lines, chart) of the dimensions that move most: predicted and true, or given."""
        for name in (*question.wanted, *(n for n in question.given if n not in question.wanted)):
            true = scene.values[name]
            if name not in self.moving or not isinstance(true, Clip):
                continue
            for d in self.moving[name]:
                if name in question.wanted:
                    lines = [_line("true", true, d), _line("predicted", scene.answers[question.name][name], d)]
                else:
                    lines = [_line("given", true, d)]
                label = words.dimension(self.scenes, name, d)
                yield lines, chart(lines, x="s", y=label, width=250, height=124, cursor=True, with_legend=False)

    def _asked(self, name: str) -> bool:
        return any(name in (*q.wanted, *q.given, *q.conditions) for q in self.scenes.asked)

    def _vectors(self) -> list[str]:
        names = {n for q in self.scenes.asked for n in (*q.wanted, *q.given)}
        return [n for n in self.scenes.signals if n in names and any(c.values.ndim == 2 for c in self.scenes.true(n))]

    def _moving(self, name: str) -> list[int]:
        """The dimensions that change most in these scenes, measured in what they usually move."""
        scale = self.scenes.scenes[0].scale.get(name, np.ones(1))
        spread = np.max([np.ptp(c.values, 0) for c in self.scenes.true(name)], 0) / scale
        order = np.argsort(-spread, kind="stable")[:DIMENSIONS]
        return sorted(int(d) for d in order if spread[d] > 0) or [0]


def _line(word: str, clip: Clip, d: int) -> Line:
    """A dimension over time; what was predicted is interrupted where it was asked for again."""
    x: list[float | None] = []
    y: list[float | None] = []
    for i, t in enumerate(clip.times):
        if word == "predicted" and i and clip.window[i] != clip.window[i - 1]:
            x.append(t)
            y.append(None)
        x.append(t)
        y.append(float(clip.values[i, d]))
    return Line(label=word, x=x, y=y, color=COLORS[word])
