"""`polyclock sample RUN "QUERY" --given NAME=FILE --out DIR`: ask a run a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import unknown
from ..flags import Parser
from . import run_folder

if TYPE_CHECKING:
    import numpy as np

    from ..guidance import Guide
    from ..model import WorldModel
    from ..query import Query

TEXT = """Ask a run, or a model folder, a query: "action | video[:2], text".

--given NAME=FILE takes a video (its frames at the modality's rate, from --start or FILE@SECONDS on), a picture (it
stands for every frame), .npy or .npz, .json or .csv with numbers; for a text, a .txt file or the sentence itself. A
text that the model says by itself, such as a prompt, need not stand in the query: --given prompt="two persons".
--data PATH --episode N --at SECONDS gives everything that the query needs from a data set; --given goes before it.
DIR gets NAME.npz (array "values", one row per sample, in the units of the data: metres, pixels, ids), NAME.mp4 and
NAME.png to look at, and query.json."""
GUIDE_KEYS = ("weight", "drop", "scope", "interval", "fill", "every")


def run(words: Sequence[str]) -> int:
    """Sample and write; the exit status is 0."""
    args = _parser().take(words)
    found, model = run_folder.opened(args)

    import numpy as np
    import torch

    from ..query import Query
    from ..schedulers import walk
    from ..solver import sample
    from . import outputs

    query = Query.parse(args["query"]).bind(**bindings(args["set"]))
    guides = negated([guide(text) for text in args["guide"]], model, args["negative"])
    answers: dict[str, list[np.ndarray]] = {}
    for number, later in enumerate(_windows(model, query, args)):
        values = _batched(_values(model, query, args, later), args["count"])
        tensors: dict[str, Any] = {n: v if isinstance(v, list) else torch.from_numpy(v) for n, v in values.items()}
        found_here = sample(
            model,
            query,
            **walk(args["solver"], args["steps"], model, query, args["shift"]),
            seed=args["seed"] + number,
            size=args["count"],
            guides=guides,
            strict=args["strict"],
            **tensors,
        )
        for name, value in found_here.items():
            answers.setdefault(name, []).append(value.cpu().numpy())
    folder, signals = Path(args["out"]), model.recipe.signals()
    note = {
        k: args[k]
        for k in (
            "query",
            "set",
            "guide",
            "negative",
            "steps",
            "solver",
            "shift",
            "seed",
            "count",
            "given",
            "fit",
            "windows",
            "data",
            "episode",
            "at",
        )
    }
    whole = {name: np.concatenate(parts, 1) for name, parts in answers.items()}
    shown = {name: outputs.drawn(model, name, values) for name, values in whole.items()}
    note |= {"model": str(found.folder), "sha256": found.sha256, "step": found.step}
    note["answers"] = {
        name: {"shape": list(values.shape), "rate": signals[name].rate, "colours": shown[name][1]}
        for name, values in whole.items()
    }
    paths = [outputs.write_note(folder, note)]
    for name, values in whole.items():
        paths += outputs.write(folder, name, values, signals[name].rate, shown[name][0])
    print(f"model {found}")
    for path in paths:
        print(f"wrote {path}")
    return 0


def _parser() -> Parser:
    parser = Parser("sample", TEXT)
    parser.add_argument("run", metavar="RUN", help="a run folder or a model folder")
    parser.add_argument("query", metavar="QUERY", help="wanted | given")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--given", action="append", default=[], metavar="NAME=FILE", help="a value; may be repeated")
    parser.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="where videos begin [0]")
    parser.add_argument(
        "--fit", choices=("stretch", "cover"), default="stretch",
        help="pictures of another shape than the model's: stretch them, or cut their middle out [stretch]",
    )  # fmt: skip
    parser.add_argument(
        "--windows", default="1", metavar="N",
        help="ask again for what follows in the given videos, N times, or `all` that they hold [1]",
    )  # fmt: skip
    parser.add_argument("--data", metavar="PATH", help="a data set to take what is given from")
    parser.add_argument("--episode", type=int, metavar="N", help="of --data [its last]")
    parser.add_argument("--at", type=float, default=0.0, metavar="SECONDS", help="time in the episode [0]")
    parser.add_argument("--steps", type=int, metavar="N", help="of the solver [10; 1 for a regression]")
    parser.add_argument(
        "--solver", choices=("euler", "heun", "dpm++", "unipc"), default="euler", help="that walks them [euler]"
    )
    parser.add_argument("--shift", type=float, default=1.0, metavar="X", help="of its times towards noise [1]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise [0]")
    parser.add_argument("--count", type=int, default=1, metavar="B", help="samples [1]")
    parser.add_argument("--set", action="append", default=[], metavar="k=4", help="a free name of the query")
    parser.add_argument(
        "--guide", action="append", default=[], metavar="weight=2,drop=text",
        help="guidance: weight, drop, scope, interval, fill, every; several names or numbers with a +",
    )  # fmt: skip
    parser.add_argument("--negative", metavar="TEXT", help="said where a guide drops a text, in place of nothing")
    parser.add_argument("--strict", action="store_true", help="refuse a query that was not trained")
    run_folder.add_flags(parser)
    return parser


def bindings(words: Sequence[str]) -> dict[str, int]:
    """["k=4"] -> {"k": 4}."""
    found = {}
    for word in words:
        name, _, number = word.partition("=")
        if not number.lstrip("-").isdigit():
            raise ValueError(f"--set {word!r} must be NAME=WHOLE NUMBER, such as k=4")
        found[name.strip()] = int(number)
    return found


def guide(text: str) -> Guide:
    """ "weight=2,drop=text+flow,interval=0.2+0.9" -> Guide."""
    from ..guidance import Guide

    parts: dict[str, Any] = {}
    for piece in text.split(","):
        name, equals, value = piece.strip().partition("=")
        if not equals or name not in GUIDE_KEYS:
            raise ValueError(f"--guide {text!r}: {unknown('part', name, GUIDE_KEYS)}")
        parts[name] = frozenset(value.split("+")) if name in ("drop", "scope") else value
    if "weight" not in parts or "drop" not in parts:
        raise ValueError(f"--guide {text!r} must have a weight and what it drops, such as weight=2,drop=text")
    try:
        parts["weight"] = float(parts["weight"])
        if "every" in parts:
            parts["every"] = int(parts["every"])
        if "interval" in parts:
            low, high = parts["interval"].split("+")
            parts["interval"] = (float(low), float(high))
    except ValueError:
        raise ValueError(
            f"--guide {text!r}: weight is a number, interval two, such as interval=0.2+0.9, every whole"
        ) from None
    return Guide(**parts)


def negated(guides: list[Guide], model: WorldModel, text: str | None) -> list[Guide]:
    """The guides, with `text` said in place of the texts that they drop. Errors: ValueError where none drops any."""
    if text is None:
        return guides
    texts = {name for name, c in model.conditions.items() if c.signal(name).kind == "text"}
    told = [replace(g, instead=dict.fromkeys(texts & set(g.drop), text)) for g in guides]
    if not any(g.instead for g in told):
        raise ValueError(
            f"--negative {text!r} has no effect: no --guide drops a text; texts of this model: "
            f"{', '.join(sorted(texts)) or 'none'}"
        )
    return told


def needed(model: WorldModel, query: Query) -> tuple[list[str], dict[str, int]]:
    """(names that the query takes values for, {modality: data frames that it gives of it}).

    Errors: those of the query against the model, with a caret.
    """
    from ..query import Role

    roles = query.roles(model.modalities, model.conditions)
    spans = {}
    for name, frames in roles.items():
        given = [f for f, r in enumerate(frames) if r is Role.GIVEN]
        if given:
            m = model.modalities[name]
            spans[name] = m.covers(given[-1]).stop - m.covers(given[0]).start
    return [*spans, *query.given_conditions(model.conditions)], spans


def _windows(model: WorldModel, query: Query, args: Mapping[str, Any]) -> list[float]:
    """Seconds after the beginning at which the query is asked. Errors: more windows than the given videos hold."""
    from . import given

    if args["windows"] == "1":
        return [0.0]
    if args["windows"] != "all" and not args["windows"].isdigit():
        raise ValueError(f"--windows {args['windows']!r} must be a number, or all")
    names, _ = needed(model, query)
    every = model.recipe.signals()
    lasts, most = given.windows_in(args["given"], {n: every[n] for n in names}, args["start"])
    count = max(most, 1) if args["windows"] == "all" else int(args["windows"])
    if not 1 <= count <= max(most, 1):
        raise ValueError(
            f"--windows {count}: the given videos hold {most} windows of {lasts:.2f} s, one after the other"
        )
    return [k * lasts for k in range(count)]


def _values(
    model: WorldModel, query: Query, args: Mapping[str, Any], later: float = 0.0
) -> dict[str, np.ndarray | str]:
    """Everything that is given, from files and the data set. Errors: a name that neither gives and that is needed."""
    from . import given

    names, spans = needed(model, query)
    every = model.recipe.signals()
    signals = {n: every[n] for n in names}
    cover = args["fit"] == "cover"
    values = given.from_words(args["given"], signals, spans, args["start"], cover, later)
    optional = {*names} - {*spans, *query.needed_conditions(model.conditions)}
    rest = {n: s for n, s in signals.items() if n not in values}
    if args["data"] and rest:
        from ..data import open_dataset

        dataset = open_dataset(args["data"])
        episode = dataset.episodes[-1].index if args["episode"] is None else args["episode"]
        columns = dataset.facts.columns
        here = {n: s for n, s in rest.items() if n not in optional or s.key in columns}
        values |= given.from_window(dataset, episode, args["at"] + later, here)
    for name in rest:
        if name not in values and name not in optional:
            source = f"{args['data']} has no column {rest[name].key!r}; " if args["data"] else ""
            raise ValueError(f"{source}the query {query.text!r} needs --given {name}={_example(rest[name].kind)}")
    return values


def _example(kind: str) -> str:
    return {"text": "'a sentence'", "video": "CLIP.mp4"}.get(kind, "NUMBERS.npy")


def _batched(values: Mapping[str, np.ndarray | str], count: int) -> dict[str, Any]:
    """One value per sample. Errors: an array of another batch size."""
    import numpy as np

    if count < 1:
        raise ValueError(f"--count {count} must be at least 1")
    batched: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, str):
            batched[name] = [value] * count
        elif len(value) in (1, count):
            batched[name] = np.repeat(value, count // len(value), 0)
        else:
            raise ValueError(f"the value of {name!r} holds {len(value)} samples; --count {len(value)} takes them all")
    return batched
