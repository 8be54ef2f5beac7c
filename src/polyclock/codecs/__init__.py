"""Codecs: raw data <-> latents. Importing them loads neither diffusers nor transformers."""

from .chain import Chain
from .codec import Codec, FrameByFrame
from .pixels import Pixels
from .relative import Relative, to_absolute, to_relative
from .rotation import Rotation
from .scale import Identity, MeanStd, MinMax, Quantile
from .vae import VAE, WanVAE

__all__ = [
    "VAE",
    "Chain",
    "Codec",
    "FrameByFrame",
    "Identity",
    "MeanStd",
    "MinMax",
    "Pixels",
    "Quantile",
    "Relative",
    "Rotation",
    "WanVAE",
    "to_absolute",
    "to_relative",
]
