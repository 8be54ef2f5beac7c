"""Checkpoint folders that are either whole or not there: written aside, hashed, fsynced, then renamed into place.

ROOT/step-00001234/ holds whatever the caller put there and manifest.json with the sha256 of every file. The newest
checkpoint is found by looking: there is no pointer that could be wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from safetensors.torch import save_file
from torch import Tensor

from ..errors import FULL, disk_full

MANIFEST = "manifest.json"
_STEP = re.compile(r"step-(\d{8,})")


class Files:
    """The file operations that a checkpoint is made of, one place to watch them or to make them fail."""

    def make(self, folder: Path) -> None:
        folder.mkdir(parents=True)

    def write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")

    def write_tensors(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        save_file(dict(tensors), path)

    def sync(self, path: Path) -> None:
        """Make a file's bytes, or a folder's names, survive a loss of power."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def remove(self, folder: Path) -> None:
        shutil.rmtree(folder)


def write(
    root: Path, step: int, fill: Callable[[Path], None], *, keep: int, needed: int = 0, files: Files | None = None
) -> Path:
    """Let `fill` put files into a folder, make it checkpoint `step` of `root`, and remove all but the newest `keep`.

    needed: about how many bytes it takes, for the message of an `OSError` raised where the disk is full. Whatever
    goes wrong, checkpoints that were there stay as they were.
    """
    files = files or Files()
    target = root / f"step-{step:08d}"
    aside = root / f".new-{target.name}"
    root.mkdir(parents=True, exist_ok=True)
    try:
        if aside.exists():
            files.remove(aside)
        files.make(aside)
        fill(aside)
        _seal(aside, files)
        _place(aside, target, files)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if disk_full(error) is None:
            raise
        raise _full(error, root, step, needed) from error
    prune(root, keep, files)
    return target


def fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None: every byte of every file is compared with the manifest."""
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        hashes = json.loads(text)["sha256"]
        if not isinstance(hashes, dict) or text != _manifest(hashes):
            return f"{MANIFEST} is damaged"
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MANIFEST} is damaged"
    found = {path.relative_to(folder).as_posix() for path in _files(folder)} - {MANIFEST}
    for name in sorted(found ^ hashes.keys()):
        return f"{name} is missing" if name in hashes else f"{name} is not in {MANIFEST}"
    for name, digest in hashes.items():
        if sha256(folder / name) != digest:
            return f"{name} is damaged (its sha256 is not the one in {MANIFEST})"
    return None


def steps(root: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every checkpoint in `root`, whole or not, oldest first."""
    found = [(_STEP.fullmatch(path.name), path) for path in root.iterdir()] if root.is_dir() else []
    return sorted((int(match[1]), path) for match, path in found if match and path.is_dir())


def newest(root: Path, say: Callable[[str], None] = print) -> Path | None:
    """The newest whole checkpoint of `root`, or None. `say` is told of each damaged one that is passed over."""
    for _, folder in reversed(steps(root)):
        wrong = fault(folder)
        if wrong is None:
            return folder
        say(f"checkpoint {folder} is not used: {wrong}")
    return None


def recover(root: Path, say: Callable[[str], None] = print, files: Files | None = None) -> Path | None:
    """`newest`, after cleaning up what a killed process left. Only for the owner of the run folder.

    A replacement is finished, half written and half removed folders go, and damaged checkpoints are renamed to
    NAME.damaged so that their steps can be written again. Raises `ValueError` if there are checkpoints but none is
    whole: to start again from step 0 must be somebody's decision.
    """
    files = files or Files()
    for path in sorted(root.glob(".*-step-*")) if root.is_dir() else []:
        kind, _, name = path.name[1:].partition("-")
        if kind == "replaced" and not (root / name).exists():
            files.rename(path, root / name)
        elif kind in ("new", "old", "replaced"):
            files.remove(path)
    there = steps(root)
    whole = newest(root, say)
    if there and whole is None:
        raise ValueError(f"none of the {len(there)} checkpoints in {root} is whole; move it away to start at step 0")
    for _, folder in there:
        if whole is not None and folder > whole:
            grave = folder.with_name(folder.name + ".damaged")
            if grave.exists():
                files.remove(grave)
            files.rename(folder, grave)
    return whole


def prune(root: Path, keep: int, files: Files | None = None) -> None:
    """Remove all but the newest `keep` checkpoints; one that cannot be removed is left for the next time."""
    files = files or Files()
    for _, folder in steps(root)[:-keep]:
        old = root / f".old-{folder.name}"
        try:
            # Renamed first: a half removed folder must not look like a damaged checkpoint.
            files.rename(folder, old)
            files.remove(old)
        except OSError:
            continue


def link_best(run: Path) -> None:
    """Make RUN/model lead to the model folder of the newest checkpoint in RUN/best, in one move.

    Raises `ValueError` where RUN/model is a folder: a copy of the run that followed the link. It is left as it is.
    """
    _, folder = steps(run / "best")[-1]
    if (run / "model").is_dir() and not (run / "model").is_symlink():
        raise ValueError(f"{run / 'model'} is a folder where a link to {run / 'best'} belongs; move it away to go on")
    aside = run / ".new-model"
    aside.unlink(missing_ok=True)
    aside.symlink_to(folder.relative_to(run) / "model", target_is_directory=True)
    aside.rename(run / "model")


def model_folder(run: str | Path, which: Literal["best", "last"] = "best") -> Path:
    """The model folder of a run to load, every byte of it checked: the best average, or the newest raw weights.

    Raises `ValueError` if there is none, or if the newest one is damaged.
    """
    root = Path(run) / {"best": "best", "last": "checkpoints"}[which]
    there = steps(root)
    if not there:
        raise ValueError(f"{run} holds no trained model: there is no checkpoint in {root}")
    folder = there[-1][1]
    wrong = fault(folder)
    if wrong:
        raise ValueError(f"{folder} cannot be used: {wrong}")
    return folder / "model"


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_text(path: Path, text: str, files: Files | None = None) -> None:
    """Put `text` into `path` so that after a crash it holds either the old text or the new."""
    files = files or Files()
    aside = path.with_name(f".new-{path.name}")
    files.write(aside, text)
    files.sync(aside)
    files.rename(aside, path)
    files.sync(path.parent)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _manifest(hashes: Mapping[str, str]) -> str:
    return json.dumps({"sha256": dict(sorted(hashes.items()))}, indent=1) + "\n"


def _seal(folder: Path, files: Files) -> None:
    for path in _files(folder):
        files.sync(path)
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}
    files.write(folder / MANIFEST, _manifest(hashes))
    files.sync(folder / MANIFEST)
    for inner in sorted({path.parent for path in _files(folder)}, reverse=True):
        files.sync(inner)


def _place(aside: Path, target: Path, files: Files) -> None:
    replaced = target.with_name(f".replaced-{target.name}")
    if target.exists():
        files.rename(target, replaced)
    files.rename(aside, target)
    files.sync(target.parent)
    if replaced.exists():
        files.remove(replaced)


def _full(error: BaseException, root: Path, step: int, needed: int) -> OSError:
    number = disk_full(error)
    assert number is not None
    free = shutil.disk_usage(root).free
    have = [old for old, _ in steps(root)]
    rest = f"the checkpoint of step {have[-1]} is untouched" if have else "there is no older checkpoint"
    return OSError(
        number,
        f"the checkpoint of step {step} could not be written to {root}: {FULL[number]}; it needs about "
        f"{needed:,} bytes and {free:,} are free; {rest}. Make room and run the same command again",
    )
