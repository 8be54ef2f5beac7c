"""Auxiliary objectives: what the network holds inside, behind a block, compared with features of the batch."""

from __future__ import annotations

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
    within. Errors: ValueError for a block that the backbone does not have, or tokens that do not pass through it."""
    seen: dict[str, Tensor] = {}
    hooks = []
    blocks = list(model.backbone.blocks) if len(model.auxiliary) else []  # type: ignore[arg-type]
    for name in model.auxiliary:
        place, of = net_of(model, name).spec.block, net_of(model, name).spec.of
        if place > len(blocks):
            raise ValueError(f"{name!r} looks behind block {place} of {len(blocks)}")
        if model.layout.stream_of(of).name in model.backbone.narrow:
            raise ValueError(f"{name!r} looks at tokens of {of!r}, which pass through blocks of their own")

        def keep(_: nn.Module, __: object, out: Tensor, name: str = name) -> None:
            seen[name] = out

        hooks.append(blocks[place - 1].register_forward_hook(keep))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


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
    have = torch.isin(batch.rows[name], rows)
    if not have.any():  # every parameter has a gradient on every rank
        return torch.stack([p.sum() for p in net.parameters()]).sum() * 0.0
    segments = model.segments(x, model.prefix(given, batch.size)[0].shape[1])
    segment = next(s for s in segments if net.spec.of in s.stream.of)
    frames, *spatial = segment.grid
    mine = tokens[batch.rows[name][have], segment.start : segment.stop]
    return net(mine.unflatten(1, (frames, *(1, 1, *spatial)[-2:])), batch.tensor(name)[have]).sum()
