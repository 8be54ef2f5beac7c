"""`polyclock train RECIPE --data PATH --out RUN`: fit the recipe to the data, then train; the same command goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import flags
from ..errors import unknown
from ..flags import Flag
from ..train.settings import Training, usual
from . import run_folder
from .recipe_word import find_recipe, own_recipes, recipe_of

if TYPE_CHECKING:
    from ..data import Dataset, Windows
    from ..recipe import Recipe
    from ..train.sources import Sources

USAGE = "polyclock train RECIPE --data PATH --out RUN [flags]"
TEXT = """Train a recipe on a data set. The same command goes on with a run that ended or was killed.

RECIPE is one of the names below, path/to/file.py:function for one of your own (the file is run), or a run or model
folder (./NAME where a recipe has that name too) to go on from with other data: its recipe, its fitted codecs and its
weights.
polyclock train RECIPE --help lists the recipe's own flags."""
SHARED = ("seed",)  # an argument that the recipe and the training both have: one flag goes to both
FROM_DATA = ("cameras", "fps")  # arguments that are filled in from the data set where they are not given


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Where a run's data come from and where it goes.

    data         a data set of a format in docs/data.md; what its files do not say goes behind it: PATH?fps=20&flip=all
    also         a second data set, of which the model learns what it has: films without actions, say
    also_share   of the samples that come from the second data set; none: as many as it has windows
    stages       what is learnt from in turn, and for how many steps: data, also or all, less modalities, such as
                 all-segmentation-skeleton=1000,all=4000; none: all the time all
    shares       of modalities of which a sample brings one, such as depth=1,segmentation=2; one without a share has 1,
                 and what has none of them is "none"
    out          folder of the run
    hold_out     episodes to validate on, such as 3,7-9; last: the last one; none: train on all
    stride       data frames from one training window to the next
    cache        decode the cameras once, at the recipe's size, into RUN/cache
    latents      a folder to keep what frozen autoencoders say of the targets, computed once; several runs may share it;
                 none: the one that `polyclock annotate --for` left beside the data, or they run in every step
    latents_as   numbers that are kept there: float32, float16
    device       cpu, cuda, cuda:1; none: a GPU if there is one
    tensorboard  write TensorBoard events too
    """

    data: str
    out: str
    also: str | None = None
    also_share: float | None = None
    stages: tuple[tuple[str, int], ...] = ()
    shares: tuple[tuple[str, float], ...] = ()
    hold_out: str = "last"
    stride: int = 1
    cache: bool = True
    latents: str | None = None
    latents_as: Literal["float32", "float16"] = "float32"
    device: str | None = None
    tensorboard: bool = False


def run(words: Sequence[str]) -> int:
    """Train; the exit status is 0, or 130 and 143 after SIGINT and SIGTERM."""
    if not words or words[0].startswith("-"):
        return _general_help(words)
    known = words[0] in own_recipes()
    before = run_folder.find(words[0]) if Path(words[0]).is_dir() and not known else None
    function = None if before else find_recipe(words[0])
    own = flags.of_function(function) if function else ()
    check_names(own)
    settings = usual(recipe_of(before.folder) if before else function, further=before is not None)
    given = _parser(words[0], own, settings).take(words[1:])
    setup, training = flags.settings(Setup, given), flags.settings(Training, vars(settings) | given)

    from ..data import open_dataset
    from ..interop.expanded import Base
    from ..train import loop
    from ..train.job import recipe_job

    if setup.device:
        run_folder.usable(setup.device)
    dataset = open_dataset(setup.data)
    kept, held_out = split(dataset, setup.hold_out)
    arguments, origin = fill_in({f.name: given[f.name] for f in own if f.name in given}, own, dataset)
    weights = None
    if before:
        model = run_folder.load(before, "cpu")
        recipe, weights = model.recipe, model.state_dict()
        check_columns(recipe, dataset)
    else:
        assert function is not None
        recipe = make_recipe(function, arguments)
        check_columns(recipe, dataset)
        recipe = recipe.fit(kept)
    more = open_dataset(setup.also) if setup.also else None
    setup = beside_data(setup, recipe, dataset)
    if setup.cache:
        dataset = _cached(dataset, recipe, setup)
        kept, held_out = split(dataset, setup.hold_out)
        more = more and _cached(more, recipe, setup)
    ahead = Ahead(setup, recipe)
    windows, validation = ahead.windows(dataset, kept), ahead.windows(dataset, held_out, training=False)
    beside = None if more is None else ahead.windows(more, more)
    assert windows is not None
    check_answerable(recipe, *filter(None, (windows, beside)))
    which = which_data(windows, validation, setup.stride) | ahead.facts
    sources = learnt_from(recipe, windows, beside, setup, training.seed)
    which |= {"stages": [list(s) for s in setup.stages]} if setup.stages else {}
    which |= {"shares": dict(setup.shares)} if setup.shares else {}
    if beside is not None:
        which["also"] = {"fingerprint": beside.dataset.fingerprint, "share": setup.also_share, "windows": len(beside)}
    elif setup.also_share is not None:
        raise ValueError("--also-share says how much comes from the data set that --also names; there is none")
    source = sources.staged(setup.stages, training.steps, training.accumulate)
    later = validation and replace(sources, sets={"data": validation}, weights={}).source()
    begin = None if recipe.base is None or before else Base(recipe.base)
    job = recipe_job(recipe, source, later, data=which, weights=weights, begin=begin)
    if _first():
        _show(words[0], own, arguments, origin, recipe, (settings, training), windows, validation, beside)
    return loop.run(job, training, setup.out, device=setup.device, tensorboard=setup.tensorboard).exit_code


def _parser(word: str, own: Sequence[Flag], settings: Training) -> flags.Parser:
    parser = flags.Parser(f"train {word}", "The defaults stand in brackets.", USAGE.replace("RECIPE", word))
    parser.add_flags("data and run", flags.of_dataclass(Setup))
    parser.add_flags(f"recipe {word}", own)
    shared = {f.name for f in own}
    numbers = [replace(f, default=getattr(settings, f.name)) for f in flags.of_dataclass(Training)]
    parser.add_flags("training", [f for f in numbers if f.name not in shared])
    return parser


def _general_help(words: Sequence[str]) -> int:
    """Help without a recipe, which needs no import of torch."""
    recipes = own_recipes()
    if words and words[0] not in ("-h", "--help"):
        raise ValueError(f"the recipe comes first: {USAGE}; recipes: {', '.join(recipes)}")
    width = max(map(len, recipes))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in recipes.items())
    parser = flags.Parser("train", f"{TEXT}\n\nrecipes:\n{lines}", USAGE)
    parser.add_flags("data and run", flags.of_dataclass(Setup))
    parser.add_flags("training", flags.of_dataclass(Training))
    parser.print_help()
    return 0 if words else 2


def check_names(own: Sequence[Flag]) -> None:
    """Errors: an argument of the recipe that would be the same flag as a setting of the run or the training."""
    taken = {f.name for f in (*flags.of_dataclass(Setup), *flags.of_dataclass(Training))} - set(SHARED)
    for flag in own:
        if flag.name in taken:
            raise ValueError(f"the recipe's argument {flag.name!r} is a setting of the training too; rename it")


def split(dataset: Dataset, hold_out: str) -> tuple[Dataset, Dataset | None]:
    """(episodes to train on, episodes to validate on). A data set of one episode holds nothing out by itself."""
    from ..data.source import numbers

    last = hold_out == "last"
    if hold_out == "none" or (last and len(dataset.episodes) < 2):
        return dataset, None
    chosen = [dataset.episodes[-1].index] if last else numbers(hold_out)
    return dataset.without(chosen), dataset.only(chosen)


def fill_in(given: Mapping[str, Any], own: Sequence[Flag], dataset: Dataset) -> tuple[dict[str, Any], dict[str, str]]:
    """(the recipe's arguments, where each of them that is no default comes from). Errors: a required one is absent."""
    arguments, origin = dict(given), dict.fromkeys(given, "given")
    for flag in own:
        known = getattr(dataset.facts, flag.name) if flag.name in FROM_DATA else None
        if flag.name not in arguments and known:
            arguments[flag.name], origin[flag.name] = known, "from the data"
    return arguments, origin


def make_recipe(function: Callable, arguments: Mapping[str, Any]) -> Recipe:
    """Errors: the function returns something else."""
    from ..recipe import Recipe

    recipe = function(**arguments)
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{function.__name__} returned a {type(recipe).__name__}; it must return a Recipe")
    return recipe


def check_columns(recipe: Recipe, dataset: Dataset) -> None:
    """Errors: a column of numbers that the recipe must be fitted to and the data lack; with the nearest one."""
    for name, signal in recipe.signals().items():
        if signal.kind == "vector" and signal.key not in dataset.facts.columns:
            raise unknown(f"column for {name!r}:", signal.key, dataset.facts.columns)


def _first() -> bool:
    """Whether this is the first, or only, process."""
    return os.environ.get("RANK", "0") == "0"


def beside_data(setup: Setup, recipe: Recipe, dataset: Dataset) -> Setup:
    """The setup with the folder of latents that lies beside the data, where none is named and the recipe can use it."""
    from ..data.source import noted
    from ..train.ahead import kept_names

    folder = noted(dataset).latents
    if setup.latents is not None or folder is None or not kept_names(recipe):
        return setup
    if _first():
        print(f"targets are read from {folder}", flush=True)
    return replace(setup, latents=str(folder))


def _cached(dataset: Dataset, recipe: Recipe, setup: Setup) -> Dataset:
    """Cameras in memory, at the recipe's size; those that are read as latents are left out."""
    from ..data import Cached
    from ..train.ahead import kept_names

    folder, ahead = Path(setup.out) / "cache", kept_names(recipe) if setup.latents is not None else ()
    wanted = {n: s for n, s in recipe.signals().items() if n not in ahead}
    if not any(s.kind == "video" for s in wanted.values()):
        return dataset
    if _first() and not folder.is_dir():
        print(f"decoding the cameras once, into {folder}", flush=True)
    return Cached(dataset, wanted, folder)


@dataclass(frozen=True)
class Ahead:
    """Windows over data sets, with what frozen networks say of their frames encoded ahead where the run asks for it."""

    setup: Setup
    recipe: Recipe

    @property
    def facts(self) -> dict[str, Any]:
        """Plain data that a resumed run must agree with."""
        return {} if self.setup.latents is None else {"ahead": self.setup.latents_as}

    def windows(self, whole: Dataset, part: Dataset | None, training: bool = True) -> Windows | None:
        """Over a part of a data set; None where there is none."""
        from ..data import Windows
        from ..train.ahead import encoded_ahead

        setup = self.setup
        if part is None:
            return None
        ahead = {}
        if setup.latents is not None:
            ahead = encoded_ahead(
                self.recipe,
                whole,
                [e.index for e in part.episodes],
                setup.latents,
                training=training,
                stride=setup.stride,
                precision=setup.latents_as,
                device=setup.device,
                tell=progress() if _first() else None,
            )
        return Windows(part, self.recipe.signals(), setup.stride, ahead)


def progress() -> Callable[[str], object]:
    """Prints at most a line in ten seconds."""
    last = 0.0

    def tell(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > 10:
            last = time.monotonic()
            print(text, flush=True)

    return tell


def learnt_from(recipe: Recipe, windows: Windows, beside: Windows | None, setup: Setup, seed: int) -> Sources:
    """One data set, or both with a share of the samples from the second. Errors: a share outside (0, 1)."""
    from ..train.sources import Sources

    share = setup.also_share
    if share is not None and not 0 < share < 1:
        raise ValueError(f"--also-share {share:g} must lie between 0 and 1")
    sets = {"data": windows} | ({} if beside is None else {"also": beside})
    weights = {} if share is None else {"data": 1 - share, "also": share}
    return Sources(recipe=recipe, sets=sets, weights=weights, shares=dict(setup.shares), seed=seed)


def check_answerable(recipe: Recipe, *sources: Windows) -> None:
    """Errors: a required condition that some of the data lack, a training law that no sample of any can follow."""
    import torch

    from ..timesteps import Mixture, Presence

    samples = []
    for windows in sources:
        for name in windows.absent:
            if name in recipe.conditions and recipe.conditions[name].required:
                have = ", ".join(windows.dataset.facts.columns)
                raise ValueError(
                    f"the recipe needs {name!r}, and the data have no column {windows.signals[name].key!r}; "
                    f"they have: {have}"
                )
        has = {n: torch.tensor([n in windows.present]) for n in windows.signals}
        samples.append(Presence(1, has, recipe.modalities, recipe.conditions))
    for law in [law for _, law in recipe.law.entries] if isinstance(recipe.law, Mixture) else [recipe.law]:
        if not any(law.answers(sample).any() for sample in samples):
            label = "; ".join(dict.fromkeys(p.label for p in law.patterns(recipe.modalities, recipe.conditions)))
            lacking = ", and those of --also ".join(", ".join(windows.absent) for windows in sources)
            raise ValueError(f"no sample can be trained on {label!r}: the data lack {lacking}")


def which_data(windows: Windows, validation: Windows | None, stride: int) -> dict[str, Any]:
    """Plain data that a resumed run must agree with; the path is left out, as a data set may move."""
    return {
        "fingerprint": windows.dataset.fingerprint,
        "episodes": [e.index for e in windows.dataset.episodes],
        "held_out": [e.index for e in validation.dataset.episodes] if validation else [],
        "stride": stride,
        "windows": len(windows),
    }


def _show(
    word: str,
    own: Sequence[Flag],
    arguments: Mapping[str, Any],
    origin: Mapping[str, str],
    recipe: Recipe,
    training: tuple[Training, Training],
    windows: Windows,
    validation: Windows | None,
    beside: Windows | None,
) -> None:
    """The resolved recipe, training settings (the usual ones, and these) and data, as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)

    def table(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        grid = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
        for row in rows:
            grid.add_row(*row)
        console.print(grid, "")

    rows = [(f.name, flags.shown(arguments.get(f.name, f.default)), origin.get(f.name, "")) for f in own]
    table(f"recipe {word}", rows)
    made = [
        (n, str(m.shape), f"{type(m.path).__name__}, predicts {m.path.predict}") for n, m in recipe.modalities.items()
    ]
    made += [(n, str(c.shape), f"given, {c.route}") for n, c in recipe.conditions.items()]
    table("signals", made)
    plain, found = map(asdict, training)
    table("training", [(n, flags.shown(v), "" if v == plain[n] else "given") for n, v in found.items()])
    table("data", _data_rows(windows, validation, beside))


def _data_rows(windows: Windows, validation: Windows | None, beside: Windows | None) -> list[tuple[str, str, str]]:
    from ..data.source import spans

    def row(name: str, source: Windows | None) -> tuple[str, str, str]:
        if source is None:
            return (name, "none", "")
        return (name, f"episodes {spans([e.index for e in source.dataset.episodes])}", f"{len(source)} windows")

    rows = [row("train on", windows), row("validate on", validation)]
    rows += [row("learn from also", beside)] if beside else []
    for name, source in (("not in the data", windows), ("not in the second", beside)):
        rows += [(name, ", ".join(source.absent), "")] if source and source.absent else []
    return rows
