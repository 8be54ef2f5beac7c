"""The one objective: every modality learns what its path asks for, at times that the law draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .auxiliary import compared, net_of, watched
from .batch import Batch
from .dice import Dice
from .modality import Modality, spread, widened
from .model import WorldModel
from .timesteps import Draw, Law, Presence


@dataclass(frozen=True, kw_only=True)
class Annealed:
    """A loss weight that falls from `start` to `end` along half a cosine (constraint annealing).

    It is at `end` at step `steps`, counted from the first step of training; with `hold` it stays at `start` for the
    first so many of them, such as those of the warm-up.
    """

    start: float = 0.2
    end: float = 0.0
    steps: int = 1000
    hold: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.hold < self.steps:
            raise ValueError(f"hold={self.hold} of steps={self.steps}; possible: from 0 to one less than steps")

    def at(self, step: int) -> float:
        share = min(1.0, max(0.0, (step - self.hold) / (self.steps - self.hold)))
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * share)) / 2


def weight_at(weight: object, step: int) -> float:
    """A modality's weight at a step: a number, or a schedule with `at(step)`."""
    return float(weight) if isinstance(weight, int | float) else float(weight.at(step))  # type: ignore[attr-defined]


def loss(
    model: WorldModel,
    batch: Batch,
    law: Law,
    dice: Dice,
    *,
    step: int = 0,
    global_size: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a latent batch (`model.encode`): the weighted total, and each modality's own, all scalars.

    A sample's loss for a modality is the mean over its learnt elements; a modality's loss is their sum divided by
    `global_size` (None: this batch's size), so that the losses of a batch cut any way add up to the whole's. A batch
    without any token has the loss 0, and gradients of 0: other processes may have some, and wait for this one.
    """
    rows, draw, batch = _draw(model, batch, law, dice)
    x_t, t, target, learn = {}, {}, {}, {}
    for name, m in model.modalities.items():
        r, keep = rows[name]
        x = widened(batch.tensor(name)[keep], model.dtype)
        x_t[name], t[name], target[name] = _noised(name, m, x, r, draw, dice)
        learn[name] = draw.learn[name][r]
        if name in batch.valid:
            learn[name] = learn[name] & token_valid(batch.valid[name][keep], m)
    given = model.conditioner(
        {n: batch.values[n] for n in model.conditions if n in batch.values},
        {**batch.rows, **{n: r for n, (r, _) in rows.items()}},
        batch.size,
        {n: draw.drop[n] for n in model.conditions if n in draw.drop},
    )
    shown = {n: r for n, (r, _) in rows.items()}
    bare = not any(map(len, shown.values()))
    if bare:
        name, x_t[name], t[name], shown[name] = _stand_in(model, x_t)
    with watched(model) as seen:
        out = model(x_t, t, given, shown, batch.size)
    if bare:
        out = {n: v[:0] + model.idle() for n, v in out.items()}
    parts = {}
    for name, m in model.modalities.items():
        parts[name] = mean_learnt(out[name], target[name], learn[name], m).sum() / (global_size or batch.size)
    weights = {name: m.weight for name, m in model.modalities.items()}
    for name, tokens in seen.items():
        spec = net_of(model, name).spec
        weights[name] = spec.weight
        parts[name] = compared(model, name, tokens, batch, rows[spec.of][0], x_t, given) / (global_size or batch.size)
    total = sum(weight_at(weight, step) * parts[name] for name, weight in weights.items())
    assert isinstance(total, Tensor)
    return total, parts


def _stand_in(model: WorldModel, x: Mapping[str, Tensor]) -> tuple[str, Tensor, Tensor, Tensor]:
    """(name, x (1, T, *S, C), t (1, F), rows (1,)): what passes through the network where x[name] have no rows."""
    name, m = min(model.modalities.items(), key=lambda item: None in item[1].shape)  # the first whose size is known
    m = m.sized(x[name].shape[1:]) if None in m.shape else m
    value = x[name].new_zeros(1, *(int(n or 0) for n in m.shape))
    return name, value, value.new_ones(1, m.frames), torch.zeros(1, dtype=torch.long, device=value.device)


def mean_learnt(out: Tensor, target: Tensor, learn: Tensor, m: Modality) -> Tensor:
    """(b,): each sample's mean squared error over its learnt frames (b, F); 0 where it learns nothing."""
    mask = spread(learn.float(), target.ndim, m.patch[0]).expand_as(target)
    # A value that is not learnt may be anything, also not finite: it is left out before the square, which has a slope.
    error = torch.where(mask > 0, widened(out) - target, 0.0) ** 2
    return error.flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)


def token_valid(valid: Tensor, m: Modality) -> Tensor:
    """(b, T') validity of data frames -> (b, F): a token frame is valid if all of its data frames are."""
    return torch.stack([valid[:, m.covers(f).start : m.covers(f).stop].all(1) for f in range(m.frames)], 1)


def _draw(
    model: WorldModel, batch: Batch, law: Law, dice: Dice
) -> tuple[dict[str, tuple[Tensor, Tensor]], Draw, Batch]:
    """The law's draw; for each modality (its rows (b',), which of the batch's rows those are (b,) bool); the batch."""
    has = {}
    for name in (*model.modalities, *model.conditions):
        mine = batch.rows[name]
        has[name] = torch.zeros(batch.size, dtype=torch.bool, device=mine.device).index_fill(0, mine, True)
    draw = law(Presence(batch.size, has, model.modalities, model.conditions), dice)
    for name, c in model.conditions.items():
        if c.required:
            draw.drop.pop(name, None)
        elif c.drop:
            hit = dice.uniform(f"drop.{name}") < c.drop
            draw.drop[name] = draw.drop[name] | hit if name in draw.drop else hit
    for name, m in model.modalities.items():
        if m.absent == "noise" and not bool(has[name].all()):
            batch = _filled(batch, name, m)
            late = ~has[name][:, None]
            learn = late & ~draw.drop[name][:, None] if name in draw.drop else late
            draw.t[name], draw.learn[name] = torch.where(late, 1.0, draw.t[name]), draw.learn[name] | learn
    rows = {}
    for name in model.modalities:
        keep = torch.ones_like(batch.rows[name], dtype=torch.bool)
        if name in draw.absent:
            keep = ~draw.absent[name][batch.rows[name]]
        rows[name] = (batch.rows[name][keep], keep)
    return rows, draw, batch


def _filled(batch: Batch, name: str, m: Modality) -> Batch:
    """A batch in which samples that lack a modality have zeros of it."""
    here = batch.tensor(name)
    shape = here.shape[1:] if len(here) else [int(n or 0) for n in m.shape]
    value = here.new_zeros(batch.size, *shape).index_copy(0, batch.rows[name], here)
    every = torch.arange(batch.size, device=here.device)
    valid = dict(batch.valid)
    if name in valid:
        padded = valid[name]
        valid[name] = padded.new_ones(batch.size, *padded.shape[1:]).index_copy(0, batch.rows[name], padded)
    return replace(batch, values={**batch.values, name: value}, rows={**batch.rows, name: every}, valid=valid)


def _noised(name: str, m: Modality, x: Tensor, rows: Tensor, draw: Draw, dice: Dice) -> tuple[Tensor, Tensor, Tensor]:
    """x (b, T, *S, C) -> (x_t, t (b, F), target), with dropped samples replaced by their null."""
    t = widened(draw.t[name][rows], x.dtype)
    eps = dice.at(rows).normal(f"eps.{name}", *x.shape[1:])
    wide = spread(t, x.ndim, m.patch[0])
    x_t, target = m.path.noise(x, eps, wide), m.path.target(x, eps, wide)
    if name in draw.drop:
        drop = draw.drop[name][rows]
        x_t, t = null(m, x_t, t, eps, drop)
    return x_t, t, target


def null(
    m: Modality, x: Tensor, t: Tensor, eps: Tensor, drop: Tensor, fill: str | None = None
) -> tuple[Tensor, Tensor]:
    """x (b, ...) and t (b, F) with the samples drop (b,) replaced by the modality's null, or by `fill`.

    "noise" is noise at the unknown time. The others keep the time that the modality has anyway: "zero" is zeros,
    "mean" what noisy data are on average, and "blank" mean data with their noise: dropped before noising, not after.
    """
    where, fill = drop.view(-1, *[1] * (x.ndim - 1)), fill or m.null
    if fill == "noise":
        return torch.where(where, eps, x), torch.where(drop[:, None], m.path.unknown, t)
    instead = torch.zeros_like(x)
    if fill != "zero":
        wide, mean = spread(t, x.ndim, m.patch[0]), torch.tensor(m.mean or (0.0,)).to(x)
        instead = m.path.alpha(wide) * mean + (m.path.sigma(wide) * eps if fill == "blank" else 0.0)
    return torch.where(where, instead, x), t
