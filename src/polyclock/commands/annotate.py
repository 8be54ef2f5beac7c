"""`polyclock annotate SOURCE --experts flow,depth=depth_anything:WEIGHTS --out DIR`: ask experts about a data set."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import flags
from ..errors import unknown

if TYPE_CHECKING:
    from ..experts import Expert, Filter
    from ..experts.annotate import Summary, Told

TEXT = """Ask experts about every clip of a data set. DIR then opens as a data set: the columns of SOURCE, and beside
each camera what the experts said of it (observation.images.front -> observation.flow.front, video -> flow).

SOURCE is anything that training reads: a LeRobot folder, a folder of videos, a CSV, ... with its options. It is not
copied and not changed. --experts names them, with commas between: [NAME=]EXPERT[:WEIGHTS][?SETTING=VALUE&...].

{experts}

Features are projected on 8 components, which are fitted to clips spread over the data set first: semantics=dino:WEIGHTS
?components=16&scale=channel&clips=256, and ?components=0 stores them whole.

WEIGHTS is a folder with config.json and *.safetensors, a hub's name OWNER/NAME, or for raft and densepose a TorchScript
file. Filters mark clips, with the reason; DIR?kept=yes opens those that all of them keep. What fails stands with the
reason in DIR/quarantine; the exit status is then 1. The same command goes on with what is not done yet, and further
experts add to it. Machines share the work: --shard 0/4, --shard 1/4, ... DIR?kept=whole opens clips without failures.

--for "RECIPE FLAGS" also encodes what the frozen codecs of that recipe say of the clips, into DIR/latents, where
`polyclock train RECIPE FLAGS --data DIR` finds it: no expert and no autoencoder runs in training."""
ABOUT = {
    "flow": "dis (no weights needed), raft",
    "depth": "depth_anything",
    "segmentation": "mask2former, sam2",
    "skeleton": "vitpose",
    "surface": "densepose",
    "semantics": "dino (DINOv2 features on its grid of patches)",
    "geometry": "vggt (VGGT features; through your own installation)",
    "filters": "duration, resolution, motion, quality",
}
# Settings of features besides the expert's own: how they are projected before they are stored.
PROJECTED = ("components", "scale", "per", "rows", "clips")
WORD = re.compile(r"(?:(?P<name>\w+)=)?(?P<expert>\w+)(?::(?P<weights>[^?]+))?(?:\?(?P<settings>.+))?")


def run(words: Sequence[str]) -> int:
    """Annotate; the exit status is 0, or 1 where something is in quarantine."""
    args = _parser().take(words)
    from ..data import open_dataset
    from ..experts.annotate import annotate
    from .run_folder import usable

    device = str(usable(args["device"]))
    experts = parse_experts([w for text in args["experts"] for w in text.split(",")], device)
    dataset = open_dataset(args["source"])
    with Bar() as bar:
        found = annotate(
            dataset,
            args["source"],
            args["out"],
            experts,
            cameras=tuple(args["cameras"].split(",")) if args["cameras"] else (),
            size=_size(args["size"]),
            shard=_shard(args["shard"]),
            limit=args["limit"],
            retry=args["retry"],
            told=bar.show,
        )
    rate = f"{found.frames / found.seconds:.1f} frames/s" if found.frames else "nothing was left to do"
    print(f"{found.folder}: {found.episodes} clips, {found.frames} frames by {', '.join(found.names)}; {rate}")
    if found.skipped:
        print(f"{found.skipped} clips were done before")
    if found.left:
        every = found.kept + found.left
        print(f"{found.left} of {every} clips are marked by filters; {found.folder}?kept=yes opens the others")
    if args["for"]:
        _encode(args, device, found)
    if found.failed:
        print(f"{found.failed} answers are lacking: {Path(args['out']) / 'quarantine'} says why; --retry asks again")
    return 1 if found.failed else 0


def _encode(args: dict[str, Any], device: str, found: Summary) -> None:
    """What the codecs of a recipe say of the clips that are whole, into the folder."""
    from ..data import open_dataset
    from ..data.annotation import LATENTS
    from .prepare import prepare
    from .train import progress

    (part, parts), out = _shard(args["shard"]), args["out"]
    mine = list(open_dataset(args["source"]).episodes)[part::parts][: args["limit"]]
    data = f"{out}?kept=whole" if found.failed else f"{out}?kept=yes" if found.left else str(out)
    made = prepare(
        args["for"], data, {e.index for e in mine}, Path(out) / LATENTS, stride=args["stride"],
        precision=args["latents_as"], device=device, tell=progress(),
    )  # fmt: skip
    each = f"{made.bytes / max(1, made.rows) / 2**20:.2f} MiB each"
    print(f"{Path(out) / LATENTS}: {made.rows} rows of {', '.join(made.names)}, {each}")
    print(f"train with: polyclock train {args['for']} --data '{data}' --stride {args['stride']} --out RUN")


def _parser() -> flags.Parser:
    width = max(map(len, ABOUT))
    about = "\n".join(f"  {name:<{width}}  {text}" for name, text in ABOUT.items())
    parser = flags.Parser("annotate", TEXT.format(experts=about))
    parser.add_argument("source", metavar="SOURCE", help="a data set")
    parser.add_argument(
        "--experts", action="append", required=True, metavar="WORD,..", help="see above; may be repeated"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder, or one that was annotated before")
    parser.add_argument("--cameras", metavar="NAME,..", help="columns [all of observation.images, or video]")
    parser.add_argument("--size", metavar="HxW", help="at which frames are shown and maps are kept [their own]")
    parser.add_argument("--shard", default="0/1", metavar="I/N", help="episodes I, I + N, I + 2 N, ... alone [0/1]")
    parser.add_argument("--limit", type=int, metavar="N", help="episodes of the shard at most")
    parser.add_argument("--retry", action="store_true", help="ask again where it failed before")
    parser.add_argument("--for", metavar="'RECIPE ..'", help="encode its targets too: a recipe with flags, in quotes")
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="of the recipe's windows [1]")
    parser.add_argument(
        "--latents-as", choices=("float32", "float16"), default="float32", help="how numbers are kept [float32]"
    )
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 [a GPU if there is one]")
    return parser


def parse_experts(words: Sequence[str], device: str = "cpu") -> dict[str, Expert | Filter]:
    """["flow", "near=depth_anything:WEIGHTS?side=280", "motion"] -> {"flow": Dis(), "near": ..., "motion": Motion()}.

    Errors: ValueError for what is no such word, an unknown expert or setting, weights that are not given.
    """
    found: dict[str, Expert | Filter] = {}
    for word in words:
        match = WORD.fullmatch(word.strip())
        if match is None:
            raise ValueError(f"--experts {word!r} must be [NAME=]EXPERT[:WEIGHTS][?SETTING=VALUE&...]")
        from ..experts import CLASSES, DEFAULTS, expert_class

        kind = DEFAULTS.get(match["expert"], match["expert"])
        name = match["name"] or _named(match["expert"], CLASSES, DEFAULTS)
        if name in found:
            raise ValueError(f"--experts: two would be called {name!r}; give one another name, OTHER={match['expert']}")
        found[name] = _made(expert_class(kind), kind, match, device)
    return found


def _named(word: str, classes: Any, defaults: dict[str, str]) -> str:
    """What an expert without a name is called: the modality that it is the default of, else its own name."""
    if word in defaults:
        return word
    return next((modality for modality, kind in defaults.items() if kind == word), word)


def _made(cls: type, kind: str, match: re.Match, device: str) -> Expert | Filter:
    from ..experts.expert import FEATURES
    from ..experts.projected import Projected

    own = {flag.name: flag for flag in flags.of_dataclass(cls)}
    beside = {flag.name: flag for flag in flags.of_dataclass(Projected)[1:]} if cls.modality == FEATURES else {}  # type: ignore[attr-defined]
    own |= {name: flag for name, flag in beside.items() if name in PROJECTED}
    given: dict[str, Any] = {}
    if match["weights"]:
        if "weights" not in own:
            raise ValueError(f"--experts {match[0]!r}: {kind} has no weights")
        given["weights"] = os.path.expanduser(match["weights"])
    for piece in (match["settings"] or "").split("&"):
        name, equals, value = piece.partition("=")
        if piece and (not equals or name not in own or (read := flags.reader(own[name].kind)) is None):
            raise unknown(f"setting of {kind}:", name, [n for n, f in own.items() if flags.reader(f.kind)])
        if piece:
            given[name] = _value(kind, name, value, read)
    if "device" in own:
        given.setdefault("device", device)
    if "weights" in own and own["weights"].default is flags.REQUIRED and "weights" not in given:
        raise ValueError(
            f"--experts {match[0]!r}: {kind} needs weights, a folder with config.json and *.safetensors or a hub's "
            f"name: {kind}:PATH"
        )
    how = {name: given.pop(name) for name in PROJECTED if name in given and name in beside}
    made: Any = cls(**given)
    if beside and how.get("components") != 0:
        made = Projected(expert=made, **how)
    made.fingerprint  # noqa: B018  - what is wrong with the weights is said before any work begins
    return made


def _value(kind: str, name: str, value: str, read: flags.Read) -> Any:
    import argparse

    try:
        # Commas stand between experts, so a size is written 280x504.
        return read(value.replace("x", ",") if re.fullmatch(r"\d+x\d+", value) else value)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"setting {name} of {kind}: {error}") from None


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise ValueError(f"--size {text!r} must be height x width, such as 256x256")
    return int(match[1]), int(match[2])


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f"--shard {text!r} must be I/N with I from 0 to N - 1, such as 0/4")
    return int(match[1]), int(match[2])


class Bar:
    """A progress bar on standard error, in frames."""

    def __enter__(self) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("frames"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        self._progress = Progress(*columns, console=Console(stderr=True, highlight=False))
        self._task: Any = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._progress.stop()

    def show(self, told: Told) -> None:
        """Draw how far it is; print what failed."""
        if told.total and self._task is None:
            self._progress.start()
            self._task = self._progress.add_task("frames", total=told.total, rate="")
        if self._task is None:
            return
        task = self._progress.tasks[self._task]
        rate = f"{told.done / task.elapsed:.1f} frames/s" if told.done and task.elapsed else ""
        self._progress.update(self._task, completed=told.done, rate=rate)
        if told.line:
            self._progress.console.print(told.line, markup=False)
