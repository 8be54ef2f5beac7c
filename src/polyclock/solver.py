"""Solvers walk a schedule's rows with the path's step rule; `sample` asks a query of a model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from .conditioning import Given
from .dice import Dice
from .errors import unknown
from .guidance import Guide, Guided, Pull, ready, with_slopes
from .intake import fill_given, in_frames
from .modality import Modality, spread, widened
from .model import WorldModel
from .nn.modulation import one_time
from .objective import null
from .path import Discrete
from .query import Query, Role, Roles
from .schedule import Row, Schedule, Together
from .timesteps import follows_clock

Predict = Callable[[Mapping[str, Tensor], Row], dict[str, Tensor]]


class Solver(Protocol):
    """One move of everything wanted from one row of times to the next."""

    def move(
        self, x: dict[str, Tensor], now: Row, then: Row, predict: Predict, modalities: Mapping[str, Modality]
    ) -> dict[str, Tensor]:
        """x[name] (B, T, *S, C); now and then: name -> (F,). Returns the moved values of names that move."""
        ...


def _wide(row: Tensor, x: Tensor, m: Modality) -> Tensor:
    return spread(row.to(x.device)[None], x.ndim, m.patch[0])


def _movers(now: Row, then: Row) -> list[str]:
    return [n for n in now if not torch.equal(now[n], then[n])]


class Euler:
    """One evaluation per row: Euler on a straight path, DDIM on a variance-preserving one."""

    def move(
        self, x: dict[str, Tensor], now: Row, then: Row, predict: Predict, modalities: Mapping[str, Modality]
    ) -> dict[str, Tensor]:
        out = predict(x, now)
        moved = {}
        for n in _movers(now, then):
            m = modalities[n]
            moved[n] = m.path.move(out[n], x[n], _wide(now[n], x[n], m), _wide(then[n], x[n], m))
        return moved


class Heun:
    """Two evaluations per row: the mean of the velocities at both ends (Karras et al. 2022, algorithm 1).

    Frames that arrive at 0 take the Euler step, as there is no noise left there to estimate a velocity from.
    Errors: a path without a derivative.
    """

    def move(
        self, x: dict[str, Tensor], now: Row, then: Row, predict: Predict, modalities: Mapping[str, Modality]
    ) -> dict[str, Tensor]:
        names = _movers(now, then)
        for n in names:
            if isinstance(modalities[n].path, Discrete):
                raise ValueError(f"Heun needs a derivative in t, which the discrete path of {n!r} has not; use Euler()")
        first = predict(x, now)
        euler, velocity = {}, {}
        for n in names:
            m, t, u = modalities[n], _wide(now[n], x[n], modalities[n]), _wide(then[n], x[n], modalities[n])
            velocity[n] = self._velocity(m, first[n], x[n], t)
            euler[n] = m.path.move(first[n], x[n], t, u)
        if all(bool((then[n][now[n] != then[n]] == 0).all()) for n in names):
            return euler
        # The predictor is a plain Euler step on the velocity: the corrector averages with the same slope.
        ahead = {n: x[n] + (_wide(then[n] - now[n], x[n], modalities[n])) * velocity[n] for n in names}
        second = predict(x | ahead, then)
        moved = {}
        for n in names:
            m, t, u = modalities[n], _wide(now[n], x[n], modalities[n]), _wide(then[n], x[n], modalities[n])
            mean = (velocity[n] + self._velocity(m, second[n], ahead[n], u)) / 2
            moved[n] = torch.where(t == u, x[n], torch.where(u == 0, euler[n], x[n] + (u - t) * mean))
        return moved

    def _velocity(self, m: Modality, out: Tensor, x: Tensor, t: Tensor) -> Tensor:
        clean, eps = m.path.split(out, x, t)
        return m.path.d_alpha(t) * clean + m.path.d_sigma(t) * eps


@torch.no_grad()
def sample(
    model: WorldModel,
    query: str | Query,
    *,
    steps: int | None = None,
    seed: int = 0,
    size: int | None = None,
    guides: Sequence[Guide | Pull] = (),
    guide_batch: int = 1,
    schedule: Schedule | None = None,
    solver: Solver | None = None,
    noise: Mapping[str, Tensor] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    decode: bool = True,
    strict: bool = False,
    **values: Tensor | list[str] | str | int,
) -> dict[str, Tensor]:
    """Ask a query: `sample(model, "action | video[:2], text", video=clip, text="open the drawer")`.

    values    raw data by name, (B, T', *S', C') or a list of B strings, or the one of B = 1; a given value has full
              length or exactly its span's; a free name of the query takes a whole number (`k=4`)
    steps     of the plain schedule that moves all together [`usual_steps`]; any other schedule has its own
    size      B, where nothing is given
    guides    `Guide`: away from what is said when something is withheld; `Pull`: towards values that are nearly known
    noise     initial noise by modality, latent (B, T, *S, C); the rest is drawn from `seed`, sample by sample
    shapes    latent shape (T, *S, C) of modalities whose size is open, where neither a given value nor noise shows it
    decode    return raw data; False: latents, and given values are latents too
    strict    raise where the query lies outside what the model's law trains (else warn)

    Returns name -> raw (B, T', *S', C') for every wanted modality: wanted frames are new, the others as they were.
    """
    query = Query.parse(query)
    query = query.bind(**{n: v for n, v in values.items() if isinstance(v, int)})
    raw = {n: [v] if isinstance(v, str) else v for n, v in values.items() if not isinstance(v, int)}
    noised = {n: v for n, v in (noise or {}).items() if n in model.modalities}
    shapes = {n: v.shape[1:] for n, v in noised.items() if None in model.modalities[n].shape} | dict(shapes or {})
    model = in_frames(model, shapes)
    roles = query.roles(model.modalities, model.conditions)
    check_trained(model, query, roles, strict)
    roles = absent_rivals(roles, model)
    check_values(query, roles, raw, model)
    batch = batch_size(raw, noise or {}, size)
    dice = Dice(seed, 0, range(batch), model.device)
    told = query.given_conditions(model.conditions)
    with answering(model), with_slopes(model, guides) as plain:
        raw, noise, guides = plain(raw), plain(noise or {}), [plain(g) for g in guides]
        guides = ready(guides, model, roles, told, dice, latent=not decode)
        x, given = fill_given(model, query, roles, raw, batch, dice, latent=not decode, shapes=shapes)
        given = model.prepared(given)
        x = start(x, roles, model, dice, noise)
        dropped = {n for g in guides if isinstance(g, Guide) for n in g.drop}
        eps = {n: dice.normal(f"null.{n}", *v.shape[1:]) for n, v in x.items() if n in dropped}
        rows = plan(steps, schedule, solver, usual_steps(model)).rows(roles, model.modalities)
        check_rows(rows, model)
        x = walked(model, x, given, roles, rows, solver or Euler(), guides, eps, guide_batch)
        return {n: model.codec(n).decode(x[n]) if decode else x[n] for n in roles if Role.WANT in roles[n]}


def walked(
    model: WorldModel,
    x: dict[str, Tensor],
    given: Given,
    roles: Roles,
    rows: Sequence[Row],
    solver: Solver,
    guides: Sequence[Guide | Pull],
    eps: Mapping[str, Tensor],
    guide_batch: int,
) -> dict[str, Tensor]:
    """x[name] (B, T, *S, C), noise where it is not given, moved from the first row of times to the last."""
    batch = len(next(iter(x.values())))
    rows = [{n: widened(time, x[n].dtype) for n, time in row.items()} for row in rows]
    wanted = [n for n in roles if Role.WANT in roles[n]]
    moves = [(row, after, movers) for row, after in pairwise(rows) if (movers := _movers(row, after))]
    moving = {n for *_, movers in moves for n in movers}
    frames = {n: torch.tensor([r is Role.WANT for r in roles[n]]) for n in wanted}

    idle = {n: v for n, v in x.items() if not {Role.WANT, Role.GIVEN} & set(roles[n])}
    x = x | nothing(model, idle, rows[0])
    same = constant_streams(model, roles)
    still = {n: v for n, v in x.items() if model.layout.stream_of(n).name in same}

    def times(names: Iterable[str], row: Row) -> dict[str, Tensor]:
        return {n: row[n].to(model.device).expand(batch, -1) for n in names}

    asked = Guided(model, given, guides, eps, guide_batch, moving, (still, times(still, rows[0])))

    def predict(values: Mapping[str, Tensor], row: Row) -> dict[str, Tensor]:
        values = {n: v for n, v in {**values, **nothing(model, idle, row)}.items() if n not in still}
        return asked(values, times(values, row), max(float(row[n][frames[n]].max()) for n in wanted))

    for row, after, _ in moves:
        moved = solver.move(x, row, after, predict, model.modalities)
        x = x | {n: v for n, v in moved.items() if n not in idle}
    return x


@contextmanager
def answering(model: WorldModel) -> Iterator[None]:
    """The model in evaluation mode, and back."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def usual_steps(model: WorldModel) -> int:
    """Steps of a plain schedule where none are said: 1 for a model that was trained at t = 1 alone, else 10."""
    return 1 if model.patterns and all(p.once for p in model.patterns) else 10


def plan(steps: int | None, schedule: Schedule | None, solver: Solver | None, usual: int = 10) -> Schedule:
    """The schedule to walk: of `usual` steps where nothing is said.

    Errors: two of them, or `steps` beside one, of which one would have no effect.
    """
    own = getattr(solver, "schedule", None)
    if schedule is not None and own is not None and schedule is not own:
        raise ValueError(f"{type(solver).__name__} brings its own schedule; give no other")
    found = schedule or own
    if found is not None and steps is not None:
        raise ValueError(
            f"steps={steps} has no effect beside a schedule; say it there: {type(found).__name__}(steps=...)"
        )
    return found or Together(steps=usual if steps is None else steps)


def check_rows(rows: Sequence[Row], model: WorldModel) -> None:
    """Errors: several moves where the model was trained at t = 1 alone; frames of one modality at several times where
    its network is told one."""
    moves = sum(bool(_movers(row, after)) for row, after in pairwise(rows))
    if moves > 1 and usual_steps(model) == 1:
        raise ValueError(f"{moves} steps, but this model was trained at t = 1 alone: it answers in one step; steps=1")
    if model.modulation.whole:
        for name, time in ((n, t) for row in rows for n, t in row.items()):
            one_time(model.modalities[name].path.stamp(time)[None], name)


def start(
    x: dict[str, Tensor], roles: Roles, model: WorldModel, dice: Dice, noise: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """x with every frame that is not given replaced by initial noise, the same for any batch size."""
    for name in noise:
        if name not in x:
            raise unknown("modality for initial noise", name, x)
    out = {}
    for name, value in x.items():
        m = model.modalities[name]
        if name in noise and noise[name].shape != value.shape:
            raise ValueError(
                f"noise for {name!r} has shape {tuple(noise[name].shape)}; it must be {tuple(value.shape)}"
            )
        eps = noise[name].to(value) if name in noise else dice.normal(f"start.{name}", *value.shape[1:])
        keep = torch.tensor([r is Role.GIVEN for r in roles[name]], device=value.device)[None]
        out[name] = torch.where(spread(keep, value.ndim, m.patch[0]), value, eps)
    return out


def nothing(model: WorldModel, idle: Mapping[str, Tensor], row: Row) -> dict[str, Tensor]:
    """What is neither wanted nor given, as it looked in training at the times row[name] (F,), of idle[name], noise
    (B, T, *S, C). A null of noise is the same at all times and is left out."""
    out = {}
    for n, eps in ((n, v) for n, v in idle.items() if model.modalities[n].null != "noise"):
        everyone = torch.ones(len(eps), dtype=torch.bool, device=eps.device)
        out[n], _ = null(model.modalities[n], eps, row[n].to(eps.device).expand(len(eps), -1), eps, everyone)
    return out


def constant_streams(model: WorldModel, roles: Roles) -> set[str]:
    """Streams that a whole call leaves as they are: nothing in them is wanted, and they see only such streams."""
    if not model.modulation.separate:
        return set()
    sees = model.layout.sees
    streams = {s.name: s.of for s in model.layout.streams if any(roles[n][0] is not Role.ABSENT for n in s.of)}
    still = {
        name
        for name, of in streams.items()
        if name in sees and not any(Role.WANT in roles[n] or follows_clock(n, model.modalities, roles) for n in of)
    }
    while moving := {name for name in still if set(sees[name]) & set(streams) - still}:
        still -= moving
    return still


def absent_rivals(roles: Roles, model: WorldModel) -> Roles:
    """Roles in which, of the modalities that share a slot, only those that the query names have tokens."""
    roles = dict(roles)
    for group in (g for stream in model.layout.streams for g in stream.exclusive):
        named = [n for n in group if set(roles[n]) & {Role.WANT, Role.GIVEN}]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} share one slot of the layout: a query may name one of them")
        roles |= {n: (Role.ABSENT,) * len(roles[n]) for n in group if n not in named}
    return roles


def check_trained(model: WorldModel, query: Query, roles: Roles, strict: bool) -> None:
    """Warn, or raise if `strict`, where no pattern of the model's law covers a query's roles."""
    if model.patterns is None or any(p.covers(roles) for p in model.patterns):
        return
    trained = "; ".join(dict.fromkeys(p.label for p in model.patterns))
    message = f"the query {query.text!r} lies outside what this model was trained for ({trained})"
    if strict:
        raise ValueError(message)
    warnings.warn(message, stacklevel=4)  # between this and the caller of `sample` stands torch.no_grad


def check_values(query: Query, roles: Roles, values: Mapping[str, Tensor | list[str]], model: WorldModel) -> None:
    """Errors: a value that the query does not take, a given name without a value."""
    given = [n for n, frames in roles.items() if Role.GIVEN in frames]
    needed = {*given, *query.needed_conditions(model.conditions)}
    possible = {*given, *query.given_conditions(model.conditions)}
    for name in values:
        if name not in possible:
            raise unknown(f"value for the query {query.text!r}", name, sorted(possible))
    for name in sorted(needed):
        if name not in values:
            raise ValueError(f"the query {query.text!r} needs a value for {name!r}: sample(..., {name}=...)")


def batch_size(values: Mapping[str, Tensor | list[str]], noise: Mapping[str, Tensor], size: int | None) -> int:
    """B. Errors: values of different lengths, or of nobody."""
    sizes = {n: len(v) for n, v in (*values.items(), *noise.items())}
    if size is not None:
        sizes["size"] = size
    if len(set(sizes.values())) > 1:
        raise ValueError(f"values must have one batch size, but have {sizes}")
    if 0 in sizes.values():
        raise ValueError(f"at least one sample is needed, but there are {sizes}")
    return next(iter(sizes.values()), 1)
