"""Commands that a reader of the page can type: each question again, and the jobs that the page was made by."""

from __future__ import annotations

import shlex
from pathlib import Path

from ..data.source import load_json
from .run import Run
from .scenes import Scenes

NOTE = Path("meta") / "collect.json"  # where `polyclock collect` says what it collected


def ask(run: Run, data: str | None, scenes: Scenes) -> dict[str, str]:
    """question -> the command that asks it about the first scene."""
    if data is None or not scenes.scenes:
        return {}
    place = scenes.scenes[0].places[0]
    where = ["--data", data, "--episode", str(place.episode), "--at", f"{scenes.scenes[0].seconds:g}"]
    return {
        q.name: _line("sample", str(run.folder), q.query, *where, "--out", f"answers/{q.name.replace(' ', '-')}")
        for q in scenes.asked
    }


def jobs(run: Run, data: str | None) -> list[tuple[str, str]]:
    """(what for, command) of what can be done with this run."""
    folder, there = str(run.folder), data or "DATA"
    world = _world(data)
    out = [
        ("how good its answers are", _line("evaluate", folder, "--data", there)),
        ("let it act", act(run, data)),
        ("this page again", _line("report", folder, "--data", there)),
        ("go on with other data", _line("train", folder, "--data", "OTHER", "--out", "NEW")),
    ]
    if world:
        collect = _line("collect", world, "--episodes", "10", "--out", "OTHER")
        out.insert(3, ("make more data", collect))
    return out


def act(run: Run, data: str | None) -> str:
    """The command that lets a run act."""
    return _line("rollout", str(run.folder), "--world", _world(data) or "metaworld/TASK", "--episodes", "10")


def _world(data: str | None) -> str | None:
    """The world that a data set was collected in; None for other data."""
    if data is None or not (Path(data) / NOTE).is_file():
        return None
    try:
        settings = load_json(Path(data) / NOTE)["settings"]
        return f"{settings['world']}/{','.join(settings['tasks'])}" if settings.get("tasks") else None
    except (ValueError, KeyError, TypeError):
        return None


def _line(*words: str) -> str:
    return shlex.join(["polyclock", *words])
