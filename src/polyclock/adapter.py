"""How a token's numbers enter and leave the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import nn

from .errors import unknown

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, "tanh"),
    "none": nn.Identity,
}


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """How a token's numbers enter and leave the network: one linear map each way, or more.

    `hidden` layers, each `ratio` times as wide as the wider end (or as the end `behind` it), with the activation behind
    each. The way out has as many, or `out` of them.
    """

    hidden: int = 0
    ratio: int = 4
    activation: str = "silu"
    like: Literal["wider", "behind"] = "wider"
    out: int | None = None

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.like not in ("wider", "behind"):
            raise unknown("end that a hidden layer is like", self.like, ("wider", "behind"))
        if self.hidden < 0 or self.ratio < 1 or (self.out or 0) < 0:
            raise ValueError(f"{self}: hidden and out must be at least 0, ratio at least 1")

    def enter(self, channels: int, width: int) -> nn.Module:
        """The way in: (..., channels) -> (..., width)."""
        return self._way(channels, width, self.hidden)

    def leave(self, width: int, channels: int) -> nn.Module:
        """The way out: (..., width) -> (..., channels)."""
        return self._way(width, channels, self.hidden if self.out is None else self.out)

    def _way(self, before: int, after: int, hidden: int) -> nn.Module:
        wide = self.ratio * (max(before, after) if self.like == "wider" else after)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise((before, *[wide] * hidden, after))):
            layers += [ACTIVATIONS[self.activation](), nn.Linear(a, b)] if i else [nn.Linear(a, b)]
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)
