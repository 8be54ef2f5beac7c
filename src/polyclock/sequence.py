"""The token sequence of a call: where each stream's tokens stand, what modulates them, and who may look at whom."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from .conditioning import Given
from .layout import AXES, Layout, Stream
from .modality import Condition, Modality
from .nn.attention import Memory
from .nn.block import Context, Run
from .nn.modulation import REGISTERS, Vectors


@dataclass(frozen=True)
class Segment:
    """A stream's place in the token sequence: its token grid (F, *S) laid out from `start`."""

    stream: Stream
    start: int
    grid: tuple[int, ...]

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.grid)


def positions(
    stream: Stream,
    layout: Layout,
    modalities: Mapping[str, Modality],
    grids: Mapping[str, tuple[int, ...]],
    per_second: float | None,
) -> Tensor:
    """(F * N, 3) over time, height and width; grids[stream] (F, *S).

    Time is in seconds times `per_second`, or counts token frames where that is None; height and width count tokens.
    """
    frames, *rest = grids[stream.name]
    spatial = (1, 1, *rest)[-2:]
    first = modalities[stream.of[0]]
    time = torch.arange(frames).float() if per_second is None else torch.tensor(first.seconds()) * per_second
    axes = (time, torch.arange(spatial[0]).float(), torch.arange(spatial[1]).float())
    out = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    if stream.at:
        other = next(s for s in layout.streams if s.name == stream.at.stream)
        axis = AXES[stream.at.axis]
        before = positions(other, layout, modalities, grids, per_second)[:, axis]
        out[:, axis] += before.max() + 1 if len(before) else 0
    return out


def runs(prefix: int, segments: list[Segment], vectors: Vectors, experts: Collection[str] = ()) -> list[Run]:
    """Stretches of one modulation; neighbours that share a vector for all their frames become one, but for those of
    streams with blocks of their own."""
    pieces = [Run(0, prefix, vectors.c[REGISTERS])] if prefix else []
    for s in segments:
        name = s.stream.name
        own = name if name in experts else None
        pieces.append(Run(s.start, s.stop, vectors.c[name], vectors.table.get(name), vectors.last.get(name), own))
    out = []
    for _, group in groupby(pieces, key=lambda run: (id(run.c), id(run.table), id(run.last), run.expert)):
        same = list(group)
        out.append(replace(same[0], stop=same[-1].stop))
    return out


def mask(
    layout: Layout,
    prefix: Tensor,
    segments: list[Segment],
    rows: Mapping[str, Tensor],
    size: int,
    memory: Memory | None,
    real: bool,
) -> Tensor | None:
    """(B or 1, 1, 1 or L, keys), True where a token may look; None: everywhere.

    prefix (B, L0): which are real; `real`: whether all are. A GPU, which would have to be waited for, is asked for
    nothing unless every modality of a stream is absent somewhere.
    """
    length, sees = segments[-1].stop, layout.sees
    free = not any(s.stream.name in sees for s in segments)
    full = all(any(len(rows[n]) == size for n in s.stream.of if n in rows) for s in segments)
    if memory is None and free and full and real:
        return None
    keys = torch.ones(size, length, dtype=torch.bool, device=prefix.device)
    keys[:, : prefix.shape[1]] = prefix
    for s in segments:
        have = torch.cat([rows[n] for n in s.stream.of if n in rows])
        keys[:, s.start : s.stop] = torch.zeros_like(keys[:, :1]).index_fill(0, have, True)
    spans = tuple((s.stream.name, s.start, s.stop) for s in segments)
    if memory is not None and memory.sealed:
        assert memory.mask is not None
        before, real = memory.mask.shape[1], real and memory.whole
        keys = torch.cat([memory.mask, keys], 1)
        spans = (*memory.spans, *((name, a + before, b + before) for name, a, b in spans))
    elif memory is not None:
        memory.mask, memory.spans = keys, spans
        memory.whole = real and (full or bool(keys.all()))
    if free:
        return None if real and (full or bool(keys.all())) else keys[:, None, None]
    who = torch.ones(length, keys.shape[1], dtype=torch.bool, device=prefix.device)
    for s in segments:
        me = s.stream.name
        for name, a, b in spans:
            if me in sees and name != me and name not in sees[me]:
                who[s.start : s.stop, a:b] = False
    # Registers would leak between streams that must not see each other: they look at nothing but themselves.
    who[: prefix.shape[1], prefix.shape[1] :] = False
    return keys[:, None, None] & who


def contexts(segments: list[Segment], conditions: Mapping[str, Condition], given: Given) -> list[Context]:
    """One context for each stretch of streams that attend to the same conditions."""
    routed = [n for n, c in conditions.items() if c.route == "context"]

    def attended(s: Segment) -> tuple[str, ...]:
        own = s.stream.context
        if own is not None:
            return tuple(n for n in routed if n in own)
        return tuple(n for n in routed if s.stream.name in (conditions[n].to or (s.stream.name,)))

    out = []
    for names, group in groupby(segments, key=attended):
        same = list(group)
        if names:
            features = torch.cat([given.features[n] for n in names], 1)
            masks = torch.cat([given.masks[n] for n in names], 1)
            out.append(Context(same[0].start, same[-1].stop, features, masks, given.whole.issuperset(names)))
    return out
