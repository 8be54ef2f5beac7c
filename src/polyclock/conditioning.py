"""Conditions inside the network: encoders, projections and nulls, and what they look like once encoded."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from .errors import unknown
from .modality import Condition
from .nn.embed import scatter
from .nn.modulation import key


@dataclass(frozen=True)
class Given:
    """Encoded conditions of B samples, nulls in place: computed once, used at every solver step.

    features[name] (B, vector) for the global route, (B, W) for "beside", (B, L, D) for the others; masks[name] (B, L),
    True for real tokens. `ahead` is what the backbone makes of the features beside its vectors, where that was computed
    once for a whole call (`WorldModel.prepared`); else empty. values[name] (B, 1, *S, C) are those of conditions that
    a modality is near to. `whole` names those whose mask is True everywhere: it is looked at once, as a GPU has to be
    waited for.
    """

    features: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    ahead: tuple[Tensor | None, ...] = ()
    values: dict[str, Tensor] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()


def filled(prompt: str, own: str | None) -> str:
    """A prompt with a sample's own text, if any, in place of what stands in braces: "masks of {all objects}"."""
    return re.sub(r"\{([^{}]*)\}", lambda found: own or found[1], prompt)


class Conditioner(nn.Module):
    """Encodes conditions and knows their nulls: (D,) as tokens, (vector,) on the global route, (W,) beside.

    The values of those in `kept`, which are required, are passed on as they are.
    """

    def __init__(self, conditions: Mapping[str, Condition], dim: int, vector: int, kept: Collection[str] = ()) -> None:
        super().__init__()
        self.conditions, self.vector, self.kept = dict(conditions), vector, tuple(kept)
        self.encoder, self.project = nn.ModuleDict(), nn.ModuleDict()
        self.null = nn.ParameterDict()
        self.width: dict[str, int] = {}  # numbers of a feature
        for name, c in conditions.items():
            mate = _mate(name, conditions)
            if c.share is None:
                self.encoder[key(name)] = c.encoder.build(c.shape)
            read = getattr(self.encoder[key(mate)], "width", None) or c.encoder.width
            if c.route in ("global", "beside"):
                length = getattr(self.encoder[key(mate)], "length", None)
                if length is None:
                    raise ValueError(
                        f"condition {name!r} takes the route {c.route!r}, so its encoder must have a fixed length"
                    )
                read *= length
            self.width[name] = {"global": vector, "beside": read}.get(c.route, dim)
            if c.share is None and c.route != "beside":
                self.project[key(name)] = c.adapter.enter(read, self.width[name])
            if not c.required and c.null == "learnt":
                self.null[key(name)] = nn.Parameter(0.02 * torch.randn(self.width[name]))

    @property
    def beside(self) -> int:
        """Numbers that stand beside every modulation vector."""
        return sum(self.width[n] for n, c in self.conditions.items() if c.route == "beside")

    def together(self, given: Given) -> Tensor | None:
        """(B, beside): all of these, in the recipe's order; None where there are none."""
        parts = [given.features[n] for n, c in self.conditions.items() if c.route == "beside"]
        return torch.cat(parts, -1) if parts else None

    def forward(
        self,
        values: Mapping[str, Tensor | list[str]],
        rows: Mapping[str, Tensor],
        size: int,
        drop: Mapping[str, Tensor] | None = None,
    ) -> Given:
        """values[name] of the samples rows[name] (b,) -> `Given` for all B; drop[name] (B,) True: its null.

        rows[modality] says which samples have tokens of it, for prompts.
        Errors: a required condition that some sample lacks, an unknown name.
        """
        for name in values:
            if name not in self.conditions:
                raise unknown("condition", name, self.conditions)
        features, masks = {}, {}
        values, rows = self._prompted(values, rows, size)
        read = self._read(values)
        some = next(self.parameters(), next(iter(rows.values()), torch.zeros(0)))  # numbers alone have no parameters
        device = some.device
        for name, c in self.conditions.items():
            have = rows.get(name, torch.zeros(0, dtype=torch.long, device=device))
            lacking = torch.ones(size, dtype=torch.bool, device=device).index_fill(0, have, False)
            if c.required and lacking.any():
                raise ValueError(f"condition {name!r} is required, but {int(lacking.sum())} of {size} samples lack it")
            if drop and name in drop:
                lacking = lacking | drop[name].to(device)
            feature, mask = self._encode(name, c, read.get(name), have, size)
            features[name], masks[name] = self._with_null(name, feature, mask, lacking)
        kept = {n: v for n, v in values.items() if n in self.kept and isinstance(v, Tensor)}
        near = {n: scatter(v, rows[n], size) for n, v in kept.items()}
        return Given(features, masks, values=near, whole=self._whole(masks))

    def _whole(self, masks: Mapping[str, Tensor]) -> frozenset[str]:
        """The names of masks (b, L) that are True everywhere, of those that are looked at."""
        looked = [n for n in masks if self.conditions[n].route in ("context", "tokens")]
        every = torch.stack([masks[n].all() for n in looked]).tolist() if looked else []
        return frozenset(n for n, true in zip(looked, every, strict=True) if true)

    def _prompted(
        self, values: Mapping[str, Tensor | list[str]], rows: Mapping[str, Tensor], size: int
    ) -> tuple[dict[str, Tensor | list[str]], dict[str, Tensor]]:
        """Values and rows in which conditions with prompts say these of the modalities that each sample has."""
        values, rows = dict(values), dict(rows)
        for name, c in ((n, c) for n, c in self.conditions.items() if c.prompts):
            own = dict(zip(rows[name].tolist(), values[name], strict=True)) if name in values else {}
            said: dict[int, list[str]] = {j: [] for j in range(size)}
            for modality in (m for m in c.prompts if m in rows):
                for j in rows[modality].tolist():
                    said[j].append(filled(c.prompts[modality], own.get(j)))
            texts = {j: ", ".join(parts) or own[j] for j, parts in said.items() if parts or j in own}
            device = next(self.parameters()).device
            values[name], rows[name] = list(texts.values()), torch.tensor(list(texts), dtype=torch.long, device=device)
        return values, rows

    def _read(self, values: Mapping[str, Tensor | list[str]]) -> dict[str, tuple[Tensor, Tensor]]:
        """Features (b, L, W) and masks (b, L) of each name, as its encoder gives them.

        Cameras that share one are read by it in one go where their pictures are of one size.
        """
        groups: dict[tuple, dict[str, Tensor | list[str]]] = {}
        for name, value in values.items():
            alike = tuple(value.shape[1:]) if isinstance(value, Tensor) else name
            groups.setdefault((self.conditions[name].share or name, alike), {})[name] = value
        out: dict[str, tuple[Tensor, Tensor]] = {}
        for (mate, _), members in groups.items():
            tensors = [v for v in members.values() if isinstance(v, Tensor)]
            whole = torch.cat(tensors) if len(tensors) > 1 else next(iter(members.values()))
            once = whole if isinstance(whole, Tensor) else list(dict.fromkeys(whole))
            found = self.encoder[key(mate)](once)
            feature, mask = found if isinstance(found, tuple) else (found, None)
            if not isinstance(once, Tensor) and len(once) < len(whole):  # texts that say the same are read once
                again = torch.tensor([once.index(text) for text in whole], device=feature.device)
                feature, mask = feature[again], None if mask is None else mask[again]
            if mask is None:
                mask = torch.ones(feature.shape[:2], dtype=torch.bool, device=feature.device)
            sizes = [len(v) for v in members.values()]
            out |= dict(zip(members, zip(feature.split(sizes), mask.split(sizes), strict=True), strict=True))
        return out

    def _encode(
        self, name: str, c: Condition, read: tuple[Tensor, Tensor] | None, rows: Tensor, size: int
    ) -> tuple[Tensor, Tensor]:
        """(B, D) or (B, L, D), and the mask (B, L), of what the samples `rows` have; `read` None: nobody has it."""
        flat, mate = c.route in ("global", "beside"), key(c.share or name)
        if read is None:
            nets = [net[mate] for net in (self.project, self.encoder) if mate in net]
            some = next((p for net in nets for p in net.parameters()), torch.zeros(0, device=rows.device))
            zeros = some.new_zeros(size, self.width[name])
            zeros = zeros if flat else zeros[:, None]
            return zeros, torch.ones(size, 1, dtype=torch.bool, device=zeros.device)
        feature, mask = read
        feature = feature.flatten(1) if flat else feature
        if c.route != "beside":
            feature = self.project[mate](feature.to(next(self.project[mate].parameters()).dtype))
        return scatter(feature, rows, size), scatter(mask, rows, size)

    def _with_null(self, name: str, feature: Tensor, mask: Tensor, lacking: Tensor) -> tuple[Tensor, Tensor]:
        if self.conditions[name].null == "empty":
            return self._with_empty(name, feature, mask, lacking) if lacking.any() else (feature, mask)
        if key(name) not in self.null:
            return feature, mask
        where = lacking.view(-1, *[1] * (feature.ndim - 1))
        feature = torch.where(where, self.null[key(name)].to(feature.dtype), feature)
        first = torch.zeros_like(mask)
        first[:, 0] = True
        return feature, torch.where(lacking[:, None], first, mask)

    def _with_empty(self, name: str, feature: Tensor, mask: Tensor, lacking: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder says of the empty text, where a sample lacks one; the shorter of the two is filled up."""
        empty, real = self.said(name, [""])
        (feature, empty), (mask, real) = _alike([feature, empty], [mask, real])
        where = lacking.view(-1, *[1] * (feature.ndim - 1))
        return torch.where(where, empty.to(feature.dtype), feature), torch.where(lacking[:, None], real, mask)

    def said(self, name: str, value: Tensor | list[str]) -> tuple[Tensor, Tensor]:
        """What `given` holds of a condition and its mask (b, L), for values of b samples."""
        row = torch.arange(len(value), device=next(self.parameters()).device)
        return self._encode(name, self.conditions[name], self._read({name: value})[name], row, len(value))

    def without(
        self, given: Given, names: Collection[str], instead: Mapping[str, tuple[Tensor, Tensor]] | None = None
    ) -> Given:
        """`given` with the named conditions replaced by their nulls, or by what stands `instead` (see `said`), of one
        sample or of all. Errors: a required one without another value."""
        features, masks = dict(given.features), dict(given.masks)
        for name in names:
            if instead and name in instead:
                features[name], masks[name] = (v.expand(len(features[name]), *v.shape[1:]) for v in instead[name])
                continue
            if self.conditions[name].required:
                raise ValueError(f"condition {name!r} is required and has no null to be dropped to")
            every = torch.ones(len(features[name]), dtype=torch.bool, device=features[name].device)
            features[name], masks[name] = self._with_null(name, features[name], masks[name], every)
        whole = given.whole - set(names) | self._whole({n: masks[n] for n in names})
        return replace(given, features=features, masks=masks, ahead=(), whole=whole)


def _mate(name: str, conditions: Mapping[str, Condition]) -> str:
    """The condition whose encoder `name` uses. Errors: it does not come first, or reads something else."""
    mate = conditions[name].share
    if mate is None:
        return name
    before = list(conditions)[: list(conditions).index(name)]
    if mate not in before or conditions[mate].share:
        raise unknown(f"condition, named before {name!r}, that it shares with", mate, before)
    a, b = conditions[name], conditions[mate]
    if (a.encoder, a.route, a.shape, a.adapter) != (b.encoder, b.route, b.shape, b.adapter):
        raise ValueError(f"{name!r} shares with {mate!r}, but they differ in encoder, route, shape or adapter")
    return mate


def _alike(features: list[Tensor], masks: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Features (B, L, D) and masks (B, L) filled up to the longest of them; features (B, D) have no length."""
    longest = max(m.shape[1] for m in masks)
    if features[0].ndim == 3 and any(m.shape[1] < longest for m in masks):
        features = [nn.functional.pad(f, (0, 0, 0, longest - f.shape[1])) for f in features]
        masks = [nn.functional.pad(m, (0, longest - m.shape[1])) for m in masks]
    return features, masks


def stack(givens: list[Given]) -> Given:
    """Several encoded batches as one, along B."""
    features, masks = {}, {}
    for n in givens[0].features:
        parts = _alike([g.features[n] for g in givens], [g.masks[n] for g in givens])
        features[n], masks[n] = (torch.cat(part) for part in parts)
    ahead = zip(*(g.ahead for g in givens), strict=True) if all(g.ahead for g in givens) else ()
    values = {n: torch.cat([g.values[n] for g in givens]) for n in givens[0].values}
    together = tuple(None if part[0] is None else torch.cat(part) for part in ahead)
    whole = frozenset.intersection(*(g.whole for g in givens))
    even = {n for n in whole if len({g.masks[n].shape[1] for g in givens}) == 1}  # others were filled up
    return Given(features, masks, together, values, frozenset(even))
