"""`polyclock rollout RUN --world metaworld/drawer-open`: let a run act in a world, and count how often it succeeds."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..flags import Parser
from . import run_folder

if TYPE_CHECKING:
    from ..evaluate.paired import Sequential
    from ..model import WorldModel
    from ..rollout.actor import Actor
    from ..rollout.demonstration import Demonstration
    from ..rollout.ledger import Row
    from ..rollout.outcome import Outcome

TEXT = """Let a run act in a world from its published starts, and count how often it succeeds, with Wilson's 95 %
intervals. RUN is a run folder or a model folder, or one of expert (the world's scripted one), still and random.

A model acts as a policy; with --plan it chooses among several of its answers by what its forward question says of them;
with --track its inverse question follows the expert, or goes towards a picture.

DIR gets ledger.jsonl (a line an episode), rollout.json, clips/ and grid.mp4. The same command goes on where it was
stopped: episodes that stand in the ledger are not played again."""
WORDS = ("expert", "still", "random")  # RUN where no model acts
OF_A_MODEL = (
    *(
        "query",
        "execute",
        "steps",
        "solver",
        "set",
        "guide",
        "overlap",
        "delay",
        "plan",
        "goal",
        "within",
        "imagine",
        "track",
    ),
    *("checkpoint", "device", "code"),
)


def run(words: Sequence[str]) -> int:
    """Roll out, write the documents, print the table; the exit status is 0."""
    args = _parser().take(words)
    out = Path(args["out"] or (f"rollout-{args['run']}" if args["run"] in WORDS else Path(args["run"]) / "rollout"))
    if args["code"] and args["workers"]:
        raise ValueError("what --code defines lives in this process alone; use --workers 0 with it")

    from ..data.files import write_json
    from ..rollout.grid import write_grid
    from ..rollout.ledger import read
    from ..rollout.outcome import matched
    from ..rollout.world import World

    rival = read(args["against"]) if args["against"] else None
    enough = _enough(args["enough"], rival)
    actor, about = _actor(args)
    world = World(
        worlds(args["world"]),
        num_envs=args["workers"],
        cameras=args["cameras"].split(",") if args["cameras"] else None,
        size=args["size"],
        variation=args["variation"],
    )
    if rival is not None:
        matched(world.planned(args["episodes"]), rival)  # what cannot be compared is said before it is played
    with _progress(args["episodes"] * len(world.tasks), quiet=args["json"]) as report, _told(out):
        outcome = world.evaluate(
            actor,
            args["episodes"],
            ledger=out / "ledger.jsonl",
            clips=out / "clips",
            filmed=args["filmed"],
            enough=enough,
            against=rival if args["enough"] == "better" else None,
            report=report,
        )
    document = _document(outcome, about, rival, args) | {"command": shlex.join(["polyclock", "rollout", *words])}
    film = write_grid(out / "grid.mp4", outcome.rows, out / "clips")
    write_json(out / "rollout.json", document)
    if args["json"]:
        print(json.dumps(document, indent=1))
        return 0
    outcome.show()
    if "sentence" in document.get("against", {}):
        print(document["against"]["sentence"])
    for path in (out / "ledger.jsonl", out / "rollout.json", *([film] if film else [])):
        print(f"wrote {path}")
    return 0


def worlds(text: str) -> tuple[str, ...]:
    """ "metaworld/a,b" -> ("metaworld/a", "metaworld/b")."""
    names = [piece.strip() for piece in text.split(",")]
    prefix = names[0].rpartition("/")[0]
    return tuple(name if "/" in name or not prefix else f"{prefix}/{name}" for name in names)


def _parser() -> Parser:
    parser = Parser("rollout", TEXT)
    parser.add_argument("run", metavar="RUN", help="a run or model folder, or expert, still, random")
    parser.add_argument("--world", required=True, metavar="WORLD/TASK,..", help="such as metaworld/drawer-open,reach")
    parser.add_argument("--episodes", type=int, default=50, metavar="N", help="of each task [50]")
    parser.add_argument("--query", metavar="QUERY", help="wanted | given [the model's policy question]")
    parser.add_argument("--execute", type=int, metavar="N", help="actions taken of each answer [4]")
    parser.add_argument("--steps", type=int, metavar="N", help="of the solver [10; 1 for a regression]")
    parser.add_argument("--solver", choices=("euler", "heun", "dpm++", "unipc"), help="that walks them [euler]")
    parser.add_argument("--set", action="append", default=[], metavar="k=4", help="a free name of the query")
    parser.add_argument("--guide", action="append", default=[], metavar="weight=2,drop=text", help="as of sample")
    parser.add_argument(
        "--overlap", choices=("hard", "soft"), help="the world goes on while the model thinks: real-time chunking"
    )
    parser.add_argument("--delay", type=int, metavar="N", help="actions that this takes [as many as --execute]")
    parser.add_argument(
        "--plan", type=int, metavar="N", help="draw N chunks, imagine each, take the one that ends nearest the goal"
    )
    parser.add_argument(
        "--goal", metavar="FILE", help="a picture, or expert: where that ends from the same start [expert]"
    )
    parser.add_argument("--within", type=int, metavar="N", help="of --goal expert: what it sees N steps on [its end]")
    parser.add_argument("--imagine", metavar="QUERY", help="of --plan: pictures | action, .. [the forward question]")
    parser.add_argument(
        "--track",
        metavar="FILE",
        help="expert, goal (where that ends from the same start) or a picture: given to the query as what lies ahead",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise [0]")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="episodes at a time, a process each [2]")
    parser.add_argument(
        "--size", type=int, default=128, metavar="N", help="pixels that the training data were drawn at [128]"
    )
    parser.add_argument(
        "--variation",
        metavar="LOOKS",
        help="other looks, drawn from each start: light, background or clutter; all else stays",
    )
    parser.add_argument("--cameras", metavar="NAME,..", help="that the world brings [those that the query is given]")
    parser.add_argument("--out", metavar="DIR", help="where the files go [RUN/rollout]")
    parser.add_argument("--filmed", type=int, default=8, metavar="N", help="episodes of each task in the film [8]")
    parser.add_argument(
        "--against", metavar="LEDGER", help="another rollout's ledger.jsonl: McNemar on the same starts"
    )
    parser.add_argument(
        "--enough", metavar="X",
        help="end a task once it is decided (5 %%): whether its share lies above or below X, or with 'better' who is",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the document and nothing else")
    run_folder.add_flags(parser)
    return parser


def _actor(args: dict[str, Any]) -> tuple[Actor, dict[str, Any]]:
    """Who acts, and what the document says of where it came from."""
    from ..rollout import Expert, Random, Still

    if args["run"] in WORDS:
        for name in OF_A_MODEL:
            if args[name]:
                raise ValueError(f"--{name} is for a model; {args['run']} has none, so it would have no effect")
        return {"expert": Expert(), "still": Still(), "random": Random(args["seed"])}[args["run"]], {}
    found, model = run_folder.opened(args)
    return _of_model(model, args), {"folder": str(found.folder), "sha256": found.sha256, "step": found.step}


def _of_model(model: WorldModel, args: dict[str, Any]) -> Actor:
    """A model as a policy, which may plan, or as a tracker."""
    from ..rollout import ByExpert, Planner, Policy, Tracker, policy_query
    from .sample import bindings, guide

    for name in ("goal", "within", "imagine"):
        if args[name] and args["plan"] is None:
            raise ValueError(f"--{name} is for planning; say how many chunks to choose from: --plan N")
    if args["track"] and args["plan"] is not None:
        raise ValueError("--track has no forward model to plan with; give one of --track and --plan")
    settings = {
        "execute": 4 if args["execute"] is None else args["execute"],
        "steps": args["steps"],
        "solver": args["solver"] or "euler",
        "seed": args["seed"],
        "guides": [guide(text) for text in args["guide"]],
        "overlap": args["overlap"],
        "delay": args["delay"],
        **bindings(args["set"]),
    }
    if args["track"]:
        ahead = ByExpert(end=True) if args["track"] == "goal" else _shown(model, args["track"])
        return Tracker(model, args["query"], demonstration=ahead, **settings)
    policy = Policy(model, args["query"] or policy_query(model), **settings)
    if args["plan"] is None:
        return policy
    goal = _shown(model, args["goal"] or "expert")
    return Planner(policy, args["plan"], goal=goal, within=args["within"], forward=args["imagine"])


def _shown(model: WorldModel, text: str) -> Demonstration:
    """ "expert", or the file of a picture that the model's first camera is to see."""
    from ..evaluate.kinds import PICTURE, kinds_of
    from ..rollout import ByExpert, Pictured

    if text == "expert":
        return ByExpert()
    kinds = kinds_of(model)
    columns = [m.key or n for n, m in model.modalities.items() if kinds[n] == PICTURE]
    if not columns:
        raise ValueError(f"{text}: the model has no pictures to compare with it")
    return Pictured.read(columns[0], text)


def _enough(text: str | None, rival: list[Row] | None) -> Sequential | None:
    from ..evaluate.paired import Sequential

    if text is None:
        return None
    if text == "better":
        if rival is None:
            raise ValueError("--enough better compares with another ledger; name it with --against LEDGER")
        return Sequential()
    try:
        share = float(text)
    except ValueError:
        raise ValueError(f"--enough {text!r} must be a share such as 0.6, or better") from None
    return Sequential(threshold=share)


def _document(outcome: Outcome, about: dict[str, Any], rival: list[Row] | None, args: dict[str, Any]) -> dict[str, Any]:
    from ..data.source import load_json
    from ..rollout.outcome import comparison, ended_early
    from ..train.state import versions

    document = outcome.plain() | {"versions": versions(), "date": time.strftime("%F")}
    if about:
        document["model"] = about
    if rival is not None:
        pairs = outcome.against(rival)
        them = str(rival[0]["policy"])
        names = (str(outcome.about["policy"]), them)
        names = names if names[0] != names[1] else ("this run", "the other")
        beside = Path(args["against"]).with_name("rollout.json")
        theirs = load_json(beside).get("verdicts", {}) if beside.is_file() else {}
        early = ended_early(document.get("verdicts", {})) or ended_early(theirs)
        counts = pairs.plain() | (dict.fromkeys(("p_value", "low", "high")) if early else {})
        sentence = comparison(pairs, *names, early=early)
        document["against"] = {"ledger": args["against"], **counts, "sentence": sentence}
    return document


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[Row], None]]:
    """A bar on the terminal; the function to tell of each episode."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    solved = 0
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        line = bar.add_task("episodes", total=total)

        def report(row: Row) -> None:
            nonlocal solved
            solved += row["success"]
            bar.update(line, advance=1, description=f"{row['task']}, {solved} solved")

        yield report


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """After ctrl-C: where the episodes are that were played."""
    from ..cli import say

    try:
        yield
    except KeyboardInterrupt:
        if (ledger := out / "ledger.jsonl").is_file():
            say(f"stopped; {ledger} holds the episodes that had ended, the same command goes on from there")
        raise
