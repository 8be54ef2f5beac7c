"""What a run says: lines or a live bar on the screen, the same numbers in log.jsonl, TensorBoard on request."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import missing
from .checkpoint import replace_text

Row = dict[str, Any]


class Log:
    """One row per `write`: {"kind": "train" | "validation", "step": ..., ...} to `folder`/log.jsonl and the screen.

    steps: where the run ends, for the ETA. With active=False (all but the first process) nothing is written or said.
    Raises `ImportError` naming the extra if tensorboard=True and it is not installed.
    """

    def __init__(self, folder: Path, *, steps: int, tensorboard: bool = False, active: bool = True) -> None:
        self.path = folder / "log.jsonl"
        self.steps = steps
        self.active = active
        self._live = _Live(steps) if active and sys.stdout.isatty() else None
        self._file = self.path.open("a", encoding="utf-8") if active else None
        self._board = _open_board(folder) if tensorboard and active else None

    def say(self, text: str) -> None:
        """One line for the person who watches."""
        if not self.active:
            return
        if self._live:
            self._live.say(text)
        else:
            print(text, flush=True)

    def write(self, row: Row) -> None:
        """Add a row. A full disk costs the row, not the run."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(_plain(row)) + "\n")
            self._file.flush()
        except OSError as error:
            self.say(f"step {row['step']} is not in {self.path}: {error}")
        if self._board:
            for name, value in _scalars(row):
                self._board.add_scalar(name, value, row["step"])
        if row["kind"] == "train" and self._live:
            self._live.show(row)
        else:
            self.say(line(row, self.steps))

    def sync(self) -> None:
        """Make the rows so far survive a loss of power: a checkpoint must not be ahead of its log."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._live:
            self._live.close()
        if self._file is not None:
            self._file.close()
        if self._board:
            self._board.close()


def truncate(path: Path, step: int, validated: int) -> None:
    """Cut a log back to a checkpoint: training rows up to `step`, validation rows up to `validated`, whole lines."""
    if not path.exists():
        return
    last = {"train": step, "validation": validated}
    kept = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(text)
            if row["step"] <= last[row["kind"]]:
                kept.append(text)
        except (ValueError, KeyError, TypeError):
            continue
    replace_text(path, "".join(text + "\n" for text in kept))


def read(path: str | Path) -> list[Row]:
    """The rows of a log.jsonl; a torn last line is left out."""
    rows = []
    for text in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(text))
        except ValueError:
            continue
    return rows


def line(row: Row, steps: int) -> str:
    """A row as one line for people."""
    losses = " ".join(f"{name} {value:.4f}" for name, value in row["losses"].items())
    head = f"step {row['step']}/{steps}  loss {row['loss']:.4f}  ({losses})"
    if row["kind"] == "validation":
        return f"{head}  validation{', the best so far' if row['best'] else ''}"
    bad = f"  bad steps {row['bad_steps']}" if row["bad_steps"] else ""
    left = _clock((steps - row["step"]) / row["steps_per_s"]) if row["steps_per_s"] else "?"
    return (
        f"{head}  lr {row['lr']:.2e}  grad {row['grad_norm']:.3f}  {row['steps_per_s']:.2f} steps/s  "
        f"waiting {row['data_wait']:.0%}  left {left}{bad}"
    )


class _Live:
    """A bar that stays at the bottom of a terminal, and the latest numbers above it."""

    def __init__(self, steps: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"), expand=False
        )
        self._task = self._bar.add_task("training", total=steps, text="")
        self._steps = steps
        self._shown = 0.0
        self._bar.start()

    def show(self, row: Row) -> None:
        left = _clock((self._steps - row["step"]) / row["steps_per_s"]) if row["steps_per_s"] else "?"
        text = f"{row['steps_per_s']:.2f} steps/s  waiting {row['data_wait']:.0%}  left {left}"
        self._bar.update(self._task, completed=row["step"], text=text)
        if time.monotonic() - self._shown > 5:
            self._shown = time.monotonic()
            self.say(line(row, self._steps))

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        self._bar.stop()


def _open_board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing("tensorboard", "log") from None
    rows = read(folder / "log.jsonl")
    # Hides what an earlier, killed process wrote beyond the checkpoint.
    return SummaryWriter(str(folder / "tensorboard"), purge_step=rows[-1]["step"] + 1 if rows else None)


def _scalars(row: Row) -> list[tuple[str, float]]:
    flat = [(f"loss/{name}", value) for name, value in row["losses"].items()]
    flat += [(k, v) for k, v in row.items() if isinstance(v, int | float) and k not in ("step", "best")]
    return [(f"{row['kind']}/{name}", float(value)) for name, value in flat]


def _plain(value: Any) -> Any:
    """JSON has no NaN: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
