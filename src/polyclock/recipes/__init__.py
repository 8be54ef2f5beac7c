"""Recipes: one short module a system. A recipe is a function that returns a `Recipe`; nothing else knows its name."""

from .tabletop import tabletop
from .tiny import tiny
from .uwm import uwm
from .uwm_official import uwm_official

__all__ = ["tabletop", "tiny", "uwm", "uwm_official"]
