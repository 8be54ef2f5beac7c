"""How weights begin."""

from __future__ import annotations

from collections.abc import Iterator

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


def silent(module: nn.Module) -> None:
    """A map whose last layer answers zero until it is trained: a newcomer that changes nothing."""
    last = [m for m in module.modules() if not list(m.children())][-1]
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
