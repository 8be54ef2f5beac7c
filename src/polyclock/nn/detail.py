"""Convolutions at the scale of pixels beside a stream's tokens: what lies in a patch need not pass through one token.

features = conv(x_t) * (1 + scale(h)) + shift(h);  features += conv(silu(norm(features))), `depth` times;
out_m   += conv_m(features)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modality import Modality
from .embed import scatter, unpatchify
from .init import silent


@dataclass(frozen=True, kw_only=True)
class Detail:
    """A stream's path at the scale of pixels, silent at the start.

    width  channels of its features
    depth  residual convolutions, 3 x 3 x 3 over time, height and width
    cell   pixels to a side that share what the tokens say to the features; it divides the patch
    """

    width: int = 24
    depth: int = 2
    cell: int = 2

    def __post_init__(self) -> None:
        if self.width % 4 or self.width < 4 or self.depth < 0 or self.cell < 1:
            raise ValueError(
                f"Detail(width={self.width}, depth={self.depth}, cell={self.cell}); "
                "needed: a width of 4, 8, 12, ..., a depth of 0 or more, a cell of 1 or more"
            )

    def build(self, names: Sequence[str], modalities: Mapping[str, Modality], dim: int) -> DetailNet:
        """The path of a stream of these modalities, whose tokens have `dim` numbers.

        Errors: ValueError for modalities that are no videos, or patches that the cell does not divide.
        """
        for name in names:
            m = modalities[name]
            if len(m.shape) != 4 or any(p % self.cell for p in m.patch[1:]):
                raise ValueError(
                    f"{name!r} of shape {m.shape} and patch {m.patch} can have no detail in cells of {self.cell}"
                )
        return DetailNet(self, {n: int(modalities[n].shape[-1] or 0) for n in names}, modalities[names[0]].patch, dim)


class DetailNet(nn.Module):
    """Tokens and noisy values of a stream -> what is added to each modality's prediction."""

    def __init__(self, spec: Detail, channels: Mapping[str, int], patch: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.spec, self.channels = spec, dict(channels)
        self.patch = (patch[0], *(p // spec.cell for p in patch[1:]))
        total = sum(channels.values())
        self.say = nn.Linear(dim, math.prod(self.patch) * 2 * spec.width)
        self.look = nn.Conv3d(total, spec.width, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(4, spec.width) for _ in range(spec.depth))
        self.convs = nn.ModuleList(nn.Conv3d(spec.width, spec.width, 3, padding=1) for _ in range(spec.depth))
        self.out = nn.Conv3d(spec.width, total, 1)
        silent(self.say)
        silent(self.out)

    def forward(
        self,
        h: Tensor,
        x: Mapping[str, Tensor],
        rows: Mapping[str, Tensor],
        grid: tuple[int, ...],
    ) -> dict[str, Tensor]:
        """Tokens h (B, F, N, D), values x[name] (b, T, H, W, C) of the samples rows[name] (b,), token grid (F, h, w).

        Returns name -> (b, T, H, W, C) for every name of x; what is absent counts as zeros.
        """
        size = len(h)
        shape = next(v.shape[1:4] for v in x.values())
        parts = [
            scatter(x[n], rows[n], size) if n in x else h.new_zeros(size, *shape, c) for n, c in self.channels.items()
        ]
        seen = self.look(torch.cat(parts, -1).movedim(-1, 1))
        said = unpatchify(self.say(h), grid, self.patch).movedim(-1, 1)
        for axis in (3, 4):
            said = said.repeat_interleave(self.spec.cell, axis)
        scale, shift = said.chunk(2, 1)
        y = seen * (1 + scale) + shift
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = y + conv(F.silu(norm(y)))
        out = dict(
            zip(self.channels, self.out(F.silu(y)).movedim(1, -1).split(list(self.channels.values()), -1), strict=True)
        )
        return {n: out[n] if len(rows[n]) == size else out[n][rows[n]] for n in x}
