"""Numbers as they are, or through one linear map: features that something else computed, a state beside times."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from ..codecs.codec import Shape


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """(b, T', *S', C') float -> (b, T', width): one token for each frame. `linear=None`: the numbers themselves."""

    linear: int | None = None

    @property
    def width(self) -> int:
        """0 where it depends on the shape; the built module knows it."""
        return self.linear or 0

    @property
    def length(self) -> None:
        """Depends on T'; the built module knows it."""
        return None

    def build(self, shape: Shape) -> nn.Module:
        """The map for values of raw shape (T', *S', C'). Errors: ValueError where a size but T' is unknown."""
        if len(shape) < 2 or None in shape[1:]:
            raise ValueError(f"Numbers needs a known shape (frames, ..., dimensions), got {shape}")
        return NumbersNet(self, shape[0], math.prod(int(n) for n in shape[1:] if n is not None))


class NumbersNet(nn.Module):
    """Flattens each frame and applies the linear map, if there is one."""

    def __init__(self, spec: Numbers, frames: int | None, inputs: int) -> None:
        super().__init__()
        self.length, self.width = frames, spec.linear or inputs
        self.out: nn.Module = nn.Linear(inputs, spec.linear) if spec.linear else nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        """(b, T', *S', C') -> (b, T', width)."""
        numbers = values.flatten(2).float()
        out: Tensor = self.out(numbers.to(next(self.parameters(), numbers).dtype))
        return out
