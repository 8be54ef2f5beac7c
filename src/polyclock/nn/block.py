"""The transformer block: adaptive layer norm with zero-initialised gates (DiT, Peebles and Xie 2023, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import CrossAttention, Memory, SelfAttention, Spans, pick


@dataclass(frozen=True)
class Run:
    """A stretch of the token sequence under one modulation: F frames of equally many tokens.

    c (B, F or 1, vector); table (B, depth, 6 D) of all blocks and last (B, 2 D) of the last modulation, or None;
    `expert` is the stream whose own blocks these tokens pass through, or None.
    """

    start: int
    stop: int
    c: Tensor
    table: Tensor | None = None
    last: Tensor | None = None
    expert: str | None = None

    def view(self, h: Tensor) -> Tensor:
        """h (B, L, D) -> (B, F or 1, tokens, D) of this stretch, without a copy where h is whole."""
        return h[:, self.start : self.stop].unflatten(1, (self.c.shape[1], -1))


@dataclass(frozen=True)
class Context:
    """What one stretch of tokens attends to by cross-attention: features (B, M, D), mask (B, M) or None: all real.

    `whole` says that the mask, where there is one, is True everywhere.
    """

    start: int
    stop: int
    features: Tensor
    mask: Tensor | None
    whole: bool = False


def along(h: Tensor, runs: Sequence[Run], apply: Callable[[Tensor, int], Tensor]) -> Tensor:
    """`apply(view (B, F, N, D), i)` on the view of each run i of h (B, L, D), put together again to (B, L, D)."""
    parts = [apply(run.view(h), i).flatten(1, 2) for i, run in enumerate(runs)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def kept(runs: Sequence[Run], keep: Spans) -> list[tuple[int, Run]]:
    """The parts of runs that lie in `keep`, laid out anew one behind the other; with each the number of its run."""
    out, at = [], 0
    for i, run in enumerate(runs):
        for start, stop in keep:
            length = min(stop, run.stop) - max(start, run.start)
            if length > 0:
                out.append((i, replace(run, start=at, stop=at + length)))
                at += length
    return out


def kept_contexts(contexts: Sequence[Context], keep: Spans) -> list[Context]:
    """The parts of contexts' stretches that lie in `keep`, likewise."""
    out, at = [], 0
    for start, stop in keep:
        for c in contexts:
            low, high = max(start, c.start), min(stop, c.stop)
            if low < high:
                out.append(replace(c, start=at + low - start, stop=at + high - start))
        at += stop - start
    return out


def looked(h: Tensor, contexts: Sequence[Context], look: Callable[[Tensor, Context], Tensor]) -> Tensor:
    """h (B, L, D), to each context's stretch of which is added what it finds by `look`; the rest passes through."""
    if not contexts:
        return h
    parts, at = [], 0
    for c in contexts:
        part = h[:, c.start : c.stop]
        parts += [h[:, at : c.start], part + look(part, c)]
        at = c.stop
    parts = [part for part in (*parts, h[:, at:]) if part.shape[1]]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class Modulator(nn.Module):
    """c (B, F, vector) -> `count` vectors, each (B, F, 1, D), zero at the start.

    It is one linear map of SiLU of c and of the numbers that stand beside it, in two parts: what is beside stays the
    same through a call and need be mapped only once.
    """

    def __init__(self, dim: int, count: int, vector: int, beside: int) -> None:
        super().__init__()
        self.count, self.linear = count, nn.Linear(vector, count * dim)
        self.beside = nn.Linear(beside, count * dim, bias=False) if beside else None
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, c: Tensor, *more: Tensor | None) -> tuple[Tensor, ...]:
        """What is in `more`, (B or 1, count * dim) each, is added to every frame."""
        vectors = self.linear(F.silu(c))
        for term in more:
            if term is not None:
                vectors = vectors + term[:, None]
        return vectors[:, :, None].chunk(self.count, -1)

    def ahead(self, numbers: Tensor | None) -> Tensor | None:
        """The share of the numbers (B, beside) that stand beside every c: (B, count * dim)."""
        if self.beside is None or numbers is None:
            return None
        dtype = self.beside.weight.dtype
        wide = numbers.to(torch.promote_types(numbers.dtype, dtype))
        return self.beside(F.silu(wide).to(dtype))


class Block(nn.Module):
    """Attention over all tokens, cross-attention to a context, and an MLP, modulated stretch by stretch."""

    def __init__(
        self, dim: int, heads: int, ratio: int, qk_norm: bool, cross: bool, vector: int, beside: int, eps: float
    ) -> None:
        super().__init__()
        self.eps = eps
        self.modulator = Modulator(dim, 6, vector, beside)
        self.attention = SelfAttention(dim, heads, qk_norm)
        self.mlp = nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim))
        if cross:
            self.cross_norm, self.cross = nn.LayerNorm(dim), CrossAttention(dim, heads)

    def forward(
        self,
        h: Tensor,  # (B, L, D)
        runs: Sequence[Run],
        index: int,  # place of this block in the stack, to pick from a modality table
        ahead: Tensor | None,  # (B, 6 D): what stands beside every c, through this block's own map
        rope: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        contexts: Sequence[Context],
        memory: Memory | None = None,
        keep: Spans | None = None,  # stretches of tokens that are wanted of this block; None: all
    ) -> Tensor:
        """(B, L, D), or the tokens in `keep` alone."""
        six = [self.modulator(r.c, None if r.table is None else r.table[:, index], ahead) for r in runs]
        norm = F.layer_norm(h, h.shape[-1:], eps=self.eps)
        y = along(norm, runs, lambda v, i: v * (1 + six[i][1]) + six[i][0])
        y = self.attention(y, rope, mask, index, memory, keep)
        if keep is not None:
            left = kept(runs, keep)
            h, six, runs = pick(h, keep), [six[i] for i, _ in left], [run for _, run in left]
            contexts = kept_contexts(contexts, keep)
        h = h + along(y, runs, lambda v, i: v * six[i][2])
        h = looked(h, contexts, lambda part, c: self.cross(self.cross_norm(part), c.features, c.mask))
        norm = F.layer_norm(h, h.shape[-1:], eps=self.eps)
        y = self.mlp(along(norm, runs, lambda v, i: v * (1 + six[i][4]) + six[i][3]))
        return h + along(y, runs, lambda v, i: v * six[i][5])
