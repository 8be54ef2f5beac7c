"""The diffusion transformer trained from scratch: segments of tokens in, tokens out; it knows no modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import unknown
from ..nn.attention import Memory
from ..nn.block import Block, Context, Modulator, Run, along
from ..nn.rope import angles

SIZES = {  # width, depth, heads
    "tiny": (192, 4, 6),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
}


@dataclass(frozen=True, kw_only=True)
class DiT:
    """A stack of blocks. `size` picks width, depth and heads; any of them can be given instead.

    `theta` is the base of the rotary frequencies, `per_second` how many position units a second is worth, `ratio` the
    width of the MLP. With `qk_norm` queries and keys are normalised per head.
    """

    size: str = "tiny"
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    ratio: int = 4
    qk_norm: bool = True
    theta: float = 100.0
    per_second: float = 4.0

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise unknown("DiT size", self.size, SIZES)
        width, _, heads = self.numbers
        if width % heads or (width // heads) % 2:
            raise ValueError(f"DiT width {width} must be an even multiple of its {heads} heads")

    @property
    def numbers(self) -> tuple[int, int, int]:
        """(width, depth, heads) after `size` and what replaces it."""
        width, depth, heads = SIZES[self.size]
        return self.width or width, self.depth or depth, self.heads or heads

    def build(self, *, cross: bool) -> DiTStack:
        return DiTStack(self, cross)


class DiTStack(nn.Module):
    """(B, L, D) -> (B, L, D), normalised and modulated, ready for the heads."""

    def __init__(self, spec: DiT, cross: bool) -> None:
        super().__init__()
        self.spec = spec
        self.width, self.depth, self.heads = spec.numbers
        self.blocks = nn.ModuleList(
            Block(self.width, self.heads, spec.ratio, spec.qk_norm, cross) for _ in range(self.depth)
        )
        self.final = Modulator(self.width, 2)

    def forward(
        self,
        h: Tensor,
        runs: Sequence[Run],
        positions: Tensor,
        mask: Tensor | None,
        contexts: Sequence[Context],
        memory: Memory | None = None,
    ) -> Tensor:
        """h (B, L, D) tokens, positions (L, 3) over time, height and width."""
        a = angles(positions, self.width // self.heads, self.spec.theta)
        rope = (a.cos(), a.sin())
        for i, block in enumerate(self.blocks):
            h = block(h, runs, i, rope, mask, contexts, memory)
        two = [self.final(r.c) for r in runs]
        return along(F.layer_norm(h, h.shape[-1:]), runs, lambda v, i: v * (1 + two[i][1]) + two[i][0])
