"""The transformer block of Wan (Wan Team 2025, arXiv 2503.20314, section 4.2): one map of the time for all blocks, to
which each adds a table of its own; queries and keys normed over the whole width; text by cross-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modality import widened
from .attention import Memory, Spans, asked, pick
from .block import Context, Run, kept, kept_contexts, looked
from .fused import modulated, turned


@dataclass(frozen=True)
class Stretch:
    """Neighbouring runs with frames of equal size, as one: F frames in all.

    c (B, F, D); vectors (B, F, 6 D): what all blocks share of its modulation.
    """

    runs: tuple[Run, ...]
    c: Tensor
    vectors: Tensor

    def view(self, h: Tensor) -> Tensor:
        """h (B, L, D) -> (B, F, N, D) of this stretch, without a copy where h is whole."""
        return h[:, self.runs[0].start : self.runs[-1].stop].unflatten(1, (self.c.shape[1], -1))

    def six(self, table: Tensor, index: int) -> tuple[Tensor, ...]:
        """Shift, 1 + scale and gate of the attention, then of the MLP, each (B, F, 1, D), in block `index`."""
        own = self._own([None if run.table is None else run.table[:, index] for run in self.runs])
        vectors = self.vectors + widened(table.flatten()) + own
        shift, scale, gate, low, high, last = vectors[:, :, None].chunk(6, -1)
        return shift, 1 + scale, gate, low, 1 + high, last

    def two(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and 1 + scale of the last modulation, (B, F, 1, D) each; table (2, D)."""
        own = self._own([run.last for run in self.runs])
        vectors = torch.cat((self.c, self.c), -1) + widened(table.flatten()) + own
        shift, scale = vectors[:, :, None].chunk(2, -1)
        return shift, 1 + scale

    def _own(self, each: Sequence[Tensor | None]) -> Tensor | float:
        """(B, F, ...) from what each run has for all of its frames, (B, ...) or None; 0 where none has any."""
        some = next((part for part in each if part is not None), None)
        if some is None:
            return 0.0
        parts = [torch.zeros_like(some) if part is None else part for part in each]
        frames = [run.c.shape[1] for run in self.runs]
        return torch.cat([part[:, None].expand(-1, f, -1) for part, f in zip(parts, frames, strict=True)], 1)


def stretches(runs: Sequence[Run], time: Callable[[Tensor], Tensor], together: bool) -> list[Stretch]:
    """Runs, `together` where their frames have one size; `time` maps c (B, F, D) to vectors (B, F, 6 D)."""

    def size(run: Run) -> int:
        return (run.stop - run.start) // run.c.shape[1]

    groups = [list(group) for _, group in groupby(runs, key=size if together else id)]
    whole = [(tuple(group), torch.cat([run.c for run in group], 1)) for group in groups]
    return [Stretch(group, widened(c), widened(time(c))) for group, c in whole]


def modulate(
    h: Tensor, pieces: Sequence[Stretch | Run], shifts: Sequence[Tensor], scales: Sequence[Tensor], eps: float
) -> Tensor:
    """h (B, L, D) layer-normed, then scaled and shifted, each piece by vectors (B, F, 1, D) of its own."""
    each = zip(pieces, shifts, scales, strict=True)
    parts = [modulated(piece.view(h), shift, scale, eps).flatten(1, 2) for piece, shift, scale in each]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def add(h: Tensor, y: Tensor, pieces: Sequence[Stretch | Run], gates: Sequence[Tensor]) -> Tensor:
    """h + gate y, all (B, L, D), each piece by a gate (B, F, 1, D) of its own."""
    each = zip(pieces, gates, strict=True)
    parts = [torch.addcmul(piece.view(h), piece.view(y), gate).flatten(1, 2) for piece, gate in each]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).to(h.dtype)


class WideNorm(nn.Module):
    """RMS norm of queries or keys over all heads at once, which are then cut apart and turned."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.heads, self.eps = heads, eps

    def forward(self, x: Tensor, turn: Tensor | None = None) -> Tensor:
        """x (B, L, D), turn (L, 1, head / 2) -> (B, heads, L, head)."""
        return turned(x, self.weight, turn, self.heads, self.eps).transpose(1, 2)


class Gelu(nn.Module):
    """The tanh form of GELU; without gradients in place of what it is given, which nothing else reads."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return F.gelu(x, approximate="tanh")
        return torch.ops.aten.gelu_(x, approximate="tanh")


class WanAttention(nn.Module):
    """Attention among tokens (B, L, D), by queries, keys and values of `heads` heads that are together `inner` wide."""

    def __init__(self, dim: int, inner: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * inner), nn.Linear(inner, dim)
        self.q_norm, self.k_norm = WideNorm(inner, heads, eps), WideNorm(inner, heads, eps)

    def ask(self, h: Tensor, turn: Tensor | None, keep: Spans | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v (B, heads, L, head) of h; turn (L, 1, head / 2): where tokens stand. Only those in `keep` ask."""
        q, k, v = self.qkv(h).chunk(3, -1)
        asking = turn
        if keep is not None:
            q, asking = pick(q, keep), None if turn is None else pick(turn, keep, 0)
        return self.q_norm(q, asking), self.k_norm(k, turn), v.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def answer(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, D). mask (B or 1, 1, L or 1, keys): True where a query may look."""
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))

    def forward(
        self,
        h: Tensor,
        turn: Tensor | None,
        mask: Tensor | None,
        index: int,
        memory: Memory | None,
        keep: Spans | None,
    ) -> Tensor:
        """(B, L, D), or the tokens in `keep` alone."""
        q, k, v = self.ask(h, turn, keep)
        if memory is not None:
            k, v = memory.extend(index, k, v)
        return self.answer(q, k, v, asked(mask, keep))


class WanCrossAttention(nn.Module):
    """Tokens (B, L, D) look at a context (B, M, inner)."""

    def __init__(self, dim: int, inner: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(dim, inner), nn.Linear(inner, 2 * inner), nn.Linear(inner, dim)
        self.q_norm, self.k_norm = WideNorm(inner, heads, eps), WideNorm(inner, heads, eps)

    def forward(self, h: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """mask (B, M): True for real context tokens; None: all are."""
        k, v = self.kv(context).chunk(2, -1)
        q, k, v = self.q_norm(self.q(h)), self.k_norm(k), v.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
        return self.out(out.transpose(1, 2).flatten(2))


class WanBlock(nn.Module):
    """Attention, cross-attention and an MLP; the first and the last are modulated stretch by stretch."""

    def __init__(self, dim: int, heads: int, feedforward: int, cross: bool, cross_norm: bool, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.table = nn.Parameter(torch.randn(6, dim) / dim**0.5)
        self.attention = WanAttention(dim, dim, heads, eps)
        if cross:
            self.cross_norm = nn.LayerNorm(dim, eps) if cross_norm else nn.Identity()
            self.cross = WanCrossAttention(dim, dim, heads, eps)
        self.mlp = nn.Sequential(nn.Linear(dim, feedforward), Gelu(), nn.Linear(feedforward, dim))

    def forward(
        self,
        h: Tensor,  # (B, L, D)
        pieces: Sequence[Stretch],
        index: int,  # place of this block in the stack
        turn: Tensor | None,  # (L, 1, head / 2) complex: where tokens stand
        mask: Tensor | None,
        contexts: Sequence[Context],
        memory: Memory | None = None,
        keep: Spans | None = None,  # tokens that are wanted of this block; None: all. Then a piece is one run
    ) -> Tensor:
        """(B, L, D), or the tokens in `keep` alone."""
        shift, scale, gate, low, high, last = zip(*(p.six(self.table, index) for p in pieces), strict=True)
        y = self.attention(modulate(h, pieces, shift, scale, self.eps), turn, mask, index, memory, keep)
        rest: Sequence[Stretch | Run] = pieces
        if keep is not None:
            left = kept([p.runs[0] for p in pieces], keep)
            gate, low, high, last = (tuple(part[i] for i, _ in left) for part in (gate, low, high, last))
            h, rest, contexts = pick(h, keep), [run for _, run in left], kept_contexts(contexts, keep)
        h = add(h, y, rest, gate)
        h = looked(h, contexts, lambda part, c: self.cross(self.cross_norm(part), c.features, c.mask))
        return add(h, self.mlp(modulate(h, rest, low, high, self.eps)), rest, last)
