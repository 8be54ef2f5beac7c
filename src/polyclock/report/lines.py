"""Commands that a reader of the page can type: each question again, and the jobs that the page was made by."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.source import load_json
from .run import Plain, Run
from .scenes import Scenes

NOTE = Path("meta") / "collect.json"  # where `polyclock collect` says what it collected


@dataclass(frozen=True, kw_only=True)
class Made:
    """How the part of a page about one run was made.

    data     what the data set of its clips is called; None: there are none
    steps, seed  of the solver, in the clips; no steps: as many as the model usually takes
    rollout  the document of its rollout, {} where there is none, and the folder of it
    page     the words behind `polyclock report` that made the page
    """

    run: Run
    data: str | None = None
    steps: int | None = None
    seed: int = 0
    rollout: Plain = field(default_factory=dict)
    folder: str = ""
    page: Sequence[str] = ()

    @property
    def weights(self) -> list[str]:
        """The run, and which of its checkpoints, as every command takes them."""
        return [str(self.run.folder), *(["--checkpoint", self.run.which] if self.run.which else [])]

    @property
    def solver(self) -> list[str]:
        return solver(self.steps, self.seed)


def solver(steps: int | None, seed: int) -> list[str]:
    """The words that say how a solver walks; without steps each command takes the model's usual ones."""
    return [*([] if steps is None else ["--steps", str(steps)]), "--seed", str(seed)]


def ask(made: Made, scenes: Scenes) -> dict[str, str]:
    """question -> the command that asks it about the first scene."""
    if made.data is None or not scenes.scenes:
        return {}
    place = scenes.scenes[0].places[0]
    where = ["--data", made.data, "--episode", str(place.episode), "--at", f"{scenes.scenes[0].seconds:g}"]
    folder, *which = made.weights
    return {
        q.name: _line("sample", folder, q.query, *which, *where, *made.solver,
                      "--out", f"answers/{q.name.replace(' ', '-')}")
        for q in scenes.asked
    }  # fmt: skip


def jobs(made: Made) -> list[tuple[str, str]]:
    """(what for, command) of what can be done with this run."""
    world = _world(made.data)
    out = [
        ("how good its answers are", evaluate(made)),
        ("let it act", act(made)),
        ("this page again", _line("report", *made.page)),
        ("go on with other data", _line("train", str(made.run.folder), "--data", "OTHER", "--out", "NEW")),
    ]
    if world:
        collect = _line("collect", world, "--episodes", "10", "--out", "OTHER")
        out.insert(3, ("make more data", collect))
    return out


def evaluate(made: Made) -> str:
    """The command that measures a run as the page's evaluation did, as far as that is known."""
    document = made.run.evaluation or {}
    if said := (document.get("about") or {}).get("command"):
        return str(said)
    settings = document.get("settings") or {}
    names = [n for n in ("stride", "windows", "steps", "seed") if settings.get(n) is not None]
    more = [word for n in names for word in (f"--{n}", str(settings[n]))] or made.solver
    return _line("evaluate", *made.weights, "--data", made.data or "DATA", *more)


def act(made: Made) -> str:
    """The command that let a run act, or would."""
    if said := made.rollout.get("command"):
        return str(said)
    about: dict[str, Any] = dict(made.rollout.get("about") or {})
    tasks = made.rollout.get("tasks") or {}
    world = ",".join(tasks) or _world(made.data) or "metaworld/TASK"
    episodes = max((task["episodes"] for task in tasks.values()), default=10)
    walked = solver(about.get("solver_steps", made.steps), about.get("seed", made.seed))
    where = ["--out", made.folder] if made.folder else []
    return _line("rollout", *made.weights, "--world", world, "--episodes", str(episodes), *walked, *where)


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
