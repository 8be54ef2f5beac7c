"""An encoder of camera images: a residual network (He et al. 2016) with group norm (Wu and He 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..codecs.codec import Shape
from ..codecs.pixels import to_float, to_unit

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours


@dataclass(frozen=True, kw_only=True)
class Size:
    """Channels of each stage, blocks in a stage, and how far the stem shrinks the image."""

    channels: tuple[int, ...]
    blocks: int
    stem: Literal[1, 2, 4]

    @property
    def factor(self) -> int:
        """Pixels to a side of one cell of the last feature map."""
        return self.stem * 2 ** (len(self.channels) - 1)


SIZES = {
    "18": Size(channels=(64, 128, 256, 512), blocks=2, stem=4),
    "small": Size(channels=(32, 64, 128, 256), blocks=1, stem=1),
    "fine": Size(channels=(32, 64, 128), blocks=1, stem=2),
    "mini": Size(channels=(32, 64, 128), blocks=1, stem=4),
}


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """Images (b, T', H, W, C), uint8 or float in [0, 1] -> tokens of width `width`.

    pool    "mean": one token for each frame, (b, T', width); "tokens": one for each cell of the last feature map and
            a learnt vector for its place, (b, T' * h * w, width)
    size    "18": ResNet-18, cells of 32 pixels, 11.3 million parameters at width 256
            "small": a 3 x 3 stem and one block a stage for images of about 64 x 64, cells of 8 pixels, 1.3 million
            "fine": one block for each of three stages, cells of 8 pixels, 0.34 million
            "mini": the same behind a pooling stem, cells of 16 pixels; made for two CPU cores
    groups  of each group norm; per_group: channels in each of its groups instead
    colours "half": to [-1, 1]; "imagenet": by the mean and deviation of ImageNet's colours
    """

    width: int = 256
    size: Literal["18", "small", "fine", "mini"] = "18"
    groups: int = 16
    pool: Literal["mean", "tokens"] = "mean"
    per_group: int | None = None
    colours: Literal["half", "imagenet"] = "half"

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"size={self.size!r}; possible: {', '.join(SIZES)}")
        if self.pool not in ("mean", "tokens"):
            raise ValueError(f"pool={self.pool!r}; possible: mean, tokens")
        if self.colours not in ("half", "imagenet"):
            raise ValueError(f"colours={self.colours!r}; possible: half, imagenet")
        for name, number in (("per_group", self.per_group), ("groups", self.groups)):
            if number is not None and (number < 1 or any(n % number for n in SIZES[self.size].channels)):
                raise ValueError(f"{name}={number} does not divide the channels {SIZES[self.size].channels}")

    def norm(self, channels: int) -> nn.GroupNorm:
        """The norm of a layer with so many channels."""
        return nn.GroupNorm(channels // self.per_group if self.per_group else self.groups, channels)

    @property
    def length(self) -> None:
        """Depends on the frames and their size; the built module knows it."""
        return None

    def build(self, shape: Shape) -> nn.Module:
        """The network for raw images (T', H, W, C). Errors: ValueError where a size that is needed is unknown."""
        if len(shape) != 4 or shape[3] is None:
            raise ValueError(f"ResNet reads images of shape (frames, height, width, channels), got {shape}")
        if self.pool == "tokens" and None in shape:
            raise ValueError(f"ResNet(pool='tokens') needs a known shape, got {shape}")
        return ResNetNet(self, shape)


class ResNetNet(nn.Module):
    """Stem, stages, and a linear to the width."""

    def __init__(self, spec: ResNet, shape: Shape) -> None:
        super().__init__()
        size = SIZES[spec.size]
        frames, height, width, channels = shape
        assert channels is not None
        self.spec = spec
        first = size.channels[0]
        wide = size.stem > 1
        stem: list[nn.Module] = [
            nn.Conv2d(channels, first, 7 if wide else 3, 2 if wide else 1, 3 if wide else 1, bias=False),
            spec.norm(first),
            nn.ReLU(),
        ]
        self.stem = nn.Sequential(*stem, *([nn.MaxPool2d(3, 2, 1)] if size.stem == 4 else []))
        stages: list[nn.Module] = []
        before = first
        for i, after in enumerate(size.channels):
            for j in range(size.blocks):
                stages.append(Block(before, after, 2 if i and not j else 1, spec))
                before = after
        self.stages = nn.Sequential(*stages)
        self.out = nn.Linear(before, spec.width)
        self.length = frames
        if spec.pool == "tokens":
            assert frames is not None and height is not None and width is not None
            cells = -(-height // size.factor) * -(-width // size.factor)
            self.length = frames * cells
            self.place = nn.Parameter(torch.zeros(frames, cells, spec.width))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, values: Tensor) -> Tensor:
        """(b, T', H, W, C) uint8, or float in [0, 1] -> (b, L, width)."""
        x = self._coloured(values).to(self.out.weight.dtype)
        b, frames = x.shape[:2]
        cells = (
            self.stages(self.stem(x.flatten(0, 1).movedim(-1, 1).contiguous())).flatten(2).movedim(1, 2)
        )  # (b T', h w, C)
        if self.spec.pool == "mean":
            out: Tensor = self.out(cells.mean(1)).unflatten(0, (b, frames))
            return out
        h: Tensor = self.out(cells).unflatten(0, (b, frames)) + self.place
        return h.flatten(1, 2)

    def _coloured(self, values: Tensor) -> Tensor:
        """Pictures as the first layer wants them. Errors: ValueError where they are neither uint8 nor in [0, 1]."""
        if self.spec.colours == "half":
            return to_float(values)
        x = to_unit(values)
        x = x.to(torch.promote_types(x.dtype, self.out.weight.dtype))
        if x.shape[-1] != len(MEAN):
            raise ValueError(f"the colours of ImageNet are red, green and blue, not {x.shape[-1]} channels")
        return (x - x.new_tensor(MEAN)) / x.new_tensor(DEVIATION)


class Block(nn.Module):
    """Two 3 x 3 convolutions beside an identity, or beside a 1 x 1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int, spec: ResNet) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            spec.norm(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            spec.norm(after),
        )
        self.side: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.side = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), spec.norm(after))

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, H, W) -> (n, after, H / stride, W / stride)."""
        return torch.relu(self.main(x) + self.side(x))
