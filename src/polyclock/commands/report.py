"""`polyclock report RUN [--data PATH]`: one page about a run, or about several side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ..flags import Parser
from . import run_folder

TEXT = """Write one self-contained page about a run or a model: with --data clips of what was given, predicted and true
for every question, what `polyclock rollout` and `polyclock evaluate` found, loss curves, checkpoints, versions.
Several runs are laid over one another."""


def run(words: Sequence[str]) -> int:
    """Write the page; the exit status is 0."""
    parser = Parser("report", TEXT)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run or model folders")
    parser.add_argument("--out", metavar="FILE", help="the page [RUN/report.html]; several runs need one")
    parser.add_argument("--data", metavar="PATH", help="a data set to show clips of")
    parser.add_argument("--episodes", metavar="3,7-9", help="where the clips are from [what the run held out]")
    parser.add_argument("--evaluation", metavar="FILE", help="of a single run [RUN/evaluation.json]")
    parser.add_argument("--rollout", metavar="DIR", help="of a single run [RUN/rollout]")
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="another rollout to draw beside it; repeatable",
    )
    parser.add_argument("--name", metavar="NAME", help="what a single run is called beside them [as its folder]")
    parser.add_argument("--count", type=int, default=3, metavar="N", help="clips of each question [3]")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of an episode in a clip, at most [2]")
    parser.add_argument("--steps", type=int, metavar="N", help="of the solver [10; 1 for a regression]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise [0]")
    parser.add_argument("--code", metavar="FILE.py", help="your own parts that a model's config names (it is run)")
    args = parser.take(words)

    from ..data import open_dataset
    from ..data.source import numbers
    from ..report import write

    page = write(
        args["runs"] if len(args["runs"]) > 1 else args["runs"][0],
        args["out"],
        args["evaluation"],
        rollout=args["rollout"],
        beside=_beside(args["beside"]),
        name=args["name"],
        words=words,
        dataset=open_dataset(args["data"]) if args["data"] else None,
        data=args["data"],
        episodes=numbers(args["episodes"]) if args["episodes"] else None,
        count=args["count"],
        seconds=args["seconds"],
        steps=args["steps"],
        seed=args["seed"],
        classes=run_folder.own_classes(args["code"]),
    )
    print(f"wrote {page}")
    return 0


def _beside(words: Sequence[str]) -> dict[str, str]:
    """Errors: ValueError for two of one name."""
    found: dict[str, str] = {}
    for name, path in map(_named, words):
        if name in found:
            raise ValueError(f"--beside names {name!r} twice; each rollout needs a name of its own")
        found[name] = path
    return found


def _named(text: str) -> tuple[str, str]:
    """ "policy only=DIR" -> ("policy only", "DIR")."""
    name, equals, path = text.partition("=")
    if not equals or not name.strip() or not path:
        raise ValueError(f"--beside {text!r} must be NAME=DIR, such as yardstick=runs/out/yardstick")
    return name.strip(), path
