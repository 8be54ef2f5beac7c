"""A query as a controller: ask for a chunk of actions, take the first few, look again."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ..data.window import offsets
from ..dice import seed_of
from ..envs.world import Env, Start
from ..evaluate.questions import questions
from ..guidance import Guide
from ..modality import Signal
from ..model import WorldModel
from ..plain import to_plain
from ..query import Query, Role
from ..solver import absent_rivals, check_trained, sample, usual_steps
from .actor import CAMERA
from .history import History

COLUMN = "action"  # of the data set: what a policy must want


class Policy:
    """A model and a query that wants its action: `Policy(model, "action | camera, state, text", execute=4)`.

    execute   actions of each answer that are taken before the model is asked again
    steps     of the solver; None: as many as `sample` takes by itself
    seed      of the noise, which in call c of an episode is a function of (seed, task, number of the start, c) alone
    guides    as `sample` takes them
    free      values of the query's free names. With "action[k:] | action[:k], ..." and k=2 the first two token frames
              of an answer are the ones that the answer before had planned for these moments: they were being carried
              out while the model thought. The first call of an episode has none and wants all of the action

    The model is asked about one episode at a time, whatever runs beside it. An action comes in the data set's units,
    one for every step of the world: the action's rate must be the world's. `-name` in the query saves the tokens of
    what is not needed.

    Errors (at construction): a query that does not want the action, gives what lies ahead, or leaves too few actions
    to execute; a model that no recipe built. Errors (at the first observation): a given name that the world lacks.
    """

    def __init__(
        self,
        model: WorldModel,
        query: str | Query,
        *,
        execute: int = 4,
        steps: int | None = None,
        seed: int = 0,
        guides: Sequence[Guide] = (),
        **free: int,
    ) -> None:
        if model.recipe is None:
            raise ValueError("a policy needs a model that a recipe built: recipe.build() or from_pretrained(folder)")
        steps = usual_steps(model) if steps is None else steps
        if execute < 1 or steps < 1:
            raise ValueError(f"execute={execute} and steps={steps} must be at least 1")
        self.model, self.execute, self.steps, self.seed = model, execute, steps, seed
        self.guides, self.free = tuple(guides), dict(free)
        self.query = Query.parse(query).bind(**free)
        for guide in self.guides:
            guide.check(model)
        self._plan = _Plan.of(model, self.query, execute)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that the query is given."""
        keys = dict.fromkeys(s.key for s in self._plan.signals.values())
        return tuple(key.removeprefix(CAMERA) for key in keys if key.startswith(CAMERA))

    @property
    def sha256(self) -> str:
        """Of the recipe, fitted codecs and weights as they are now (averaged ones, where they were laid over)."""
        tensors: dict[str, Tensor] = {}
        digest = hashlib.sha256(json.dumps(to_plain(self.model.recipe, tensors), sort_keys=True).encode())
        for name, value in sorted((tensors | self.model.state_dict()).items()):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Plain data: the query, what is executed, steps, seed, the hash of the model."""
        found = {
            "policy": "model",
            "query": self.query.text,
            "execute": self.execute,
            "solver_steps": self.steps,
            "seed": self.seed,
            "model": self.sha256,
            "device": self.model.device.type,
        }
        if self.free:
            found["free"] = self.free
        if self.guides:
            found["guides"] = [to_plain(guide, {}) for guide in self.guides]
        return found

    def begin(self, env: Env, start: Start) -> Acting:
        """A new episode with a history of its own; of `env` only fps and action_dim are looked at.

        Errors: ValueError where the model's actions do not fit the world's in number or rate.
        """
        plan, name = self._plan, self._plan.action
        width = plan.signal.shape[-1]
        if width is not None and width != env.action_dim:
            raise ValueError(f"the model's {name!r} has {width} numbers, an action of this world has {env.action_dim}")
        if offsets(plan.signal, env.fps) != tuple(range(int(plan.signal.shape[0] or 0))):
            rate = env.fps if plan.signal.rate is None else plan.signal.rate
            raise ValueError(
                f"the model's {name!r} comes {rate:g} times a second from {plan.signal.start:g} s on; the world takes "
                f"an action {env.fps:g} times a second from now on"
            )
        plan.check_past(env.fps)
        return Acting(self, start, History(plan.signals, env.fps, self.query.text))

    def ask(self, start: Start, call: int, values: Mapping[str, Any], planned: np.ndarray | None) -> np.ndarray:
        """Call number `call` of an episode -> its chunk of actions (T', A); planned (n, A): those already under way."""
        plan = self._plan
        query = plan.opening
        if planned is not None and plan.committed:
            query = self.query
            values = {**values, plan.action: torch.from_numpy(planned[: plan.committed].copy())[None]}
        with warnings.catch_warnings():  # construction has said so
            warnings.filterwarnings("ignore", message=".*lies outside what this model was trained")
            answer = sample(
                self.model,
                query,
                steps=self.steps,
                seed=seed_of(self.seed, "rollout", start.task, start.number, call),
                size=1,
                guides=self.guides,
                **values,
            )
        chunk = answer[plan.action][0].float().cpu().numpy()
        if not np.isfinite(chunk[: plan.usable]).all():
            raise ValueError(f"the model answered {query.text!r} with an action that is not finite")
        return chunk

    def __getstate__(self) -> dict[str, Any]:
        """For another process: the recipe, and the weights as bytes, which need no shared memory."""
        weights = {n: v.detach().cpu().contiguous() for n, v in self.model.state_dict().items()}
        parts = {n: v for n, v in vars(self).items() if n != "model"}
        return parts | {
            "recipe": self.model.recipe,
            "weights": safetensors.torch.save(weights),
            "device": str(self.model.device),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        model = state.pop("recipe").build()
        model.load_state_dict(safetensors.torch.load(state.pop("weights")), assign=True)
        self.model = model.to(state.pop("device")).eval()
        vars(self).update(state)


class Acting:
    """A policy in one episode."""

    def __init__(self, policy: Policy, start: Start, history: History) -> None:
        self.policy, self.start, self.history = policy, start, history
        self.latency: list[float] = []  # seconds of each call, from the history to numbers
        self.chunk: np.ndarray | None = None
        self.next = 0

    def __call__(self, observation: Mapping[str, Any]) -> np.ndarray:
        """The next observation -> (A,) float32, from the model where what it planned is used up."""
        self.history.add(observation)
        if self.chunk is None or self.next == self.policy.execute:
            planned = None if self.chunk is None else self.chunk[self.next :]
            began = time.perf_counter()
            self.chunk = self.policy.ask(self.start, len(self.latency), self.history.values(), planned)
            self.latency.append(time.perf_counter() - began)
            self.next = 0
        self.next += 1
        return self.chunk[self.next - 1]


def policy_query(model: WorldModel) -> str:
    """The question "policy" of an evaluation; "joint" where a model knows its actions only together with the rest.

    Errors: ValueError where it can be asked neither.
    """
    # The rate matters only to signals without one that begin in the past; the world's is known when it is opened.
    rate = next((m.rate for n, m in model.modalities.items() if m.rate and "action" in (n, m.key)), 10.0)
    asked, skipped = questions(model, rate)
    found = {question.name: question.query for question in asked}
    for name in ("policy", "joint"):
        if name in found:
            return found[name]
    why = next((text for text in skipped if text.startswith("policy")), "it has no action")
    raise ValueError(f"this model is no policy ({why}); write a query that wants its action")


@dataclass(frozen=True)
class _Plan:
    """What a policy's query means.

    signals    what the world must bring, by name; past: how many leading frames of each must have been seen by now
    action     the wanted modality of the column "action", and its signal
    committed  leading data frames of it that are given, from the answer before
    usable     leading data frames of it that are given or wanted
    opening    the query of an episode's first call, for which nothing is under way
    """

    signals: dict[str, Signal]
    past: dict[str, int]
    action: str
    signal: Signal
    committed: int
    usable: int
    opening: Query

    @classmethod
    def of(cls, model: WorldModel, query: Query, execute: int) -> _Plan:
        assert model.recipe is not None
        every = model.recipe.signals()  # pictures as they are before a view cuts them
        roles = query.roles(model.modalities, model.conditions)
        wanted = [n for n, r in roles.items() if Role.WANT in r]
        actions = [n for n in wanted if every[n].key == COLUMN]
        if len(actions) != 1:
            have = [n for n in model.modalities if every[n].key == COLUMN]
            raise ValueError(
                f"a policy wants one modality of the column {COLUMN!r}; the query {query.text!r} wants "
                f"{', '.join(wanted)}, and the model has {', '.join(have) or 'none'}"
            )
        action = actions[0]
        committed, usable = _leading(model, action, roles[action], query)
        if execute + committed > usable:
            raise ValueError(
                f"execute={execute} of {usable} actions of {query.text!r}"
                + (f", of which {committed} are under way" if committed else "")
                + f"; possible: 1 to {usable - committed}"
            )
        terms = tuple(replace(t, span=None) if committed and t.name == action else t for t in query.want)
        given = tuple(t for t in query.given if t.name != action)
        opening = replace(query, want=terms, given=given)
        asked = (query, opening) if committed else (query,)
        for one in asked:
            said = one.roles(model.modalities, model.conditions)
            check_trained(model, one, absent_rivals(said, model), strict=False)
        names = [n for n, r in roles.items() if Role.GIVEN in r and n != action]
        signals = {n: every[n] for n in (*names, *query.given_conditions(model.conditions))}
        past = {n: int(s.shape[0] or 0) for n, s in signals.items() if s.kind != "text"}
        for name in (n for n in names if n in past):
            past[name] = model.modalities[name].covers(max(_given(roles[name]))).stop
        plan = cls(signals, past, action, every[action], committed, usable, opening)
        if plan.signal.rate:  # the world's too: `begin` sees to it
            plan.check_past(plan.signal.rate)
        return plan

    def check_past(self, fps: float) -> None:
        """Errors: a given frame that lies ahead of the moment of acting, at `fps` observations a second."""
        for name, frames in self.past.items():
            ahead = max(offsets(self.signals[name], fps)[:frames], default=0)
            if ahead > 0:
                raise ValueError(
                    f"the query {self.opening.text!r} gives {name!r} up to {ahead / fps:g} s ahead of the moment at "
                    "which a policy acts; give what is past or present"
                )


def _given(roles: tuple[Role, ...]) -> list[int]:
    return [f for f, r in enumerate(roles) if r is Role.GIVEN]


def _leading(model: WorldModel, name: str, roles: tuple[Role, ...], query: Query) -> tuple[int, int]:
    """(data frames given, data frames given or wanted) at the beginning. Errors: given frames that are not first."""
    m = model.modalities[name]
    given = next((f for f, r in enumerate(roles) if r is not Role.GIVEN), len(roles))
    known = next((f for f, r in enumerate(roles) if r not in (Role.GIVEN, Role.WANT)), len(roles))
    if Role.GIVEN in roles[given:]:
        raise ValueError(f"of {name!r} a policy can be given its first frames alone: {query.text!r}")
    if not known:
        raise ValueError(f"the first frame of {name!r} is what is done now; {query.text!r} does not want it")
    return (m.covers(given - 1).stop if given else 0), m.covers(known - 1).stop
