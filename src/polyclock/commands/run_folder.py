"""RUN on the command line: which model folder of a run is meant, and the model in it with averaged weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import unknown
from ..flags import Parser

if TYPE_CHECKING:
    import torch

    from ..model import WorldModel

CHOICES = ("best", "last")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A model folder; `average` is the file of averaged weights to lay over it, `step` that of its checkpoint."""

    folder: Path
    average: Path | None = None
    step: int | None = None
    which: str = "model"

    @property
    def sha256(self) -> str:
        """Of model.safetensors."""
        from ..train.checkpoint import sha256

        return sha256(self.folder / "model.safetensors")

    def __str__(self) -> str:
        return str(self.folder) if self.step is None else f"{self.folder} ({self.which}, step {self.step})"


def find(path: str | Path, which: str | None = None) -> Found:
    """The model of a run folder, a checkpoint folder or a model folder.

    which: "best" (on held-out episodes) or "last"; None: the best if there is one. The last one has its averaged
    weights, or where low-rank changes are trained those of its step. A damaged checkpoint is passed over with a note.
    Errors: `ValueError` where no model is found.
    """
    from ..train import checkpoint

    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"{path} is not there; a run folder or a model folder is needed")
    if which not in (None, *CHOICES):
        raise unknown("checkpoint", which, CHOICES)
    if (path / "config.json").is_file():
        above = path.resolve().parent
        return _checkpoint(above) if (above / checkpoint.MANIFEST).is_file() else Found(folder=path)
    if (path / checkpoint.MANIFEST).is_file():
        return _checkpoint(path)
    for kind, name in (("best", "best"), ("last", "checkpoints")):
        newest = checkpoint.newest(path / name, _note) if which in (None, kind) else None
        if newest:
            return _checkpoint(newest)
    have = "no checkpoint yet" if (path / "run.json").is_file() else "neither checkpoints nor config.json"
    raise ValueError(f"{path} has {have}{f' of the kind {which!r}' if which else ''}")


def add_flags(parser: Parser) -> None:
    """What `opened` takes of a command line, besides the run."""
    parser.add_argument("--checkpoint", choices=CHOICES, help="of the run [best if there is one]")
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 [a GPU if there is one]")
    parser.add_argument("--code", metavar="FILE.py", help="your own parts that the model's config names (it is run)")


def opened(args: Mapping[str, Any]) -> tuple[Found, WorldModel]:
    """The model that a command line names. Errors: those of `find` and `load`."""
    found = find(args["run"], args["checkpoint"])
    return found, load(found, args["device"], args["code"])


def load(found: Found, device: str | None = None, code: str | None = None) -> WorldModel:
    """The model, with averaged weights where there are any, on `device` (None: a GPU if there is one).

    code: a Python file of the user with the classes that the model's config names. Errors: `ValueError` for a damaged
    file or a device that is not there, and those of `from_pretrained`.
    """
    from safetensors import SafetensorError

    from ..pretrained import from_pretrained
    from ..train.state import load_weights

    where = usable(device)
    try:
        model = from_pretrained(found.folder, classes=own_classes(code))
        if found.average:
            load_weights(model, found.average, optional=True)
    except SafetensorError as error:
        raise ValueError(f"{found.folder} is damaged: {error}") from None
    return model.to(where).eval()


def usable(device: str | None) -> torch.device:
    """A device by its name; None: a GPU if there is one. Errors: `ValueError` where it cannot be used."""
    import torch

    try:
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
    return where


def started_with(run: str | Path) -> dict[str, Any]:
    """RUN/run.json: the recipe, data and settings that a run was started with; {} for a model folder."""
    from ..data.source import load_json

    path = Path(run) / "run.json"
    return load_json(path) if path.is_file() else {}


def _checkpoint(folder: Path) -> Found:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    average = folder / "ema.safetensors"
    # Of a run that trains low-rank changes the average is of these, which are merged into the weights of the model.
    merged = (folder / "trained.safetensors").is_file()
    return Found(
        folder=folder / "model",
        average=average if average.is_file() and not merged else None,
        step=state["step"],
        which="best" if folder.parent.name == "best" else "last",
    )


def own_classes(code: str | None) -> list[type]:
    """The dataclasses of the user's file FILE.py, which is run; none without one."""
    if code is None:
        return []
    from .recipe_word import load_file

    if not Path(code).is_file():
        raise ValueError(f"--code {code}: the file is not there")
    module = load_file(Path(code))
    return [c for c in vars(module).values() if isinstance(c, type) and dataclasses.is_dataclass(c)]


def _note(text: str) -> None:
    from ..cli import say

    say(f"note: {text}")
