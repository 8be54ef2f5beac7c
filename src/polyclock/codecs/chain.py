"""Codecs one after the other: encode runs through them in order, decode back in reverse."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..plain import to_plain
from .codec import Codec, Frozen, Shape
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

    @property
    def frozen(self) -> bool:
        """Whether a part is a frozen network, whose numbers can be kept."""
        return any(getattr(codec, "frozen", False) for codec in self.codecs)

    @property
    def fits(self) -> bool:
        """Whether a part learns from pictures or maps, so that it must see some before it is used."""
        return any(getattr(codec, "fits", False) for codec in self.codecs)

    @property
    def made(self) -> str | None:
        """The digest of what must have made the data; None where they are raw."""
        return getattr(self.codecs[0], "made", None)

    @property
    def _kept(self) -> tuple[tuple[Codec, ...], Frozen, tuple[Codec, ...]]:
        """The parts before the last frozen one, that one, and those behind it."""
        at = max((i for i, codec in enumerate(self.codecs) if getattr(codec, "frozen", False)), default=None)
        if at is None:
            raise ValueError("no part of the chain is a frozen network")
        return self.codecs[:at], cast(Frozen, self.codecs[at]), self.codecs[at + 1 :]

    @property
    def framewise(self) -> bool:
        """Whether each data frame alone makes one latent frame, as far as numbers are kept, or all the way."""
        parts = (*self._kept[0], self._kept[1]) if self.frozen else self.codecs
        return all(getattr(codec, "framewise", False) for codec in parts)

    @property
    def digest(self) -> str:
        """Of the last frozen part and all before it."""
        before, last, _ = self._kept
        tensors: dict[str, Tensor] = {}
        plain = [to_plain(codec, tensors, str(i)) for i, codec in enumerate(before)]
        whole = hashlib.sha256(json.dumps(plain).encode())
        for tensor in tensors.values():
            whole.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        return f"{whole.hexdigest()[:16]}/{last.digest}" if before else last.digest

    def ahead(self, raw: Tensor) -> Tensor:
        """Raw (B, T', *S', C') -> what the last frozen part says (B, T, *S, K)."""
        before, last, _ = self._kept
        for codec in before:
            raw = codec.encode(raw)
        return last.ahead(raw)

    def finish(self, ahead: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, *S, K) -> latent (B, T, *S, C) float32."""
        _, last, behind = self._kept
        x = last.finish(ahead, generator)
        for codec in behind:
            x = codec.encode(x, generator)
        return x

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
            fitted.append(codec.fit(_encoded(tuple(fitted), now) if fitted else now))
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
