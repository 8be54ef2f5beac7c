"""Auxiliary objectives: what the network holds inside, behind a block, compared with features of the batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .batch import Batch
from .conditioning import Given
from .model import WorldModel
from .relations import RelationsNet


def net_of(model: WorldModel, name: str) -> RelationsNet:
    """The network of an auxiliary objective."""
    net = model.auxiliary[name]
    assert isinstance(net, RelationsNet)
    return net


@contextmanager
def watched(model: WorldModel) -> Iterator[dict[str, Tensor]]:
    """What auxiliary objectives compare, name -> tokens (B, L, D) behind the block that each names, of the last call
    within. Errors: ValueError for a block that the backbone does not have."""
    seen: dict[str, Tensor] = {}
    hooks = []
    blocks = list(model.backbone.blocks) if len(model.auxiliary) else []  # type: ignore[arg-type]
    for name in model.auxiliary:
        place = net_of(model, name).spec.block
        if place > len(blocks):
            raise ValueError(f"{name!r} looks behind block {place} of {len(blocks)}")

        def keep(_: nn.Module, __: object, out: Tensor, name: str = name) -> None:
            seen[name] = out

        hooks.append(blocks[place - 1].register_forward_hook(keep))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def stretch(model: WorldModel, of: str, x: Mapping[str, Tensor], given: Given, size: int) -> tuple[int, int, list[int]]:
    """(start, stop, token grid (F, H, W)) of the stream of modality `of` in the token sequence of a call with x."""
    start = model._prefix(given, size)[0].shape[1]
    for s in model.layout.streams:
        first = next((n for n in s.of if n in x and len(x[n])), None)
        if first is None:
            continue
        grid = [*model.modalities[first].sized(x[first].shape[1:]).grid]
        count = math.prod(grid)
        if of in s.of:
            return start, start + count, [grid[0], *([1] * (3 - len(grid))), *grid[1:]]
        start += count
    return start, start, [0, 1, 1]


def compared(
    model: WorldModel,
    name: str,
    tokens: Tensor,
    batch: Batch,
    rows: Tensor,
    x: Mapping[str, Tensor],
    given: Given,
) -> Tensor:
    """The sum of an auxiliary loss over the samples that have its features, and, by `rows`, tokens to compare."""
    net = net_of(model, name)
    start, stop, grid = stretch(model, net.spec.of, x, given, batch.size)
    have = torch.isin(batch.rows[name], rows)
    if not have.any():  # every parameter has a gradient on every rank
        return torch.stack([p.sum() for p in net.parameters()]).sum() * 0.0
    mine = tokens[batch.rows[name][have], start:stop].unflatten(1, grid)
    return net(mine, batch.tensor(name)[have]).sum()
