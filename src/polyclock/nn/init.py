"""How weights begin."""

from __future__ import annotations

from torch import nn


def xavier(module: nn.Module) -> None:
    """Every linear map Xavier-uniform with zero bias, except those that were set to zero on purpose."""
    for m in module.modules():
        if isinstance(m, nn.Linear) and not m.weight.is_meta and m.weight.any():
            nn.init.xavier_uniform_(m.weight)
            if m.bias is not None:
                nn.init.zeros_(m.bias)


def silent(linear: nn.Module) -> None:
    """A linear map that answers zero until it is trained: a newcomer that changes nothing."""
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
