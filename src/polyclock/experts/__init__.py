"""Experts: from the frames of a clip to a modality, offline; one file each, loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import unknown
from .expert import Expert, Filter

__all__ = ["CLASSES", "DEFAULTS", "Expert", "Filter", "expert_class"]

# name -> (module, class). A closed table: no file and no command can name anything else.
CLASSES = {
    "dis": ("dis", "Dis"),
    "raft": ("raft", "Raft"),
    "depth_anything": ("depth_anything", "DepthAnything"),
    "mask2former": ("mask2former", "Mask2Former"),
    "sam2": ("sam2", "Sam2"),
    "vitpose": ("vitpose", "VitPose"),
    "densepose": ("densepose", "DensePose"),
    "dino": ("dino", "Dino"),
    "vggt": ("vggt", "Vggt"),
    "duration": ("filters", "Duration"),
    "resolution": ("filters", "Resolution"),
    "motion": ("filters", "Motion"),
    "quality": ("filters", "Quality"),
}
# What a modality's name alone means.
DEFAULTS = {
    "flow": "dis",
    "depth": "depth_anything",
    "segmentation": "mask2former",
    "skeleton": "vitpose",
    "surface": "densepose",
    "semantics": "dino",
    "geometry": "vggt",
}


def expert_class(name: str) -> type[Any]:
    """The class of an expert by its name. Errors: ValueError for a name that is not in the table."""
    if name not in CLASSES:
        raise unknown("expert", name, (*CLASSES, *DEFAULTS))
    module, attribute = CLASSES[name]
    return getattr(import_module(f".{module}", __name__), attribute)
