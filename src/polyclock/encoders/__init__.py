"""Encoders: what reads a condition. Importing them loads no optional package."""

from .bytes import Bytes
from .resnet import ResNet
from .vector import Vector

__all__ = ["Bytes", "ResNet", "Vector"]
