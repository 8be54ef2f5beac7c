"""The command line: finds the command, and turns what a user got wrong into one sentence."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Any

from . import __version__
from .errors import disk_full, unknown

COMMANDS = {
    "train": "train a recipe on a data set, or go on with a run",
    "sample": "ask a run a query",
    "info": "what a run is: step, hashes, modalities, trained queries",
    "evaluate": "measure a run on held-out episodes",
    "benchmark": "films for published benchmarks of video generation, their measures and totals",
    "rollout": "let a run act in a world, and count how often it succeeds",
    "report": "write a page about a run: losses, clips, numbers",
    "collect": "make a data set in a simulated world, with the exact truth of every frame",
    "annotate": "ask experts about a data set: depth, flow, masks, joints, features, filters",
    "data": "look at a data set: info, verify, show, compact",
    "import": "read a foreign checkpoint, without running anything of it",
}
PATHS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
HELP = """usage: polyclock COMMAND ...

Diffusion world models in which every modality keeps its own clock.

{commands}

polyclock COMMAND --help says more. What is wrong with an input is told in one sentence and the exit status is 2;
with POLYCLOCK_DEBUG=1 the traceback is printed too. Version {version}."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. An error that is no user's mistake is raised."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        with plain_warnings():
            return run(words)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as end:  # argparse has printed its help
        return int(end.code or 0)
    except Exception as error:
        sentence = message(error)
        if sentence is None:
            raise
        if os.environ.get("POLYCLOCK_DEBUG"):
            traceback.print_exc()
        say(sentence)
        return 2


def run(words: list[str]) -> int:
    """Dispatch to `polyclock.commands.NAME.run`."""
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
        print(HELP.format(commands=lines, version=__version__))
        return 0 if words else 2
    if words[0] == "--version":
        print(f"polyclock {__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise unknown("command", words[0], COMMANDS)
    module = words[0] + "_" * iskeyword(words[0])
    return import_module(f".commands.{module}", __package__).run(words[1:])


def message(error: Exception) -> str | None:
    """The sentence for a user's mistake; None where the error is a bug and its traceback is what helps.

    A `ValueError` or `ImportError` counts as a sentence only where this package raised it itself.
    """
    if isinstance(error, PATHS):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    frames = list(traceback.walk_tb(error.__traceback__))
    ours = bool(frames) and Path(frames[-1][0].f_code.co_filename).is_relative_to(Path(__file__).parent)
    if number := disk_full(error):
        # A sentence of this package says more than the system's words.
        own = isinstance(error, OSError) and ours and error.strerror != os.strerror(number)
        what = getattr(error, "filename", None) or "what was to be written"
        return str(error.strerror) if own else f"no space left for {what} ({os.strerror(number)})"
    known = isinstance(error, ValueError | ImportError | OSError) or type(error).__name__ == "Diverged"
    return str(error) if ours and known else None


def say(text: str) -> None:
    """One line for the person at the keyboard; of several processes, those after the first say which they are."""
    rank = os.environ.get("RANK", "0")
    print(f"polyclock{f' (process {rank})' if rank != '0' else ''}: {text}", file=sys.stderr, flush=True)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Within the block a `UserWarning` is printed as a sentence, once for each text, by the first process alone."""

    def show(text: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any) -> None:
        if not issubclass(category, UserWarning):
            print(warnings.formatwarning(text, category, filename, lineno), file=sys.stderr, end="")  # type: ignore[arg-type]
        elif os.environ.get("RANK", "0") == "0" and str(text) not in told:
            told.add(str(text))
            say(f"note: {text}")

    told: set[str] = set()
    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


if __name__ == "__main__":
    sys.exit(main())
