"""`polyclock collect WORLD --episodes N --out DIR`: make a data set with the exact truth of every frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import flags
from ..errors import unknown

if TYPE_CHECKING:
    from ..envs.collect import Source, Told

WORLDS = {
    "metaworld/TASK[,TASK...]": "scripted experts of a robot arm at a table; --episodes of each task",
    "people": "one or two people who walk, wave, squat, jump, throw or lift, filmed in rooms; --clips in all",
}
TEXT = """Make a LeRobot v3 data set in a simulated world: colour, depth, flow, segmentation, surface map, skeleton and
camera of every frame, all exact. The same command goes on with what was interrupted, and asking for more adds to it.

{worlds}"""


def run(words: Sequence[str]) -> int:
    """Collect; the exit status is 0."""
    width = max(map(len, WORLDS))
    text = TEXT.format(worlds="\n".join(f"  {name:<{width}}  {about}" for name, about in WORLDS.items()))
    if not words or words[0].startswith("-"):
        print(
            f"usage: polyclock collect WORLD --episodes N --out DIR ...\n\n{text}\n\n"
            "polyclock collect WORLD --help says more."
        )
        return 0 if words else 2
    world = words[0]
    if world.startswith("metaworld/"):
        source, out, workers = _tabletop(world, text, words[1:])
    elif world == "people":
        source, out, workers = _people(world, text, words[1:])
    else:
        raise unknown("world", world, WORLDS)
    from ..envs.collect import collect

    with Bar() as bar:
        found = collect(source, out, workers=workers, told=bar.show)
    print(f"{found.folder}: {found.episodes} episodes with {found.frames} frames, {found.new} of them new")
    return 0


def _tabletop(world: str, text: str, words: Sequence[str]) -> tuple[Source, str, int | None]:
    from ..envs.metaworld_source import TabletopSource

    parser = _parser(world, text)
    own = [flag for flag in flags.of_dataclass(TabletopSource) if flag.name not in ("lines", "fps")]
    parser.add_flags("world", own)
    given = parser.take(words)
    out, workers = given.pop("out"), given.pop("workers", None)
    tasks = tuple(task.strip() for task in world.removeprefix("metaworld/").split(","))
    return flags.settings(TabletopSource, given | {"lines": tasks}), out, workers


def _people(world: str, text: str, words: Sequence[str]) -> tuple[Source, str, int | None]:
    from ..envs.people import PeopleSource

    parser = _parser(world, text, "--clips")
    parser.add_flags("world", flags.of_dataclass(PeopleSource))
    given = parser.take(words)
    out, workers = given.pop("out"), given.pop("workers", None)
    return flags.settings(PeopleSource, given), out, workers


def _parser(world: str, text: str, count: str = "--episodes") -> flags.Parser:
    parser = flags.Parser(f"collect {world}", text, usage=f"polyclock collect {world} {count} N --out DIR [flags]")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="a new folder, or one that was collected into before"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes [one for each core, at most 8]")
    return parser


class Bar:
    """A progress bar on standard error for what `collect` tells."""

    NAMES = {"choose": "trying starts", "make": "making episodes"}

    def __enter__(self) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True, highlight=False))
        self._stages: dict[str, int] = {}
        return self

    def __exit__(self, *_: object) -> None:
        if self._stages:  # a mistake that was found before anything began gets no empty bar
            self._progress.stop()

    def show(self, told: Told) -> None:
        """Draw how far it is; print the line, if there is one."""
        if told.stage not in self._stages:
            self._progress.start()
            self._stages[told.stage] = self._progress.add_task(self.NAMES[told.stage], total=told.total)
        self._progress.update(self._stages[told.stage], completed=told.done)
        if told.line:
            self._progress.console.print(told.line, markup=False)
