"""Recipes: one short module a system. A recipe is a function that returns a `Recipe`; nothing else knows its name."""

from .diffusion_policy import diffusion_policy
from .dreamworld import dreamworld
from .gr1 import gr1
from .pad import pad
from .tabletop import tabletop
from .tiny import tiny
from .union import union
from .unityvideo import unityvideo
from .unityvideo_released import unityvideo_released
from .uwm import uwm
from .uwm_official import uwm_official
from .videojam import videojam
from .videorepa import videorepa

__all__ = [
    "diffusion_policy",
    "dreamworld",
    "gr1",
    "pad",
    "tabletop",
    "tiny",
    "union",
    "unityvideo",
    "unityvideo_released",
    "uwm",
    "uwm_official",
    "videojam",
    "videorepa",
]
