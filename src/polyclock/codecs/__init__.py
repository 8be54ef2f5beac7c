"""Codecs: raw data <-> latents. Importing them loads neither diffusers nor transformers."""

from .chain import Chain
from .codec import Codec, FrameByFrame
from .pixels import Pixels
from .scale import Identity, MeanStd, MinMax, Quantile
from .vae import VAE, WanVAE

__all__ = ["VAE", "Chain", "Codec", "FrameByFrame", "Identity", "MeanStd", "MinMax", "Pixels", "Quantile", "WanVAE"]
