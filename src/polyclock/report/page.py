"""One self-contained HTML page about one run or several: nothing in it is fetched, everything in it is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..data.source import Dataset
from ..pretrained import from_pretrained
from ..train.state import load_weights
from . import sections
from .answers import answers
from .markup import Markup, element
from .run import Run, read
from .scenes import sample_scenes

# The browser itself is told to fetch nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    evaluation: str | Path | Mapping[str, Any] | None = None,
    *,
    dataset: Dataset | None = None,
    episodes: Sequence[int] | None = None,
    count: int = 3,
    steps: int = 10,
    seed: int = 0,
    classes: Sequence[type] = (),
) -> Path:
    """Write the report of one run folder or several, and return its path.

    out         None: RUN/report.html; several runs need a name
    evaluation  a document of `evaluate`, or its file, of a single run; None: RUN/evaluation.json where it is there
    dataset     to sample clips from: `count` windows of the held-out `episodes` (None: those of RUN/run.json), `steps`
                solver steps; without a data set the page has no clips and says so
    classes     your own parts that a model's config names

    Errors: ValueError for a folder that is no run, an evaluation that is none, several runs without `out`.
    """
    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    if not folders:
        raise ValueError("a report needs at least one run folder")
    if len(folders) > 1 and out is None:
        raise ValueError(f"a report on {len(folders)} runs needs the name of the page to write: out=PATH")
    if len(folders) > 1 and evaluation is not None:
        raise ValueError("an evaluation belongs to one run; with several runs each one's own evaluation.json is read")
    found = [read(folder, evaluation) for folder in folders]
    scenes = [_scenes(run, dataset, episodes, count, steps, seed, classes) for run in found]
    target = Path(out) if out is not None else found[0].folder / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(found, scenes), encoding="utf-8")
    return target


def page(runs: Sequence[Run], scenes: Sequence[list[Markup]]) -> str:
    """The page as text; scenes[i] is the part of run i that is looked at."""
    names = ", ".join(run.name for run in runs)
    own = files(__package__)
    style, player = (own.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "player.js"))
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{names}: Polyclock report"),
        # Our own files: style and script are not escaped, and hold nothing that comes from data.
        element("style", Markup(style)),
    ]
    body: list[object] = []
    if len(runs) > 1:
        body.append(element("header", element("h1", f"{len(runs)} runs"), sections.comparison(runs)))
    for i, (run, shown) in enumerate(zip(runs, scenes, strict=True)):
        body.append(_article(run, shown, i))
    whole = element(
        "html",
        element("head", head),
        element("body", element("main", body), element("script", Markup(player))),
        lang="en",
    )
    return f"<!doctype html>\n{whole}\n"


def _article(run: Run, shown: list[Markup], number: int) -> Markup:
    parts = [
        ("Answers", shown),
        ("Losses", [sections.losses(run)]),
        ("Errors", sections.evaluation(run)),
        ("What was trained", sections.trained(run)),
        ("Checkpoints", [sections.kept(run)]),
    ]
    links = [element("a", title, href=f"#{_anchor(title, number)}") for title, _ in parts]
    return element(
        "article",
        element("h1", run.name),
        element("p", sections.lead(run), class_="lead"),
        [element("p", text, class_="warn") for text in run.trouble],
        sections.tiles(run),
        element("nav", links),
        [element("section", element("h2", title), content, id=_anchor(title, number)) for title, content in parts],
        id=f"run-{number}",
    )


def _anchor(title: str, number: int) -> str:
    return f"{title.lower().replace(' ', '-')}-{number}"


def _scenes(
    run: Run,
    dataset: Dataset | None,
    episodes: Sequence[int] | None,
    count: int,
    steps: int,
    seed: int,
    classes: Sequence[type],
) -> list[Markup]:
    """The clips of a run, or a sentence on why there are none."""

    def none(why: str) -> list[Markup]:
        return [element("p", f"No clips: {why}.", class_="quiet")]

    if run.model is None:
        return none("there are no weights to sample from yet")
    if dataset is None:
        return none("no data set was given to take windows from")
    chosen = list(run.held_out if episodes is None else episodes)
    here = {e.index for e in dataset.episodes}
    if episodes is None:
        chosen = [e for e in chosen if e in here]
    if not chosen:
        return none("the run held no episode of this data set back")
    model = from_pretrained(run.model, classes)
    if run.average:
        load_weights(model, run.average, optional=True)
    found = sample_scenes(model, dataset, chosen, count=count, steps=steps, seed=seed)
    lead = (
        "What is given, what the model answers and what was recorded, at the same time. Drag the handle, or press Play."
    )
    return [element("p", lead), *answers(found)]
