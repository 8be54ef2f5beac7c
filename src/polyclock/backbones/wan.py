"""The backbone of Wan (Wan Team 2025, arXiv 2503.20314): the network whose published weights `interop/wan.py` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import unknown
from ..nn.attention import Memory, Spans
from ..nn.block import Context, Modulator, Run, kept
from ..nn.rope import angles
from ..nn.wan_block import WanBlock, modulate, stretches
from . import Stack

SIZES = {  # width, depth, heads, width of the MLP
    "tiny": (192, 4, 6, 768),
    "1.3B": (1536, 30, 12, 8960),
    "5B": (3072, 30, 24, 14336),
    "14B": (5120, 40, 40, 13824),
}


@dataclass(frozen=True, kw_only=True)
class Wan:
    """A stack of Wan's blocks. `size` picks width, depth, heads and feedforward; any of them can be given instead.

    feedforward  width of the MLP's hidden layer
    cross_norm   a layer norm with gains of its own stands before the cross-attention
    theta        base of the rotary frequencies
    per_second   how many position units a second is worth; None: positions are token frames, as in the published models
    eps          of all norms
    """

    size: str = "tiny"
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    feedforward: int | None = None
    cross_norm: bool = True
    theta: float = 10_000.0
    per_second: float | None = None
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise unknown("Wan size", self.size, SIZES)
        width, _, heads = self.numbers
        if width % heads or (width // heads) % 2:
            raise ValueError(f"Wan width {width} must be an even multiple of its {heads} heads")

    @property
    def numbers(self) -> tuple[int, int, int]:
        """(width, depth, heads) after `size` and what replaces it."""
        width, depth, heads, _ = SIZES[self.size]
        return self.width or width, self.depth or depth, self.heads or heads

    @property
    def hidden(self) -> int:
        """The width of the MLP's hidden layer after `size` and what replaces it."""
        return self.feedforward or SIZES[self.size][3]

    def build(self, *, cross: bool, vector: int, beside: int = 0) -> WanStack:
        """`cross`: with cross-attention; `vector`: numbers of c, which must be the width; `beside`: of what stands
        beside every c. Errors: a vector of another width, which the last modulation has no map for."""
        if vector != self.numbers[0]:
            raise ValueError(
                f"Wan adds c to tables of width {self.numbers[0]}, so c must have that width, not {vector}"
            )
        return WanStack(self, cross, beside)


class WanStack(Stack):
    """(B, L, D) -> (B, L, D), normalised and modulated, ready for the heads."""

    def __init__(self, spec: Wan, cross: bool, beside: int) -> None:
        super().__init__()
        self.spec = spec
        self.width, self.depth, self.heads = spec.numbers
        self.time = Modulator(self.width, 6, self.width, beside)
        self.blocks = nn.ModuleList(
            WanBlock(self.width, self.heads, spec.hidden, cross, spec.cross_norm, spec.eps) for _ in range(self.depth)
        )
        self.table = nn.Parameter(torch.randn(2, self.width) / self.width**0.5)

    def ahead(self, numbers: Tensor | None) -> tuple[Tensor | None, ...]:
        """What stands beside every c, (B, beside), through the map of the time that all blocks share."""
        return (self.time.ahead(numbers),)

    def forward(
        self,
        h: Tensor,
        runs: Sequence[Run],
        ahead: Sequence[Tensor | None],
        positions: Tensor,
        mask: Tensor | None,
        contexts: Sequence[Context],
        memory: Memory | None = None,
        keep: Spans | None = None,
    ) -> Tensor:
        a = angles(positions.double(), self.width // self.heads, self.spec.theta)[:, None]
        turn = torch.polar(torch.ones_like(a), a)
        turn = turn if h.dtype == torch.float64 else turn.to(torch.complex64)
        contexts = [replace(c, mask=None) if c.mask is not None and bool(c.mask.all()) else c for c in contexts]

        def time(c: Tensor) -> Tensor:
            return torch.cat(self.time(c, *ahead), -1)[:, :, 0]

        pieces = stretches(runs, time, together=True)
        apart = pieces if keep is None else stretches(runs, time, together=False)
        for i, block in enumerate(self.blocks):
            last = i == self.depth - 1
            h = block(h, apart if last else pieces, i, turn, mask, contexts, memory, keep if last else None)
        shifts, scales = zip(*(piece.two(self.table) for piece in apart), strict=True)
        if keep is None:
            return modulate(h, pieces, shifts, scales, self.spec.eps)
        left = kept(runs, keep)
        shifts, scales = (tuple(part[i] for i, _ in left) for part in (shifts, scales))
        return modulate(h, [run for _, run in left], shifts, scales, self.spec.eps)
