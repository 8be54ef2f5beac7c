"""Multi-head attention over token sequences: self-attention with rotary positions, and cross-attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .rope import rotate


class SelfAttention(nn.Module):
    """(B, L, D) -> (B, L, D)."""

    def __init__(self, dim: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        head = dim // heads
        self.q_norm = nn.RMSNorm(head) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(head) if qk_norm else nn.Identity()

    def forward(self, h: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """rope: cos and sin (L, head / 2). mask (B or 1, 1, L or 1, L): True where a query may look."""
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.q_norm(q), *rope), rotate(self.k_norm(k), *rope)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Tokens (B, L, D) look at a context (B, M, D)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, h: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """mask (B, M): True for real context tokens; each sample has at least one."""
        q = self.q(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        return self.out(out.transpose(1, 2).flatten(2))
