"""Training: one loop that knows no task, and runs that survive being killed."""

from .settings import Training

__all__ = ["Training"]
