"""`polyclock data info|verify|show|compact PATH`: look at a data set, check it, merge its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import unknown
from ..flags import Parser

ACTIONS = {
    "info": "what it holds",
    "verify": "read everything and name each fault by file, episode and frame; exit status 1 where there are any",
    "show": "draw one episode: sheets of pictures, curves of numbers",
    "compact": "merge the files of a LeRobot v3 recording into few large ones",
}


def run(words: Sequence[str]) -> int:
    """One of the actions; the exit status is 0, or 1 where `verify` found faults."""
    if not words or words[0] in ("-h", "--help"):
        width = max(map(len, ACTIONS))
        lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in ACTIONS.items())
        print(f"usage: polyclock data ACTION PATH ...\n\n{lines}\n\npolyclock data ACTION --help says more.")
        return 0 if words else 2
    if words[0] not in ACTIONS:
        raise unknown("action", words[0], ACTIONS)
    parser = Parser(f"data {words[0]}", ACTIONS[words[0]])
    parser.add_argument("path", metavar="PATH", help="the data set")
    return {"info": _info, "verify": _verify, "show": _show, "compact": _compact}[words[0]](parser, words[1:])


def _info(parser: Parser, words: Sequence[str]) -> int:
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.take(words)
    from ..data import show

    found = show.info(args["path"])
    if args["json"]:
        print(json.dumps(found, indent=1))
        return 0
    from rich.console import Console

    Console(highlight=False, markup=False).print(show.summary(found))
    return 0


def _verify(parser: Parser, words: Sequence[str]) -> int:
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.take(words)
    from ..data.verify import verify

    problems = verify(args["path"])
    faults = [p for p in problems if not p.note]
    if args["json"]:
        rows: list[dict[str, Any]] = [vars(p) for p in problems]
        print(json.dumps({"path": args["path"], "faults": len(faults), "problems": rows}, indent=1))
    else:
        for problem in problems:
            print(f"{'note: ' if problem.note else ''}{problem}")
        print(f"{args['path']}: {len(faults) or 'no'} fault{'' if len(faults) == 1 else 's'}")
    return 1 if faults else 0


def _show(parser: Parser, words: Sequence[str]) -> int:
    parser.add_argument("--episode", type=int, metavar="N", help="which [the first]")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the pictures go")
    args = parser.take(words)
    from ..data.show import show

    for path in show(args["path"], args["out"], args["episode"]):
        print(f"wrote {path}")
    return 0


def _compact(parser: Parser, words: Sequence[str]) -> int:
    parser.add_argument("--out", metavar="DIR", help="a new folder [in place]")
    parser.add_argument("--data-mb", type=float, default=100, metavar="X", help="size of a data file, about [100]")
    parser.add_argument("--video-mb", type=float, default=200, metavar="X", help="size of a video file, about [200]")
    args = parser.take(words)
    from ..data.compact import compact

    before = _files(Path(args["path"]))
    folder = compact(args["path"], args["out"], data_mb=args["data_mb"], video_mb=args["video_mb"])
    print(f"{folder}: {before} files before, {_files(folder)} now")
    return 0


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))
