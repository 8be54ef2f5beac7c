"""Randomness without state: what sample j of step s draws is a function of (seed, purpose, s, j) alone.

The same numbers come out on one process or eight, with a batch cut any way, in a fresh run or a resumed one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any printable parts."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class Dice:
    """One throw per sample and purpose.

    `index` holds the samples' places in the global batch; row j of everything thrown belongs to `index[j]`.
    """

    seed: int
    step: int
    index: Sequence[int]
    device: str | torch.device = "cpu"

    @property
    def size(self) -> int:
        return len(self.index)

    def generator(self, purpose: str, j: int) -> torch.Generator:
        """The generator of the j-th sample held here (not of the j-th of the global batch)."""
        seed = seed_of(self.seed, purpose, self.step, int(self.index[j]))
        return torch.Generator(device=self.device).manual_seed(seed)

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """(B, *shape) float32, uniform in [0, 1)."""
        out = torch.empty(self.size, *shape, device=self.device)
        for j in range(self.size):
            out[j].uniform_(generator=self.generator(purpose, j))
        return out

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """(B, *shape) float32, standard normal."""
        out = torch.empty(self.size, *shape, device=self.device)
        for j in range(self.size):
            out[j].normal_(generator=self.generator(purpose, j))
        return out

    def common(self, purpose: str) -> Tensor:
        """() float32, uniform in [0, 1): one throw for the whole global batch."""
        generator = torch.Generator(device=self.device).manual_seed(seed_of(self.seed, purpose, self.step, "common"))
        return torch.rand((), generator=generator, device=self.device)

    def at(self, rows: Tensor | Sequence[int]) -> Dice:
        """The same dice for a subset of the samples: `rows` are positions within `index`."""
        places = (
            rows.tolist() if isinstance(rows, Tensor) else rows
        )  # at once: each number of a GPU would be waited for
        return Dice(self.seed, self.step, [int(self.index[r]) for r in places], self.device)
