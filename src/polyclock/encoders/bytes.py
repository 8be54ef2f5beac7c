"""A text encoder that needs no download: a small transformer over UTF-8 bytes, trained with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codecs.codec import Shape

FILL, START, FIRST = 0, 1, 2  # token 2 + n is byte n
VOCABULARY = FIRST + 256


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """b strings -> features (b, L, width) and mask (b, L): a start token, then one token for each UTF-8 byte.

    A text longer than `max_length` bytes is cut there, be it inside a character; L is 1 + the bytes of the longest
    text of the batch. What is padded has no influence and features 0. The empty text is the start token alone.
    `pool=True` gives the mean over the real tokens, (b, 1, width): what the global route needs.
    """

    width: int = 256
    depth: int = 2
    heads: int = 4
    max_length: int = 128
    pool: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width={self.width} must be a multiple of heads={self.heads}")
        if self.max_length < 1 or self.depth < 1:
            raise ValueError(f"max_length={self.max_length} and depth={self.depth} must be at least 1")

    @property
    def length(self) -> int | None:
        """Tokens of a text: 1 where pooled, else unknown."""
        return 1 if self.pool else None

    def build(self, shape: Shape = ()) -> nn.Module:
        """The network; text has shape ()."""
        return BytesNet(self)


def tokens(texts: Sequence[str], max_length: int) -> Tensor:
    """b strings -> (b, L) int64, padded with FILL to the longest."""
    coded = [[START, *(FIRST + n for n in text.encode("utf-8", "replace")[:max_length])] for text in texts]
    out = torch.full((len(coded), max(map(len, coded), default=1)), FILL)
    for row, code in zip(out, coded, strict=True):
        row[: len(code)] = torch.tensor(code)
    return out


def pooled(h: Tensor, mask: Tensor) -> Tensor:
    """(b, L, D), (b, L) -> (b, 1, D), the mean over real tokens."""
    real = mask[..., None].to(h.dtype)
    return (h * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)


class BytesNet(nn.Module):
    """Byte and place embeddings, `depth` pre-norm blocks, a final norm."""

    def __init__(self, spec: Bytes) -> None:
        super().__init__()
        self.spec = spec
        self.length = spec.length
        self.embed = nn.Embedding(VOCABULARY, spec.width)
        self.place = nn.Parameter(torch.randn(spec.max_length + 1, spec.width) * 0.02)
        self.blocks = nn.ModuleList(Block(spec.width, spec.heads) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(spec.width)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """b strings -> features (b, L, width), mask (b, L) bool; L = 1 where pooled."""
        code = tokens(texts, self.spec.max_length).to(self.place.device)
        mask = code != FILL
        h = self.embed(code) + self.place[: code.shape[1]]
        for block in self.blocks:
            h = block(h, mask)
        h = self.norm(h) * mask[..., None]
        if self.spec.pool:
            return pooled(h, mask), mask[:, :1]
        return h, mask


class Block(nn.Module):
    """Pre-norm self-attention and a four times wider MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """(b, L, D), (b, L) -> (b, L, D)."""
        q, k, v = self.qkv(self.norm_attention(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        h = h + self.out(seen.transpose(1, 2).flatten(2))
        out: Tensor = h + self.mlp(self.norm_mlp(h))
        return out
