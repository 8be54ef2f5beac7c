"""Codecs: raw data <-> latents. Importing them loads neither diffusers nor transformers."""

from .codec import Codec, FrameByFrame
from .pixels import Pixels
from .scale import Identity, MeanStd, MinMax, Quantile

__all__ = ["Codec", "FrameByFrame", "Identity", "MeanStd", "MinMax", "Pixels", "Quantile"]
