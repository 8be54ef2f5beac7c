"""Recipes: one short module a system. A recipe is a function that returns a `Recipe`; nothing else knows its name."""

from .tabletop import tabletop
from .tiny import tiny
from .uwm import uwm

__all__ = ["tabletop", "tiny", "uwm"]
