"""Blocks of another width beside a stack of Wan's: an expert for one stream's tokens, which attend to all and are
attended to by all. Each block maps its narrow tokens to queries, keys and values of the stack's heads, and what they
found back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .attention import Memory, Spans, asked, pick
from .block import Context, Modulator, Run, kept, kept_contexts, looked
from .wan_block import Gelu, Stretch, WanAttention, WanBlock, WanCrossAttention, add, modulate


class ExpertBlock(nn.Module):
    """A block of width E beside one of Wan's."""

    def __init__(self, dim: int, inner: int, heads: int, feedforward: int, cross: bool, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.table = nn.Parameter(torch.randn(6, dim) / dim**0.5)
        self.attention = WanAttention(dim, inner, heads, eps)
        if cross:
            self.cross_norm, self.cross = nn.LayerNorm(dim, eps), WanCrossAttention(dim, inner, heads, eps)
        self.mlp = nn.Sequential(nn.Linear(dim, feedforward), Gelu(), nn.Linear(feedforward, dim))

    def ask(
        self, h: Tensor, pieces: Sequence[Stretch], index: int, turn: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v (B, heads, L, head) of tokens h (B, L, E)."""
        shift, scale, *_ = zip(*(p.six(self.table, index) for p in pieces), strict=True)
        return self.attention.ask(modulate(h, pieces, shift, scale, self.eps), turn)

    def forward(
        self,
        h: Tensor,  # (B, L, E)
        q: Tensor,  # (B, heads, L, head)
        k: Tensor,  # (B, heads, keys, head) of all tokens
        v: Tensor,
        pieces: Sequence[Stretch],
        index: int,
        mask: Tensor | None,
        contexts: Sequence[Context],
        keep: Spans | None = None,
    ) -> Tensor:
        """(B, L, E), or the tokens in `keep` alone."""
        _, _, gate, low, high, last = zip(*(p.six(self.table, index) for p in pieces), strict=True)
        rest: Sequence[Stretch | Run] = pieces
        if keep is not None:
            left = kept([p.runs[0] for p in pieces], keep)
            gate, low, high, last = (tuple(part[i] for i, _ in left) for part in (gate, low, high, last))
            h, rest, q = pick(h, keep), [run for _, run in left], pick(q, keep, 2)
            contexts = kept_contexts(contexts, keep)
        h = add(h, self.attention.answer(q, k, v, asked(mask, keep)), rest, gate)
        h = looked(h, contexts, lambda part, c: self.cross(self.cross_norm(part), c.features, c.mask))
        return add(h, self.mlp(modulate(h, rest, low, high, self.eps)), rest, last)


class Expert(nn.Module):
    """A stream's own blocks: tokens (B, L, D) come in and go out through linear maps, and are E wide in between."""

    def __init__(
        self, dim: int, width: int, depth: int, heads: int, ratio: float, cross: bool, beside: int, eps: float
    ) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(width, dim), nn.Linear(dim, width)
        self.time = Modulator(dim, 6, width, beside)
        hidden = max(1, round(ratio * dim))
        self.blocks = nn.ModuleList(ExpertBlock(dim, width, heads, hidden, cross, eps) for _ in range(depth))


class Exchange:
    """What stands in for a memory while a block of the wide stack runs: it adds the experts' keys and values behind the
    block's own, and keeps all of them, k and v (B, heads, keys, head), for the experts to look at.

    No dataclass: a block whose weights are shared out among processes is handed a copy of any such.
    """

    def __init__(self, more: Sequence[tuple[Tensor, Tensor]], memory: Memory | None) -> None:
        self.more, self.memory = more, memory
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def extend(self, index: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k and v (B, heads, L, head) of the block's own tokens -> those that its queries look at."""
        k, v = torch.cat([k, *(a for a, _ in self.more)], 2), torch.cat([v, *(b for _, b in self.more)], 2)
        self.k, self.v = self.memory.extend(index, k, v) if self.memory is not None else (k, v)
        return self.k, self.v


@dataclass
class Group:
    """The tokens of one width in a call: h (B, L, E), and what they need, counted from their first token.

    pieces  of their modulation, as few as possible; apart: one for each run
    keep    those that are wanted in the end; None: all
    """

    h: Tensor
    expert: nn.Module | None
    pieces: list[Stretch]
    apart: list[Stretch]
    turn: Tensor
    mask: Tensor | None
    contexts: list[Context]
    keep: list[tuple[int, int]] | None


def layer(block: nn.Module, groups: Sequence[Group], index: int, memory: Memory | None, *, last: bool) -> None:
    """Move every group through layer `index`: the first through `block`, the others through blocks of their own.

    In the `last` layer only what is kept comes out.
    """
    wide, *narrow = groups
    own: list[ExpertBlock] = [g.expert.blocks[index] for g in narrow]  # type: ignore[union-attr,index,misc]
    asked = [b.ask(g.h, g.apart if last else g.pieces, index, g.turn) for b, g in zip(own, narrow, strict=True)]
    exchange = Exchange([(k, v) for _, k, v in asked], memory)
    if not wide.pieces:
        nothing = asked[0][0][:, :, :0]
        exchange.extend(index, nothing, nothing)
    elif last and not wide.keep:
        keys(block, wide, index, exchange)
        wide.h = wide.h[:, :0]
    else:
        pieces, keep = (wide.apart, wide.keep) if last else (wide.pieces, None)
        wide.h = block(wide.h, pieces, index, wide.turn, wide.mask, wide.contexts, exchange, keep)
    for b, g, (q, _, _) in zip(own, narrow, asked, strict=True):
        if last and not g.keep:
            g.h = g.h[:, :0]
            continue
        pieces, keep = (g.apart, g.keep) if last else (g.pieces, None)
        assert exchange.k is not None and exchange.v is not None
        g.h = b(g.h, q, exchange.k, exchange.v, pieces, index, g.mask, g.contexts, keep)


def keys(block: nn.Module, wide: Group, index: int, exchange: Exchange) -> None:
    """What the wide tokens are to be looked at for, where nothing else of them is wanted."""
    assert isinstance(block, WanBlock)
    shift, scale, *_ = zip(*(p.six(block.table, index) for p in wide.apart), strict=True)
    _, k, v = block.attention.ask(modulate(wide.h, wide.apart, shift, scale, block.eps), wide.turn)
    exchange.extend(index, k, v)


def within(runs: Sequence[Run], start: int, stop: int) -> list[Run]:
    """The runs in a stretch of tokens, counted from its start."""
    return [replace(r, start=r.start - start, stop=r.stop - start) for r in runs if start <= r.start < stop]


def contexts_within(contexts: Sequence[Context], start: int, stop: int) -> list[Context]:
    """The parts of contexts in a stretch of tokens, counted from its start."""
    cut = [(max(c.start, start), min(c.stop, stop), c) for c in contexts]
    return [replace(c, start=low - start, stop=high - start) for low, high, c in cut if low < high]


def spans_within(keep: Spans | None, start: int, stop: int) -> list[tuple[int, int]] | None:
    """The spans in a stretch of tokens, counted from its start; None: all."""
    if keep is None:
        return None
    return [(low - start, high - start) for low, high in keep if start <= low < stop]
