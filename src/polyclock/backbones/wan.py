"""The backbone of Wan (Wan Team 2025, arXiv 2503.20314): the network whose published weights `interop/wan.py` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ..errors import unknown
from ..nn.attention import Memory, Spans
from ..nn.block import Context, Modulator, Run, kept
from ..nn.modulation import key
from ..nn.rope import angles
from ..nn.wan_block import WanBlock, modulate, stretches
from ..nn.wan_expert import Expert, Group, contexts_within, layer, spans_within, within
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
    experts      name of a stream -> width of blocks of its own, beside the others: attention is among all tokens. Such
                 streams stand last in the layout, in this order
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
    experts: Mapping[str, int] = field(default_factory=dict)

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
        self.narrow = tuple(spec.experts)
        ratio = spec.hidden / self.width
        self.experts = nn.ModuleDict(
            {
                key(name): Expert(dim, self.width, self.depth, self.heads, ratio, cross, beside, spec.eps)
                for name, dim in spec.experts.items()
            }
        )

    def ahead(self, numbers: Tensor | None) -> tuple[Tensor | None, ...]:
        """What stands beside every c, (B, beside), through the maps of the time: that of all blocks, and of experts."""
        each = [expert.time for expert in self.experts.values()]
        return (self.time.ahead(numbers), *(time.ahead(numbers) for time in each))  # type: ignore[union-attr,operator]

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
        contexts = [replace(c, mask=None) if c.whole else c for c in contexts]

        ends = self._ends(runs, h.shape[1])
        if len(ends) == 1:
            h = self._alone(h, runs, ahead[0], turn, mask, contexts, memory, keep)
        else:
            h = self._together(h, runs, ends, ahead, turn, mask, contexts, memory, keep)
        pieces = stretches(runs, _same, together=keep is None)
        shifts, scales = zip(*(piece.two(self.table) for piece in pieces), strict=True)
        if keep is None:
            return modulate(h, pieces, shifts, scales, self.spec.eps)
        left = kept(runs, keep)
        shifts, scales = (tuple(part[i] for i, _ in left) for part in (shifts, scales))
        return modulate(h, [run for _, run in left], shifts, scales, self.spec.eps)

    def _alone(
        self,
        h: Tensor,
        runs: Sequence[Run],
        ahead: Tensor | None,
        turn: Tensor,
        mask: Tensor | None,
        contexts: Sequence[Context],
        memory: Memory | None,
        keep: Spans | None,
    ) -> Tensor:
        """Through all blocks, without experts."""
        pieces = stretches(runs, _times(self.time, ahead), together=True)
        apart = pieces if keep is None else stretches(runs, _times(self.time, ahead), together=False)
        for i, block in enumerate(self.blocks):
            last = i == self.depth - 1
            h = block(h, apart if last else pieces, i, turn, mask, contexts, memory, keep if last else None)
        return h

    def _ends(self, runs: Sequence[Run], length: int) -> list[int]:
        """Where the wide tokens end, and then those of each expert that has any.

        Errors: ValueError for an expert whose tokens stand before others that are none's.
        """
        found = [run.expert for run in runs]
        order = [n for n in found if n is not None]
        if order != found[len(found) - len(order) :] or order != [n for n in self.narrow if n in order]:
            raise ValueError(
                f"streams with blocks of their own must stand last in the layout, in the order {', '.join(self.narrow)}"
            )
        return [*(run.start for run in runs if run.expert is not None), length]

    def _together(
        self,
        h: Tensor,
        runs: Sequence[Run],
        ends: Sequence[int],
        ahead: Sequence[Tensor | None],
        turn: Tensor,
        mask: Tensor | None,
        contexts: Sequence[Context],
        memory: Memory | None,
        keep: Spans | None,
    ) -> Tensor:
        """Through all blocks and beside them those of experts, layer by layer; attention is among all."""
        whole = keep is None
        groups = []
        names = [None, *(run.expert for run in runs if run.expert is not None)]
        for name, start, stop in zip(names, (0, *ends), ends, strict=False):
            expert = None if name is None else self.experts[key(name)]
            time = self.time if expert is None else expert.time
            said = _times(time, ahead[0 if name is None else 1 + self.narrow.index(name)])  # type: ignore[arg-type]
            mine = within(runs, start, stop)
            if name is not None and any(run.table is not None for run in mine):
                raise ValueError(f"{name!r} has blocks of its own, and no table of the others' can be added to theirs")
            rows = mask[:, :, start:stop] if mask is not None and mask.shape[2] > 1 else mask
            groups.append(
                Group(
                    h=h[:, start:stop] if expert is None else expert.enter(h[:, start:stop]),  # type: ignore[operator]
                    expert=expert,
                    pieces=stretches(mine, said, together=True),
                    apart=stretches(mine, said, together=False),
                    turn=turn[start:stop],
                    mask=rows,
                    contexts=contexts_within(contexts, start, stop),
                    keep=spans_within(keep, start, stop),
                )
            )
        for i in range(self.depth):
            layer(self.blocks[i], groups, i, memory, last=i == self.depth - 1 and not whole)
        return torch.cat([g.h if g.expert is None else g.expert.leave(g.h) for g in groups], 1)  # type: ignore[operator]


def _same(c: Tensor) -> Tensor:
    return c


def _times(time: Modulator, ahead: Tensor | None) -> Callable[[Tensor], Tensor]:
    """c (B, F, D) -> the six vectors of every block in one (B, F, 6 D)."""
    return lambda c: torch.cat(time(c, ahead), -1)[:, :, 0]
