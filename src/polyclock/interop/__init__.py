"""Foreign checkpoints, read without running anything of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import unknown

if TYPE_CHECKING:
    from ..model import WorldModel

FORMATS = {
    "uwm": "models.pt of the authors' Unified World Models code, its autoencoder included",
    "unityvideo": "a checkpoint of UnityVideo's public code, or the Wan that its training begins with",
    "wan": "a Wan2.1-T2V or Wan2.2-TI2V pipeline of diffusers, or the transformer in it",
}


def loader(name: str) -> Callable[..., WorldModel]:
    """What reads a file of a format: `loader("uwm")("models.pt", views=...)`. Errors: ValueError, an unknown format."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    load: Callable[..., WorldModel] = import_module(f".{name}", __package__).load
    return load
