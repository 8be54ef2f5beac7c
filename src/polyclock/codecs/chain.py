"""Codecs one after the other: encode runs through them in order, decode back in reverse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from .codec import Codec, Shape
from .scale import check_finite


@runtime_checkable
class Windowed(Protocol):
    """A codec that says how an episode is cut before it is encoded to fit what stands behind it in a chain."""

    def windows(self, array: np.ndarray) -> np.ndarray:
        """An episode (n, *S', C') -> (b, T', *S', C')."""
        ...


@dataclass(frozen=True, init=False)
class Chain:
    """`Chain(a, b)` or `Chain(codecs=(a, b))`: encode is b after a, decode undoes b, then a; as exact as its parts.

    A chain inside a chain is the chain of all the parts.
    """

    codecs: tuple[Codec, ...]

    def __init__(self, *parts: Codec, codecs: Sequence[Codec] = ()) -> None:
        flat: list[Codec] = []
        for codec in (*parts, *codecs):
            flat.extend(codec.codecs if isinstance(codec, Chain) else [codec])
        object.__setattr__(self, "codecs", tuple(flat))
        if not self.codecs:
            raise ValueError("Chain needs at least one codec; for none, use Identity()")

    @property
    def sample(self) -> bool:
        """Whether a part draws samples, so that `encode` needs a generator."""
        return any(getattr(codec, "sample", False) for codec in self.codecs)

    def raw_shape(self, shape: Shape) -> Shape:
        """Latent (T, *S, C) -> raw (T', *S', C')."""
        for codec in reversed(self.codecs):
            shape = codec.raw_shape(shape)
        return shape

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Raw (B, T', *S', C') -> latent (B, T, *S, C) float32."""
        for codec in self.codecs:
            raw = codec.encode(raw, generator)
        return raw

    def decode(self, x: Tensor) -> Tensor:
        """Latent (B, T, *S, C) -> raw (B, T', *S', C')."""
        for codec in reversed(self.codecs):
            x = codec.decode(x)
        return x

    def covers(self, frame: int) -> range:
        """The data frames that latent frame `frame` stands for, through all the codecs."""
        span = range(frame, frame + 1)
        for codec in reversed(self.codecs):
            span = range(codec.covers(span.start).start, codec.covers(span.stop - 1).stop)
        return span

    def fit(self, arrays: Iterable[np.ndarray]) -> Chain:
        """Each codec fitted to what those before it encode; `arrays` (n, *S', C') may be a one-way iterator.

        Where more than one codec has something to fit, a one-way iterator is held in memory.
        """
        fitted: list[Codec] = []
        for codec in self.codecs:
            now = arrays
            if isinstance(arrays, Iterator) and len(fitted) + 1 < len(self.codecs):
                now, arrays = tee(arrays)
            fitted.append(codec.fit(_encoded(tuple(fitted), now)))
        return Chain(*fitted)


def _encoded(codecs: tuple[Codec, ...], arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Each episode (n, *S', C') through `codecs`, its windows laid end to end: (b T, *S, C)."""
    # A sampling codec needs a generator; a fixed one makes the fit repeatable.
    generator = torch.Generator().manual_seed(0)
    for number, array in enumerate(arrays):
        check_finite(array, number)
        x = torch.from_numpy(np.ascontiguousarray(array))[None]
        for codec in codecs:
            if isinstance(codec, Windowed) and len(x) == 1:
                x = torch.from_numpy(np.ascontiguousarray(codec.windows(x[0].numpy())))
            x = codec.encode(x, generator)
        yield x.flatten(0, 1).numpy()
