"""What a codec is: raw data <-> latents that a network can denoise, with an inverse and a stated time grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..dice import Dice

Shape = tuple[int | None, ...]


@runtime_checkable
class Codec(Protocol):
    """Raw (B, T', *S', C') in its own units and dtype <-> latent (B, T, *S, C) float32.

    A codec is a frozen dataclass; fitted statistics are tensor fields. `fit` returns a new codec.
    """

    def raw_shape(self, shape: Shape) -> Shape:
        """Latent (T, *S, C) -> raw (T', *S', C')."""
        ...

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw (B, T', *S', C') -> latent (B, T, *S, C) float32."""
        ...

    def decode(self, x: Tensor) -> Tensor:
        """Latent (B, T, *S, C) -> raw (B, T', *S', C')."""
        ...

    def covers(self, frame: int) -> range:
        """The data frames that latent frame `frame` stands for."""
        ...

    def fit(self, arrays: Iterable[np.ndarray]) -> Codec:
        """A codec fitted to `arrays`, each (n, *S', C') raw frames in time order; itself if there is nothing to fit."""
        ...


@runtime_checkable
class Frozen(Codec, Protocol):
    """A codec with a frozen network in it, or another map that is dear to run or makes much smaller what it is given:
    what it says can be kept, and finished later.

    encode(raw, generator) is finish(ahead(raw), generator), to the bit. `frozen` says that it is one (a `Chain` has all
    of this, whatever its parts); `framewise`, that latent frame i is made of data frame i alone, so that frames can be
    kept one by one; `digest`, all that `ahead` depends on: weights and settings, wherever they lie.
    """

    @property
    def frozen(self) -> bool: ...

    @property
    def framewise(self) -> bool: ...

    @property
    def digest(self) -> str: ...

    def ahead(self, raw: Tensor) -> Tensor:
        """Raw (B, T', *S', C') -> what the network says, (B, T, *S, K) float32."""
        ...

    def finish(self, ahead: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, *S, K), also a part of *S -> latent (B, T, *S, C) float32."""
        ...


class Column:
    """The arrays of one column, one an episode, any number of times; `by` is the codec that made it, where one did."""

    def __init__(self, read: Callable[[], Iterable[np.ndarray]], by: Codec | None = None) -> None:
        self.by = by
        self._read = read

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._read())


class FrameByFrame:
    """The part of a codec that maps each data frame, by itself, to one latent frame and has nothing to fit."""

    framewise: ClassVar[bool] = True

    def raw_shape(self, shape: Shape) -> Shape:
        return shape

    def covers(self, frame: int) -> range:
        return range(frame, frame + 1)

    def fit(self, arrays: Iterable[np.ndarray]) -> Codec:
        return self  # type: ignore[return-value]


def encode_signal(codec: Any, raw: Tensor, name: str, dice: Dice | None, ahead: bool = False) -> Tensor:
    """Raw values -> latents; a codec that samples does so with each sample's own generator.

    A frozen network sees all samples at once, or with `ahead` has seen them: `raw` is then what it said.
    """
    encode = codec.encode
    if getattr(codec, "frozen", False):
        raw, encode = raw if ahead else codec.ahead(raw), codec.finish
    if not getattr(codec, "sample", False) or dice is None or not len(raw):
        return encode(raw)
    return torch.cat([encode(raw[j : j + 1], dice.generator(f"codec.{name}", j)) for j in range(len(raw))])
