"""Planning: chunks of actions are drawn, the forward model imagines each, the one that ends best is executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.video import resized
from ..dice import Dice, seed_of
from ..envs.world import Env, Observation, Start
from ..evaluate.kinds import PICTURE, kinds_of
from ..model import WorldModel
from ..query import Query, Role
from ..solver import absent_rivals, check_trained
from .actor import CAMERA
from .control import Control, check_past, given_signals
from .demonstration import ByExpert, Demonstration
from .history import History
from .policy import Acting, Policy, Values, asked, known_query, repeated

Features = Callable[[Tensor], Tensor]


class Planner:
    """`Planner(Policy(model, "action | camera"), count=8)`: best of `count` chunks, judged by the picture at their end.

    policy    draws the chunks, each from noise of its own; the first is the one that it would take by itself
    goal      what the predicted last pictures are compared with
    within    the observation of the goal's demonstration that counts is so many steps ahead of the present; None: its
              last one. A model that sees less far ahead than a task takes needs a goal on the way
    forward   query of the same model that wants pictures and is given the action; None: the question "forward" of an
              evaluation
    steps     of the solver that imagines; None: the policy's
    features  float (n, H, W, C) in [0, 1] -> (n, ...): what is compared of pictures; None: the pixels themselves.
              To be sent to other processes it must be defined at the top level of a module

    All chunks are imagined with the same noise. A chunk's distance is the mean square of the difference, over the
    cameras that the goal shows. Errors (at construction): a forward query that is none, or that needs more of the
    action than the policy wants.
    """

    def __init__(
        self,
        policy: Policy,
        count: int = 8,
        *,
        goal: Demonstration = ByExpert(),
        within: int | None = None,
        forward: str | Query | None = None,
        steps: int | None = None,
        features: Features | None = None,
    ) -> None:
        if count < 1:
            raise ValueError(f"count={count} chunks to choose from must be at least 1")
        if within is not None and within < 1:
            raise ValueError(f"within={within} steps must be at least 1")
        self.policy, self.count, self.features = policy, count, features
        self.goal, self.within = goal, within
        self.steps = policy.steps if steps is None else steps
        self.forward = Imagined(policy.model, policy.control, forward or known_query(policy.model, "forward"))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that the two queries are given, and of those that the goal is compared with."""
        signals = {**self.policy.control.signals, **self.forward.signals}
        keys = dict.fromkeys([*(s.key for s in signals.values()), *self.forward.pictures.values()])
        return tuple(key.removeprefix(CAMERA) for key in keys if key.startswith(CAMERA))

    def describe(self) -> dict[str, Any]:
        """Plain data: as of the policy, and how a chunk is chosen."""
        plan = {
            "count": self.count,
            "forward": self.forward.query.text,
            "solver_steps": self.steps,
            "goal": self.goal.describe(),
            "within": self.within,
            "features": getattr(self.features, "__qualname__", None) if self.features else None,
        }
        return self.policy.describe() | {"policy": "planner", "plan": plan}

    def begin(self, env: Env, start: Start) -> Acting:
        """A new episode with a goal of its own. Errors: those of the policy and of the demonstration."""
        acting = self.policy.begin(env, start)
        check_past(self.forward.query, self.forward.signals, self.forward.past, env.fps)
        # The goal has to show the first camera at least.
        film = self.goal(env, start, list(self.forward.pictures.values())[:1])
        signals = {**self.policy.control.signals, **self.forward.signals}
        acting.history = History(signals, env.fps, self.forward.query.text)
        acting.ask = partial(self.ask, start, film)
        return acting

    def ask(
        self, start: Start, film: Sequence[Observation], call: int, values: Values, planned: np.ndarray | None
    ) -> np.ndarray:
        """Call number `call` of an episode with this demonstration -> the best of its chunks of actions (T', A)."""
        chunks = self.policy.candidates(start, call, values, planned, self.count)
        seed = seed_of(self.policy.seed, "imagined", start.task, start.number, call)
        return chunks[int(self.distances(chunks, values, self.goals(film, call), seed).argmin())]

    def goals(self, film: Sequence[Observation], call: int) -> dict[str, Tensor]:
        """modality -> the picture (H, W, C) in [0, 1] that its last one should be like, at this call of an episode."""
        due = -1 if self.within is None else min(call * self.policy.execute + self.within, len(film) - 1)
        shown, pictures = film[due], self.forward.pictures
        return {n: self.forward.goal(self.policy.model, n, shown[key]) for n, key in pictures.items() if key in shown}

    def distances(self, chunks: np.ndarray, values: Values, goals: Mapping[str, Tensor], seed: int) -> Tensor:
        """(n,) how far from the goals (H, W, C) each of the chunks (n, T', A) is imagined to end."""
        films = self.forward.ask(self.policy.model, chunks, values, self.steps, seed)
        parts = []
        for name, goal in goals.items():
            last, aim = films[name], goal[None]
            if self.features is not None:
                last, aim = self.features(last), self.features(aim)
            parts.append((last - aim).float().square().flatten(1).mean(1))
        return torch.stack(parts).mean(0)


class Imagined:
    """A forward query: what will be seen if a chunk of actions is carried out.

    signals   what it is given beside the action, by name
    pictures  modality -> column of the cameras whose last picture it predicts; ends: the data frame that this one is
    """

    def __init__(self, model: WorldModel, control: Control, query: str | Query) -> None:
        assert model.recipe is not None
        self.query, self.action = Query.parse(query), control.action
        roles = self.query.roles(model.modalities, model.conditions)
        kinds, every = kinds_of(model), model.recipe.signals()
        wanted = {n: [f for f, r in enumerate(frames) if r is Role.WANT] for n, frames in roles.items()}
        self.pictures = {n: every[n].key for n, frames in wanted.items() if frames and kinds[n] == PICTURE}
        self.ends = {n: model.modalities[n].covers(wanted[n][-1]).stop - 1 for n in self.pictures}
        given = [f for f, r in enumerate(roles[self.action]) if r is Role.GIVEN]
        if not self.pictures or not given:
            raise ValueError(
                f"planning needs a query that wants pictures and is given {self.action!r}; got {self.query.text!r}"
            )
        needed = model.modalities[self.action].covers(given[-1]).stop
        if needed > control.usable:
            raise ValueError(
                f"the query {self.query.text!r} is given {needed} actions; the policy's wants {control.usable}"
            )
        check_trained(model, self.query, absent_rivals(roles, model), strict=False)
        self.roles = absent_rivals(roles, model)
        self.signals, self.past = given_signals(model, self.query, roles, self.action)

    def goal(self, model: WorldModel, name: str, picture: np.ndarray) -> Tensor:
        """A camera's picture uint8 (H, W, 3) as the model looks at it: float (h, w, 3) in [0, 1]."""
        assert model.recipe is not None
        _, height, width, _ = model.recipe.signals()[name].shape
        size = (int(height or picture.shape[0]), int(width or picture.shape[1]))
        raw = torch.from_numpy(resized(picture, size))[None, None]
        view = model.views.get(name)
        seen = unit(raw) if view is None else view(raw, view.draw(None, raw))
        return seen[0, 0].to(model.device)

    def ask(self, model: WorldModel, chunks: np.ndarray, values: Values, steps: int, seed: int) -> dict[str, Tensor]:
        """The last picture (n, H, W, C) in [0, 1] of every camera, for each of the chunks (n, T', A)."""
        mine = repeated({n: values[n] for n in self.signals}, len(chunks))
        mine[self.action] = torch.from_numpy(np.ascontiguousarray(chunks))
        noise = self._noise(model, seed, len(chunks))
        answer = asked(model, self.query, steps=steps, seed=seed, noise=noise, **mine)
        return {n: unit(answer[n][:, end]) for n, end in self.ends.items()}

    def _noise(self, model: WorldModel, seed: int, count: int) -> dict[str, Tensor]:
        """One draw for all samples, so that they differ by their actions alone."""
        dice = Dice(seed, 0, [0], model.device)
        shapes = {n: model.modalities[n].shape for n, r in self.roles.items() if r[0] is not Role.ABSENT}
        return {
            n: dice.normal(f"start.{n}", *(int(k or 0) for k in shape)).expand(count, *[-1] * len(shape))
            for n, shape in shapes.items()
            if None not in shape and set(self.roles[n]) != {Role.GIVEN}
        }


def unit(pictures: Tensor) -> Tensor:
    """uint8 pictures as floats in [0, 1]."""
    if pictures.dtype != torch.uint8:
        raise ValueError(f"planning compares pictures of 8 bits; the model's are {pictures.dtype}")
    return pictures.float() / 255
