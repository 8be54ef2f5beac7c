"""Messages for what a user wrote: what was wrong, where, and what is possible; and what says that a disk is full."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

FULL = {errno.ENOSPC: "no space left", errno.EFBIG: "file size limit reached", errno.EDQUOT: "quota exceeded"}


def unknown(kind: str, word: object, options: Iterable[object]) -> ValueError:
    """A `ValueError` that names `word`, the nearest of `options`, and all of them."""
    names = [str(option) for option in options]
    near = difflib.get_close_matches(str(word), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    have = ", ".join(names) if names else "none"
    return ValueError(f"unknown {kind} {word!r}.{hint} Possible: {have}.")


def pointed(text: str, start: int, end: int, message: str) -> ValueError:
    """A `ValueError` that prints `text` with carets under `text[start:end]`."""
    marks = " " * start + "^" * max(1, end - start)
    return ValueError(f"{message}\n  {text}\n  {marks}")


def missing(package: str, extra: str) -> ImportError:
    """An `ImportError` that names the extra which installs `package`."""
    return ImportError(f"{package} is not installed; it comes with: pip install 'polyclock[{extra}]'")


def disk_full(error: BaseException) -> int | None:
    """The errno, one of `FULL`, if `error` says that nothing more can be written, else None."""
    if isinstance(error, OSError):
        return error.errno if error.errno in FULL else None
    # safetensors reports the errors of its writer as text only.
    return next((number for number in FULL if f"(os error {number})" in str(error)), None)
