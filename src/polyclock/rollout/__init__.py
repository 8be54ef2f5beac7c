"""Rollout: a query as a controller, worlds to evaluate it in, the ledger of what happened."""

from __future__ import annotations

from .actor import Expert, Random, Still
from .demonstration import ByExpert, Pictured, Recorded
from .outcome import Outcome
from .planner import Planner
from .policy import Policy, policy_query
from .tracking import Tracker
from .world import World

__all__ = [
    "ByExpert",
    "Expert",
    "Outcome",
    "Pictured",
    "Planner",
    "Policy",
    "Random",
    "Recorded",
    "Still",
    "Tracker",
    "World",
    "policy_query",
]
