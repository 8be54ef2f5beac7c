"""`polyclock benchmark films|measure|total`: films for published benchmarks, measures without weights, totals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import unknown
from ..flags import Parser

if TYPE_CHECKING:
    import numpy as np

ACTIONS = {
    "films": "write the films that a benchmark asks for: films RUN --suite vbench --prompts PATH --out DIR",
    "measure": "measure films that were written, as far as no weights are needed: measure DIR",
    "total": "make a benchmark's total of numbers per dimension: total SCORES.json --suite vbench",
}
SUITES = ("vbench", "vbench2", "videophy", "worldscore")
FILMS = """Write the films of a benchmark, in the folders that its own evaluation reads. The same command goes on with
what is not there yet. Prompt lists are the benchmarks' own files:

  vbench      VBench_full_info.json, all_dimension.txt or prompts_per_dimension/: DIR/PROMPT-INDEX.mp4
  vbench2     VBench2_full_info.json, or prompts/prompt/: DIR/DIMENSION/PROMPT-INDEX.mp4, 180 characters of the prompt
  videophy    a CSV with the column caption: DIR/CAPTION_INDEX.mp4, and DIR/videos.csv
  worldscore  its JSON lists of static or dynamic worlds: DIR/static/STYLE/SCENE/CATEGORY/NAME/frames/000.png, ...

Each film has a seed of its own, made of --seed and its name; DIR/films.jsonl holds it. worldscore also asks for
camera_data.json and input_image.png, which its own program writes."""
MEASURE = """Temporal flickering, motion smoothness and dynamic degree of films that `polyclock benchmark films` wrote,
with 95 % intervals over prompts. The first is as published; the others use dense inverse search where a network's flow
or frames are used there (docs/evaluation.md). Where the prompt list names dimensions, a film counts for those."""
TOTAL = """SCORES.json is {"subject consistency": 93.62, ...} in per cent; for videophy a list with {"states_of_matter":
"solid-solid", "sa": 0.7, "pc": 0.2} of each film, ratings from 0 to 1. Totals are of groups that are complete."""


def run(words: Sequence[str]) -> int:
    """One of the actions; the exit status is 0."""
    if not words or words[0] in ("-h", "--help"):
        width = max(map(len, ACTIONS))
        text = "\n".join(f"  {name:<{width}}  {about}" for name, about in ACTIONS.items())
        print(f"usage: polyclock benchmark ACTION ...\n\n{text}\n\npolyclock benchmark ACTION --help says more.")
        return 0 if words else 2
    if words[0] not in ACTIONS:
        raise unknown("action", words[0], ACTIONS)
    return {"films": _films, "measure": _measure, "total": _total}[words[0]](words[1:])


def _films(words: Sequence[str]) -> int:
    from . import run_folder, sample

    parser = Parser("benchmark films", FILMS)
    parser.add_argument("run", metavar="RUN", help="a run folder or a model folder")
    parser.add_argument("--suite", required=True, choices=SUITES, help="which benchmark")
    parser.add_argument("--prompts", required=True, metavar="PATH", help="its prompt list")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the films go")
    parser.add_argument("--query", metavar="QUERY", help="what to ask [the first video | the first text]")
    parser.add_argument("--dimensions", default="", metavar="NAME,..", help="films of these alone [all]")
    parser.add_argument("--takes", type=int, metavar="N", help="films of each prompt [as many as the suite asks for]")
    parser.add_argument("--limit", type=int, metavar="N", help="films of the list's beginning alone [all]")
    parser.add_argument("--steps", type=int, metavar="N", help="of the solver [10; 1 for a regression]")
    parser.add_argument("--solver", choices=("euler", "heun", "dpm++", "unipc"), default="euler", help="[euler]")
    parser.add_argument("--guide", action="append", default=[], metavar="weight=5,drop=text", help="as of `sample`")
    parser.add_argument("--negative", metavar="TEXT", help="as of `sample`")
    parser.add_argument("--shift", type=float, default=1.0, metavar="X", help="of its times towards noise [1]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all films [0]")
    run_folder.add_flags(parser)
    args = parser.take(words)

    from ..evaluate.suites import filming, prompts

    dimensions = [d for d in args["dimensions"].split(",") if d.strip()]
    wanted = prompts.films(args["suite"], args["prompts"], dimensions, args["takes"])[: args["limit"]]
    found, model = run_folder.opened(args)

    from ..schedulers import walk

    settings = {"model": found.sha256, "steps": args["steps"], "solver": args["solver"], "guide": args["guide"]}
    settings |= {"shift": args["shift"]} if args["shift"] != 1.0 else {}
    settings |= {"negative": args["negative"]} if args["negative"] else {}
    how = filming.filming(
        model,
        args["query"],
        walk=lambda query: walk(args["solver"], args["steps"], model, query, args["shift"]),
        guides=sample.negated([sample.guide(g) for g in args["guide"]], model, args["negative"]),
        seed=args["seed"],
        settings=settings,
    )
    written = filming.write(how, args["suite"], wanted, Path(args["out"]), told=_told)
    print(f"{args['out']}: {len(wanted)} films, {written} of them new")
    return 0


def _told(done: int, total: int) -> None:
    if done == total or done % 10 == 0:
        print(f"{done} of {total}", flush=True)


def _measure(words: Sequence[str]) -> int:
    parser = Parser("benchmark measure", MEASURE)
    parser.add_argument("folder", metavar="DIR", help="films that were written")
    parser.add_argument("--out", metavar="FILE", help="where the numbers go [DIR/measured.json]")
    args = parser.take(words)

    from ..data.files import write_json
    from ..evaluate.suites import filming

    folder = Path(args["folder"])
    rows = list(filming.lines(folder))
    if not rows:
        raise ValueError(f"{folder} holds no films that `polyclock benchmark films` wrote")
    films = [row | _of_film(filming.frames_of(folder, row), row) for row in rows]
    document = {"films": len(films), "dimensions": summary(films)}
    out = Path(args["out"]) if args["out"] else folder / "measured.json"
    write_json(out, document | {"each": films})
    print(json.dumps(document, indent=1))
    print(f"wrote {out}")
    return 0


def _of_film(frames: np.ndarray, row: dict[str, Any]) -> dict[str, float | bool]:
    """{dimension: number} of one film; what needs more frames than it has is left out."""
    from ..evaluate.suites import dimensions

    found: dict[str, float | bool] = {}
    if len(frames) > 1:
        found["temporal flickering"] = dimensions.temporal_flickering(frames)
        found["dynamic degree"] = dimensions.dynamic_degree(frames, row["fps"])
    if len(frames) > 2:
        found["motion smoothness"] = dimensions.motion_smoothness(frames)
    if "own_dynamic" in row:
        found["dynamic degree by its own flow"] = row["own_dynamic"]
    return found


def summary(films: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{dimension: interval in per cent}: the mean over the films that count for it; prompts are drawn together."""
    import numpy as np

    from ..evaluate.intervals import block_interval

    names = ("temporal flickering", "motion smoothness", "dynamic degree", "dynamic degree by its own flow")
    out = {}
    for name in names:
        base = name.removesuffix(" by its own flow")
        # A list that gives this dimension prompts of its own means these.
        own = [f for f in films if base in f["dimensions"]] or films
        mine = [f for f in own if name in f]
        if mine:
            values = np.array([100.0 * f[name] for f in mine])
            found = block_interval(values, [tuple(f["prompts"]) for f in mine])
            out[name] = found.plain() | {"films": len(mine)}
    return out


def _total(words: Sequence[str]) -> int:
    parser = Parser("benchmark total", TOTAL)
    parser.add_argument("scores", metavar="SCORES.json", help="numbers per dimension, or ratings per film")
    parser.add_argument("--suite", required=True, choices=SUITES, help="which benchmark")
    args = parser.take(words)

    from ..evaluate.suites.totals import TOTALS, Rating, shares

    try:
        given = json.loads(Path(args["scores"]).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{args['scores']} is no JSON: {error}") from None
    if args["suite"] != "videophy":
        if not isinstance(given, dict):
            raise ValueError(f"{args['scores']} must hold numbers by dimension")
        print(json.dumps(TOTALS[args["suite"]](given), indent=1))
        return 0
    keys = ("states_of_matter", "sa", "pc")
    if not isinstance(given, list) or not all(isinstance(r, dict) and all(k in r for k in keys) for r in given):
        raise ValueError(f"{args['scores']} must hold a list of entries with {', '.join(keys)}")
    ratings = [Rating(matter=str(r["states_of_matter"]), sa=float(r["sa"]), pc=float(r["pc"])) for r in given]
    print(json.dumps(shares(ratings), indent=1))
    return 0
