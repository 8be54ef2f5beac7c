"""How weights begin."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def xavier(module: nn.Module) -> None:
    """Every linear map Xavier-uniform with zero bias, except those that were set to zero on purpose."""
    for m in _linear(module):
        nn.init.xavier_uniform_(m.weight)


def normal(module: nn.Module) -> None:
    """Every linear map normal with standard deviation 0.02 and zero bias, except those that were set to zero."""
    for m in _linear(module):
        nn.init.normal_(m.weight, std=0.02)


INITS = {"xavier": xavier, "normal": normal}


def _linear(module: nn.Module) -> Iterator[nn.Linear]:
    """The linear maps that are not zero, with their biases set to zero."""
    for m in module.modules():
        if isinstance(m, nn.Linear) and not m.weight.is_meta and m.weight.any():
            if m.bias is not None:
                nn.init.zeros_(m.bias)
            yield m


@torch.no_grad()
def like(module: nn.Module, other: nn.Module, back: bool = False) -> None:
    """Linear maps begin as those of another module, in order from the front or from the `back`, as far as both have
    them. Errors: ValueError for maps of other sizes."""
    mine, theirs = ([m for m in each.modules() if isinstance(m, nn.Linear)] for each in (module, other))
    for a, b in zip(*((reversed(mine), reversed(theirs)) if back else (mine, theirs)), strict=False):
        if a.weight.shape != b.weight.shape:
            raise ValueError(f"a map of {tuple(a.weight.shape)} cannot begin as one of {tuple(b.weight.shape)}")
        for one, value in zip(a.parameters(), b.parameters(), strict=True):
            one.copy_(value)


def silent(module: nn.Module) -> None:
    """A map whose last layer answers zero until it is trained: a newcomer that changes nothing."""
    last = [m for m in module.modules() if not list(m.children())][-1]
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
