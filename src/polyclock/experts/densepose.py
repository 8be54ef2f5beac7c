"""Surface maps of people by DensePose, through the user's own installation: a function or a TorchScript file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .expert import check_frames, noted
from .pictures import batches
from .programs import Given, form

# The 24 parts of the published network, in its order; right and left are the person's.
PARTS = (
    *("torso back", "torso front", "right hand", "left hand", "left foot", "right foot"),
    *("upper leg right back", "upper leg left back", "upper leg right front", "upper leg left front"),
    *("lower leg right back", "lower leg left back", "lower leg right front", "lower leg left front"),
    *("upper arm left front", "upper arm right front", "upper arm left back", "upper arm right back"),
    *("lower arm left front", "lower arm right front", "lower arm left back", "lower arm right back"),
    *("head right", "head left"),
)


@dataclass(frozen=True, kw_only=True)
class DensePose(Given):
    """uint8 (T, H, W, 3) -> surface float32 (T, H, W, 3): part 0 (nothing) to 24, u and v in [0, 1].

    The network maps pictures, float RGB (n, 3, H, W) in [0, 255], to (n, 3, H, W): part, u, v of what is in front.

    weights, network, name, device  as of `Given`
    batch    frames at a time
    """

    batch: int = 4
    modality = "surface"
    how = (
        "DensePose's network must be given: DensePose(network=f, name='...') in Python with f(pictures) -> part, u, v, "
        "or surface=densepose:FILE.pt with such a network as TorchScript (docs/experts.md)"
    )

    @property
    def note(self) -> dict[str, Any]:
        return noted("surface", parts={i + 1: name for i, name in enumerate(PARTS)})

    @property
    def after(self) -> int:
        return 0

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        return np.concatenate([self._maps(piece) for piece in batches(frames, self.batch)])

    @torch.no_grad()
    def _maps(self, frames: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).movedim(-1, 1).float()
        told = self._network(x)
        if not isinstance(told, Tensor) or told.shape != x.shape:
            raise ValueError(f"the network gave {form(told)}; part, u, v (n, 3, H, W) = {tuple(x.shape)} is needed")
        part, uv = told[:, :1].float().round(), told[:, 1:].float().clamp(0, 1)
        most = float(part.max())
        if not 0 <= float(part.min()) <= most <= len(PARTS):
            raise ValueError(f"the network gave part {most:g}; possible: 0 to {len(PARTS)}")
        return torch.cat([part, torch.where(part > 0, uv, 0.0)], 1).movedim(1, -1).cpu().numpy()
