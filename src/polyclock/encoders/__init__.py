"""Encoders: what reads a condition. Importing them loads no optional package."""

from .bytes import Bytes
from .numbers import Numbers
from .patches import Patches
from .resnet import ResNet
from .text import T5, CLIPText
from .vector import Vector

__all__ = ["T5", "Bytes", "CLIPText", "Numbers", "Patches", "ResNet", "Vector"]
