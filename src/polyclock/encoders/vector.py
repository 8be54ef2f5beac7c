"""An encoder of number vectors, such as a robot's state: the same two-layer network for every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from ..codecs.codec import Shape


@dataclass(frozen=True, kw_only=True)
class Vector:
    """(b, T', *S', C') float -> (b, T', width): one token for each frame. `hidden=None` is `width`."""

    width: int = 256
    hidden: int | None = None

    @property
    def length(self) -> None:
        """Depends on T'; the built module knows it."""
        return None

    def build(self, shape: Shape) -> nn.Module:
        """The network for values of raw shape (T', *S', C'). Errors: ValueError where a size but T' is unknown."""
        if len(shape) < 2 or None in shape[1:]:
            raise ValueError(f"Vector needs a known shape (frames, ..., dimensions), got {shape}")
        return VectorNet(self, shape[0], math.prod(int(n) for n in shape[1:] if n is not None))


class VectorNet(nn.Module):
    """Linear, SiLU, linear, on each frame."""

    def __init__(self, spec: Vector, frames: int | None, inputs: int) -> None:
        super().__init__()
        hidden = spec.hidden or spec.width
        self.length = frames
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, spec.width))

    def forward(self, values: Tensor) -> Tensor:
        """(b, T', *S', C') -> (b, T', width)."""
        numbers = values.flatten(2).float()
        out: Tensor = self.layers(numbers.to(next(self.parameters()).dtype))
        return out
