"""The world model: noisy modalities at their own times, and conditions, to one prediction per modality.

tokens(stream) = sum_m embed_m(patch(x_m)) + fused conditions + places     inside a stream: add
h              = cat(tokens(stream) for stream in layout)         across streams: side by side
out_m          = unpatch(head_m(h[stream of m]))                  every modality reads its own stream
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor, nn

from .backbones import Backbone
from .batch import Batch
from .codecs.codec import encode_signal
from .conditioning import Conditioner, Given
from .dice import Dice
from .layout import Layout, Stream, check_names
from .modality import Condition, Modality, spread
from .nn.attention import Memory
from .nn.detail import DetailNet
from .nn.embed import patchify, scatter, unpatchify
from .nn.init import INITS, like, silent
from .nn.modulation import Modulation, key, root
from .sequence import Segment, contexts, mask, positions, runs
from .timesteps import Pattern
from .views import View


class WorldModel(nn.Module):
    """x, t, conditions -> a prediction per modality. Built by `Recipe.build`.

    `patterns` are the role patterns that its law trains; None: unknown, nothing is warned about. `init` says how linear
    maps begin (nn/init.py).
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        layout: Layout,
        modulation: Modulation,
        backbone: Backbone,
        conditions: Mapping[str, Condition] | None = None,
        registers: int = 0,
        views: Sequence[View] = (),
        init: str = "xavier",
    ) -> None:
        super().__init__()
        layout.check(modalities)
        self.modalities, self.layout, self.conditions = dict(modalities), layout, dict(conditions or {})
        self.patterns: Sequence[Pattern] | None = None
        self.unfilled: frozenset[str] = frozenset()
        self.views = {name: view for view in views for name in view.of}
        check_names(self.modalities, self.conditions, layout)
        width, depth, _ = backbone.numbers
        self.width, self.per_second = width, backbone.per_second
        # What is added to the vectors that modulate the blocks, and what stands beside it, are as wide as this.
        kept = {m.near for m in modalities.values() if m.near}
        self.conditioner = Conditioner(self.conditions, width, modulation.size(width), kept)
        self.backbone = backbone.build(
            cross=any(c.route == "context" for c in self.conditions.values()),
            vector=modulation.size(width),
            beside=self.conditioner.beside,
        )
        self.embed, self.head, self.view = nn.ModuleDict(), nn.ModuleDict(), nn.ParameterDict()
        for name, m in modalities.items():
            if not (m.share or m.embedding):
                self.embed[key(name)] = m.adapter.enter(m.channels, width)
            if not (m.share or m.head):
                self.head[key(name)] = m.adapter.leave(width, m.channels)
            if m.mark or (m.share and not layout.stream_of(name).positions):
                self.view[key(name)] = nn.Parameter(torch.zeros(width))
        prefix = registers > 0 or any(c.route == "tokens" for c in self.conditions.values())
        self.modulation = modulation.build(modalities, layout, width, depth, prefix)
        for part in (self.backbone, self.embed, self.head, self.modulation):
            INITS[init](part)
        for name, m in modalities.items():
            for ends in (self.embed, self.head) if m.zero_init else ():
                if key(name) in ends:
                    silent(ends[key(name)])
        self.begin_copies()
        self.detail = nn.ModuleDict(
            {key(s.name): s.detail.build(s.of, modalities, width) for s in layout.streams if s.detail is not None}
        )
        self.registers = nn.Parameter(0.02 * torch.randn(registers, width))
        self.auxiliary = nn.ModuleDict()  # objectives beside those of the modalities, by name; no call needs them
        # As far as the recipe says it; 0 where a size is open.
        self.grids = {s.name: self.modalities[s.of[0]].grid for s in layout.streams}
        self._learn_places()
        for s in layout.streams:
            self.register_buffer(_place(s), self._positions(s, self.grids), persistent=False)

    def begin_copies(self, only: Collection[str] | None = None) -> None:
        """Embeddings and heads of modalities that are to begin as copies take the values of the others.

        `only`: those of which some parameter is named here; None: all.
        """
        for name, m in self.modalities.items():
            if m.copy is None:
                continue
            mate = self.modalities[m.copy]
            for kind, ends, other in (("embed", self.embed, mate.embedding), ("head", self.head, mate.head)):
                new = only is None or any(n.startswith(f"{kind}.{key(name)}.") for n in only)
                if key(name) in ends and new:
                    like(ends[key(name)], ends[key(other or m.copy)], back=kind == "head")

    def begin_as(self, filled: Collection[str]) -> None:
        """Hear which parameters a trained network gave their values; what it does not have is new."""
        self.unfilled = frozenset(n for n, p in self.named_parameters() if p.numel() and n not in filled)

    def newcomers(self) -> set[str]:
        """Names of the parameters that belong to modalities which join what is trained already, or to no call, and of
        those that the network it begins as does not have (`begin_as`)."""
        new = {key(n) for n, m in self.modalities.items() if m.joins} | {"auxiliary"}
        return {n for n, _ in self.named_parameters() if n in self.unfilled or new & set(n.split("."))}

    def _learn_places(self) -> None:
        """What is learnt of each place of a stream: `place` (N, D) and `ground` (N, P C), of each modality there, zero
        at the start; `position` (F, N, D), of each token."""
        self.place, self.ground, self.position = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for s in (s for s in self.layout.streams if s.place or s.positions):
            frames, *spatial = self.grids[s.name]
            count = math.prod(spatial)
            if not frames * count:
                raise ValueError(f"stream {s.name!r} learns its places, so its size must be known")
            if s.positions:
                self.position[key(s.name)] = nn.Parameter(0.02 * torch.randn(frames, count, self.width))
            if s.place:
                self.place[key(s.name)] = nn.Parameter(torch.zeros(count, self.width))
                for name in s.of:
                    self.ground[key(name)] = nn.Parameter(torch.zeros(count, self.modalities[name].channels))

    def _positions(self, stream: Stream, grids: Mapping[str, tuple[int, ...]]) -> Tensor:
        """(F * N, 3): where a stream's tokens stand on its token grid grids[stream] (F, *S)."""
        return positions(stream, self.layout, self.modalities, grids, self.per_second)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> WorldModel:
        """Positions are not narrowed with the weights: tokens stand where they stand."""
        before = {n: b for n, b in self._buffers.items() if b is not None}
        super()._apply(fn, recurse)
        wider = {n: b for n, b in before.items() if b.itemsize > self.get_buffer(n).itemsize}
        self._buffers.update({n: b.to(self.get_buffer(n).device) for n, b in wider.items()})
        return self

    @property
    def device(self) -> torch.device:
        return self.registers.device

    @property
    def dtype(self) -> torch.dtype:
        return self.registers.dtype

    @torch.no_grad()
    def encode(self, batch: Batch, dice: Dice | None = None) -> Batch:
        """A raw batch -> the same batch with latents, on the model's device. `dice` draws for sampling codecs.

        Of names that were encoded ahead only what is left to be done is done.
        A model in training mode looks at its views with changing crops and colours, which `dice` draws too.
        """
        batch = self.looked_at(batch.to(self.device), dice if self.training else None)
        values = dict(batch.values)
        for name in (*self.modalities, *self.conditions, *self.auxiliary):
            raw = values.get(name)
            if not isinstance(raw, Tensor):
                continue
            mine = dice and dice.at(batch.rows[name])
            values[name] = encode_signal(self.codec(name), raw, name, mine, name in batch.ahead)
        return Batch(index=batch.index, values=values, rows=batch.rows, valid=batch.valid)

    def looked_at(self, batch: Batch, dice: Dice | None = None) -> Batch:
        """A raw batch with the pictures of its views as the model looks at them; `dice` draws what changes in training.

        Pictures that were looked at already, float in [0, 1], stay as they are. Of names that were encoded ahead the
        numbers of the drawn look are taken.
        """
        values = dict(batch.values)
        for name in batch.ahead:
            values[name] = self._chosen(name, batch.tensor(name).float(), dice and dice.at(batch.rows[name]))
        for name, view in self.views.items():
            if name not in values or name in batch.ahead:  # the former: a part of a batch, asked about by itself
                continue
            pictures = batch.tensor(name)
            values[name] = view(pictures, view.draw(dice.at(batch.rows[name]) if dice else None, pictures, name))
        return replace(batch, values=values)

    def _chosen(self, name: str, ahead: Tensor, dice: Dice | None) -> Tensor:
        """Of numbers (b, V, T, *S, K) for V looks those of the look that dice draw."""
        view = self.views.get(name)
        if view is None:
            return ahead[:, 0]
        wanted = self.modalities[name].shape[1:3]
        high, wide = (size or here for size, here in zip(wanted, ahead.shape[3:5], strict=True))
        return view.chosen(name, ahead, (high, wide), dice)

    def raw_shape(self, name: str) -> tuple[int | None, ...]:
        """Raw (T', *S', C') of a modality or condition as it is given; pictures of a view may be of any size."""
        if name in self.conditions:
            shape = self.conditions[name].shape
        else:
            shape = self.codec(name).raw_shape(self.modalities[name].shape)
        return self.views[name].takes(shape) if name in self.views else shape

    def prepared(self, given: Given) -> Given:
        """Encoded conditions with what the backbone makes of those beside its vectors: computed once for many steps."""
        return replace(given, ahead=self.backbone.ahead(self.conditioner.together(given)))

    def codec(self, name: str):
        """The codec of a modality (its own or the one it shares), condition or auxiliary objective."""
        if name in self.auxiliary:
            return self.auxiliary[name].spec.codec  # type: ignore[union-attr]
        if name in self.conditions:
            return self.conditions[name].codec
        return self.modalities[root(name, self.modalities)].codec

    def forward(
        self,
        x: Mapping[str, Tensor],
        t: Mapping[str, Tensor],
        given: Given | None = None,
        rows: Mapping[str, Tensor] | None = None,
        size: int | None = None,
        memory: Memory | None = None,
        wanted: Collection[str] | None = None,
    ) -> dict[str, Tensor]:
        """x[name] (b, T, *S, C) noisy, t[name] (b, F), rows[name] (b,) of `size` samples -> predictions like x.

        Names missing from x have no tokens. `rows` None: every sample has every name. Only what is `wanted` is
        predicted; None: everything in x. An open `memory` keeps the keys and values of this call; a sealed one puts
        them before those of x, which lacks the streams that it keeps.
        """
        size = size or len(next(iter(x.values())))
        if rows is None:
            rows = {n: torch.arange(len(v), device=v.device) for n, v in x.items()}
        given = given or self.conditioner({}, rows, size)
        near = {n: given.values[m.near][rows[n]] for n, m in self.modalities.items() if m.near and n in x}
        values, x = x, self._seen(x, t, near)

        prefix, prefix_mask = self.prefix(given, size)
        real = all(n in given.whole for n, c in self.conditions.items() if c.route == "tokens")
        if memory is not None and memory.sealed:  # registers and condition tokens are among what it keeps
            prefix, prefix_mask, real = prefix[:, :0], prefix_mask[:, :0], True
        segments = self.segments(x, prefix.shape[1])
        stamps = {n: self.modalities[n].path.stamp(t[n]) for s in segments for n in s.stream.of if n in x}
        vectors = self.modulation(stamps, rows, size, self._global(given, size))
        h = [prefix]
        fine: dict[str, list[Tensor]] = {}
        for stream in (s.stream for s in segments):
            tokens = self._tokens(stream, x, rows, given, size)
            detail = self._detail(stream)
            if detail is not None:
                more, fine[stream.name] = detail.see({n: x[n] for n in stream.of if n in x}, rows, size)
                tokens = tokens + more
            h.append(tokens.flatten(1, 2))
        asked = [s for s in segments if wanted is None or any(n in wanted for n in s.stream.of)]
        tokens = torch.cat(h, 1)
        if torch.is_grad_enabled() and any(not len(v) for v in (*x.values(), *rows.values())):
            tokens = tokens + self.idle()
        y = self.backbone(
            tokens,
            runs(prefix.shape[1], segments, vectors, self.backbone.narrow),
            given.ahead or self.backbone.ahead(self.conditioner.together(given)),
            self._places(prefix, segments),
            mask(self.layout, prefix_mask, segments, rows, size, memory, real),
            contexts(segments, self.conditions, given),
            memory,
            None if wanted is None else [(s.start, s.stop) for s in asked],
        )
        out: dict[str, Tensor] = {}
        at = prefix.shape[1] if wanted is None else 0
        for segment in asked:
            size_here = segment.stop - segment.start
            part = y[:, at : at + size_here].unflatten(1, (segment.grid[0], -1))
            mine = {n: rows[n] for n in segment.stream.of if n in x}
            out |= self._answers(segment, part, fine.get(segment.stream.name), mine, near)
            at += size_here
        # Whatever the weights are, predictions have the dtype of the values, whose times need it.
        return {n: out[n].to(v.dtype) if n in out else v for n, v in values.items() if n in out or wanted is None}

    def prefix(self, given: Given, size: int) -> tuple[Tensor, Tensor]:
        """Registers and conditions on the token route: (B, L0, D) and the mask (B, L0)."""
        parts = [self.registers.expand(size, -1, -1)]
        masks = [torch.ones(parts[0].shape[:2], dtype=torch.bool, device=self.device)]
        for name, c in self.conditions.items():
            if c.route == "tokens":
                parts.append(given.features[name])
                masks.append(given.masks[name])
        return (torch.cat(parts, 1), torch.cat(masks, 1)) if len(parts) > 1 else (parts[0], masks[0])

    def segments(self, x: Mapping[str, Tensor], start: int = 0) -> list[Segment]:
        """Where the tokens of each stream that has any of x[name] (b, T, *S, C) stand, behind `start` others."""
        out: list[Segment] = []
        for stream in self.layout.streams:
            name = next((n for n in stream.of if n in x and len(x[n])), None)
            if name is not None:
                grid = self.modalities[name].sized(x[name].shape[1:]).grid
                out.append(Segment(stream, out[-1].stop if out else start, grid))
        return out

    def _seen(self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], near: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Noisy values x[name] at times t[name] (b, F) as the network is shown them; near[name] (b, 1, *S, C)."""
        return {
            n: v if m.path.spread is None else m.path.seen(v, spread(t[n], v.ndim, m.patch[0]), near.get(n))
            for n, v, m in ((n, v, self.modalities[n]) for n, v in x.items())
        }

    def _answers(
        self,
        segment: Segment,
        h: Tensor,
        fine: list[Tensor] | None,
        rows: Mapping[str, Tensor],
        near: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """What a stream's tokens h (B, F, N, D) say of each modality that it has."""
        out = {}
        for n, mine in rows.items():
            m = self.modalities[n]
            said = self.head[key(m.head or m.share or n)](h if len(mine) == len(h) else h[mine])
            if key(n) in self.ground:
                said = said + self.ground[key(n)]
            out[n] = unpatchify(said, segment.grid, m.patch)
        detail = self._detail(segment.stream)
        if detail is not None and fine is not None:
            more = detail(h, fine, rows, segment.grid)
            out = {n: v + more[n] for n, v in out.items()}
        return {n: self.modalities[n].path.answer(v, near.get(n)) for n, v in out.items()}

    def _detail(self, stream: Stream) -> DetailNet | None:
        """The stream's path at the scale of pixels."""
        net = dict(self.detail.named_children()).get(key(stream.name))
        assert net is None or isinstance(net, DetailNet)
        return net

    def idle(self) -> Tensor:
        """A zero that depends on every parameter, so that each has a gradient on every rank whatever a batch lacks.

        Those of which this process holds a share are the blocks', which see every token anyway.
        """
        return torch.stack([p.sum() for p in self.parameters() if not hasattr(p, "device_mesh")]).sum() * 0.0

    def _global(self, given: Given, size: int) -> Tensor:
        """(B, vector): the sum of all conditions on the global route."""
        parts = [given.features[n] for n, c in self.conditions.items() if c.route == "global"]
        return torch.stack(parts).sum(0) if parts else self.registers.new_zeros(size, self.conditioner.vector)

    def _tokens(
        self, stream: Stream, x: Mapping[str, Tensor], rows: Mapping[str, Tensor], given: Given, size: int
    ) -> Tensor:
        """(B, F, N, D): the sum over the stream's modalities and the conditions fused into it."""
        names = [n for n in stream.of if n in x and len(x[n])]
        for group in stream.exclusive:
            taken = torch.cat([rows[n] for n in group if n in x] or [torch.zeros(0)])
            if taken.is_cpu and len(taken.unique()) < len(taken):
                raise ValueError(
                    f"a sample has more than one of {', '.join(group)}, which share one slot of the layout"
                )
        parts = []
        for n in names:
            m = self.modalities[n]
            numbers = patchify(x[n], m.patch).to(self.registers.dtype)
            tokens = self.embed[key(m.embedding or m.share or n)](numbers)
            if key(n) in self.view:
                tokens = tokens + self.view[key(n)]
            parts.append(scatter(tokens, rows[n], size))
        for learnt in (self.place, self.position):
            if key(stream.name) in learnt:
                parts.append(learnt[key(stream.name)])
        for name, c in self.conditions.items():
            if c.route == f"fuse:{stream.name}":
                fused = given.features[name]  # (B, N, D) for all frames, (B, F * N, D), or a null (B, 1, D)
                frames = parts[0].shape[1] if fused.shape[1] == parts[0].shape[1] * parts[0].shape[2] else 1
                if fused.shape[1] not in (1, parts[0].shape[2], parts[0].shape[1] * parts[0].shape[2]):
                    raise ValueError(
                        f"condition {name!r} has {fused.shape[1]} tokens; stream {stream.name!r}, which it is fused "
                        f"into, has {parts[0].shape[1]} frames of {parts[0].shape[2]}"
                    )
                parts.append(fused.unflatten(1, (frames, -1)))
        return reduce(torch.add, parts)

    def _places(self, prefix: Tensor, segments: list[Segment]) -> Tensor:
        """(L, 3) positions; registers and condition tokens stand at the origin."""
        grids = self.grids | {s.stream.name: s.grid for s in segments}
        if grids == self.grids:
            parts = [self.get_buffer(_place(s.stream)) for s in segments]
        else:
            parts = [self._positions(s.stream, grids).to(prefix.device) for s in segments]
        return torch.cat([torch.zeros(prefix.shape[1], 3, device=prefix.device), *parts])


def _place(stream: Stream) -> str:
    """The name of the buffer that holds a stream's positions."""
    return f"positions/{key(stream.name)}"
