"""Polyclock: diffusion world models in which every modality keeps its own clock."""

__version__ = "0.1.0"
