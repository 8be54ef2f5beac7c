"""Segmentation as masks in distinct colours or as one plane for each id, and the ids back from either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..errors import unknown
from .colours import TAB10, Colours, classified, separation, table
from .dense import Dense

PARTS = ("instance", "class")
Of = Literal["class", "instance"]


@dataclass(frozen=True, kw_only=True)
class Palette(Dense):
    """Segmentation (B, T, H, W, 2) = instance, class <-> a picture (B, T, H, W, 3) in [-1, 1].

    of       which of the two ids is drawn; decoding gives that one, and 0 for the other
    colours  of ids 1, 2, 3, ... as RGB of 0 .. 255; id 0 is black. The default is tab10 (TAB20 has twenty)
    cycle    ids beyond the last colour start again with the first one and come back as the lower id, so that classes
             are not measured; without it they are an error

    Exact. Decoding takes the nearest colour; a pixel between two of them, as at a blurred edge, the side it belongs to.
    """

    kind: ClassVar[str] = "segmentation"
    parts: ClassVar[tuple[str, ...]] = PARTS
    of: Of = "class"
    colours: Colours = TAB10
    cycle: bool = False

    def __post_init__(self) -> None:
        _check_of(self.of)
        object.__setattr__(self, "colours", tuple(tuple(int(v) for v in c) for c in self.colours))
        if not self.colours or any(len(c) != 3 or not all(0 <= v <= 255 for v in c) for c in self.colours):
            raise ValueError(f"colours={self.colours}; needed: at least one (red, green, blue) of 0 to 255")
        if separation(self._codes()) < 1e-3:
            raise ValueError("two of the colours are the same, or one is black, which is id 0")

    @property
    def loses(self) -> tuple[str, ...]:
        return ("class",) if self.of == "instance" or self.cycle else ()

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 2) ids -> (B, T, H, W, 3) in [-1, 1]. Errors: ValueError for an id without a colour."""
        ids, most = self.values(raw)[..., PARTS.index(self.of)].long(), len(self.colours)
        if not self.cycle:
            _check_ids(ids, most, self.of, "cycle=True lets colours repeat, and TAB20 has twenty")
        ids = torch.where(ids > 0, (ids - 1) % most + 1, 0)
        return self._codes(raw)[ids]

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, H, W, 2) int32 ids."""
        x = self.picture(x)
        return _placed(classified(self._codes(x), x), self.of)

    def _codes(self, like: Tensor | None = None) -> Tensor:
        return table(((0, 0, 0), *self.colours), like)


@dataclass(frozen=True, kw_only=True)
class LabelPlanes(Dense):
    """Segmentation (B, T, H, W, 2) = instance, class <-> planes (B, T, H, W, classes): 1 for the id, else -1.

    classes  number of planes: ids are 0 .. classes - 1
    of       which of the two ids; decoding gives that one, and 0 for the other

    Exact. Decoding takes the largest plane.
    """

    kind: ClassVar[str] = "segmentation"
    parts: ClassVar[tuple[str, ...]] = PARTS
    classes: int
    of: Of = "class"

    def __post_init__(self) -> None:
        _check_of(self.of)
        if self.classes < 2:
            raise ValueError(f"classes={self.classes} must be at least 2 ids, 0 and 1")

    @property
    def channels(self) -> int:
        return self.classes

    @property
    def loses(self) -> tuple[str, ...]:
        return ("class",) if self.of == "instance" else ()

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, H, W, 2) ids -> (B, T, H, W, classes), -1 and 1. Errors: ValueError for an id of no plane."""
        ids = self.values(raw)[..., PARTS.index(self.of)].long()
        _check_ids(ids, self.classes - 1, self.of, "a larger number of classes has more")
        return torch.nn.functional.one_hot(ids, self.classes).float() * 2 - 1

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, classes) -> (B, T, H, W, 2) int32 ids."""
        return _placed(self.picture(x).argmax(-1), self.of)


def _check_of(of: str) -> None:
    if of not in PARTS:
        raise unknown("id of a segmentation", of, PARTS)


def _check_ids(ids: Tensor, most: int, of: str, way: str) -> None:
    if ids.numel() and (int(ids.amax()) > most or int(ids.amin()) < 0):
        wrong = int(ids.amax()) if int(ids.amax()) > most else int(ids.amin())
        raise ValueError(f"{of} id {wrong} has no colour or plane; possible: 0 to {most} ({way})")


def _placed(ids: Tensor, of: str) -> Tensor:
    """(B, T, H, W) ids -> (B, T, H, W, 2) int32, 0 in the place of the other id."""
    none = torch.zeros_like(ids)
    return torch.stack([ids, none] if of == "instance" else [none, ids], -1).int()
