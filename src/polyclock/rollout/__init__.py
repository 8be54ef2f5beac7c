"""Rollout: a query as a controller, worlds to evaluate it in, the ledger of what happened."""

from __future__ import annotations

from .actor import Expert, Random, Still
from .outcome import Outcome
from .policy import Policy, policy_query
from .world import World

__all__ = ["Expert", "Outcome", "Policy", "Random", "Still", "World", "policy_query"]
