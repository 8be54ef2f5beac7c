"""How a token's numbers enter and leave the network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from .errors import unknown

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "mish": nn.Mish, "gelu": nn.GELU}


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """How a token's numbers enter and leave the network: one linear map each way, or more.

    `hidden` layers, each `ratio` times as wide as the wider end, with the activation behind each.
    """

    hidden: int = 0
    ratio: int = 4
    activation: str = "silu"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.hidden < 0 or self.ratio < 1:
            raise ValueError(f"Adapter(hidden={self.hidden}, ratio={self.ratio}): at least 0 and 1 are needed")

    def build(self, channels: int, width: int) -> tuple[nn.Module, nn.Module]:
        """The way in, (..., channels) -> (..., width), and the way out."""
        return self._way(channels, width), self._way(width, channels)

    def _way(self, before: int, after: int) -> nn.Module:
        wide = self.ratio * max(before, after)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise((before, *[wide] * self.hidden, after))):
            layers += [ACTIVATIONS[self.activation](), nn.Linear(a, b)] if i else [nn.Linear(a, b)]
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)
