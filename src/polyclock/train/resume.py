"""What a run was started with (RUN/run.json), and whether a new command may continue it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .checkpoint import Files, replace_text
from .settings import HARMLESS, Training
from .state import versions

_ABSENT = "absent"


def describe(facts: dict[str, Any], training: Training) -> dict[str, Any]:
    """The resolved run as plain data: what it is about (`facts`), the training settings, and versions."""
    plain = {"facts": facts, "training": dataclasses.asdict(training), "versions": versions()}
    return json.loads(json.dumps(plain))  # tuples become lists, as they will be when read back


def check(folder: Path, now: dict[str, Any], say: Callable[[str], None]) -> None:
    """Compare RUN/run.json with `now`; print what changed as a diff.

    Raises `ValueError` in one sentence if the change would break exactness: then the continued run would be neither
    the old one nor the new one.
    """
    path = folder / "run.json"
    if not path.exists():
        say(f"{path} is missing: that the settings are those the run was started with cannot be checked")
        return
    changed = differences(json.loads(path.read_text(encoding="utf-8")), now)
    for name, (old, new) in changed.items():
        say(f"- {name}: {_short(old)}\n+ {name}: {_short(new)}")
    broken = [name for name, (old, new) in changed.items() if not _harmless(name, old, new)]
    if broken:
        name = broken[0]
        old, new = changed[name]
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise ValueError(
            f"{folder} cannot be resumed because {name} was {_short(old)} and is now {_short(new)}{more}; "
            "use the old value, or another folder for a new run"
        )


def save(folder: Path, now: dict[str, Any], files: Files) -> None:
    """Write RUN/run.json."""
    replace_text(folder / "run.json", json.dumps(now, indent=1) + "\n", files)


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{dotted name: (old, new)} of the leaves that differ; "absent" where one side has none."""
    first, second = dict(_leaves(old)), dict(_leaves(new))
    names = list(first) + [name for name in second if name not in first]
    pairs = {name: (first.get(name, _ABSENT), second.get(name, _ABSENT)) for name in names}
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}


def _leaves(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if _nested(value) else []
    if not items:
        return [(prefix, value)]
    return [leaf for key, inner in items for leaf in _leaves(inner, f"{prefix}.{key}" if prefix else str(key))]


def _nested(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value)


def _harmless(name: str, old: Any, new: Any) -> bool:
    if name.startswith("versions."):
        return True
    group, _, setting = name.partition(".")
    if group != "training":
        return False
    if setting == "steps":
        return new > old
    return setting in HARMLESS


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
