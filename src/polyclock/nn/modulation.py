"""How times become AdaLN vectors: `Local` (own time), `Joint` (all clocks, one vector), `JointLocal` (both).

A modulation yields one vector per segment and frame, (B, F, D) or (B, 1, D); blocks apply what they make of it on
views (B, F, N, D), so no vector is ever expanded to tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ..adapter import ACTIVATIONS
from ..errors import unknown
from ..layout import Layout, OneOf, Stream
from ..modality import Modality, widened
from ..timesteps import clocks
from .embed import scatter, sinusoid
from .init import silent

REGISTERS = "registers"  # the segment of tokens that belong to no stream


Names = bool | tuple[str, ...]  # all modalities, none, or these


def root(name: str, modalities: Mapping[str, Modality]) -> str:
    """The modality whose codec and time `name` uses."""
    return modalities[name].share or name


@dataclass(frozen=True)
class Vectors:
    """c[segment] (B, F or 1, vector) for every stream and for the registers. Where modalities have their own,
    table[stream] (B, depth, 6 D) is added to the six vectors of every block, last[stream] (B, 2 D) to the two of the
    last modulation."""

    c: dict[str, Tensor]
    table: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)


class TimeMLP(nn.Module):
    """Times (...) -> (..., D)."""

    def __init__(self, frequencies: int, dim: int, quiet: bool, scale: float = 1000.0) -> None:
        super().__init__()
        self.frequencies, self.scale = frequencies, scale
        self.first, self.last = nn.Linear(frequencies, dim), nn.Linear(dim, dim)
        if quiet:
            silent(self.last)

    def forward(self, t: Tensor) -> Tensor:
        dtype = self.first.weight.dtype
        time = sinusoid(widened(t, dtype), self.frequencies, self.scale).to(dtype)
        return self.last(nn.functional.silu(self.first(time)))


@dataclass(frozen=True, kw_only=True)
class Local:
    """A stream is modulated by its own modalities' times, frame by frame; times of a fused stream add.

    label        modalities with a learnt vector beside their time, before the blocks' own maps
    table        modalities with their own six vectors in every block
    last         modalities with their own two vectors in the last modulation
    shared       one time network for all modalities, as in networks trained on video alone. In a fused stream one that
                 follows another clock than the first has a network of its own, silent at the start
    times        a stream takes its "own" times, or all of a sample take the "highest" of them
    frequencies  width of the sinusoidal embedding of a time, scale: what it is multiplied by

    Labels, tables and last vectors are zero at the start. They make one network of many modalities behave like one of
    each (a modality switcher).
    """

    label: Names = False
    table: Names = False
    last: Names = False
    shared: bool = False
    times: Literal["own", "highest"] = "own"
    frequencies: int = 256
    scale: float = 1000.0

    def __post_init__(self) -> None:
        if self.times not in ("own", "highest"):
            raise unknown("times", self.times, ("own", "highest"))

    def size(self, dim: int) -> int:
        """Numbers in a vector, for a network of width `dim`."""
        return dim

    def build(
        self, modalities: Mapping[str, Modality], layout: Layout, dim: int, depth: int, prefix: bool
    ) -> nn.Module:
        """Errors: ValueError for a label, table or last vectors of a modality that the recipe does not have."""
        return LocalModulation(self, modalities, layout, dim, depth, prefix)


class LocalModulation(nn.Module):
    whole = False

    def __init__(
        self, spec: Local, modalities: Mapping[str, Modality], layout: Layout, dim: int, depth: int, prefix: bool
    ) -> None:
        super().__init__()
        self.spec, self.layout, self.modalities = spec, layout, modalities
        # A stream's vectors depend on its own times alone.
        self.separate = spec.times == "own"
        first = next(iter(modalities))
        self.via = {n: first if spec.shared else root(n, modalities) for n in modalities}
        if spec.shared:
            self.via |= {n: n for s in layout.streams for n in newcomers(s, modalities)}
        self.time = nn.ModuleDict()
        for name in dict.fromkeys(self.via.values()):
            quiet = name != first if spec.shared else modalities[name].zero_init
            self.time[key(name)] = TimeMLP(spec.frequencies, dim, quiet, spec.scale)
        # What registers take for a time; without registers it would be a parameter without a gradient.
        self.constant = nn.Parameter(0.02 * torch.randn(dim)) if prefix else None
        self.label, self.table, self.last = (
            nn.ParameterDict({key(n): nn.Parameter(torch.zeros(shape)) for n in chosen(which, modalities)})
            for which, shape in ((spec.label, (dim,)), (spec.table, (depth, 6 * dim)), (spec.last, (2 * dim,)))
        )

    def forward(self, t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int, glob: Tensor) -> Vectors:
        """t[name] (b, F) stamps, rows[name] (b,), glob (B, D) from the global conditions."""
        c: dict[str, Tensor] = {} if self.constant is None else {REGISTERS: (self.constant + glob)[:, None]}
        table: dict[str, Tensor] = {}
        last: dict[str, Tensor] = {}
        if self.spec.times == "highest":
            t = highest(t, rows, size)
        for stream in self.layout.streams:
            names = [n for n in stream.of if n in t]
            if not names:
                continue
            parts = self._times(names, t, rows, size) + self._own(self.label, names, rows, size)
            c[stream.name] = sum(parts[1:], parts[0]) + glob[:, None]
            for own, out in ((self.table, table), (self.last, last)):
                found = self._own(own, names, rows, size)
                if found:
                    out[stream.name] = torch.stack(found).sum(0).squeeze(1)
        return Vectors(c, table, last)

    def _times(self, names: list[str], t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int) -> list[Tensor]:
        """(B, F, D) each: what every time network that the stream asks says, once for each sample."""
        parts = []
        for network in dict.fromkeys(self.via[n] for n in names):
            asked = [n for n in names if self.via[n] == network]
            if self.spec.shared:
                parts.append(self.time[key(network)](combined(asked, t, rows, size)))
            else:
                parts += [scatter(self.time[key(network)](t[n]), rows[n], size) for n in asked]
        return parts

    @staticmethod
    def _own(own: nn.ParameterDict, names: list[str], rows: Mapping[str, Tensor], size: int) -> list[Tensor]:
        """(B, 1, ...) each: a modality's own vectors, for the samples that have it."""
        have = [(own[key(n)], rows[n]) for n in names if key(n) in own]
        return [scatter(v.expand(len(mine), 1, *v.shape), mine, size) for v, mine in have]


def chosen(which: Names, modalities: Mapping[str, Modality]) -> list[str]:
    """The modalities that `which` names. Errors: one that the recipe does not have."""
    for name in which if isinstance(which, tuple) else ():
        if name not in modalities:
            raise unknown("modality of the modulation", name, modalities)
    return [n for n in modalities if which is True or (isinstance(which, tuple) and n in which)]


def newcomers(stream: Stream, modalities: Mapping[str, Modality]) -> list[str]:
    """The modalities of a fused stream that follow another clock than the ones in its first slot."""
    first = stream.slots[0]
    own = first.names if isinstance(first, OneOf) else (first,)
    known = {modalities[n].clock or n for n in own}
    return [n for n in stream.of if n not in own and (modalities[n].clock or n) not in known]


def combined(names: list[str], t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int) -> Tensor:
    """(B, F): for each sample the time of the first of `names` that it has; 0 where it has none."""
    out = scatter(t[names[0]], rows[names[0]], size)
    seen = torch.zeros(size, dtype=torch.bool, device=out.device).index_fill(0, rows[names[0]], True)
    for n in names[1:]:
        out = torch.where(seen[:, None], out, scatter(t[n], rows[n], size))
        seen = seen.index_fill(0, rows[n], True)
    return out


def highest(t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Times t[name] (b, F), with each replaced by the highest of its sample."""
    most = [scatter(v.amax(1, keepdim=True), rows[n], size) for n, v in t.items()]
    high = torch.cat(most, 1).amax(1, keepdim=True)
    return {n: high[rows[n]].expand_as(v) for n, v in t.items()}


@dataclass(frozen=True, kw_only=True)
class Joint:
    """All clocks and the global conditions make one vector for all tokens
    (Zhu et al. 2025, arXiv 2504.02792).

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
    separate = False  # a stream's vectors do not depend on its own times alone
    whole = True  # a modality has one time for all of its frames

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
        spec, seen = self.spec, torch.zeros(0, dtype=torch.long)
        for name in self.clocks[clock]:
            if name not in t:
                continue
            time = one_time(t[name], name)
            if len(seen) == size:
                continue  # every sample has its time from a name before this one
            time = sinusoid(widened(time, self.bias.dtype), spec.frequencies, spec.scale, spec.closed, spec.whole)
            one = scatter(self.first[key(clock)](time.to(self.bias.dtype)), rows[name], size)
            if out is None:
                out, seen = one, rows[name]
                continue
            mine = torch.zeros(size, 1, 1, dtype=torch.bool, device=one.device)
            mine[seen] = True
            out, seen = torch.where(mine, out, one), torch.cat([seen, rows[name]]).unique()
        return self.bias.new_zeros(size, 1, self.bias.numel()) if out is None else out

    def joint(self, t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int, glob: Tensor) -> Tensor:
        total = self.bias + sum(self.clock_time(clock, t, rows, size) for clock in self.clocks)
        return self.last(self.activation(total)) + glob[:, None]

    def forward(self, t: Mapping[str, Tensor], rows: Mapping[str, Tensor], size: int, glob: Tensor) -> Vectors:
        """t[name] (b, F) stamps, rows[name] (b,), glob (B, D). Errors: times that differ inside a clock."""
        vector = self.joint(t, rows, size, glob)
        present = [s.name for s in self.layout.streams if any(n in t for n in s.of)]
        return Vectors(dict.fromkeys((*present, REGISTERS), vector))


def one_time(t: Tensor, name: str) -> Tensor:
    """t (b, F) of a modality whose frames have one time -> (b, 1).

    Errors: ValueError where frames differ; on a GPU, which a look at them would have to wait for, their time is NaN.
    """
    same = (t == t[:, :1]).all(1, keepdim=True)
    if t.is_cpu and not same.all():
        raise ValueError(
            f"Joint modulation has one time per modality, but the frames of {name!r} differ; "
            "ask for whole modalities, or build the model with JointLocal() or Local()"
        )
    return torch.where(same, t[:, :1], torch.nan)


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
    whole = False

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
        return Vectors(c)


Modulation = Local | Joint


def key(name: str) -> str:
    """A modality's name as a module name: `video.wrist` -> `video/wrist` (a dot would nest modules)."""
    return name.replace(".", "/")
