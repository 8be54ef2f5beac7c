"""The diffusion transformer trained from scratch: segments of tokens in, tokens out; it knows no modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import unknown
from ..nn.attention import Memory, Spans
from ..nn.block import Block, Context, Modulator, Run, along, kept
from ..nn.init import silent
from ..nn.rope import angles
from . import Stack

SIZES = {  # width, depth, heads
    "tiny": (192, 4, 6),
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
}


@dataclass(frozen=True, kw_only=True)
class DiT:
    """A stack of blocks. `size` picks width, depth and heads; any of them can be given instead.

    `theta` is the base of the rotary frequencies, `per_second` how many position units a second is worth (None: a frame
    is one, whatever its rate); without `rope` nothing is rotated. `ratio` is the width of the MLP, `eps` that of the
    layer norms. With `qk_norm` queries and keys are normalised per head. With `out` a linear map, zero at the start,
    follows the last modulation.
    """

    size: str = "tiny"
    width: int | None = None
    depth: int | None = None
    heads: int | None = None
    ratio: int = 4
    qk_norm: bool = True
    theta: float = 100.0
    per_second: float | None = 4.0
    rope: bool = True
    eps: float = 1e-5
    out: bool = False

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

    def build(self, *, cross: bool, vector: int, beside: int = 0) -> DiTStack:
        """`cross`: with cross-attention; `vector` and `beside`: numbers of c and of what stands beside every c."""
        return DiTStack(self, cross, vector, beside)


class DiTStack(Stack):
    """(B, L, D) -> (B, L, D), normalised and modulated, ready for the heads."""

    def __init__(self, spec: DiT, cross: bool, vector: int, beside: int) -> None:
        super().__init__()
        self.spec = spec
        self.width, self.depth, self.heads = spec.numbers
        self.blocks = nn.ModuleList(
            Block(self.width, self.heads, spec.ratio, spec.qk_norm, cross, vector, beside, spec.eps)
            for _ in range(self.depth)
        )
        self.final = Modulator(self.width, 2, vector, beside)
        if spec.out:
            self.out = nn.Linear(self.width, self.width)
            silent(self.out)

    def ahead(self, numbers: Tensor | None) -> tuple[Tensor | None, ...]:
        """One for each block and, last, for the final modulation."""
        modulators = [m for m in self.modules() if isinstance(m, Modulator)]  # in the order of the blocks
        return tuple(m.ahead(numbers) for m in modulators)

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
        rope = None
        if self.spec.rope:
            a = angles(positions, self.width // self.heads, self.spec.theta)
            rope = (a.cos(), a.sin())
        for i, block in enumerate(self.blocks):
            last = keep if i == self.depth - 1 else None
            h = block(h, runs, i, ahead[i], rope, mask, contexts, memory, last)
        runs = runs if keep is None else [run for _, run in kept(runs, keep)]
        two = [self.final(r.c, r.last, ahead[-1]) for r in runs]
        norm = F.layer_norm(h, h.shape[-1:], eps=self.spec.eps)
        h = along(norm, runs, lambda v, i: v * (1 + two[i][1]) + two[i][0])
        return self.out(h) if self.spec.out else h
