"""The transformer block of Wan (Wan Team 2025, arXiv 2503.20314, section 4.2): one map of the time for all blocks, to
which each adds a table of its own; queries and keys normed over the whole width; text by cross-attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Memory, Spans, pick
from .block import Context, Run, kept, kept_contexts


@dataclass(frozen=True)
class Stretch:
    """A `Run` with what all blocks share of its modulation: vectors (B, F or 1, 6 D), float32."""

    run: Run
    vectors: Tensor

    def six(self, table: Tensor, index: int) -> tuple[Tensor, ...]:
        """Shift, 1 + scale and gate of the attention, then of the MLP, each (B, F or 1, 1, D), in block `index`."""
        vectors = self.vectors + table.flatten().float()
        if self.run.table is not None:
            vectors = vectors + self.run.table[:, None, index]
        shift, scale, gate, low, high, last = vectors[:, :, None].chunk(6, -1)
        return shift, 1 + scale, gate, low, 1 + high, last


def modulate(h: Tensor, runs: Sequence[Run], shifts: Sequence[Tensor], scales: Sequence[Tensor], eps: float) -> Tensor:
    """h (B, L, D) layer-normed, then scaled and shifted, each run by vectors (B, F or 1, 1, D) of its own."""
    norm = F.layer_norm(h, h.shape[-1:], eps=eps)
    parts = [
        torch.addcmul(shift, run.view(norm), scale).flatten(1, 2)
        for run, shift, scale in zip(runs, shifts, scales, strict=True)
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).to(h.dtype)


def add(h: Tensor, y: Tensor, runs: Sequence[Run], gates: Sequence[Tensor]) -> Tensor:
    """h + gate y, all (B, L, D), each run by a gate (B, F or 1, 1, D) of its own."""
    pairs = zip(runs, gates, strict=True)
    parts = [torch.addcmul(run.view(h), run.view(y), gate).flatten(1, 2) for run, gate in pairs]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).to(h.dtype)


class WideNorm(nn.RMSNorm):
    """RMS norm of queries or keys over all heads at once, in the dtype that they come in."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def heads_first(x: Tensor, heads: int) -> Tensor:
    """(B, L, D) -> (B, heads, L, head)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def turn(x: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    """x (B, L, heads, head) turned pairwise in float32 by angles whose cos and sin are (L, 1, head / 2)."""
    if rope is None:
        return x
    cos, sin = rope
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


class WanAttention(nn.Module):
    """Attention among all tokens, (B, L, D) -> (B, L, D)."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.q_norm, self.k_norm = WideNorm(dim, eps=eps), WideNorm(dim, eps=eps)

    def forward(
        self,
        h: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        index: int,
        memory: Memory | None,
        keep: Spans | None,
    ) -> Tensor:
        """rope: cos and sin (L, 1, head / 2). mask (B or 1, 1, L or 1, keys): True where a query may look.

        With `keep` only these stretches of tokens ask, and only they come back.
        """
        q, k, v = self.qkv(h).chunk(3, -1)
        turning = rope
        if keep is not None:
            q = pick(q, keep)
            turning = None if rope is None else (pick(rope[0], keep, 0), pick(rope[1], keep, 0))
            mask = pick(mask, keep, 2) if mask is not None and mask.shape[2] > 1 else mask
        q = turn(self.q_norm(q).unflatten(-1, (self.heads, -1)), turning).transpose(1, 2)
        k = turn(self.k_norm(k).unflatten(-1, (self.heads, -1)), rope).transpose(1, 2)
        v = heads_first(v, self.heads)
        if memory is not None:
            k, v = memory.extend(index, k, v)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class WanCrossAttention(nn.Module):
    """Tokens (B, L, D) look at a context (B, M, D)."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.q_norm, self.k_norm = WideNorm(dim, eps=eps), WideNorm(dim, eps=eps)

    def forward(self, h: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """mask (B, M): True for real context tokens; None: all are."""
        k, v = self.kv(context).chunk(2, -1)
        q, k = heads_first(self.q_norm(self.q(h)), self.heads), heads_first(self.k_norm(k), self.heads)
        seen = None if mask is None else mask[:, None, None]
        out = F.scaled_dot_product_attention(q, k, heads_first(v, self.heads), attn_mask=seen)
        return self.out(out.transpose(1, 2).flatten(2))


class WanBlock(nn.Module):
    """Attention, cross-attention and an MLP; the first and the last are modulated stretch by stretch."""

    def __init__(self, dim: int, heads: int, feedforward: int, cross: bool, cross_norm: bool, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.table = nn.Parameter(torch.randn(6, dim) / dim**0.5)
        self.attention = WanAttention(dim, heads, eps)
        if cross:
            self.cross_norm = nn.LayerNorm(dim, eps) if cross_norm else nn.Identity()
            self.cross = WanCrossAttention(dim, heads, eps)
        self.mlp = nn.Sequential(nn.Linear(dim, feedforward), nn.GELU("tanh"), nn.Linear(feedforward, dim))

    def forward(
        self,
        h: Tensor,  # (B, L, D)
        stretches: Sequence[Stretch],
        index: int,  # place of this block in the stack
        rope: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        contexts: Sequence[Context],
        memory: Memory | None = None,
        keep: Spans | None = None,  # stretches of tokens that are wanted of this block; None: all
    ) -> Tensor:
        """(B, L, D), or the tokens in `keep` alone."""
        runs = [s.run for s in stretches]
        shift, scale, gate, low, high, last = zip(*(s.six(self.table, index) for s in stretches), strict=True)
        y = self.attention(modulate(h, runs, shift, scale, self.eps), rope, mask, index, memory, keep)
        if keep is not None:
            left = kept(runs, keep)
            gate, low, high, last = (tuple(part[i] for i, _ in left) for part in (gate, low, high, last))
            h, runs = pick(h, keep), [run for _, run in left]
        h = add(h, y, runs, gate)
        if contexts:
            h = self.look(h, contexts if keep is None else kept_contexts(contexts, keep))
        return add(h, self.mlp(modulate(h, runs, low, high, self.eps)), runs, last)

    def look(self, h: Tensor, contexts: Sequence[Context]) -> Tensor:
        """Cross-attention, each stretch to its own context; stretches without one pass through."""
        parts, at = [], 0
        for c in contexts:
            part = h[:, c.start : c.stop]
            parts += [h[:, at : c.start], part + self.cross(self.cross_norm(part), c.features, c.mask)]
            at = c.stop
        parts.append(h[:, at:])
        whole = [part for part in parts if part.shape[1]]
        return whole[0] if len(whole) == 1 else torch.cat(whole, 1)
