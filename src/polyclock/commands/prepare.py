"""`--for "RECIPE FLAGS"`: what a recipe's frozen codecs say of a data set, encoded before anything is trained."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from .. import flags
from ..data.latents import Precision
from .recipe_word import find_recipe
from .train import check_columns, fill_in, make_recipe


@dataclass(frozen=True)
class Prepared:
    """What lies in the folder now: the modalities that were encoded, and how many bytes their rows take."""

    names: tuple[str, ...]
    rows: int
    bytes: int


def prepare(
    words: str,
    data: str,
    episodes: Collection[int],
    folder: Path,
    *,
    stride: int = 1,
    precision: Precision = "float32",
    device: str | None = None,
    tell: Callable[[str], object] = print,
) -> Prepared:
    """Encode what windows of `episodes` of `data` ask for and `folder` lacks, for the recipe that `words` make.

    `words` are those of `polyclock train`, without its own: "uwm --image 64 --vae FOLDER". Errors: ValueError for a
    recipe without a frozen codec, and those of making and of fitting it.
    """
    from ..data import open_dataset
    from ..train.ahead import encoded_ahead

    word, *rest = shlex.split(words) or [""]
    function = find_recipe(word)
    own = flags.of_function(function)
    parser = flags.Parser(f"annotate --for {word}", "The defaults stand in brackets.")
    parser.add_flags(f"recipe {word}", own)
    given = parser.take(rest)
    dataset = open_dataset(data)
    arguments, _ = fill_in({f.name: given[f.name] for f in own if f.name in given}, own, dataset)
    recipe = make_recipe(function, arguments)
    check_columns(recipe, dataset)
    chosen = [e.index for e in dataset.episodes if e.index in episodes]
    found = encoded_ahead(
        recipe.fit(dataset), dataset, chosen, folder, training=True, stride=stride, precision=precision, device=device,
        tell=tell,
    )  # fmt: skip
    counted = [kept.size() for kept in found.values()]
    return Prepared(tuple(found), sum(rows for rows, _ in counted), sum(taken for _, taken in counted))
