"""Tracking: an inverse model is shown, chunk by chunk, what a demonstration looks like next, and acts so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..envs.world import Env, Observation, Start
from ..modality import Signal
from ..model import WorldModel
from ..query import Query
from .control import lying_ahead
from .demonstration import ByExpert, Demonstration
from .history import History
from .policy import Acting, Policy, known_query


class Tracker(Policy):
    """`Tracker(model, "action | video, state", execute=8)`: a policy that is given frames that lie ahead.

    demonstration  what these frames are taken from, at the same step of the episode; past its end its last one stays
    query          None: the question "inverse" of an evaluation

    Frames of the present and the past are the world's own. All else is as of `Policy`.
    Errors: those of `Policy`; at the first episode, a query that is given nothing that lies ahead.
    """

    foresees = True

    def __init__(
        self,
        model: WorldModel,
        query: str | Query | None = None,
        *,
        demonstration: Demonstration = ByExpert(),
        **settings: Any,
    ) -> None:
        super().__init__(model, query or known_query(model, "inverse"), **settings)
        self.demonstration = demonstration

    def describe(self) -> dict[str, Any]:
        """As of a policy, and what is tracked."""
        return super().describe() | {"policy": "tracker", "demonstration": self.demonstration.describe()}

    def begin(self, env: Env, start: Start) -> Acting:
        """A new episode. Errors: those of `Policy` and of the demonstration; a query that gives nothing ahead."""
        acting = super().begin(env, start)
        signals = self.control.signals
        ahead = lying_ahead(signals, self.control.past, env.fps)
        if not ahead:
            raise ValueError(f"the query {self.query.text!r} gives nothing that lies ahead: there is nothing to track")
        film = self.demonstration(env, start, [signals[name].key for name in ahead])
        acting.history = Foresight(signals, env.fps, self.query.text, film)
        return acting


class Foresight(History):
    """The observations of an episode; beyond the present, those of a film that is at the same step."""

    def __init__(self, signals: Mapping[str, Signal], fps: float, query: str, film: Sequence[Observation]) -> None:
        super().__init__(signals, fps, query)
        self.film, self.step = film, -1

    def add(self, observation: Mapping[str, Any] | None) -> None:
        super().add(observation)
        self.step += 1

    def at(self, due: int) -> Mapping[str, Any]:
        """The observation `due` steps from now."""
        return super().at(due) if due <= 0 else self.film[min(self.step + due, len(self.film) - 1)]
