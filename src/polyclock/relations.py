"""An auxiliary objective: how the network's tokens relate to each other is to be as it is in features of the same clip
(token-relation distillation, Zhang et al. 2025, arXiv 2505.23656).

    S = A A^T,  R = E E^T,  loss = mean relu(|S - R| - margin)

over pairs of tokens, with A the tokens behind one block through a small network and E the features, both of length 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codecs.codec import Codec, Shape
from .codecs.scale import Identity
from .errors import unknown
from .modality import Signal

PAIRS = ("all", "within", "across")


@dataclass(frozen=True, kw_only=True)
class Relations:
    """What a recipe's `auxiliary` holds: features of the data that the tokens of a stream are compared with.

    of      a modality of the stream
    block   behind which the tokens are taken, counted from 1
    shape   of the features (T, h, w, C); key, rate, start, codec: as of a `Modality`
    pairs   "all" pairs of tokens, those "within" a frame, or those "across" frames
    skip    token frames that have no part, from the first on: a causal autoencoder's first frame stands for itself
    before  frames of features that have no part likewise: those of the skipped token frames
    margin  difference that costs nothing
    hidden  width of the small network's layers, of which there are three
    weight  of the loss; a number, or a schedule of the step

    Tokens are brought to the features' grid: linearly where it is finer, by means where it is coarser.
    # differs from the paper: there a learnt convolution makes the grid coarser.
    """

    of: str
    block: int
    shape: Shape
    key: str | None = None
    rate: float | None = None
    start: float = 0.0
    codec: Codec = field(default_factory=Identity)
    pairs: Literal["all", "within", "across"] = "all"
    skip: int = 0
    before: int = 0
    margin: float = 0.1
    hidden: int = 2048
    weight: object = 0.5

    def __post_init__(self) -> None:
        if self.pairs not in PAIRS:
            raise unknown("pairs", self.pairs, PAIRS)
        if len(self.shape) != 4 or None in self.shape:
            raise ValueError(f"features of shape {self.shape} to compare with; needed: (T, h, w, C), all known")
        if self.shape[-1] == 1:
            raise ValueError("features of one number have no direction, so tokens have nothing to be compared with")
        if self.block < 1 or self.skip < 0 or self.margin < 0:
            raise ValueError(f"block={self.block}, skip={self.skip}, margin={self.margin}; at least 1, 0 and 0")
        if not 0 <= self.before < int(self.shape[0] or 0):
            raise ValueError(f"before={self.before} of {self.shape[0]} frames of features; possible: 0 to all but one")

    def signal(self, name: str) -> Signal:
        """What the data side must bring."""
        shape = self.codec.raw_shape(self.shape)
        return Signal(key=self.key or name, kind="video", shape=shape, rate=self.rate, start=self.start)

    def build(self, width: int) -> RelationsNet:
        """The small network, for tokens of this width."""
        return RelationsNet(self, width)


class RelationsNet(nn.Module):
    """Tokens (b, F, H, W, D) and features (b, T, h, w, C) -> (b,) losses."""

    def __init__(self, spec: Relations, width: int) -> None:
        super().__init__()
        self.spec = spec
        wide, out = spec.hidden, int(spec.shape[-1] or 0)
        self.project = nn.Sequential(
            nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, wide), nn.SiLU(), nn.Linear(wide, out)
        )

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        """Errors: ValueError where no token frame is left."""
        if tokens.shape[1] <= self.spec.skip:
            raise ValueError(f"skip={self.spec.skip} leaves none of {tokens.shape[1]} token frames to compare")
        a = self.project(tokens[:, self.spec.skip :]).float()
        features = features[:, self.spec.before :]
        a = F.normalize(resampled(a, features.shape[1:4]), dim=-1)
        e = F.normalize(features.float(), dim=-1)
        if self.spec.pairs == "within":
            a, e = a.flatten(2, 3), e.flatten(2, 3)
        else:
            a, e = a.flatten(1, 3), e.flatten(1, 3)
        apart = (a @ a.transpose(-1, -2) - e @ e.transpose(-1, -2)).abs()
        cost = F.relu(apart - self.spec.margin)
        if self.spec.pairs == "across":
            frame = torch.arange(features.shape[1], device=cost.device).repeat_interleave(
                features[0, 0, ..., 0].numel()
            )
            cost = cost[:, frame[:, None] != frame]
        return cost.flatten(1).mean(1)


def resampled(x: Tensor, grid: torch.Size) -> Tensor:
    """x (b, F, H, W, C) on another grid (T, h, w), axis by axis: linearly to a finer one, by means to a coarser."""
    x = x.movedim(-1, 1)
    for axis, size in enumerate(grid):
        shape = [*x.shape[2:]]
        here, shape[axis] = shape[axis], size
        if size < here:
            x = F.adaptive_avg_pool3d(x, tuple(shape))
        elif size > here:
            x = F.interpolate(x, shape, mode="trilinear", align_corners=False)
    return x.movedim(1, -1)
