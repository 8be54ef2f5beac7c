"""Opening a data set: which format lies there is seen, not asked; what its files do not say is said in options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import annotation, cropped
from . import excerpt as excerpts
from .formats import annotated, folder, lerobot, rlds, robomimic, zarr_buffer
from .formats.options import Options, divide, make_options
from .formats.recordings import Recordings, Store
from .source import TABLE_SUFFIXES, VIDEO_SUFFIXES, Dataset

# (whether it is there, its options, its reader) of the formats that take options
STORES: tuple[tuple[Callable[[Path], bool], tuple[str, ...], Callable[..., Store]], ...] = (
    (rlds.is_rlds, rlds.OPTIONS, rlds.Rlds),
    (zarr_buffer.is_buffer, zarr_buffer.OPTIONS, zarr_buffer.Buffer),
    (robomimic.is_demonstrations, robomimic.OPTIONS, robomimic.Demonstrations),
)
MARKS = ("meta/info.json", "dataset_info.json", "meta/episode_ends/.zarray")
POSSIBLE = (
    f"meta/info.json (LeRobot v2.0, v2.1, v3), videos ({', '.join(VIDEO_SUFFIXES)}), a .csv or .jsonl with the columns "
    "video, prompt, ..., video.txt with prompt.txt, annotations.json, .hdf5 files of demonstrations, a zarr replay "
    "buffer (or its .zip), dataset_info.json (RLDS)"
)


def open_dataset(path: str | Path, **options: Any) -> Dataset:
    """Open a data set as it lies: LeRobot (v2.0, v2.1, v3.x), videos (a folder, CSV or JSONL), demonstrations in HDF5,
    a zarr replay buffer, RLDS, or what experts said about any of these; docs/data.md lists the formats.

    Options stand behind the path, "PATH?fps=20&flip=all", or are keywords, `fps=20, flip="all"`: see docs/data.md.

    Errors: ValueError when it is none of these, saying what was found, and for an option that the format does not
    have; ImportError naming the extra that reads the format.
    """
    root, said = divide(path)
    twice = sorted(said.keys() & options.keys())
    if twice:
        raise ValueError(f"{path}: the option {twice[0]!r} is given twice")
    given = {**said, **{name: value for name, value in options.items() if value is not None}}
    part = {name: str(given.pop(name)) for name in excerpts.OPTIONS if name in given}
    aspect = given.pop("aspect", None)
    dataset = excerpts.excerpt(_opened(root, given), **part)
    return dataset if aspect is None else cropped.Cropped(dataset, cropped.ratio(str(aspect)))


def _opened(root: Path, given: dict[str, Any]) -> Dataset:
    """The whole data set, opened with the options of its format."""
    found = find_store(root)
    if found is not None:
        possible, reader = found
        chosen = make_options(given, possible, str(root))
        return Recordings(reader(root, chosen), chosen)
    if annotation.is_annotated(root):
        return annotated.open_annotated(root, make_options(given, annotated.OPTIONS, str(root)), open_dataset)
    possible, open_plain = _plain(root)
    return open_plain(root, make_options(given, possible, str(root)))


def find_store(root: Path) -> tuple[tuple[str, ...], Callable[..., Store]] | None:
    """(options, reader) of the format that lies at `root` and takes options; None where none does."""
    if not (root.is_dir() or root.is_file()) or (root / "meta" / "info.json").is_file():
        return None
    return next(((possible, reader) for there, possible, reader in STORES if there(root)), None)


def _plain(root: Path) -> tuple[tuple[str, ...], Callable[[Path, Options], Dataset]]:
    """(options, reader) of a LeRobot folder or of videos; ValueError where it is no data set."""
    if root.is_file() and (root.suffix.lower() in TABLE_SUFFIXES or root.name in folder.LISTS):
        return folder.OPTIONS, folder.open_table
    if not root.is_dir():
        what = "a file of another kind" if root.is_file() else "not there"
        raise ValueError(
            f"{root} is {what}; possible: a LeRobot folder, a folder of videos, a .csv or .jsonl of videos, "
            "an .hdf5 file or a folder of them, a zarr buffer, an RLDS folder"
        )
    if (root / "meta" / "info.json").is_file():
        return (), lambda path, _: lerobot.open_lerobot(path)
    tables = sorted(p for p in root.iterdir() if p.suffix.lower() in TABLE_SUFFIXES)
    tables = tables or [root / name for name in folder.LISTS if (root / name).is_file()][:1]
    if len(tables) == 1:
        return folder.OPTIONS, lambda _, options: folder.open_table(tables[0], options)
    if len(tables) > 1:
        raise ValueError(
            f"{root} holds {len(tables)} tables ({tables[0].name}, {tables[1].name}, ...); open one of them"
        )
    if any(p.suffix.lower() in VIDEO_SUFFIXES for p in root.iterdir()):
        return folder.OPTIONS, folder.open_folder
    below = _below(root)
    if below:
        raise ValueError(f"{root} is not a data set but holds some; open one of them: {', '.join(below[:8])}")
    found = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
    raise ValueError(f"{root} is no data set that can be read: found {found}; possible: {POSSIBLE}")


def _below(root: Path) -> list[str]:
    """Data sets one or two folders further down."""
    for stars in ("*", "*/*"):
        found = {str(p)[: -len(mark) - 1] for mark in MARKS for p in root.glob(f"{stars}/{mark}")}
        found |= {str(p) for p in root.glob(f"{stars}.zarr.zip")}
        found |= {str(p.parent) for p in root.glob(f"{stars}/*.hdf5")}
        if found:
            return sorted(found)
    return []
