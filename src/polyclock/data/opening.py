"""Opening a data set: which format lies there is seen, not asked."""

from __future__ import annotations

from pathlib import Path

from .formats import folder, lerobot
from .source import TABLE_SUFFIXES, VIDEO_SUFFIXES, Dataset


def open_dataset(path: str | Path) -> Dataset:
    """Open a LeRobot folder (v2.0, v2.1, v3.x), a CSV or JSONL of videos, or a folder of videos, as it lies.

    Errors: ValueError when it is none of these, saying what was found.
    """
    root = Path(path)
    if root.is_file() and root.suffix.lower() in TABLE_SUFFIXES:
        return folder.open_table(root)
    if not root.is_dir():
        what = "a file of another kind" if root.is_file() else "not there"
        raise ValueError(
            f"{root} is {what}; possible: a LeRobot folder, a folder of videos, a .csv or .jsonl of videos"
        )
    info = root / "meta" / "info.json"
    if info.is_file():
        return lerobot.open_lerobot(root)
    tables = sorted(p for p in root.iterdir() if p.suffix.lower() in TABLE_SUFFIXES)
    if len(tables) == 1:
        return folder.open_table(tables[0])
    if len(tables) > 1:
        raise ValueError(
            f"{root} holds {len(tables)} tables ({tables[0].name}, {tables[1].name}, ...); open one of them"
        )
    if any(p.suffix.lower() in VIDEO_SUFFIXES for p in root.iterdir()):
        return folder.open_folder(root)
    below = sorted(str(p.parent.parent) for p in root.glob("*/meta/info.json")) or sorted(
        str(p.parent.parent) for p in root.glob("*/*/meta/info.json")
    )
    if below:
        raise ValueError(f"{root} is not a data set but holds some; open one of them: {', '.join(below[:8])}")
    found = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
    raise ValueError(
        f"{root} is no data set that can be read: found {found}; possible: meta/info.json (LeRobot v2.0, v2.1, v3), "
        f"videos ({', '.join(VIDEO_SUFFIXES)}), or a .csv or .jsonl with the columns video, prompt, ..."
    )
