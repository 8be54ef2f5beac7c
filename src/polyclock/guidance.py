"""Guidance: predictions changed while sampling, away from what is said when something is withheld (`Guide`), or
towards values that are nearly known (`Pull`).

Guides add up: (1 + sum w_i) f(full) - sum w_i f(drop_i). Classifier-free guidance drops text, inner guidance drops
flow, multi-source guidance drops each source in turn. A pull acts on what they make of the prediction, last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .conditioning import Given, stack
from .dice import Dice
from .errors import unknown
from .intake import condition_of, latent_of
from .modality import NULLS, spread
from .model import WorldModel
from .nn.attention import Memory
from .objective import null
from .query import Role, Roles


@dataclass(frozen=True, kw_only=True)
class Guide:
    """Step away from what the network says when `drop` is unknown to it.

    weight    w in (1 + w) f(full) - w f(drop); diffusers' `guidance_scale` is 1 + w
    drop      modalities and conditions replaced by their null (never made absent)
    scope     modalities whose predictions are guided, such as {"action"}; None: all but those dropped for new noise,
              which are never guided
    interval  (low, high): it acts while the largest time of what is wanted lies in low <= t <= high
    fill      what dropped modalities look like: one of `NULLS`; None: their own null
    instead   what is said in place of the null of a condition that is dropped: a text, such as a negative prompt, or
              raw values (1, ...)
    every     look anew at every so many evaluations; in between it adds f(full) - f(drop) of the last time, and costs
              nothing
    """

    weight: float
    drop: frozenset[str] | set[str] | tuple[str, ...]
    scope: frozenset[str] | set[str] | tuple[str, ...] | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    fill: str | None = None
    instead: Mapping[str, Any] = field(default_factory=dict)
    every: int = 1

    def check(self, model: WorldModel) -> None:
        """Errors: an unknown name, nothing dropped, a required condition dropped for nothing, something said in place
        of what is not dropped, an empty interval, less than one evaluation."""
        for name in self.drop:
            if name not in model.modalities and name not in model.conditions:
                raise unknown("name in a Guide", name, [*model.modalities, *model.conditions])
            needed = name in model.conditions and model.conditions[name].required
            if needed and name not in self.instead:
                raise ValueError(f"a Guide drops {name!r}, which is required: the model has no null for it")
        for name in self.scope or ():
            if name not in model.modalities:
                raise unknown("modality in the scope of a Guide", name, model.modalities)
        if not self.drop:
            raise ValueError("a Guide drops nothing; name at least one modality or condition")
        for name in self.instead:
            if name not in self.drop or name not in model.conditions:
                raise unknown("condition that a Guide drops", name, set(self.drop) & set(model.conditions))
        if self.fill is not None and self.fill not in NULLS:
            raise unknown("fill of a Guide", self.fill, NULLS)
        if self.every < 1:
            raise ValueError(f"every={self.every} evaluations of a Guide; at least 1 is possible")
        check_interval("Guide", self.interval)

    def guides(self, name: str, model: WorldModel) -> bool:
        """Whether this guide changes the prediction of a modality."""
        if name in self.drop and (self.fill or model.modalities[name].null) in ("noise", "blank"):
            return False
        return self.scope is None or name in self.scope

    def check_told(self, roles: Roles, conditions: Collection[str]) -> None:
        """Errors: ValueError where a question's roles, and the conditions that it is told, hold nothing to withhold."""
        told = {n for n, frames in roles.items() if set(frames) & {Role.WANT, Role.GIVEN}} | set(conditions)
        if not told & set(self.drop):
            raise ValueError(
                f"a Guide drops {', '.join(sorted(self.drop))}, of which the question says nothing: it would have no "
                f"effect; possible: {', '.join(sorted(told))}"
            )

    def acts(self, time: float) -> bool:
        return self.weight != 0 and self.interval[0] <= time <= self.interval[1]

    def encoded(self, model: WorldModel, dice: Dice) -> Guide:
        """The same with what is said instead as the conditioner makes it of one sample's value."""
        told = {n: [v] if isinstance(v, str) else v for n, v in self.instead.items()}
        said = {n: model.conditioner.said(n, condition_of(model, n, v, dice)) for n, v in told.items()}
        return replace(self, instead=said)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pull:
    """Draw what is wanted of a modality towards values that are nearly known, each frame as firmly as its weight says.

    Where a query can only say that a frame is given or not, this is the soft mask in between: the vector-Jacobian
    product of the clean estimate and its weighted distance from the values is added to the prediction (guidance by
    pseudo-inverse, Song et al. 2023; of chunks of actions Black et al. 2025, arXiv 2506.07339). What
    else is wanted follows by what the network sees of it.

    of        the modality
    towards   (B or 1, T', *S', C') raw values as `sample` takes given ones; what has weight 0 is not looked at
    weights   (T,) one for each latent frame, 0 (free) to 1 (known); `fading` has the published ones
    limit     of the strength of a pull (beta of the paper): what keeps few solver steps stable
    interval  (low, high): it acts while the largest time of what is wanted lies in low <= t <= high
    """

    of: str
    towards: Tensor
    weights: Tensor
    limit: float = 5.0
    interval: tuple[float, float] = (0.0, 1.0)

    def check(self, model: WorldModel) -> None:
        """Errors: an unknown modality, weights outside [0, 1] or not one a frame, an empty interval, no strength."""
        if self.of not in model.modalities:
            raise unknown("modality in a Pull", self.of, model.modalities)
        frames = model.modalities[self.of].shape[0]
        if self.weights.shape != (frames,) or not bool(((self.weights >= 0) & (self.weights <= 1)).all()):
            raise ValueError(
                f"a Pull of {self.of!r} has the weights {self.weights.tolist()}; it needs {frames} numbers from 0 to 1"
            )
        if not self.limit > 0:
            raise ValueError(f"limit={self.limit} of a Pull must be above 0")
        check_interval("Pull", self.interval)

    def acts(self, time: float) -> bool:
        return bool(self.weights.any()) and self.interval[0] <= time <= self.interval[1]

    def encoded(self, model: WorldModel, roles: Roles, dice: Dice, *, latent: bool) -> Pull:
        """The same with latents (B or 1, T, *S, C). Errors: a weight on a frame that is not wanted; another shape."""
        m = model.modalities[self.of]
        for f, role in enumerate(roles[self.of]):
            if role is not Role.WANT and bool(self.weights[f * m.patch[0] : (f + 1) * m.patch[0]].any()):
                raise ValueError(f"a Pull has no effect on frame {f} of {self.of!r}, which is {role} and not wanted")
        if len(self.towards) not in (1, dice.size):
            raise ValueError(f"a Pull of {self.of!r} has values of {len(self.towards)} samples; there are {dice.size}")
        known = (Role.GIVEN,) * m.frames
        value = latent_of(model, self.of, m, known, self.towards.to(model.device), dice, latent)
        return replace(self, towards=value, weights=self.weights.to(value))


def check_interval(what: str, interval: tuple[float, float]) -> None:
    """Errors: ValueError for an interval of times that is empty or leaves [0, 1]."""
    if not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError(f"interval {interval} of a {what} must be (low, high) within [0, 1]")


def fading(frames: int, held: int, new: int) -> Tensor:
    """(frames,) weights of a `Pull` towards an answer that was given `new` frames ago.

    The first `held`, which are carried out while the model thinks, have 1; the last `new`, of which that answer says
    nothing, have 0; between them c (e^c - 1) / (e - 1) falls, with c evenly spaced (Black et al. 2025).
    Errors: ValueError where held + new exceeds frames.
    """
    if held < 0 or new < 0 or held + new > frames:
        raise ValueError(f"{held} held and {new} new of {frames} frames; possible: together at most {frames}")
    c = (frames - new - torch.arange(frames)) / (frames - new - held + 1)
    weights = c * torch.expm1(c) / (math.e - 1)
    weights[:held], weights[frames - new :] = 1.0, 0.0
    return weights


def ready(
    guides: Sequence[Guide | Pull],
    model: WorldModel,
    roles: Roles,
    conditions: Collection[str],
    dice: Dice,
    *,
    latent: bool,
) -> list[Guide | Pull]:
    """Guides as `Guided` takes them, for a question of these roles that is told these conditions: checked, and values
    that pull as latents."""
    done: list[Guide | Pull] = []
    for g in guides:
        g.check(model)
        if isinstance(g, Guide):
            g.check_told(roles, conditions)
        done.append(g.encoded(model, roles, dice, latent=latent) if isinstance(g, Pull) else g.encoded(model, dice))
    return done


@contextmanager
def with_slopes(model: WorldModel, guides: Sequence[Guide | Pull]) -> Iterator[Callable[[Any], Any]]:
    """Where a `Pull` can have its slopes: outside torch.inference_mode, also where a caller is inside.

    Yields what makes of a Pull, or of values by name, the same without tensors of that mode, for which there are none.
    Errors: ValueError for weights that are such.
    """
    if not any(isinstance(g, Pull) for g in guides):
        yield lambda value: value
        return
    if any(p.is_inference() for p in model.parameters()):
        raise ValueError("a Pull needs slopes, and this model was made in torch.inference_mode; make it outside")

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone() if value.is_inference() else value
        if isinstance(value, Pull):
            return replace(value, towards=plain(value.towards), weights=plain(value.weights))
        if isinstance(value, Guide):
            return replace(value, instead=plain(value.instead))
        return {n: plain(v) for n, v in value.items()} if isinstance(value, Mapping) else value

    with torch.inference_mode(False), torch.no_grad():
        yield plain


Values = Mapping[str, Tensor]
FULL = -1  # the branch in which nothing is dropped; the others are called by the places of their guides


@dataclass
class Guided:
    """What a model predicts under guides, for the evaluations of one call.

    given   encoded conditions
    eps     noise for nulls, drawn before the loop, by modality
    batch   branches that pass through the network together
    wanted  names that are predicted; None: everything
    still   x[name] (B, T, *S, C) and t[name] (B, F) of streams that the whole call leaves as they are. What is called
            lacks these: each branch has keys and values of its own of them, which are worked out once
    """

    model: WorldModel
    given: Given
    guides: Sequence[Guide | Pull] = ()
    eps: Values = field(default_factory=dict)
    batch: int = 1
    wanted: Collection[str] | None = None
    still: tuple[Values, Values] = ({}, {})
    # What each guide last found, f(full) - f(drop) by its place, and how many evaluations ago.
    _found: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    _age: dict[int, int] = field(default_factory=dict)
    # By the branches that pass together: conditions without what each drops, and what stays the same.
    _told: dict[tuple[int, ...], Given] = field(default_factory=dict)
    _kept: dict[tuple[int, ...], Memory] = field(default_factory=dict)

    def __call__(self, x: Values, t: Values, time: float) -> dict[str, Tensor]:
        """x[name] (B, T, *S, C), t[name] (B, F) -> predictions like x under all that acts at `time`.

        A guide that does not act costs nothing.
        """
        active = self._next(time)
        pulls = [g for g in self.guides if isinstance(g, Pull) and g.acts(time)]

        def predict(values: Values) -> dict[str, Tensor]:
            return self._compared(values, t, active)

        return _pulled(self.model, x, t, pulls, predict) if pulls else predict(x)

    def _next(self, time: float) -> dict[int, Guide]:
        """One more evaluation, at `time`: the guides that act, of which those that found nothing lately look anew."""
        active = {i: g for i, g in enumerate(self.guides) if isinstance(g, Guide) and g.acts(time)}
        for i in list(self._found):
            self._age[i] += 1
            if i not in active or self._age[i] >= active[i].every:
                del self._found[i]
        return active

    def _compared(self, x: Values, t: Values, active: Mapping[int, Guide]) -> dict[str, Tensor]:
        """(1 + sum w_i) f(full) - sum w_i f(drop_i)."""
        due = [i for i in active if i not in self._found]
        branches, size = [FULL, *due], max(1, self.batch)
        groups = [tuple(branches[k : k + size]) for k in range(0, len(branches), size)]
        full, *others = [out for group in groups for out in self._passed(group, x, t)]
        for i, dropped in zip(due, others, strict=True):
            guided = [n for n in full if active[i].guides(n, self.model)]
            self._found[i], self._age[i] = {n: full[n] - dropped[n] for n in guided}, 0
        result = dict(full)
        for i, g in active.items():
            for name, difference in self._found[i].items():
                result[name] = result[name] + g.weight * difference
        return result

    def _passed(self, group: tuple[int, ...], x: Values, t: Values) -> list[dict[str, Tensor]]:
        """What the network says in each branch of a group."""
        memory = self._memory(group)
        out = self.model(*self._shown(group, x, t), self._said(group), memory=memory, wanted=self.wanted)
        pieces = {n: v.chunk(len(group)) for n, v in out.items()}
        return [{n: p[k] for n, p in pieces.items()} for k in range(len(group))]

    def _memory(self, group: tuple[int, ...]) -> Memory | None:
        """Keys and values of what the call leaves as it is, as each branch of a group has them."""
        if not self.still[0]:
            return None
        if group not in self._kept:
            memory = Memory()
            with torch.no_grad():
                self.model(*self._shown(group, *self.still), self._said(group), memory=memory)
            memory.sealed = True
            self._kept[group] = memory
        return self._kept[group]

    def _shown(self, group: tuple[int, ...], x: Values, t: Values) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Values and times as each branch of a group is shown them, along B."""
        each = [(dict(x), dict(t)) if i == FULL else self._without(self._guide(i), x, t) for i in group]
        if len(each) == 1:
            return each[0]
        xs, ts = ([branch[k] for branch in each] for k in (0, 1))
        return {n: torch.cat([v[n] for v in xs]) for n in x}, {n: torch.cat([v[n] for v in ts]) for n in x}

    def _without(self, guide: Guide, x: Values, t: Values) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        x_d, t_d = dict(x), dict(t)
        for name in (n for n in guide.drop if n in x):
            everyone = torch.ones(len(x[name]), dtype=torch.bool, device=x[name].device)
            m = self.model.modalities[name]
            x_d[name], t_d[name] = null(m, x[name], t[name], self.eps[name], everyone, guide.fill)
        return x_d, t_d

    def _said(self, group: tuple[int, ...]) -> Given:
        """The conditions as each branch of a group is told them, along B."""
        if group == (FULL,):
            return self.given
        if group not in self._told:
            with torch.no_grad():
                self._told[group] = (
                    stack([self._said((i,)) for i in group]) if len(group) > 1 else self._lacking(group[0])
                )
        return self._told[group]

    def _lacking(self, place: int) -> Given:
        guide, conditions = self._guide(place), self.model.conditions
        names = [n for n in guide.drop if n in conditions]
        return self.model.prepared(self.model.conditioner.without(self.given, names, guide.instead))

    def _guide(self, place: int) -> Guide:
        guide = self.guides[place]
        assert isinstance(guide, Guide)
        return guide


def _pulled(
    model: WorldModel,
    x: Mapping[str, Tensor],
    t: Mapping[str, Tensor],
    pulls: Sequence[Pull],
    predict: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Predictions moved towards what pulls.

    The paper's step on the straight path, v + min(beta, (s^2 + a^2) / (s a)) J^T W (Y - X) with a, s the shares of data
    and noise and X the clean estimate, moves X by s and the noise by -a times that; so does it on any other path, since
    each is the straight one in other units.
    """
    with torch.enable_grad():
        leaves = {g.of: x[g.of].detach().requires_grad_() for g in pulls}
        out = predict({**x, **leaves})
        clean, wide = {}, {}
        for name, leaf in leaves.items():
            m = model.modalities[name]
            wide[name] = spread(t[name], leaf.ndim, m.patch[0])
            # Where the estimate is clipped it says which way to go all the same.
            clean[name] = replace(m.path, clip=None).split(out[name], leaf, wide[name])[0]
    moved = {n: v.detach() for n, v in out.items()}
    for g in pulls:
        path, leaf, estimate = model.modalities[g.of].path, leaves[g.of], clean[g.of].detach()
        if path.clip is not None:
            estimate = estimate.clamp(-path.clip, path.clip)
        weights = g.weights.view(1, -1, *[1] * (leaf.ndim - 2))
        error = torch.where(weights > 0, weights * (g.towards - estimate), 0.0)
        (slope,) = torch.autograd.grad(clean[g.of], leaf, error, retain_graph=g is not pulls[-1])
        a, s = path.alpha(wide[g.of]), path.sigma(wide[g.of])
        push = ((a**2 + s**2) / (a * s).clamp_min(1e-12)).clamp(max=g.limit) * slope
        moved[g.of] = moved[g.of] + path.target(s * push, -a * push, wide[g.of])
    return moved
