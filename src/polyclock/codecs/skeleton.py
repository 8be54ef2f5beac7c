"""Skeletons as drawn maps in the manner of OpenPose and DWPose, and the joints back from the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .codec import FrameByFrame, Shape
from .colours import OPENPOSE, Colours, hue_to_colour, separation, table

End = int | tuple[int, ...]
Limbs = tuple[tuple[End, End], ...]
LIMB = 0.6  # brightness of limbs, as published: joints stand out from them
MOST = 36  # joints whose automatic colours can still be told apart
APART, ROUNDS = 2.0, 5  # px of the map between drawn joints, and how often they are pushed towards it
SAME = 0.03  # radians between colours of one hue

# COCO's 17 joints: nose, then left before right: eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
# OpenPose's numbers of the same joints; its joint 1, the neck, is the middle of the shoulders.
COCO = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)
NECK = (5, 6)
COCO_LIMBS: Limbs = (
    *((NECK, 6), (NECK, 5), (6, 8), (8, 10), (5, 7), (7, 9), (NECK, 12), (12, 14), (14, 16)),
    *((NECK, 11), (11, 13), (13, 15), (NECK, 0), (0, 2), (2, 4), (0, 1), (1, 3)),
)


@dataclass(frozen=True, kw_only=True)
class SkeletonPicture(FrameByFrame):
    """Joints (B, T, K, 3) = x, y px, visibility <-> a drawn map (B, T, H, W, 3) in [-1, 1], black where nothing is.

    size     (H, W) of the map
    joints   K
    frame    (height, width) px of the picture that x and y refer to; None: the map's own size
    limbs    pairs of ends to join by a line; an end is a joint's number, or several: their middle (a neck). A limb is
             drawn where all joints at both ends are visible, in 60 % of the brightness of its colour
    colours  of the joints, RGB of 0 .. 255. (): K even steps of hue, up to 18 joints; beyond, the second half is paler
    limb_colours  of the limbs; (): limb i has the colour of joint i, counted round
    radius   of a joint's dot, and width half of a limb's, both in px of the map
    least    share of a joint's own colour in the 3 x 3 px where most of it lies, below which decoding calls it absent:
             a limb in its colour reaches 0.36, a dot of 2 px that was blurred over 3 x 3 px twice 0.58

    Joints with visibility 0 are not drawn, so they come back as 0, 0, 0; so does a joint of which no pixel shows.
    Decoding looks for the place where most of a joint's own colour lies and takes the weighted mean around it. Clean, a
    joint that stands alone is within 0.1 px of the map; tests/codecs/test_skeleton.py has the numbers under noise.
    Joints nearer to each other than 2 px are drawn about 2 px apart, and of dots that overlap each has the pixels
    nearest to it, so that none is hidden; where several coincide one may come back 2 px from its place.
    """

    kind: ClassVar[str] = "skeleton"
    size: tuple[int, int]
    joints: int
    frame: tuple[int, int] | None = None
    limbs: Limbs = ()
    colours: Colours = ()
    limb_colours: Colours = ()
    radius: float = 2.0
    width: float = 0.75
    least: float = 0.4

    def __post_init__(self) -> None:
        for name in ("size", "frame", "limbs", "colours", "limb_colours"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else _tuples(value))
        if self.joints < 1 or min(self.size) < 8 or min(self.frame or self.size) < 1 or self.radius < 1:
            raise ValueError(
                f"joints={self.joints}, size={self.size}, frame={self.frame}, radius={self.radius}; "
                "needed: at least 1 joint, a map of 8 px to a side, a frame of 1 px and a radius of 1 px"
            )
        if self.colours and len(self.colours) != self.joints:
            raise ValueError(f"{len(self.colours)} colours for {self.joints} joints; one for each is needed")
        if self.limb_colours and len(self.limb_colours) != len(self.limbs):
            raise ValueError(f"{len(self.limb_colours)} colours for {len(self.limbs)} limbs; one for each is needed")
        if not self.colours and self.joints > MOST:
            raise ValueError(f"{self.joints} joints have no automatic colours that differ; possible: up to {MOST}")
        if separation(table(((0, 0, 0), *self.colours))) < 1e-3:
            raise ValueError("two joints have the same colour, or one is black, which is nothing")
        for limb in self.limbs:
            bad = [j for end in limb for j in _ends(end) if not 0 <= j < self.joints]
            if len(limb) != 2 or bad:
                raise ValueError(f"limb {limb} must join two ends with joints of 0 to {self.joints - 1}")

    def raw_shape(self, shape: Shape) -> Shape:
        """Latent (T, H, W, 3) -> raw (T, K, 3). Errors: ValueError for another size."""
        if len(shape) != 4 or any(n not in (None, w) for n, w in zip(shape[1:], (*self.size, 3), strict=True)):
            raise ValueError(f"a skeleton is drawn as (T, {self.size[0]}, {self.size[1]}, 3), not {shape}")
        return (shape[0], self.joints, 3)

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, K, 3) px of `frame` -> (B, T, H, W, 3) in [-1, 1]. Errors: ValueError for another shape."""
        if raw.ndim != 4 or raw.shape[2:] != (self.joints, 3):
            raise ValueError(f"skeleton of shape {tuple(raw.shape)}; needed: (B, T, {self.joints}, 3)")
        points = raw.flatten(0, 1).float()
        place = points[..., :2] * self._scale(points)
        seen = (points[..., 2] > 0) & torch.isfinite(place).all(-1)
        place = torch.where(seen[..., None], place, 0.0)
        place = _spread(place, seen)
        canvas = points.new_zeros(len(points), *self.size, 3)
        if self.limbs:
            limbs = torch.stack([self._limb(place, seen, limb) for limb in self.limbs], 1)
            canvas = _painted(canvas, limbs, (self._inks(points) + 1) / 2, self.width)
        down, across = self._centres(points)
        near = (down - place[..., 1, None]).square()[..., None] + (across - place[..., 0, None]).square()[..., None, :]
        near = near + torch.where(seen, 0.0, torch.inf)[..., None, None]
        canvas = _painted(canvas, near, (self._colours(points) + 1) / 2, self.radius)
        return (canvas * 2 - 1).unflatten(0, raw.shape[:2])

    def _centres(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(H,) and (W,): y and x of the centres of the map's pixels."""
        down, across = (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5 for n in self.size)
        return down, across

    def _limb(self, place: Tensor, seen: Tensor, limb: tuple[End, End]) -> Tensor:
        """(N, H, W) squared distance of each pixel's centre from a limb; infinite where it is not shown."""
        (start, shown), (end, also) = (_end(place, seen, e) for e in limb)
        down, across = self._centres(place)
        step = end - start
        x, y = across - start[:, :1], down - start[:, 1:]
        along = step / step.square().sum(1, keepdim=True).clamp_min(1e-9)
        part = ((y * along[:, 1:])[:, :, None] + (x * along[:, :1])[:, None]).clamp_(0, 1)
        off = torch.addcmul(x[:, None], part, -step[:, :1, None]).square_()
        off += torch.addcmul(y[:, :, None], part, -step[:, 1:, None]).square_()
        return off + torch.where(shown & also, 0.0, torch.inf)[:, None, None]

    def decode(self, x: Tensor) -> Tensor:
        """(B, T, H, W, 3) -> (B, T, K, 3) float32 = x, y px of `frame`, and 1 where the joint is seen, else 0, 0, 0."""
        if x.ndim != 5 or x.shape[2:] != (*self.size, 3):
            raise ValueError(f"a drawn skeleton is (B, T, {self.size[0]}, {self.size[1]}, 3), not {tuple(x.shape)}")
        own = self._own(x.flatten(0, 1).float())
        # Around a joint lies more of its colour than a mixture of two others makes anywhere.
        around = F.avg_pool2d(own, 3, 1, 1, count_include_pad=False)
        height, width = self.size
        most, at = around.flatten(2).max(-1)
        row, column = at // width, at % width
        reach = math.ceil(self.radius + 1)
        step = torch.arange(-reach, reach + 1, device=x.device)
        rows, columns = row[..., None] + step, column[..., None] + step
        inside = ((rows >= 0) & (rows < height))[..., None] & ((columns >= 0) & (columns < width))[..., None, :]
        pixels = rows.clamp(0, height - 1)[..., None] * width + columns.clamp(0, width - 1)[..., None, :]
        weight = own.flatten(2).gather(2, pixels.flatten(2)).view(inside.shape)
        weight = (weight - most[..., None, None] / 2).clamp_min(0) * inside  # limbs of its colour are darker
        total = weight.sum((-2, -1)).clamp_min(1e-9)
        across = (weight.sum(-2) * (columns + 0.5)).sum(-1) / total
        down = (weight.sum(-1) * (rows + 0.5)).sum(-1) / total
        seen = most > self.least
        place = torch.stack([across, down], -1) / self._scale(own)
        found = torch.cat([torch.where(seen[..., None], place, 0.0), seen[..., None].float()], -1)
        return found.unflatten(0, x.shape[:2])

    def _own(self, x: Tensor) -> Tensor:
        """Pictures (N, H, W, 3) -> (N, K, H, W): 1 where a pixel has the joint's colour, less where it is darker or of
        another hue, 0 from the next joint's hue on. A dot that blur has darkened keeps its hue, so hue must agree."""
        light, colours = (x + 1) / 2, (self._colours(x) + 1) / 2
        ways = F.normalize(torch.cat([colours, (self._inks(x) + 1) / 2]), dim=1)
        apart = (ways[: len(colours)] @ ways.T).clamp(-1, 1).acos()
        apart = torch.where(apart > SAME, apart, torch.inf).amin(1).clamp_max(math.pi / 4).tan()
        size = colours.norm(dim=1)
        along = light @ (colours / size[:, None]).T
        off = (light.square().sum(-1, keepdim=True) - along.square()).clamp_min(0).sqrt()
        agree = (1 - (off / (along.clamp_min(1e-6) * apart)).square()).clamp_min(0)
        return ((along / size).clamp(0, 1) * agree).movedim(-1, 1)

    def _scale(self, like: Tensor) -> Tensor:
        """(2,): px of the map for one px of the frame, across and down."""
        frame = self.frame or self.size
        return torch.tensor([self.size[1] / frame[1], self.size[0] / frame[0]], device=like.device)

    def _colours(self, like: Tensor) -> Tensor:
        """(K, 3) in [-1, 1]."""
        if self.colours:
            return table(self.colours, like)
        ring = self.joints if self.joints <= MOST // 2 else -(-self.joints // 2)
        pure = hue_to_colour(torch.arange(ring, device=like.device) / ring)
        return torch.cat([pure, (1 + pure) / 2])[: self.joints] * 2 - 1

    def _inks(self, like: Tensor) -> Tensor:
        """(limbs, 3) in [-1, 1]: what limbs are drawn with."""
        bright = table(self.limb_colours, like) if self.limb_colours else self._colours(like)
        number = torch.arange(len(self.limbs), device=like.device) % len(bright)
        return LIMB * (bright[number] + 1) - 1


def coco_skeleton(
    size: tuple[int, int], frame: tuple[int, int] | None = None, figures: int = 1, radius: float = 2.0
) -> SkeletonPicture:
    """COCO's 17 joints drawn with OpenPose's limbs and colours, once for each of 1 or 2 figures (K = 17 or 34).

    differs from the published drawing: the neck is no joint of COCO and has no dot; a second figure is paler, so that
    its joints can be told from those of the first.
    """
    if figures not in (1, 2):
        raise ValueError(f"figures={figures}; possible: 1 or 2")
    colours = tuple(OPENPOSE[i] for i in COCO)
    limbs: list[tuple[End, End]] = []
    for figure in range(figures):
        limbs += [tuple(_moved(e, 17 * figure) for e in limb) for limb in COCO_LIMBS]  # type: ignore[misc]
    lines, count = OPENPOSE[: len(COCO_LIMBS)], 17 * figures
    return SkeletonPicture(
        size=size,
        frame=frame,
        joints=count,
        radius=radius,
        limbs=tuple(limbs),
        colours=(colours + _paler(colours))[:count],
        limb_colours=(lines + _paler(lines))[:count],
    )


def _paler(colours: Colours) -> Colours:
    """Half way to white."""
    return tuple(((255 + r) // 2, (255 + g) // 2, (255 + b) // 2) for r, g, b in colours)


def _moved(end: End, by: int) -> End:
    return end + by if isinstance(end, int) else tuple(j + by for j in end)


def _ends(end: End) -> tuple[int, ...]:
    return (end,) if isinstance(end, int) else end


def _tuples(value: Iterable) -> tuple:
    return tuple(_tuples(v) if isinstance(v, list | tuple) else v for v in value)


def _end(place: Tensor, seen: Tensor, end: End) -> tuple[Tensor, Tensor]:
    """(N, 2) the middle of an end's joints and (N,) whether all are seen."""
    chosen = list(_ends(end))
    return place[:, chosen].mean(1), seen[:, chosen].all(1)


def _spread(place: Tensor, seen: Tensor) -> Tensor:
    """(N, K, 2) with joints that lie nearer than `APART` pushed from each other; so each keeps pixels of its own."""
    turn = torch.arange(place.shape[1], device=place.device) * 2.4  # where two coincide, each has its own way
    ways = torch.stack([turn.cos(), turn.sin()], -1)
    pairs = (seen[:, :, None] & seen[:, None]) & ~torch.eye(len(turn), dtype=torch.bool, device=place.device)
    for _ in range(ROUNDS):
        between = place[:, :, None] - place[:, None]
        far = between.norm(dim=-1, keepdim=True)
        way = torch.where(far > 0.01, between / far.clamp_min(0.01), F.normalize(ways[:, None] - ways, dim=-1))
        place = place + ((APART - far).clamp_min(0) / 2 * way * pairs[..., None]).sum(2)
    return place


def _painted(canvas: Tensor, off: Tensor, colours: Tensor, radius: float) -> Tensor:
    """Each pixel of (N, H, W, 3) within `radius` of something takes the colour of what is nearest to it.

    off (N, n, H, W) are squared distances from n things. So of two that overlap neither is hidden behind the other.
    """
    nearest, which = off.min(1)
    ink = (radius + 0.5 - nearest.sqrt()).clamp(0, 1)
    return torch.lerp(canvas, colours[which], ink[..., None])
