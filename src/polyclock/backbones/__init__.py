"""Backbones: tokens, their modulation, positions and context to tokens; none knows a modality."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from ..nn.attention import Memory, Spans
from ..nn.block import Context, Run


class Stack(nn.Module):
    """(B, L, D) -> (B, L, D), normalised and modulated, ready for the heads: what a backbone builds.

    `narrow` names the streams whose tokens pass through blocks of their own.
    """

    narrow: tuple[str, ...] = ()

    def ahead(self, numbers: Tensor | None) -> tuple[Tensor | None, ...]:
        """What stands beside every c, (B, beside), through every map that it meets: computed once for many steps."""
        if numbers is not None:
            raise ValueError(f'{type(self).__name__} has no place for conditions on the route "beside"')
        return ()

    @abstractmethod
    def forward(
        self,
        h: Tensor,
        runs: Sequence[Run],
        ahead: Sequence[Tensor | None],
        positions: Tensor,
        mask: Tensor | None,
        contexts: Sequence[Context],
        memory: Memory | None = None,
        keep: Spans | None = None,
    ) -> Tensor:
        """h (B, L, D) tokens, positions (L, 3) over time, height and width; `ahead` as the method of that name says.

        With `keep` only these stretches of tokens come back: the last block computes no others.
        """


class Backbone(Protocol):
    """A frozen description of a network over token sequences."""

    @property
    def numbers(self) -> tuple[int, int, int]:
        """(width, depth, heads)."""
        ...

    @property
    def per_second(self) -> float | None:
        """Units of position that a second is worth; None: each token frame is one."""
        ...

    def build(self, *, cross: bool, vector: int, beside: int = 0) -> Stack:
        """`cross`: with cross-attention; `vector` and `beside`: numbers of c and of what stands beside every c."""
        ...
