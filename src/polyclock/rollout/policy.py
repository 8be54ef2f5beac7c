"""A query as a controller: ask for a chunk of actions, take the first few, look again."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ..data.window import offsets
from ..dice import seed_of
from ..envs.world import Env, Start
from ..errors import unknown
from ..evaluate.questions import questions
from ..guidance import Guide, Pull, fading
from ..model import WorldModel
from ..plain import to_plain
from ..query import Query
from ..schedulers import walk
from ..solver import sample, usual_steps
from .actor import CAMERA
from .control import Control, check_past, overlapped
from .history import History

OVERLAPS = ("hard", "soft")
Values = Mapping[str, Tensor | list[str]]


class Policy:
    """A model and a query that wants its action: `Policy(model, "action | camera, state, text", execute=4)`.

    execute   actions of each answer that are taken before the model is asked again
    steps     of the solver; None: as many as `sample` takes by itself
    solver    by name (`schedulers.walk`)
    seed      of the noise, which in call c of an episode is a function of (seed, task, number of the start, c) alone
    guides    as `sample` takes them
    overlap   how the world goes on while the model thinks (real-time chunking): the first `delay` actions of an answer
              are those that the answer before had planned for these moments, and are carried out meanwhile. "hard":
              the query is given them, as if it were written "action[k:] | action[:k], ..."; "soft": the answer is
              drawn towards all that was planned, the less firmly the later (`Pull`, `fading`), whatever the model was
              trained for; None: the world waits
    delay     [execute: the next answer is there just when what is to be executed is used up]
    free      values of the query's free names. "action[k:] | action[:k], ..." with k=2 is another way to write a hard
              overlap of two token frames

    The first answer of an episode has none before it and wants all of the action.

    The model is asked about one episode at a time, whatever runs beside it. An action comes in the data set's units,
    one for every step of the world: the action's rate must be the world's. `-name` in the query saves the tokens of
    what is not needed.

    Errors (at construction): a query that does not want the action, gives what lies ahead, or leaves too few actions
    to execute; a model that no recipe built. Errors (at the first observation): a given name that the world lacks.
    """

    foresees = False  # whether its query may be given what lies ahead

    def __init__(
        self,
        model: WorldModel,
        query: str | Query,
        *,
        execute: int = 4,
        steps: int | None = None,
        solver: str = "euler",
        seed: int = 0,
        guides: Sequence[Guide] = (),
        overlap: str | None = None,
        delay: int | None = None,
        **free: int,
    ) -> None:
        if model.recipe is None:
            raise ValueError("a policy needs a model that a recipe built: recipe.build() or from_pretrained(folder)")
        steps = usual_steps(model) if steps is None else steps
        if execute < 1 or steps < 1:
            raise ValueError(f"execute={execute} and steps={steps} must be at least 1")
        self.model, self.execute, self.steps, self.seed = model, execute, steps, seed
        self.guides, self.free, self.solver = tuple(guides), dict(free), solver
        self.query = Query.parse(query).bind(**free)
        for guide in self.guides:
            if not isinstance(guide, Guide):
                raise ValueError(f"a {type(guide).__name__} is for one question, not for a policy; see overlap='soft'")
            guide.check(model)
        self.control = Control.of(model, self.query, execute, ahead=self.foresees)
        self.overlap, self.delay = overlap, self._checked_delay(overlap, delay)
        if overlap == "hard":
            self.query = overlapped(self.query, self.control.action, self.delay)
            self.control = Control.of(model, self.query, execute, ahead=self.foresees)
        walk(solver, steps, model, self.query)  # what it cannot walk it should say now

    def _checked_delay(self, overlap: str | None, delay: int | None) -> int:
        """Actions that are under way while the model thinks; 0 where the world waits."""
        if overlap is None:
            if delay is not None:
                raise ValueError(f"delay={delay} has no effect without overlap; possible: {', '.join(OVERLAPS)}")
            return 0
        if overlap not in OVERLAPS:
            raise unknown("overlap", overlap, OVERLAPS)
        if self.control.committed:
            raise ValueError(f"the query {self.query.text!r} is given what is under way: overlap would have no effect")
        if overlap == "soft" and usual_steps(self.model) == 1:
            raise ValueError("this model answers in one step from no noise, so nothing can be drawn: overlap='hard'")
        found, usable = self.execute if delay is None else delay, self.control.usable
        if found < 1 or self.execute + found > usable:
            raise ValueError(
                f"execute={self.execute} and delay={found} of {usable} actions of {self.query.text!r}; possible: both "
                f"at least 1, together at most {usable}"
            )
        return found

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that the query is given."""
        keys = dict.fromkeys(s.key for s in self.control.signals.values())
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
        if self.solver != "euler":
            found["solver"] = self.solver
        if self.free:
            found["free"] = self.free
        if self.guides:
            found["guides"] = [to_plain(guide, {}) for guide in self.guides]
        if self.overlap:
            found["overlap"] = {"kind": self.overlap, "delay": self.delay}
        return found

    def begin(self, env: Env, start: Start) -> Acting:
        """A new episode with a history of its own; of `env` only fps and action_dim are looked at.

        Errors: ValueError where the model's actions do not fit the world's in number or rate.
        """
        control, name = self.control, self.control.action
        signal = control.signal
        if signal.shape[-1] not in (None, env.action_dim):
            raise ValueError(
                f"the model's {name!r} has {signal.shape[-1]} numbers, an action of this world has {env.action_dim}"
            )
        if offsets(signal, env.fps) != tuple(range(int(signal.shape[0] or 0))):
            rate = env.fps if signal.rate is None else signal.rate
            raise ValueError(
                f"the model's {name!r} comes {rate:g} times a second from {signal.start:g} s on; the world takes "
                f"an action {env.fps:g} times a second from now on"
            )
        if not self.foresees:
            check_past(self.query, control.signals, control.past, env.fps)
        return Acting(partial(self.ask, start), self.execute, History(control.signals, env.fps, self.query.text))

    def ask(self, start: Start, call: int, values: Values, planned: np.ndarray | None) -> np.ndarray:
        """Call number `call` of an episode -> its chunk of actions (T', A); planned (n, A): those already under way."""
        return self.candidates(start, call, values, planned, 1)[0]

    def candidates(self, start: Start, call: int, values: Values, planned: np.ndarray | None, count: int) -> np.ndarray:
        """`count` answers to one call, (count, T', A), each from noise of its own. Values are of one sample."""
        control, guides = self.control, list[Guide | Pull](self.guides)
        query, given = control.opening, {n: values[n] for n in control.signals}
        if planned is not None and control.committed:
            query = self.query
            given[control.action] = torch.from_numpy(planned[: control.committed].copy())[None]
        soft = planned is not None and self.overlap == "soft"
        if soft:
            guides.append(self._pull(planned))
        answer = asked(
            self.model,
            query,
            **walk(self.solver, self.steps, self.model, query),
            seed=seed_of(self.seed, "rollout", start.task, start.number, call),
            size=count,
            guides=guides,
            **repeated(given, count),
        )
        chunks = answer[control.action].float().cpu().numpy()
        if not np.isfinite(chunks[:, : control.usable]).all():
            raise ValueError(f"the model answered {query.text!r} with an action that is not finite")
        if soft:  # they are carried out whatever the answer says
            chunks[:, : self.delay] = planned[: self.delay]
        return chunks

    def _pull(self, planned: np.ndarray) -> Pull:
        """Towards what is left (n, A) of the answer before."""
        control = self.control
        m, left = self.model.modalities[control.action], control.usable - self.execute
        towards = torch.zeros(1, int(control.signal.shape[0] or 0), planned.shape[-1])
        towards[0, :left] = torch.from_numpy(planned[:left])
        firm = torch.zeros(towards.shape[1])
        firm[: control.usable] = fading(control.usable, self.delay, self.execute)
        covered = [m.codec.covers(f) for f in range(int(m.shape[0] or 0))]
        return Pull(
            of=control.action, towards=towards, weights=torch.stack([firm[c.start : c.stop].min() for c in covered])
        )

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
    """An actor that takes the first `execute` actions of a chunk before it asks for the next, in one episode.

    ask   (number of the call, values of one sample as `history` has them, what is left of the chunk before (n, A) or
          None) -> a chunk of actions (T', A)
    """

    def __init__(
        self, ask: Callable[[int, Values, np.ndarray | None], np.ndarray], execute: int, history: History
    ) -> None:
        self.ask, self.execute, self.history = ask, execute, history
        self.latency: list[float] = []  # seconds of each call, from the history to numbers
        self.chunk: np.ndarray | None = None
        self.next = 0

    @property
    def looks(self) -> bool:
        """Whether what follows the last action is part of what the model will be shown."""
        return self.history.holds(self.execute - self.next, self.execute)

    def __call__(self, observation: Mapping[str, Any] | None) -> np.ndarray:
        """The next observation -> (A,) float32, from the model where what it planned is used up."""
        self.history.add(observation)
        if self.chunk is None or self.next == self.execute:
            planned = None if self.chunk is None else self.chunk[self.next :]
            began = time.perf_counter()
            self.chunk = self.ask(len(self.latency), self.history.values(), planned)
            self.latency.append(time.perf_counter() - began)
            self.next = 0
        self.next += 1
        return self.chunk[self.next - 1]


def asked(model: WorldModel, query: Query, **settings: Any) -> dict[str, Tensor]:
    """`sample` of a query of which construction has said whether the model was trained for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*lies outside what this model was trained")
        return sample(model, query, **settings)


def repeated(values: Values, count: int) -> dict[str, Any]:
    """Values of one sample, (1, ...) or one sentence, as those of `count` samples."""
    return {n: v * count if isinstance(v, list) else v.expand(count, *[-1] * (v.ndim - 1)) for n, v in values.items()}


def policy_query(model: WorldModel) -> str:
    """The question "policy" of an evaluation; "joint" where a model knows its actions only together with the rest.

    Errors: ValueError where it can be asked neither.
    """
    return known_query(model, "policy", "joint")


def known_query(model: WorldModel, *names: str) -> str:
    """The first of these questions of an evaluation that a model can be asked. Errors: ValueError: none of them."""
    # The rate matters only to signals without one that begin in the past; the world's is known when it is opened.
    rate = next((m.rate for n, m in model.modalities.items() if m.rate and "action" in (n, m.key)), 10.0)
    found, skipped = questions(model, rate)
    queries = {question.name: question.query for question in found}
    for name in names:
        if name in queries:
            return queries[name]
    why = next((text for text in skipped if text.startswith(names[0])), "it has no action")
    raise ValueError(f"this model has no question {names[0]!r} ({why}); write the query")
