"""Training: one loop that knows no task, and runs that survive being killed.

The loop itself (`polyclock.train.job.train`, `polyclock.train.loop.run`) is not imported here: settings can be read
without waiting for torch.
"""

from .settings import Training

__all__ = ["Training"]
