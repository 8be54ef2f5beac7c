"""Polyclock: diffusion world models in which every modality keeps its own clock.

t = 0 is data, t = 1 is noise; tensors are (B, T, H, W, C) and (B, T, C).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {  # public name -> module; loaded on first use, so that `polyclock --help` does not wait for torch
    "Batch": "batch",
    "Condition": "modality",
    "Cosine": "path",
    "Dice": "dice",
    "Discrete": "path",
    "DiT": "backbones.dit",
    "Drop": "timesteps",
    "Fixed": "timesteps",
    "Guide": "guidance",
    "Heun": "solver",
    "Independent": "timesteps",
    "Joint": "nn.modulation",
    "JointLocal": "nn.modulation",
    "Layout": "layout",
    "Linear": "path",
    "Local": "nn.modulation",
    "Mixture": "timesteps",
    "Modality": "modality",
    "PerFrame": "timesteps",
    "Planner": "rollout.planner",
    "Policy": "rollout.policy",
    "Pull": "guidance",
    "Query": "query",
    "Recipe": "recipe",
    "Shared": "timesteps",
    "Stream": "layout",
    "Task": "timesteps",
    "Tracker": "rollout.tracking",
    "Without": "timesteps",
    "World": "rollout.world",
    "after": "layout",
    "from_pretrained": "pretrained",
    "loss": "objective",
    "one_of": "layout",
    "open_dataset": "data.opening",
    "sample": "solver",
    "save_pretrained": "pretrained",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polyclock' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from .backbones.dit import DiT as DiT
    from .batch import Batch as Batch
    from .data.opening import open_dataset as open_dataset
    from .dice import Dice as Dice
    from .guidance import Guide as Guide
    from .guidance import Pull as Pull
    from .layout import Layout as Layout
    from .layout import Stream as Stream
    from .layout import after as after
    from .layout import one_of as one_of
    from .modality import Condition as Condition
    from .modality import Modality as Modality
    from .nn.modulation import Joint as Joint
    from .nn.modulation import JointLocal as JointLocal
    from .nn.modulation import Local as Local
    from .objective import loss as loss
    from .path import Cosine as Cosine
    from .path import Discrete as Discrete
    from .path import Linear as Linear
    from .pretrained import from_pretrained as from_pretrained
    from .pretrained import save_pretrained as save_pretrained
    from .query import Query as Query
    from .recipe import Recipe as Recipe
    from .rollout.planner import Planner as Planner
    from .rollout.policy import Policy as Policy
    from .rollout.tracking import Tracker as Tracker
    from .rollout.world import World as World
    from .solver import Heun as Heun
    from .solver import sample as sample
    from .timesteps import Drop as Drop
    from .timesteps import Fixed as Fixed
    from .timesteps import Independent as Independent
    from .timesteps import Mixture as Mixture
    from .timesteps import PerFrame as PerFrame
    from .timesteps import Shared as Shared
    from .timesteps import Task as Task
    from .timesteps import Without as Without
