"""How times become AdaLN vectors: `Local` (own time), `Joint` (all clocks, one vector), `JointLocal` (both).

A modulation yields one vector per segment and frame, (B, F, D) or (B, 1, D); blocks apply what they make of it on
views (B, F, N, D), so no vector is ever expanded to tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..adapter import ACTIVATIONS
from ..errors import unknown
from ..layout import Layout
from ..modality import Modality
from ..timesteps import clocks
from .embed import scatter, sinusoid
from .init import silent

REGISTERS = "registers"  # the segment of tokens that belong to no stream


def root(name: str, modalities: Mapping[str, Modality]) -> str:
    """The modality whose weights `name` uses."""
    return modalities[name].share or name


@dataclass(frozen=True)
class Vectors:
    """c[segment] (B, F or 1, vector) for every stream and for the registers; table[stream] (B or 1, depth, 6 D) is
    added to the block's own six vectors where a modality table is in use."""

    c: dict[str, Tensor]
    table: dict[str, Tensor]


class TimeMLP(nn.Module):
    """Times (...) -> (..., D)."""

    def __init__(self, frequencies: int, dim: int, quiet: bool) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.first, self.last = nn.Linear(frequencies, dim), nn.Linear(dim, dim)
        if quiet:
            silent(self.last)

    def forward(self, t: Tensor) -> Tensor:
        time = sinusoid(t, self.frequencies).to(self.first.weight.dtype)
        return self.last(nn.functional.silu(self.first(time)))


@dataclass(frozen=True, kw_only=True)
class Local:
    """A stream is modulated by its own modalities' times, frame by frame; times of a fused stream add.

    `table` gives every modality its own six vectors in every block, zero at the start. `frequencies` is the width of
    the sinusoidal embedding.
    """

    table: bool = False
    frequencies: int = 256

    def size(self, dim: int) -> int:
        """Numbers in a vector, for a network of width `dim`."""
        return dim

    def build(
        self, modalities: Mapping[str, Modality], layout: Layout, dim: int, depth: int, prefix: bool
    ) -> nn.Module:
        return LocalModulation(self, modalities, layout, dim, depth, prefix)


class LocalModulation(nn.Module):
    separate = True  # a stream's vectors depend on its own times alone

    def __init__(
        self, spec: Local, modalities: Mapping[str, Modality], layout: Layout, dim: int, depth: int, prefix: bool
    ) -> None:
        super().__init__()
        self.layout, self.modalities = layout, modalities
        self.time = nn.ModuleDict()
        for name in dict.fromkeys(root(n, modalities) for n in modalities):
            self.time[key(name)] = TimeMLP(spec.frequencies, dim, modalities[name].zero_init)
        # What registers take for a time; without registers it would be a parameter without a gradient.
        self.constant = nn.Parameter(0.02 * torch.randn(dim)) if prefix else None
        self.table = nn.ParameterDict()
        if spec.table:
            self.table.update({key(n): nn.Parameter(torch.zeros(depth, 6 * dim)) for n in modalities})

    def forward(self, t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int, glob: Tensor) -> Vectors:
        """t[name] (b, F) stamps, rows[name] (b,), glob (B, D) from the global conditions."""
        c: dict[str, Tensor] = {} if self.constant is None else {REGISTERS: (self.constant + glob)[:, None]}
        table: dict[str, Tensor] = {}
        for stream in self.layout.streams:
            names = [n for n in stream.of if n in t]
            if not names:
                continue
            parts = [scatter(self.time[key(root(n, self.modalities))](t[n]), rows[n], size) for n in names]
            c[stream.name] = torch.stack(parts).sum(0) + glob[:, None] if len(parts) > 1 else parts[0] + glob[:, None]
            if self.table:
                per_row = [self.table[key(n)].expand(len(rows[n]), -1, -1) for n in names]
                table[stream.name] = torch.stack(
                    [scatter(p, rows[n], size) for p, n in zip(per_row, names, strict=True)]
                ).sum(0)
        return Vectors(c, table)


@dataclass(frozen=True, kw_only=True)
class Joint:
    """All clocks and the global conditions make one vector for all tokens (UWM).

    The first layer is a sum of one linear map per clock, which equals the linear map of the concatenation, so a clock
    can be added later without touching the others. It refuses times that differ inside a clock.

    frequencies, scale, closed, whole   of the sinusoidal embedding of a time (nn/embed.py)
    hidden       width of the layer between the two linear maps, width that of the vector; None: the network's
    activation   between the two
    """

    frequencies: int = 256
    scale: float = 1000.0
    closed: bool = False
    whole: bool = False
    hidden: int | None = None
    width: int | None = None
    activation: str = "silu"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)

    def size(self, dim: int) -> int:
        """Numbers in the vector, for a network of width `dim`."""
        return self.width or dim

    def build(
        self, modalities: Mapping[str, Modality], layout: Layout, dim: int, depth: int, prefix: bool
    ) -> nn.Module:
        return JointModulation(self, modalities, layout, dim)


class JointModulation(nn.Module):
    separate = False

    def __init__(self, spec: Joint, modalities: Mapping[str, Modality], layout: Layout, dim: int) -> None:
        super().__init__()
        self.spec, self.layout, self.modalities = spec, layout, modalities
        self.clocks = clocks(modalities)
        hidden = spec.hidden or dim
        self.first = nn.ModuleDict({key(c): nn.Linear(spec.frequencies, hidden, bias=False) for c in self.clocks})
        for clock, names in self.clocks.items():
            if all(modalities[n].zero_init for n in names):
                silent(self.first[key(clock)])
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.activation = ACTIVATIONS[spec.activation]()
        self.last = nn.Linear(hidden, spec.size(dim))

    def clock_time(self, clock: str, t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int) -> Tensor:
        """(B, 1, hidden): the clock's share of the first layer, zero for samples without it."""
        out: Tensor | None = None
        spec = self.spec
        for name in self.clocks[clock]:
            if name not in t:
                continue
            refuse_split(t[name], name)
            time = sinusoid(t[name][:, :1], spec.frequencies, spec.scale, spec.closed, spec.whole)
            one = scatter(self.first[key(clock)](time.to(self.bias.dtype)), rows[name], size)
            if out is None:
                out, seen = one, rows[name]
                continue
            mine = torch.zeros(size, 1, 1, dtype=torch.bool, device=one.device)
            mine[seen] = True
            out, seen = torch.where(mine, out, one), torch.cat([seen, rows[name]]).unique()
        return torch.zeros(size, 1, self.bias.numel(), device=self.bias.device) if out is None else out

    def joint(self, t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int, glob: Tensor) -> Tensor:
        total = self.bias + sum(self.clock_time(clock, t, rows, size) for clock in self.clocks)
        return self.last(self.activation(total)) + glob[:, None]

    def forward(self, t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int, glob: Tensor) -> Vectors:
        """t[name] (b, F) stamps, rows[name] (b,), glob (B, D). Errors: times that differ inside a clock."""
        vector = self.joint(t, rows, size, glob)
        present = [s.name for s in self.layout.streams if any(n in t for n in s.of)]
        return Vectors(dict.fromkeys((*present, REGISTERS), vector), {})


def refuse_split(t: Tensor, name: str) -> None:
    """Errors: frames of one modality at different times. Checked where it costs nothing: on the CPU."""
    if t.is_cpu and t.numel() and not torch.equal(t, t[:, :1].expand_as(t)):
        raise ValueError(
            f"Joint modulation has one time per modality, but the frames of {name!r} differ; "
            "ask for whole modalities, or build the model with JointLocal() or Local()"
        )


@dataclass(frozen=True, kw_only=True)
class JointLocal(Joint):
    """`Joint`, with the largest time of each modality, plus a zero-initialised term per frame.

    So a network trained with `Joint` can go on to learn a time per step.
    """

    def build(
        self, modalities: Mapping[str, Modality], layout: Layout, dim: int, depth: int, prefix: bool
    ) -> nn.Module:
        return JointLocalModulation(self, modalities, layout, dim)


class JointLocalModulation(JointModulation):
    def __init__(self, spec: JointLocal, modalities: Mapping[str, Modality], layout: Layout, dim: int) -> None:
        super().__init__(spec, modalities, layout, dim)
        self.local = nn.ModuleDict({key(n): TimeMLP(spec.frequencies, spec.size(dim), quiet=True) for n in modalities})

    def forward(self, t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int, glob: Tensor) -> Vectors:
        most = {n: v.amax(1, keepdim=True).expand_as(v) for n, v in t.items()}
        vector = self.joint(most, rows, size, glob)
        c = {REGISTERS: vector}
        for stream in self.layout.streams:
            names = [n for n in stream.of if n in t]
            if names:
                own = [scatter(self.local[key(n)](t[n]), rows[n], size) for n in names]
                c[stream.name] = vector + torch.stack(own).sum(0)
        return Vectors(c, {})


Modulation = Local | Joint


def key(name: str) -> str:
    """A modality's name as a module name: `video.wrist` -> `video/wrist` (a dot would nest modules)."""
    return name.replace(".", "/")
