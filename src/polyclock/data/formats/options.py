"""What a user says about a data set because its files do not: `PATH?fps=20&flip=agentview_rgb`, or keywords."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...codecs.rotation import ORDERS, WIDTHS, convert
from ...errors import unknown

# Named vectors: the ten numbers that models of this robot platform learn, in the order of angles that they use.
VECTORS = {
    "droid": (
        "action_dict.cartesian_velocity[:3],action_dict.cartesian_velocity[3:]@euler:XYZ-6d,action_dict.gripper_position"
    )
}
PART = re.compile(r"([^\[\]@,]+)(?:\[(\d*):(\d*)\])?(?:@([a-z_]+)(?::(\w+))?-(\w+))?")
FORM = "COLUMN, COLUMN[3:6] or COLUMN[3:6]@euler:xyz-6d, several with commas between"


@dataclass(frozen=True)
class Part:
    """Some numbers of a column, in a rotation's other description where `source` and `target` say so."""

    column: str
    start: int | None = None
    stop: int | None = None
    source: str | None = None
    target: str | None = None
    order: str = "xyz"

    def __str__(self) -> str:
        limits = ("" if n is None else str(n) for n in (self.start, self.stop))
        taken = "" if self.start is self.stop is None else f"[{':'.join(limits)}]"
        return f"{self.column}{taken}" + (f"@{self.source}:{self.order}-{self.target}" if self.source else "")

    def of(self, rows: np.ndarray) -> np.ndarray:
        """(n, *S) as stored -> (n, C) float32. Errors: ValueError where the numbers do not suffice."""
        flat = rows.reshape(len(rows), -1)
        width = flat.shape[1]
        begin, end = self.start or 0, width if self.stop is None else self.stop
        if not 0 <= begin < end <= width:
            raise ValueError(f"{self.column}[{begin}:{end}] asks for more than its {width} numbers")
        taken = np.ascontiguousarray(flat[:, begin:end], np.float32)
        if self.source is None or self.target is None:
            return taken
        return convert(torch.from_numpy(taken), self.source, self.target, self.order).numpy()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was said; None where nothing was. docs/data.md says what each means."""

    fps: float | None = None
    flip: tuple[str, ...] | None = None
    state: tuple[Part, ...] | None = None
    action: tuple[Part, ...] | None = None
    task: str | None = None
    mask: str | None = None
    split: str | None = None
    instruction: str | None = None
    frames: int | None = None
    kept: str | None = None

    def said(self) -> dict[str, Any]:
        """{name: value} of those that were said, as plain data."""
        plain = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("state", "action") and value:
                value = [str(part) for part in value]
            if value is not None:
                plain[field.name] = list(value) if isinstance(value, tuple) else value
        return plain


def divide(path: str | Path) -> tuple[Path, dict[str, str]]:
    """ "PATH?name=value&name=value" -> (PATH, {name: value}); a file that has such a name is taken as it is.

    Errors: ValueError for what is no NAME=VALUE, and for a name that comes twice.
    """
    text = str(path)
    if "?" not in text or os.path.exists(text):  # which says False of a text too long for a name
        return Path(text), {}
    head, tail = text.split("?", 1)
    found: dict[str, str] = {}
    for word in tail.split("&"):
        name, equals, value = word.partition("=")
        if not (name and equals and value):
            raise ValueError(f"{text}: {word!r} is no option; write PATH?NAME=VALUE&NAME=VALUE")
        if name in found:
            raise ValueError(f"{text}: the option {name!r} is given twice")
        found[name] = value
    return Path(head), found


def make_options(given: Mapping[str, Any], possible: Iterable[str], what: str) -> Options:
    """The options of a data set (`what` names it), from text or from Python values.

    Errors: ValueError for an option that `possible` lacks, and for a value of the wrong kind.
    """
    possible = tuple(possible)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in possible:
            if not possible:
                raise ValueError(f"{what} takes no options; got {name!r}")
            raise unknown(f"option of {what}:", name, possible)
        try:
            values[name] = _value(name, value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{what}, option {name}: {error}") from None
    return Options(**values)


def _value(name: str, value: Any) -> Any:
    if name == "fps":
        rate = float(value)
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"{value} frames per second; it must be positive and finite")
        return rate
    if name == "frames":
        count = int(value)
        if count < 1:
            raise ValueError(f"{value} frames; at least 1 is needed")
        return count
    if name in ("state", "action"):
        return tuple(parse_part(word) for word in _words(VECTORS.get(value, value) if name == "action" else value))
    if name == "flip":
        return tuple(_words(value))
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected words, got {value!r}")
    return value


def _words(value: str | Sequence[str]) -> list[str]:
    words = [str(w).strip() for w in (value.split(",") if isinstance(value, str) else value)]
    if not words or not all(words):
        raise ValueError(f"expected names with commas between, got {value!r}")
    return words


def parse_part(text: str) -> Part:
    """ "pose[3:6]@euler:XYZ-6d" -> Part. Errors: ValueError for another form, an unknown rotation or order."""
    found = PART.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no part of a vector; write {FORM}")
    column, start, stop, source, order, target = found.groups()
    for name in filter(None, (source, target)):
        if name not in WIDTHS:
            raise unknown("rotation", name, WIDTHS)
    if order and order not in ORDERS:
        raise unknown("order of Euler angles", order, ORDERS)
    return Part(column, int(start) if start else None, int(stop) if stop else None, source, target, order or "xyz")
