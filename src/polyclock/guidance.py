"""Guidance: (1 + sum w_i) f(full) - sum w_i f(drop_i).

Classifier-free guidance drops text, inner guidance drops flow, multi-source guidance drops each source in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .conditioning import Given, stack
from .errors import unknown
from .model import WorldModel
from .nn.attention import Memory
from .objective import null

Predict = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Given], dict[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Guide:
    """Step away from what the network says when `drop` is unknown to it.

    weight    w in (1 + w) f(full) - w f(drop); diffusers' `guidance_scale` is 1 + w
    drop      modalities and conditions replaced by their null (never made absent)
    scope     modalities that are guided; None: all but those dropped with null noise, which are never guided
    interval  (low, high): it acts while the largest time of what is wanted lies in low <= t <= high
    fill      what dropped modalities look like: "noise", "zero"; None: their own null
    """

    weight: float
    drop: frozenset[str] | set[str] | tuple[str, ...]
    scope: frozenset[str] | set[str] | tuple[str, ...] | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    fill: str | None = None

    def check(self, model: WorldModel) -> None:
        """Errors: an unknown name, nothing dropped, a required condition dropped, an empty interval."""
        for name in (*self.drop, *(self.scope or ())):
            if name not in model.modalities and name not in model.conditions:
                raise unknown("name in a Guide", name, [*model.modalities, *model.conditions])
        if not self.drop:
            raise ValueError("a Guide drops nothing; name at least one modality or condition")
        if self.fill not in (None, "noise", "zero"):
            raise unknown("fill of a Guide", self.fill, ["noise", "zero"])
        if not 0 <= self.interval[0] <= self.interval[1] <= 1:
            raise ValueError(f"interval {self.interval} of a Guide must be (low, high) within [0, 1]")

    def guides(self, name: str, model: WorldModel) -> bool:
        """Whether this guide changes the prediction of a modality."""
        if name in self.drop and (self.fill or model.modalities[name].null) == "noise":
            return False
        return self.scope is None or name in self.scope

    def acts(self, time: float) -> bool:
        return self.weight != 0 and self.interval[0] <= time <= self.interval[1]


def guided(
    model: WorldModel,
    x: Mapping[str, Tensor],
    t: Mapping[str, Tensor],
    given: Given,
    guides: Sequence[Guide],
    eps: Mapping[str, Tensor],
    time: float,
    batch: int = 1,
    memory: Memory | None = None,
) -> dict[str, Tensor]:
    """Predictions like x under all guides that act at `time`.

    x[name] (B, T, *S, C), t[name] (B, F). `eps` holds the noise for nulls, drawn before the loop. Branches are
    stacked `batch` at a time; a guide that does not act costs nothing. `memory` is for calls without guides.
    """
    active = [g for g in guides if g.acts(time)]
    if not active:
        return model(x, t, given, memory=memory)
    assert memory is None, "a guide changes what a memory keeps"
    branches = [(dict(x), dict(t), given)] + [_dropped(model, x, t, given, g, eps) for g in active]
    outs: list[dict[str, Tensor]] = []
    for i in range(0, len(branches), max(1, batch)):
        outs += _stacked(model, branches[i : i + max(1, batch)])
    full = outs[0]
    result = dict(full)
    for g, dropped in zip(active, outs[1:], strict=True):
        for name in result:
            if g.guides(name, model):
                result[name] = result[name] + g.weight * (full[name] - dropped[name])
    return result


Branch = tuple[dict[str, Tensor], dict[str, Tensor], Given]


def _dropped(
    model: WorldModel,
    x: Mapping[str, Tensor],
    t: Mapping[str, Tensor],
    given: Given,
    guide: Guide,
    eps: Mapping[str, Tensor],
) -> Branch:
    x_d, t_d = dict(x), dict(t)
    for name in guide.drop:
        if name not in x:
            continue
        m = model.modalities[name]
        everyone = torch.ones(len(x[name]), dtype=torch.bool, device=x[name].device)
        if guide.fill is None or guide.fill == m.null:
            x_d[name], t_d[name] = null(m, x[name], t[name], eps[name], everyone)
        elif guide.fill == "zero":
            x_d[name] = torch.zeros_like(x[name])
        else:
            x_d[name], t_d[name] = eps[name], torch.full_like(t[name], m.path.unknown)
    return x_d, t_d, model.conditioner.without(given, [n for n in guide.drop if n in model.conditions])


def _stacked(model: WorldModel, branches: Sequence[Branch]) -> list[dict[str, Tensor]]:
    if len(branches) == 1:
        return [model(*branches[0])]
    x = {n: torch.cat([b[0][n] for b in branches]) for n in branches[0][0]}
    t = {n: torch.cat([b[1][n] for b in branches]) for n in branches[0][1]}
    out = model(x, t, stack([b[2] for b in branches]))
    pieces = {n: v.chunk(len(branches)) for n, v in out.items()}
    return [{n: p[i] for n, p in pieces.items()} for i in range(len(branches))]
