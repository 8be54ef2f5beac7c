"""Views: the pictures of one camera, resized, cropped and recoloured alike under every name that they go by.

A camera's present frames may be a condition and its future ones a modality: they have to move together. In training
crops and colours change from sample to sample, otherwise the middle is cut out. It comes before any codec or encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .codecs.codec import Shape
from .dice import Dice, seed_of
from .modality import Condition, Modality, Signal

GREY = (0.2989, 0.587, 0.114)  # shares of red, green and blue in brightness, as torchvision has them
ORDERS = tuple(permutations(range(4)))


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """How far colours change: factors of brightness, contrast and saturation lie in [1 - x, 1 + x], and the hue is
    turned by up to x of a whole turn. The four follow each other in a drawn order (torchvision's ColorJitter)."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.2

    def __post_init__(self) -> None:
        for name, most in (("brightness", 1.0), ("contrast", 1.0), ("saturation", 1.0), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"Jitter({name}={getattr(self, name)}) must lie in [0, {most:g}]")


@dataclass(frozen=True)
class Look:
    """One draw for b samples: the crop's corner, top and left (b,); the order of the four changes of colour (b, 4),
    0 brightness, 1 contrast, 2 saturation, 3 hue; and their factors (b, 4). No order: colours stay. `which` (b,) of a
    view's fixed looks it is."""

    top: Tensor
    left: Tensor
    order: Tensor | None = None
    factors: Tensor | None = None
    which: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class View:
    """Pictures `of` these names, which show one camera.

    size     (H, W) that the data are read at; None: as they are stored, or where the view leaves sizes as they are, as
             the model works on them
    resize   (H, W), bilinear with antialiasing; None: not
    crop     (H, W) at a random place in training, in the middle otherwise; None: whole
    jitter   of colours in training; None: none
    per      one draw for each "sample", all of its frames alike, or for the whole "batch"
    fixed    training draws one of so many looks (corner and colours), always the same ones; None: any
    grid     pixels between the corners that training draws
    plain    names among these whose colours stay, in training too

    What frozen networks say of the pictures can be kept (`kept`, `chosen`) where few looks are possible: the fixed
    ones, each to the bit, or those whose corners lie on the grid of the latents, which are cut out of the latents of
    the whole picture. The latter are not quite those of the part: its border, neighbours and mean are others.
    """

    of: tuple[str, ...]
    size: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    jitter: Jitter | None = None
    per: Literal["sample", "batch"] = "sample"
    fixed: int | None = None
    grid: int = 1
    plain: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.of or self.per not in ("sample", "batch"):
            raise ValueError(f"View(of={self.of}, per={self.per!r}): a name is needed, and per is sample or batch")
        before = self.resize or self.size
        if before and self.crop and any(a < b for a, b in zip(before, self.crop, strict=True)):
            raise ValueError(f"View: pictures of {before} cannot be cropped to {self.crop}")
        if self.grid < 1 or (self.fixed is not None and self.fixed < 1) or not set(self.plain) <= set(self.of):
            raise ValueError(
                f"View(fixed={self.fixed}, grid={self.grid}, plain={self.plain}): fixed and grid are at least 1, and "
                f"plain names some of {', '.join(self.of)}"
            )
        idle = (self.grid > 1 and not self.crop) or (self.plain and not self.jitter)
        if idle or (self.fixed and not self.crop and not self.jitter):
            raise ValueError("View: grid needs a crop, plain needs a jitter, and fixed needs one of these two")

    @property
    def seen(self) -> tuple[int, int] | None:
        """(H, W) of what comes out; None: that of what goes in."""
        return self.crop or self.resize

    def check(self, names: Mapping[str, Modality | Condition]) -> None:
        """Errors: ValueError for a name that the recipe does not have, or that is no camera's."""
        for name in self.of:
            if name not in names:
                raise ValueError(f"View looks at {name!r}, which the recipe does not have; it has {', '.join(names)}")
            if len(names[name].shape) != 4:
                raise ValueError(f"View looks at {name!r}, which is no video: its shape is {names[name].shape}")

    def takes(self, shape: Shape) -> Shape:
        """Raw (T', H, W, C) that the model works on -> those that may be given: any H, W, where these are changed."""
        return (shape[0], None, None, shape[3]) if self.seen else shape

    def signal(self, signal: Signal) -> Signal:
        """What the data side must bring in place of the pictures that the model works on.

        Errors: ValueError where these have no colours to change, or another size than the view makes.
        """
        frames, height, width, channels = signal.shape
        if self.jitter and channels != 3:
            raise ValueError(f"View changes red, green and blue; pictures of {signal.key!r} have {channels} channels")
        if self.seen and any(a not in (None, b) for a, b in zip((height, width), self.seen, strict=True)):
            made = f"{self.seen[0]} x {self.seen[1]}"
            raise ValueError(f"View makes pictures of {made}; the model works on {height} x {width} of {signal.key!r}")
        if self.size:
            return replace(signal, shape=(frames, *self.size, channels))
        return replace(signal, shape=self.takes(signal.shape))

    def draw(self, dice: Dice | None, pictures: Tensor, name: str | None = None) -> Look:
        """The look at pictures (b, T, H, W, C) of a name; without dice the middle, in its own colours.

        Errors: ValueError where they are smaller than the crop.
        """
        height, width = (int(n) for n in self.resize or pictures.shape[2:4])
        high, wide = self.crop or (height, width)
        free = (height - high, width - wide)
        if min(free) < 0 and len(pictures) and not pictures.is_floating_point():
            raise ValueError(f"pictures of {height} x {width} cannot be cropped to {high} x {wide}: resize them first")
        if dice is None:
            top, left = (torch.full((len(pictures),), round(n / 2), device=pictures.device) for n in free)
            return Look(top, left)
        return self._look(*self._throw(dice), free, name not in self.plain)

    def _throw(self, dice: Dice) -> tuple[Tensor, Tensor | None]:
        """(b, 7) in [0, 1): what a look is made of; and (b,) which of the fixed ones it is."""
        purpose = f"view.{self.of[0]}"
        throw = dice.uniform(purpose, 7)
        if self.per == "batch":
            throw = torch.stack([dice.common(f"{purpose}.{i}") for i in range(7)]).expand_as(throw)
        if self.fixed is None:
            return throw, None
        which = (throw[:, 0] * self.fixed).long()
        return self._throws().to(throw)[which], which

    def _throws(self) -> Tensor:
        """(fixed, 7) in [0, 1), evenly spread."""
        seed = seed_of("view", self.of[0]) % 2**31
        return torch.quasirandom.SobolEngine(7, scramble=True, seed=seed).draw(self.fixed or 0).clamp(max=1 - 2**-24)

    def _look(self, throw: Tensor, which: Tensor | None, free: tuple[int, int], coloured: bool) -> Look:
        """The look made of (b, 7) throws; `free` pixels are left around the crop."""
        top, left = ((throw[:, i] * (free[i] // self.grid + 1)).long() * self.grid for i in range(2))
        if self.jitter is None or not coloured:
            return Look(top, left, which=which)
        order = torch.tensor(ORDERS, device=throw.device)[(throw[:, 2] * len(ORDERS)).long()]
        far = throw.new_tensor([getattr(self.jitter, n) for n in ("brightness", "contrast", "saturation", "hue")])
        middle = throw.new_tensor([1.0, 1.0, 1.0, 0.0])
        return Look(top, left, order, middle + (2 * throw[:, 3:] - 1) * far, which)

    def way(self, name: str, training: bool) -> Literal["middle", "fixed", "whole"]:
        """How the pictures of a name can be kept: outside training, and where nothing changes, the middle of them; in
        training the fixed looks, or the whole picture to be cut from. Errors: ValueError where looks change freely.
        """
        coloured = self.jitter is not None and name not in self.plain
        if not training or not (self.crop or coloured):
            return "middle"
        if self.fixed is not None:
            return "fixed"
        if coloured:
            raise ValueError(f"View changes the colours of {name!r} freely, so nothing can be kept of it: let it have "
                             f"fixed=K looks, or its own colours with plain=({name!r},)")  # fmt: skip
        return "whole"

    def about(self, name: str, training: bool) -> dict[str, Any]:
        """Plain data: all that `kept` depends on."""
        way = self.way(name, training)
        jitter = None if self.jitter is None or way != "fixed" or name in self.plain else vars(self.jitter)
        crop = None if way == "whole" else self.crop
        looks = self._throws().tolist() if way == "fixed" else None
        numbers = {"size": self.size, "resize": self.resize, "crop": crop, "grid": self.grid if looks else 1}
        return {"way": way, "jitter": jitter, "looks": looks, **numbers}

    def kept(self, name: str, pictures: Tensor, training: bool) -> list[Tensor]:
        """What a network has to see of pictures (b, T, H, W, C) so that every look can be had: V times (b, T, h, w, C).

        Errors: ValueError where looks change freely.
        """
        b, way = len(pictures), self.way(name, training)
        if way == "middle":
            return [self(pictures, self.draw(None, pictures))]
        if way == "whole":
            return [replace(self, crop=None, jitter=None, grid=1, plain=())(pictures, Look(*torch.zeros(2, b).long()))]
        coloured = name not in self.plain
        height, width = (int(n) for n in self.resize or pictures.shape[2:4])
        high, wide = self.crop or (height, width)
        looks = self._look(self._throws(), None, (height - high, width - wide), coloured)
        made = []
        for k in range(self.fixed or 0):
            parts = (None if part is None else part[k : k + 1].expand(b, *part.shape[1:]).to(pictures.device)
                     for part in (looks.top, looks.left, looks.order, looks.factors))  # fmt: skip
            made.append(self(pictures, Look(*parts)))  # type: ignore[arg-type]
        return made

    def chosen(self, name: str, ahead: Tensor, size: tuple[int, int], dice: Dice | None) -> Tensor:
        """What was said of the looks `kept`, (b, V, T, H, W, K), -> of the one that dice draw: (b, T, *size, K).

        Errors: ValueError where others are kept than those that training, or without dice something else, asks for.
        """
        b, count, whole = len(ahead), ahead.shape[1], (ahead.shape[3], ahead.shape[4])
        way = self.way(name, training=dice is not None)
        cell = (self.crop or size)[0] // size[0]
        exact = whole == size or not b
        fits = exact or (way == "whole" and whole[0] >= size[0] and whole[1] >= size[1] and self.grid % cell == 0)
        if count != (self.fixed if way == "fixed" else 1) or not fits:
            raise ValueError(
                f"of {name!r} {count} looks of {whole[0]} x {whole[1]} were encoded ahead, which are not the "
                f"{self.fixed if way == 'fixed' else 1} of {size[0]} x {size[1]} asked for ({way})"
            )
        if dice is None or (way != "fixed" and exact):
            return ahead[:, 0]
        throw, which = self._throw(dice)
        if which is not None:
            return ahead[torch.arange(b, device=ahead.device), which]
        look = self._look(throw, None, ((whole[0] - size[0]) * cell, (whole[1] - size[1]) * cell), coloured=False)
        corners = zip((look.top // cell).tolist(), (look.left // cell).tolist(), strict=True)
        parts = zip(ahead, corners, strict=True)
        return torch.stack([one[0, :, i : i + size[0], j : j + size[1]] for one, (i, j) in parts])

    def __call__(self, raw: Tensor, look: Look) -> Tensor:
        """uint8 (b, T, H, W, C) -> float (b, T, h, w, C) in [0, 1]; floats were looked at already and stay.

        Errors: ValueError for another dtype, or for floats of another size than the view makes.
        """
        b, frames = raw.shape[:2]
        if raw.is_floating_point():
            if self.seen and tuple(raw.shape[2:4]) != self.seen:
                made, here = (" x ".join(map(str, size)) for size in (self.seen, raw.shape[2:4]))
                raise ValueError(f"pictures that are floats were looked at already and must be {made}, not {here}")
            return raw
        if raw.dtype != torch.uint8:
            raise ValueError(
                f"pictures must be uint8, or floats in [0, 1] of the size that the model sees; got {raw.dtype}"
            )
        if not b:
            return torch.zeros(0, frames, *(self.seen or raw.shape[2:4]), raw.shape[4], device=raw.device)
        x = raw.flatten(0, 1).movedim(-1, 1).float() / 255
        if self.resize and tuple(x.shape[-2:]) != self.resize:
            x = F.interpolate(x, self.resize, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
        x = x.unflatten(0, (b, frames))
        if self.crop:
            high, wide = self.crop
            corners = zip(look.top.tolist(), look.left.tolist(), strict=True)
            x = torch.stack([one[..., i : i + high, j : j + wide] for one, (i, j) in zip(x, corners, strict=True)])
        if look.order is not None and look.factors is not None:
            factors = look.factors.repeat_interleave(frames, 0)
            x = recoloured(x.flatten(0, 1), look.order.repeat_interleave(frames, 0), factors).unflatten(0, (b, frames))
        return x.movedim(2, -1)


def recoloured(x: Tensor, order: Tensor, factors: Tensor) -> Tensor:
    """x (n, 3, H, W) in [0, 1] with the four changes of colour, each picture's in its own order; order, factors (n, 4).

    Contrast is around each picture's own mean grey.
    """
    changes = (
        lambda y, f: blend(y, 0.0, f),
        lambda y, f: blend(y, grey(y).mean((1, 2, 3), keepdim=True), f),
        lambda y, f: blend(y, grey(y), f),
        turned,
    )
    for slot in range(4):
        parts = torch.empty_like(x)
        for i, change in enumerate(changes):
            mine = order[:, slot] == i
            if bool(mine.any()):
                parts[mine] = change(x[mine], factors[mine, i].view(-1, 1, 1, 1))
        x = parts
    return x


def blend(a: Tensor, b: Tensor | float, share: Tensor) -> Tensor:
    """`share` of a and the rest of b, within [0, 1]."""
    return (share * a + (1 - share) * b).clamp(0, 1)


def grey(x: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, 1, H, W)."""
    return (x * x.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)


def turned(x: Tensor, by: Tensor) -> Tensor:
    """x (n, 3, H, W) with its hue moved by `by` (n, 1, 1, 1) of a turn: to hue, saturation and value, and back.

    The order of operations is that of the textbook (Smith 1978) and of torchvision: another formula for the same hue
    rounds differently, and gradients of a network that reads the pictures jump at every kink that a rounding crosses.
    """
    red, green, blue = x.unbind(1)
    value, low = x.amax(1), x.amin(1)
    flat = value == low
    chroma = torch.where(flat, 1.0, value - low)
    saturation = (value - low) / torch.where(flat, 1.0, value)
    below = [(value - c) / chroma for c in (red, green, blue)]
    sixth = torch.where(value == green, 2.0 + below[0] - below[2], 4.0 + below[1] - below[0])
    sixth = torch.where(value == red, below[2] - below[1], sixth)
    hue = (torch.fmod(sixth / 6.0 + 1.0, 1.0) + by[:, 0]) % 1.0
    sector = torch.floor(6.0 * hue)
    rest = 6.0 * hue - sector
    down, falling, rising = (
        (value * (1.0 - part)).clamp(0, 1) for part in (saturation, saturation * rest, saturation * (1.0 - rest))
    )
    ways = (
        (value, falling, down, down, rising, value),
        (rising, value, value, falling, down, down),
        (down, down, rising, value, value, falling),
    )
    pick = (sector.long() % 6)[:, None]
    return torch.stack([torch.stack(way, 1).gather(1, pick)[:, 0] for way in ways], 1)
