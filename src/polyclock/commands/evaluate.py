"""`polyclock evaluate RUN --data PATH`: errors on held-out episodes, beside baselines, with intervals."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..flags import Parser
from . import run_folder

if TYPE_CHECKING:
    from ..data import Dataset

TEXT = """Ask a run its questions (policy, forward, inverse, video, joint, ...) about held-out episodes, and measure the
answers beside simple baselines and beside those to shuffled inputs, with paired 95 % intervals. docs/evaluation.md says
what each number is. The document is written to RUN/evaluation.json or --out."""
INSTEAD = "the episodes that are not asked about stand for its training data"
UNKNOWN = "the run does not say which episodes it was trained on, so it may have seen those asked about"
CHOSEN = (
    "the checkpoint is the best of its run on the episodes asked about, which flatters it; --checkpoint last was not "
    "chosen by them"
)


def run(words: Sequence[str]) -> int:
    """Evaluate, write the document, print it; the exit status is 0."""
    args = _parser().take(words)
    found, model = run_folder.opened(args)

    from ..data import open_dataset
    from ..data.files import write_json
    from ..data.source import numbers
    from ..evaluate import PROBES, evaluate, show
    from .sample import guide

    dataset = open_dataset(args["data"])
    apart = open_dataset(args["training"]) if args["training"] else None
    if apart is not None and apart.fingerprint == dataset.fingerprint:
        raise ValueError("--training names the same data as --data, of which some were held out; leave --training out")
    began_with = run_folder.started_with(args["run"]).get("facts", {}).get("data", {})
    if args["episodes"]:
        episodes = numbers(args["episodes"])
    else:
        # Of a data set that the run was not trained on every episode is held out.
        episodes = [e.index for e in dataset.episodes] if apart else began_with.get("held_out")
    if not episodes:
        raise ValueError(f"{args['run']} does not say which episodes were held out; name them: --episodes 3,7-9")
    if apart is None:
        training, notes = trained_on(dataset, began_with, episodes, best=found.which == "best")
    else:
        training, notes = trained_apart(apart, began_with)
    document = evaluate(
        model,
        dataset,
        episodes=episodes,
        training=training,
        only=named(args["only"]) if args["only"] else None,
        stride=args["stride"],
        windows=args["windows"],
        steps=args["steps"],
        spread_steps=args["spread_steps"],
        batch_size=args["batch_size"],
        probes=PROBES if args["probes"] is None else named(args["probes"]),
        probe_windows=args["probe_windows"],
        worlds=named(args["world"] or ""),
        starts=args["starts"],
        seed=args["seed"],
        guides=[guide(text) for text in args["guide"]],
        about={
            "command": shlex.join(["polyclock", "evaluate", *words]),
            "model": str(found.folder),
            "sha256": found.sha256,
            "step": found.step,
            "date": time.strftime("%F"),
        },
    )
    document["notes"] = [*notes, *document["notes"]]
    out = Path(args["out"]) if args["out"] else Path(args["run"]) / "evaluation.json"
    write_json(out, document)
    if args["json"]:
        print(json.dumps(document, indent=1))
    else:
        show(document)
        print(f"wrote {out}")
    return 0


def trained_on(
    dataset: Dataset, began_with: dict[str, Any], episodes: Sequence[int], best: bool = False
) -> tuple[Dataset | None, list[str]]:
    """The episodes that the run was trained on, with notes; None where they are not these data's, or not known.

    best: whether the checkpoint is the one with the lowest loss on what the run held out.
    """
    trained = began_with.get("episodes", [])
    if not trained:
        return None, [UNKNOWN]
    same = dataset.only(trained) if {e.index for e in dataset.episodes}.issuperset(trained) else None
    if same is None or same.fingerprint != began_with.get("fingerprint"):
        return None, [f"these are other data than the run was trained on; {INSTEAD}"]
    seen = sorted(set(trained) & set(episodes))
    more = f" and {len(seen) - 1} more" if len(seen) > 1 else ""
    notes = [f"the run was trained on episode {seen[0]}{more} of those asked about"] if seen else []
    return same, [*notes, CHOSEN] if best and set(episodes) & set(began_with.get("held_out", ())) else notes


def trained_apart(apart: Dataset, began_with: dict[str, Any]) -> tuple[Dataset, list[str]]:
    """The episodes of a data set of its own that the run was trained on; all, with a note, where they are others."""
    trained = began_with.get("episodes", [])
    if not trained:
        return apart, [UNKNOWN]
    same = apart.only(trained) if {e.index for e in apart.episodes}.issuperset(trained) else apart
    other = same.fingerprint != began_with.get("fingerprint")
    return same, ["--training names other data than the run was trained on"] if other else []


def named(words: str) -> tuple[str, ...]:
    """ "a,b" -> ("a", "b"); "" and "none" -> ()."""
    return tuple(w for word in words.split(",") if (w := word.strip()) not in ("", "none"))


def _parser() -> Parser:
    parser = Parser("evaluate", TEXT)
    parser.add_argument("run", metavar="RUN", help="a run folder or a model folder")
    parser.add_argument("--data", required=True, metavar="PATH", help="the data set")
    parser.add_argument("--episodes", metavar="3,7-9", help="which [those that the run held out]")
    parser.add_argument(
        "--training", metavar="PATH", help="the data set of the training, where --data is another [it is the same]"
    )
    parser.add_argument("--only", metavar="NAME,..", help="questions to ask [all that make sense]")
    parser.add_argument("--stride", type=int, metavar="N", help="data frames between windows [about six a second]")
    parser.add_argument("--windows", type=int, metavar="N", help="so many at most, spread evenly [64, or by --stride]")
    parser.add_argument("--steps", type=int, metavar="N", help="of the solver [10; 1 for a regression]")
    parser.add_argument("--spread-steps", type=int, metavar="N", help="of the probe calibration [10; 1 likewise]")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="windows at a time [16]")
    parser.add_argument(
        "--probes", metavar="NAME,..", help="consistency, horizon, calibration, world, or none [all of them]"
    )
    parser.add_argument("--probe-windows", type=int, default=16, metavar="N", help="windows that probes look at [16]")
    parser.add_argument(
        "--world", metavar="WORLD,..", help="metaworld/TASK: try other actions from the same state there [no]"
    )
    parser.add_argument("--starts", type=int, default=8, metavar="N", help="states to try them from, in each world [8]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise [0]")
    parser.add_argument("--guide", action="append", default=[], metavar="weight=2,drop=text", help="as of sample")
    parser.add_argument("--json", action="store_true", help="print the document and nothing else")
    parser.add_argument("--out", metavar="FILE", help="where the document goes [RUN/evaluation.json]")
    run_folder.add_flags(parser)
    return parser
