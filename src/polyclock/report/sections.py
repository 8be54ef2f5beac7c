"""The parts of a report that are read: what was trained, how it went, how good it is, what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.source import spans
from ..evaluate.table import cell, number, span
from .chart import Line, chart
from .markup import Markup, element, pairs, table
from .measures import MOODS
from .run import Run, brief, ledger, signals
from .words import listed

Row = Mapping[str, Any]
MOST = 6  # comparisons among the first numbers


def lead(run: Run) -> str:
    """What this is, in a sentence or two."""
    recipe, held, size = run.recipe.get("name"), run.held_out, run.parameters
    learnt = [name for name, word, _ in signals(run.recipe) if word == "modelled"]
    count = f" of {size / 1e6:.1f} million numbers" if size else ""
    what = f"One network{count}" + (f", made by the recipe {recipe}," if recipe else "")
    if len(learnt) > 1:
        what += f" models {listed(learnt)} together: each can be asked for, given any of the others"
    elif learnt:
        what += f" models {learnt[0]}"
    trained = (run.facts.get("data") or {}).get("episodes") or []
    plural = "s" if len(held) > 1 else ""
    if trained and held:
        how = "It went on from given weights with" if run.facts.get("weights") else "It was trained on"
        return f"{what}. {how} {len(trained)} episodes; episode{plural} {spans(held)} held out."
    return f"{what}; episode{plural} {spans(held)} held out." if held else f"{what}."


def tiles(run: Run, success: tuple[str, str, str] | None = None) -> Markup:
    """The few numbers to see first; `success` is (what, value, more) of a rollout."""
    train, best = run.train(), best_row(run)
    last = train[-1] if train else {}
    out = [success] if success else []
    if last or best or run.started:
        out.append(("training steps", f"{last.get('step', 0):,}", _of(run)))
    began = first_row(run)
    if best and began and began is not best:
        fell = f"from {number(began['loss'])} at step {began['step']:,}, at step {best['step']:,}"
        out.append(("held-out loss, best", number(best["loss"]), fell))
    elif best:
        out.append(("held-out loss, best", number(best["loss"]), f"at step {best['step']:,}"))
    elif last:
        out.append(("training loss", number(last.get("loss")), "nothing is held out"))
    rows = [row for row in (run.evaluation or {}).get("comparisons", []) if headline(row)]
    for row in rows[:MOST]:
        out.append((f"{row['first']} against {row['second']}", row["verdict"],
                    f"difference in {row['measure']}: {number(row['mean'])} ({span(row)})"))  # fmt: skip
    return element("div", [_tile(*tile) for tile in out], class_="tiles")


def _tile(what: str, value: str, more: str) -> Markup:
    parts = [element("span", what), element("b", value, class_=MOODS.get(value)), element("span", more)]
    return element("div", parts, class_="tile")


def commands(lines: Sequence[tuple[str, str]]) -> Markup:
    """Commands to copy, with what each is for."""
    return element("div", [element("div", element("p", what), element("pre", line)) for what, line in lines],
                   class_="commands")  # fmt: skip


def headline(row: Row) -> bool:
    """Whether a comparison is among those that are shown first: controls, and the policy beside its baselines."""
    kind = row["measure"].rsplit(".", 1)[-1]
    return kind in ("mse", "error") and (
        "shuffled" in row["second"] or row["second"] == "policy" or row["first"] == "policy" or
        (row["first"], row["second"]) == ("forward", "copy last frame")
    )  # fmt: skip


def best_row(run: Run) -> Row | None:
    """The validation with the lowest loss."""
    rows = [r for r in run.validation() if isinstance(r.get("loss"), float)]
    return min(rows, key=lambda r: r["loss"], default=None)


def first_row(run: Run) -> Row | None:
    """The first validation: of the weights that the run began with, where they were measured."""
    return next((r for r in run.validation() if isinstance(r.get("loss"), float)), None)


def losses(run: Run) -> Markup:
    """Loss by modality in training and validation, and the learning rate."""
    train, validation = run.train(), run.validation()
    if not train and not validation:
        return element("p", "The log holds no step yet.", class_="quiet")
    names = list(dict.fromkeys(n for r in (*train, *validation) for n in r.get("losses", {})))
    lines = []
    for i, name in enumerate(names):
        lines.append(_line(train, f"{name}, training", name, i))
    for i, name in enumerate(names):
        if validation:
            lines.append(_line(validation, f"{name}, held out", name, i, dots=True))
    rate = Line(label="learning rate", x=[r["step"] for r in train], y=[r.get("lr") for r in train], color=3)
    bad = max((r.get("bad_steps") or 0 for r in train), default=0)
    remark = element("p", f"{bad} steps were skipped for NaN or Inf.", class_="quiet") if bad else None
    return element(
        "div",
        chart(lines, x="step", y="loss", log=True),
        chart([rate], x="step", y="learning rate", height=150),
        remark,
    )


def _line(rows: Sequence[Row], label: str, name: str, color: int, dots: bool = False) -> Line:
    x, y = [r["step"] for r in rows], [(r.get("losses") or {}).get(name) for r in rows]
    y = [None if value == 0 else value for value in y]  # nothing of it was learnt in these steps
    return Line(label=label, x=x, y=y, color=color, dashed=dots, dots=dots, faint=not dots)


def trained(run: Run) -> list[Markup]:
    """The recipe, the settings, the data, the versions and the command."""
    recipe, facts = run.recipe, run.facts
    out = []
    rows = []
    for name, word, fields in signals(recipe):
        shape = "sentence" if fields.get("shape") == [] else " × ".join(str(n) for n in fields.get("shape") or [])
        rate = "" if fields.get("rate") is None else f"{fields['rate']:g}/s from {fields.get('start', 0):+g} s"
        how = brief(fields.get("path"))
        if word == "given":
            how = f"{fields.get('route')}: {brief(fields.get('encoder'))}"
        patch = " × ".join(map(str, fields.get("patch") or []))
        rows.append((name, word, fields.get("key") or name, shape, patch, rate, brief(fields.get("codec")), how))
    if rows:
        columns = ("signal", "", "column", "shape", "patch", "rate", "codec", "path, or how it is read")
        out.append(table(columns, rows))
    rest = {k: v for k, v in recipe.items() if k not in ("is", "modalities", "conditions")}
    if rest:
        out.append(pairs((k, brief(v)) for k, v in rest.items()))
    if run.started.get("training"):
        settings = [(k, brief(v)) for k, v in run.started["training"].items()]
        out += [element("h3", "Training settings"), pairs(settings, many=True)]
    data = {k: spans(v) if k in ("episodes", "held_out") else v for k, v in (facts.get("data") or {}).items()}
    out += [element("h3", "Data"), pairs((k.replace("_", " "), v) for k, v in data.items())]
    about = {"command": facts.get("command"), **((run.evaluation or {}).get("about") or {})}
    versions = run.started.get("versions") or {}
    rows = [(k, v if isinstance(v, str | int | float) else brief(v)) for k, v in about.items() if v is not None]
    rows += [(f"version of {k}", v) for k, v in versions.items()]
    return [*out, element("h3", "Made with"), pairs(rows)]


def kept(run: Run) -> Markup:
    """The ledger of checkpoints."""
    rows = []
    for row in ledger(run.folder):
        digest = element("code", row["sha256"][:16])
        rows.append((row["path"], row["kind"], f"{row['step']:,}", f"{row['bytes'] / 1e6:.1f} MB", digest, row["note"]))
    if not rows and run.model == run.folder:
        digest = element("code", run.sha256 or "")
        return element("p", "This is a model alone, without the checkpoints of its training; sha256 ", digest)
    if not rows:
        return element("p", "No checkpoint has been written yet.", class_="quiet")
    return table(("folder", "to", "step", "size", "sha256 of the weights", ""), rows)


def comparison(runs: Sequence[Run]) -> list[Markup]:
    """Several runs in one table, and their validation losses in one chart."""
    keys = list(dict.fromkeys(key for run in runs for key in _main_errors(run)))
    columns = ("run", "recipe", "steps", "best validation loss", *keys)
    rows = []
    for i, run in enumerate(runs):
        best, train, errors = best_row(run), run.train(), _main_errors(run)
        rows.append((
            element("a", run.name, href=f"#run-{i}"), run.recipe.get("name", ""),
            f"{train[-1]['step']:,}" if train else "0", number(best["loss"]) if best else "-",
            *(errors.get(key, "-") for key in keys),
        ))  # fmt: skip
    lines = [
        Line(label=run.name, x=[r["step"] for r in run.validation()], y=[r.get("loss") for r in run.validation()],
             color=i, dots=True)
        for i, run in enumerate(runs)
    ]  # fmt: skip
    prints = {str((run.facts.get("data") or {}).get("fingerprint")) for run in runs}
    warning = "These runs were not trained on the same data: their losses cannot be compared."
    return [
        table(columns, rows),
        element("p", warning, class_="warn") if len(prints) > 1 else None,
        chart(lines, x="step", y="validation loss", log=True),
    ]


def _main_errors(run: Run) -> dict[str, str]:
    questions = (run.evaluation or {}).get("questions", {})
    return {
        f"{name}: {key}": cell(found)
        for name, answer in questions.items()
        for key, found in answer["errors"].items()
        if key.rsplit(".", 1)[-1] in ("error", "mse")
    }


def _of(run: Run) -> str:
    planned = (run.started.get("training") or {}).get("steps")
    return f"of {planned:,}" if isinstance(planned, int) else ""
