"""Codecs: raw data <-> latents. Importing them loads neither diffusers nor transformers."""

from .chain import Chain
from .codec import Codec, FrameByFrame, Frozen
from .colours import TAB10, TAB20
from .depth import DepthColor, DepthPlane
from .features import Projection, Resample
from .flow import FlowColor, FlowFrames, FlowPlanes
from .labels import LabelPlanes, Palette
from .pixels import Pixels
from .points import PointPlanes
from .relative import Relative, to_absolute, to_relative
from .rotation import Rotation
from .scale import Identity, MeanStd, MinMax, Quantile
from .skeleton import SkeletonPicture, coco_skeleton
from .surface import SurfaceColor, SurfacePlanes
from .vae import VAE, WanVAE

__all__ = [
    "TAB10",
    "TAB20",
    "VAE",
    "Chain",
    "Codec",
    "DepthColor",
    "DepthPlane",
    "FlowColor",
    "FlowFrames",
    "FlowPlanes",
    "FrameByFrame",
    "Frozen",
    "Identity",
    "LabelPlanes",
    "MeanStd",
    "MinMax",
    "Palette",
    "Pixels",
    "PointPlanes",
    "Projection",
    "Quantile",
    "Relative",
    "Resample",
    "Rotation",
    "SkeletonPicture",
    "SurfaceColor",
    "SurfacePlanes",
    "WanVAE",
    "coco_skeleton",
    "to_absolute",
    "to_relative",
]
