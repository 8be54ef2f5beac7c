"""Convolutions beside a stream's tokens, from single pixels to whole patches and back (Ronneberger et al. 2015).

y_0 = conv(x),  y_l = conv(y_(l-1)) at half its size, each level mixed over time;  tokens += fold(y_last)
z_last = y_last + unfold(h),  z_l = y_l + conv(z_(l+1) at twice its size);  out_m += conv_m(z_0)

A patch of 8 x 8 pixels then need not be told in one token what lies where in it, nor pass all of it through one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..modality import Modality
from .embed import patchify, scatter, unpatchify
from .init import silent

GROUPS = 8  # of channels that are normalised together


@dataclass(frozen=True, kw_only=True)
class Detail:
    """A stream's path at the scale of pixels, silent at the start.

    width  channels of its features at the size of the picture; each half of the size has twice as many
    """

    width: int = 32

    def __post_init__(self) -> None:
        if self.width % GROUPS or self.width < GROUPS:
            raise ValueError(f"Detail(width={self.width}); needed: a multiple of {GROUPS}")

    def build(self, names: Sequence[str], modalities: Mapping[str, Modality], dim: int) -> DetailNet:
        """The path of a stream of these modalities, whose tokens have `dim` numbers.

        Errors: ValueError for modalities that are no videos, or whose patches are not 1 x 2^n x 2^n, n of 1 or more.
        """
        for name in names:
            m = modalities[name]
            size = m.patch[-1]
            if len(m.shape) != 4 or m.patch != (1, size, size) or size < 2 or size & (size - 1):
                raise ValueError(
                    f"{name!r} of shape {m.shape} and patch {m.patch} can have no detail; "
                    "needed: a video in patches of 1 x 2 x 2, 1 x 4 x 4, 1 x 8 x 8, ..."
                )
        return DetailNet(self, {n: int(modalities[n].shape[-1] or 0) for n in names}, modalities[names[0]].patch, dim)


class DetailNet(nn.Module):
    """Values of a stream -> what is added to its tokens; the tokens that come back -> what is added to answers."""

    def __init__(self, spec: Detail, channels: Mapping[str, int], patch: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.channels = dict(channels)
        levels = int(math.log2(patch[-1]))
        widths = [spec.width * 2**level for level in range(levels)]
        self.look = nn.Conv2d(sum(channels.values()), widths[0], 3, padding=1)
        self.down = nn.ModuleList(Step(a, b, stride=2) for a, b in zip(widths, widths[1:], strict=False))
        self.mix = nn.ModuleList(Mix(w) for w in widths)
        self.back = nn.ModuleList(Step(w, w) for w in widths)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:], strict=False))
        self.fold = nn.Linear(4 * widths[-1], dim)
        self.unfold = nn.Linear(dim, 4 * widths[-1])
        self.out = nn.Conv2d(widths[0], sum(channels.values()), 1)
        silent(self.fold)
        silent(self.out)

    def see(self, x: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int) -> tuple[Tensor, list[Tensor]]:
        """Values x[name] (b, T, H, W, C) of the samples rows[name] (b,) of `size`; what is absent counts as zeros.

        Returns what is added to the tokens (B, T, N, D), and the features of each level (B T, C', H', W').
        """
        some = next(v for v in x.values() if len(v))
        parts = [
            scatter(x[n], rows[n], size) if n in x else some.new_zeros(size, *some.shape[1:4], c)
            for n, c in self.channels.items()
        ]
        frames = some.shape[1]
        y = self.look(torch.cat(parts, -1).flatten(0, 1).movedim(-1, 1).to(self.look.weight.dtype))
        levels = [self.mix[0](y, frames)]
        for down, mix in zip(self.down, self.mix[1:], strict=True):
            levels.append(mix(down(levels[-1]), frames))
        tokens = self.fold(patchify(levels[-1].movedim(1, -1).unflatten(0, (size, frames)), (1, 2, 2)))
        return tokens, levels

    def forward(
        self, h: Tensor, levels: list[Tensor], rows: Mapping[str, Tensor], grid: tuple[int, ...]
    ) -> dict[str, Tensor]:
        """Tokens h (B, T, N, D) of the grid (T, h, w), and features as of `see`.

        Returns name -> (b, T, H, W, C) for every name of `rows`.
        """
        said = unpatchify(self.unfold(h), grid, (1, 2, 2)).flatten(0, 1).movedim(-1, 1)
        z = self.back[-1](levels[-1] + said)
        for level in reversed(range(len(self.up))):
            z = F.interpolate(self.up[level](z), scale_factor=2.0, mode="nearest")
            z = self.back[level](levels[level] + z)
        out = self.out(F.silu(z)).movedim(1, -1).unflatten(0, h.shape[:2])
        answers = dict(zip(self.channels, out.split(list(self.channels.values()), -1), strict=True))
        return {n: answers[n] if len(r) == len(h) else answers[n][r] for n, r in rows.items()}


class Step(nn.Module):
    """(n, C, H, W) -> (n, C', H', W'): a 3 x 3 convolution of what is normalised, added to it where sizes agree."""

    def __init__(self, a: int, b: int, stride: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, a)
        self.conv = nn.Conv2d(a, b, 3, stride, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        moved = self.conv(F.silu(self.norm(y)))
        return y + moved if moved.shape == y.shape else moved


class Mix(nn.Module):
    """(b T, C, H, W) -> the same: each pixel looks at itself one frame before and one frame after."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.conv = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, y: Tensor, frames: int) -> Tensor:
        seen = F.silu(self.norm(y)).unflatten(0, (-1, frames)).movedim(2, 1).flatten(3)
        # Over time alone: as a picture of T x (H W), which costs a CPU a third of what three axes do.
        mixed = F.conv2d(seen, self.conv.weight[..., 0], self.conv.bias, padding=(1, 0))
        return y + mixed.movedim(1, 2).flatten(0, 1).view_as(y)
