"""What exists: signals that the model can denoise (`Modality`) and signals that are only ever given (`Condition`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from .adapter import Adapter
from .codecs.codec import Codec, Shape
from .codecs.scale import Identity
from .errors import unknown
from .path import Linear, Path

Kind = Literal["video", "vector", "text"]
Null = Literal["noise", "zero", "mean", "blank"]
NULLS: tuple[Null, ...] = get_args(Null)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What the data side must bring for one name: `shape[0]` raw frames of column `key`.

    Frame i lies `start + i / rate` seconds after the window's anchor (negative: history). `rate=None` is the
    data set's own rate. `kind="text"` has shape () and one string per sample. Videos are uint8 (T', H, W, C') and
    are resized to (H, W); vectors are float32 (T', *S', C'). `made` is the digest of what must have made the column
    before it was stored; None: the data may be from anywhere.
    """

    key: str
    kind: Kind
    shape: Shape
    rate: float | None = None
    start: float = 0.0
    made: str | None = None


@dataclass(frozen=True, kw_only=True)
class Modality:
    """One signal the model can denoise.

    shape      latent (T, *S, C): time first, channels last; C may be None until `Recipe.fit` has seen the data, and
               a spatial size may stay None: it is then seen at each call
    patch      token size over (T, *S); the token grid is shape / patch, F = T / patch[0] token frames
    key        column of the data set; None: the modality's own name
    rate       data frames per second; start: time of the first one, in seconds from the window's anchor
    path       how data become noise, and what is predicted
    codec      raw <-> latent
    null       what an unknown or dropped value looks like: fresh "noise" (marginal); or, at the time of its clock,
               "zero", the "mean" of noisy data, or a "blank", which is mean data with their noise (`objective.null`)
    mean       of its latents, one number or one for each channel, that these two stand for; (): 0
    weight     of its loss; a number, or a schedule of the step (`objective.Weight`)
    clock      name of the clock it shares; None: its own
    share      name of the modality whose embedding, head and codec it uses (another camera, say)
    embedding  name of the modality whose embedding alone it uses; None: its own
    head       name of the modality whose head alone it uses; None: its own
    mark       a learnt vector, zero at the start, is added to each of its tokens
    near       name of a required condition of one frame that all of its frames are near to, both as latents: the
               network is shown and says the difference, of which its path's `spread` is the size
    zero_init  start silent: safe to add to a pretrained model
    copy       name of the modality whose embedding and head it begins as: linear maps from the way in's front and from
               the way out's back, as far as both have them, whatever `zero_init` says of these
    adapter    how a token's numbers enter and leave the network
    absent     a sample that lacks it has no tokens of it ("none"), or is shown noise at t = 1 whose target is learnt
               like any other ("noise")
    """

    shape: Shape
    patch: tuple[int, ...]
    key: str | None = None
    rate: float | None = None
    start: float = 0.0
    path: Path = field(default_factory=Linear)
    codec: Codec = field(default_factory=Identity)
    null: Null = "noise"
    mean: tuple[float, ...] = ()
    weight: object = 1.0
    clock: str | None = None
    share: str | None = None
    embedding: str | None = None
    head: str | None = None
    mark: bool = False
    near: str | None = None
    zero_init: bool = False
    copy: str | None = None
    adapter: Adapter = Adapter()
    absent: Literal["none", "noise"] = "none"

    def __post_init__(self) -> None:
        if len(self.patch) != len(self.shape) - 1:
            raise ValueError(f"patch {self.patch} must have one number for each of (T, *S) of shape {self.shape}")
        for size, patch in zip(self.shape, self.patch, strict=False):
            if patch < 1 or (size is not None and size % patch):
                raise ValueError(f"patch {self.patch} does not divide shape {self.shape}")
        if self.null not in NULLS:
            raise unknown("null", self.null, NULLS)
        if len(self.mean) not in (0, 1, self.shape[-1]):
            raise ValueError(f"mean has {len(self.mean)} numbers; possible: one, or one for each of {self.shape[-1]}")
        if self.absent not in ("none", "noise"):
            raise ValueError(f"absent={self.absent!r}; possible: none, noise")
        if self.near and self.path.spread is None:
            raise ValueError(f"near={self.near!r} needs a path with a spread: the size of the difference")
        if self.share and (self.embedding or self.head or self.copy):
            raise ValueError(f"share={self.share!r} means its embedding and head too; name it, or these")

    def sized(self, shape: Sequence[int]) -> Modality:
        """This modality with sizes that it leaves open taken from a latent of `shape` (T, *S, C).

        Errors: another shape than it allows, or one that its patch does not divide.
        """
        if len(shape) != len(self.shape) or any(w not in (None, n) for w, n in zip(self.shape, shape, strict=False)):
            raise ValueError(f"a latent of shape {tuple(shape)} where {self.shape} is expected")
        return self if None not in self.shape else replace(self, shape=tuple(int(n) for n in shape))

    @property
    def joins(self) -> bool:
        """Whether it joins what is trained already: it begins silent, or as a copy."""
        return self.zero_init or self.copy is not None

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens along (T, *S); 0 along an axis whose size is open."""
        return tuple(int(n or 0) // p for n, p in zip(self.shape, self.patch, strict=False))

    @property
    def frames(self) -> int:
        """F, the number of token frames."""
        return self.grid[0]

    @property
    def tokens(self) -> int:
        """N, tokens in a token frame."""
        return math.prod(self.grid[1:])

    @property
    def channels(self) -> int:
        """Numbers in one token: patch volume times C."""
        if self.shape[-1] is None:
            raise ValueError(f"shape {self.shape} is not known yet; call recipe.fit(source) first")
        return math.prod(self.patch) * self.shape[-1]

    def covers(self, frame: int) -> range:
        """The data frames that token frame `frame` stands for."""
        first = self.codec.covers(frame * self.patch[0])
        last = self.codec.covers((frame + 1) * self.patch[0] - 1)
        return range(first.start, last.stop)

    def seconds(self) -> list[float]:
        """(F,) the time of each token frame: the mean over its data frames, in seconds from the window's anchor."""
        rate = self.rate or 1.0
        spans = [self.covers(f) for f in range(self.frames)]
        return [self.start + (s.start + s.stop - 1) / 2 / rate for s in spans]

    def signal(self, name: str) -> Signal:
        """What the data side must bring for this modality."""
        shape = self.codec.raw_shape(self.shape)
        kind: Kind = "video" if len(shape) == 4 else "vector"
        made = getattr(self.codec, "made", None)
        return Signal(key=self.key or name, kind=kind, shape=shape, rate=self.rate, start=self.start, made=made)


class Encoder(Protocol):
    """A frozen description of a network that reads one condition; `build` makes the trainable part.

    The module maps values (b, T', *S', C'), or a list of b strings, to features (b, L, W): L tokens of width
    `self.width`. On the routes "global" and "beside" the tokens are flattened, so L must be known: (b, L * W).
    `length` is L where it does not depend on the shape, else None, and `width` likewise, else 0; the built module has
    `length` (int | None), and `width` where the description does not know it. A module may return (features, mask)
    where mask (b, L) is True for real tokens.
    """

    @property
    def width(self) -> int: ...

    @property
    def length(self) -> int | None: ...

    def build(self, shape: Shape) -> nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One signal that is only ever given: text, a current camera image, the robot's state.

    encoder    reads it
    route      "global" (added to every modulation vector), "beside" (its numbers as they are, next to those of every
               modulation vector), "context" (cross-attention), "tokens" (self-attention), or "fuse:STREAM" (added to a
               stream's tokens: channel concatenation)
    to         streams that attend to it (context only); None: all
    shape      raw (T', *S', C'); () for text; C' may be None until fitted
    codec      fitted scaling of raw values before the encoder
    required   must always be supplied; otherwise it has a null
    drop       share of training samples in which it is replaced by its null
    share      name of the condition whose encoder and projection it uses (another camera, say)
    adapter    how its features enter the network
    null       what a dropped or missing one looks like: a "learnt" vector, or "empty": what the encoder says of no text
    prompts    text by modality: what is said to each sample of those that it has tokens of. The sample's own text, if
               any, takes the place of what stands in braces: "masks of {all objects}". Such a condition need not be
               named in a query
    """

    encoder: Encoder
    route: str = "global"
    to: tuple[str, ...] | None = None
    key: str | None = None
    shape: Shape = ()
    rate: float | None = None
    start: float = 0.0
    codec: Codec = field(default_factory=Identity)
    required: bool = False
    drop: float = 0.0
    share: str | None = None
    adapter: Adapter = Adapter()
    null: Literal["learnt", "empty"] = "learnt"
    prompts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.prompts and (self.shape or self.required):
            raise ValueError("prompts are texts that take the place of missing ones: shape must be (), required False")
        if self.null not in ("learnt", "empty") or (self.null == "empty" and self.shape):
            raise ValueError(f"null={self.null!r}; possible: learnt, and for texts empty")
        if self.route not in ("global", "beside", "context", "tokens") and not self.route.startswith("fuse:"):
            raise ValueError(f"route={self.route!r}; possible: global, beside, context, tokens, fuse:STREAM")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop={self.drop} must lie in [0, 1)")
        if self.required and self.drop:
            raise ValueError("a required condition is never null, so drop must be 0")

    @property
    def said(self) -> bool:
        """Whether a question need not name it: it is required, or has prompts of its own."""
        return self.required or bool(self.prompts)

    @property
    def kind(self) -> Kind:
        return {0: "text", 4: "video"}.get(len(self.shape), "vector")  # type: ignore[return-value]

    def signal(self, name: str) -> Signal:
        """What the data side must bring for this condition."""
        return Signal(key=self.key or name, kind=self.kind, shape=self.shape, rate=self.rate, start=self.start)


def family(names: tuple[str, ...] | list[str], name: str) -> list[str]:
    """The modalities that `name` stands for in a query: itself and its views ("video" -> "video", "video.wrist")."""
    return [n for n in names if n == name or n.startswith(name + ".")]


def widened(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """x as float32, or as it or `dtype` is where that is wider."""
    return x.to(torch.promote_types(torch.promote_types(x.dtype, torch.float32), dtype))


def spread(t: Tensor, ndim: int, patch: int) -> Tensor:
    """(b, F) -> (b, F * patch, 1, ...) with `ndim` dimensions: one number per latent frame, to meet a value."""
    t = t if patch == 1 else t.repeat_interleave(patch, 1)
    return t.reshape(*t.shape, *[1] * (ndim - 2))
