"""Encoders: what reads a condition. Importing them loads no optional package."""

from .bytes import Bytes
from .patches import Patches
from .resnet import ResNet
from .text import T5, CLIPText
from .vector import Vector

__all__ = ["T5", "Bytes", "CLIPText", "Patches", "ResNet", "Vector"]
