"""Multi-head attention over token sequences: self-attention with rotary positions, and cross-attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .rope import rotate


@dataclass
class Memory:
    """Keys and values of tokens that stay the same through a whole call, block by block.

    While it is open it keeps what passes; once sealed it puts the kept ones before the new ones.
    """

    mask: Tensor | None = None  # (B, M): True for real tokens
    whole: bool = False  # whether all of them are
    spans: tuple[tuple[str, int, int], ...] = ()  # (stream, start, stop) of the M kept tokens
    sealed: bool = False
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def streams(self) -> frozenset[str]:
        return frozenset(name for name, _, _ in self.spans)

    def extend(self, index: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k and v (B, heads, L, head) of block `index` -> those that its queries look at."""
        if not self.sealed:
            self.kept[index] = (k, v)
            return k, v
        return torch.cat([self.kept[index][0], k], 2), torch.cat([self.kept[index][1], v], 2)


class HeadNorm(nn.RMSNorm):
    """RMS norm of queries or keys over a head, in the dtype they come in: under autocast mixed dtypes would be slow."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


Spans = Sequence[tuple[int, int]]


def pick(x: Tensor, spans: Spans, axis: int = 1) -> Tensor:
    """The stretches `spans` of an axis of x, one behind the other."""
    parts = [x.narrow(axis, start, stop - start) for start, stop in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def asked(mask: Tensor | None, keep: Spans | None) -> Tensor | None:
    """The rows of a mask (B or 1, 1, L or 1, keys) for queries in the stretches `keep` of tokens; None: all."""
    return mask if mask is None or keep is None or mask.shape[2] == 1 else pick(mask, keep, 2)


class SelfAttention(nn.Module):
    """(B, L, D) -> (B, L, D)."""

    def __init__(self, dim: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        head = dim // heads
        self.q_norm = HeadNorm(head) if qk_norm else nn.Identity()
        self.k_norm = HeadNorm(head) if qk_norm else nn.Identity()

    def forward(
        self,
        h: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        index: int = 0,
        memory: Memory | None = None,
        keep: Spans | None = None,
    ) -> Tensor:
        """rope: cos and sin (L, head / 2), or None. mask (B or 1, 1, L or 1, keys): True where a query may look.

        With `keep` only these stretches of tokens ask, and only they come back.
        """
        q, k, v = self._project(h, keep)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q = rotate(q, *(rope if keep is None else (pick(part, keep, 0) for part in rope)))
            k = rotate(k, *rope)
        if memory is not None:
            k, v = memory.extend(index, k, v)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=asked(mask, keep))
        return self.out(found.transpose(1, 2).flatten(2))

    def _project(self, h: Tensor, keep: Spans | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, L, head)."""
        if keep is None:
            q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            return q, k, v
        weight, bias, dim = self.qkv.weight, self.qkv.bias, h.shape[-1]
        q = F.linear(pick(h, keep), weight[:dim], bias[:dim]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = F.linear(h, weight[dim:], bias[dim:]).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v


class CrossAttention(nn.Module):
    """Tokens (B, L, D) look at a context (B, M, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, h: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        """mask (B, M): True for real context tokens, of which each sample has at least one; None: all are."""
        q = self.q(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
        return self.out(out.transpose(1, 2).flatten(2))
