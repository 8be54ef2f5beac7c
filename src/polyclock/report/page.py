"""One self-contained HTML page about one run or several: nothing in it is fetched, everything in it is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..data.files import replacing
from ..data.source import Dataset, spans
from ..pretrained import from_pretrained
from ..solver import usual_steps
from ..train.state import load_weights
from . import lines, measures, sections
from .answers import answers
from .markup import Markup, element
from .run import Run, read
from .scenes import Scenes, sample_scenes
from .success import ROLLOUT, Rollout, headline, read_rollout, success

# The browser itself is told to fetch nothing.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How the clips of a page are sampled.

    dataset   to take windows from; None: the page has no clips and says so
    data      what the data set is called in commands
    episodes  None: those that a run held out
    count, seconds  stretches of each question, and how long each may be
    steps, seed     of the solver; no steps: as many as the model usually takes
    classes   your own parts that a model's config names
    """

    dataset: Dataset | None = None
    data: str | None = None
    episodes: Sequence[int] | None = None
    count: int = 3
    seconds: float = 2.0
    steps: int | None = None
    seed: int = 0
    classes: Sequence[type] = ()


def write(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    evaluation: str | Path | Mapping[str, Any] | None = None,
    *,
    rollout: str | Path | None = None,
    beside: Mapping[str, str | Path] | None = None,
    name: str | None = None,
    words: Sequence[str] = (),
    **asked: Any,
) -> Path:
    """Write the report of one run or model folder or several, and return its path.

    out         None: RUN/report.html; several runs need a name
    evaluation  a document of `evaluate`, or its file, of a single run; None: RUN/evaluation.json where it is there
    rollout     the folder that `polyclock rollout` wrote, of a single run; None: RUN/rollout where it is there
    beside      name -> another rollout's folder or document, drawn beside it
    name        what a single run is called beside them; None: as its folder
    words       what stood behind `polyclock report`, for the page to say how it was made
    asked       the fields of `Asked`: dataset, data, episodes, count, seconds, steps, seed, classes

    Errors: ValueError for a folder that is no run, an evaluation or a rollout that is none, several runs without `out`,
    two rollouts of one name.
    """
    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    how = Asked(**asked)
    if not folders:
        raise ValueError("a report needs at least one run folder")
    if len(folders) > 1 and out is None:
        raise ValueError(f"a report on {len(folders)} runs needs the name of the page to write: out=PATH")
    if len(folders) > 1 and not (evaluation is rollout is name is None):
        raise ValueError(
            "an evaluation, a rollout and a name belong to one run; with several runs each one's own evaluation.json "
            "and rollout are read"
        )
    found = [read(folder, evaluation) for folder in folders]
    acted = [_acted(run, rollout, name) for run in found]
    others = [read_rollout(path, title) for title, path in (beside or {}).items()]
    for run, own in zip(found, acted, strict=True):
        _check(run, own, others)
    target = Path(out) if out is not None else found[0].folder / "report.html"
    bodies = []
    for number, (run, own) in enumerate(zip(found, acted, strict=True)):
        made = lines.Made(
            run=run,
            data=how.data,
            steps=how.steps,
            seed=how.seed,
            rollout=dict(own.document) if own else {},
            folder=str(rollout or run.folder / ROLLOUT),
            page=words or [*map(str, folders), *(["--data", how.data] if how.data else []), "--out", str(target)],
        )
        bodies.append(_article(made, own, others, how, number))
    with replacing(target) as aside:
        aside.write_text(page(found, bodies), encoding="utf-8")
    return target


def _check(run: Run, own: Rollout | None, others: Sequence[Rollout]) -> None:
    """Warns of a rollout of other weights. Errors: ValueError where it is called as one of the others."""
    if own is None:
        return
    if own.name in [other.name for other in others]:
        raise ValueError(f"two rollouts are called {own.name!r}; give the run another name: --name NAME")
    if warning := run.stranger("The rollout", own.document.get("model") or {}):
        run.trouble.append(warning)


def page(runs: Sequence[Run], bodies: Sequence[Markup]) -> str:
    """The page as text; bodies[i] is about run i."""
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
    whole = element(
        "html",
        element("head", head),
        element("body", element("main", body, list(bodies)), element("script", Markup(player))),
        lang="en",
    )
    return f"<!doctype html>\n{whole}\n"


def _acted(run: Run, rollout: str | Path | None, name: str | None) -> Rollout | None:
    folder = run.folder / ROLLOUT if rollout is None else Path(rollout)
    if rollout is None and not (folder / "rollout.json").is_file():
        return None
    return read_rollout(folder, name or run.name)


def _article(made: lines.Made, own: Rollout | None, others: Sequence[Rollout], how: Asked, number: int) -> Markup:
    run, shown = made.run, _questions(made, how)
    parts = [
        ("Try it", [sections.commands(lines.jobs(made))]),
        ("Success", success(own, others, lines.act(made))),
        ("Questions", shown),
        ("Measures", measures.evaluation(run)),
        ("Training", [sections.losses(run)]),
        ("Checkpoints", [sections.kept(run)]),
        ("Made with", sections.trained(run)),
    ]
    links = [element("a", title, href=f"#{_anchor(title, number)}") for title, _ in parts]
    return element(
        "article",
        element("p", f"Polyclock report on {run.folder}", class_="over"),
        element("h1", run.recipe.get("name") or run.name),
        element("p", sections.lead(run), class_="lead"),
        [element("p", text, class_="warn") for text in run.trouble],
        sections.tiles(run, headline(own, others) if own else None),
        element("nav", links, aria_label="Sections"),
        [element("section", element("h2", title), content, id=_anchor(title, number)) for title, content in parts],
        id=f"run-{number}",
    )


def _anchor(title: str, number: int) -> str:
    return f"{title.lower().replace(' ', '-')}-{number}"


def unseen(run: Run, dataset: Dataset) -> list[int]:
    """The episodes of a data set that a run was not trained on; none where that is not known.

    Of what it was trained on these are the ones that it held out, of other data all.
    """
    here = {e.index for e in dataset.episodes}
    measured = (run.evaluation or {}).get("data") or {}
    if measured.get("fingerprint") == dataset.fingerprint:
        return [int(e) for e in measured["episodes"] if e in here]
    if trained_here(run, dataset) is not None or "fingerprint" not in (run.facts.get("data") or {}):
        return sorted(here.intersection(run.held_out))
    return sorted(here)


def trained_here(run: Run, dataset: Dataset) -> set[int] | None:
    """The episodes of a data set that a run was trained on; None where it was other data, or that is not known."""
    data, here = run.facts.get("data") or {}, {e.index for e in dataset.episodes}
    trained = set(data.get("episodes") or here.difference(run.held_out))
    same = trained and trained <= here and dataset.only(trained).fingerprint == data.get("fingerprint")
    return trained if same else None


def whose(run: Run, dataset: Dataset, data: str | None, shown: Sequence[int]) -> str:
    """Which episodes clips are of, and whether the network saw them in training, as far as that is known."""
    trained = trained_here(run, dataset)
    episodes = f"episode{'s' if len(shown) > 1 else ''} {spans(shown)}{f' of {data}' if data else ''}"
    seen = sorted((trained or set()).intersection(shown))
    if seen:
        return f"The clips are of {episodes}; the network was trained on {spans(seen)} of them."
    if trained is None and "fingerprint" in (run.facts.get("data") or {}):
        return f"The clips are of {episodes}. By their hash these are other data than the network was trained on."
    if trained is None:
        return f"The clips are of {episodes}; whether the network was trained on them is not known here."
    if run.facts.get("weights"):
        return (
            f"The clips are of {episodes}, held out from this training; what the weights had seen that it went on "
            "from is not known here."
        )
    return f"Every clip is of an episode that the network has not seen: {episodes}."


def _questions(made: lines.Made, how: Asked) -> list[Markup]:
    """The clips of a run, or a sentence on why there are none."""
    run = made.run

    def none(why: str) -> list[Markup]:
        return [element("p", f"No clips: {why}.", class_="quiet")]

    if run.model is None:
        return none("there are no weights to sample from yet")
    if how.dataset is None:
        return none("no data set was given to take windows from")
    chosen = unseen(run, how.dataset) if how.episodes is None else list(how.episodes)
    if not chosen:
        return none("the run held no episode of this data set back; name some with --episodes")
    model = from_pretrained(run.model, how.classes)
    if run.average:
        load_weights(model, run.average, optional=True)
    steps = how.steps or usual_steps(model)
    found = sample_scenes(model, how.dataset, chosen, count=how.count, seconds=how.seconds, steps=steps, seed=how.seed)
    lead = (
        f"{whose(run, how.dataset, how.data, _shown(found))} Predicted stands above true, at the same moment: drag the "
        "handle, press Play, or use the arrow keys on it. What lies ahead is dim until its time."
    )
    by = f"Clips by {run.weights}; solver steps {steps}, seed {how.seed}."
    return [
        element("p", lead),
        element("p", by, class_="quiet"),
        *answers(found, lines.ask(made, found), measures.by_question(run.evaluation)),
    ]


def _shown(scenes: Scenes) -> list[int]:
    """The episodes that the scenes are of."""
    return sorted({place.episode for scene in scenes.scenes for place in scene.places})
