"""Optical flow by RAFT (Teed and Deng 2020), through the user's own installation: a function or a TorchScript file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .flow import Flow
from .programs import Given, form

MULTIPLE = 8


@dataclass(frozen=True, kw_only=True)
class Raft(Given, Flow):
    """uint8 (T, H, W, 3) -> flow float32 (T, H, W, 3): u, v in px to frame i + steps, occluded 0 or 1.

    The network maps two pictures, float (n, 3, h, w) in [-1, 1] with sides that 8 divides, to flow (n, 2, h, w) px, or
    to a list of ever better ones, as torchvision's does. Pictures are padded at their edges to such sides.

    weights, network, name, device  as of `Given`
    steps, occlusion  as of `Flow`
    batch      pairs at a time
    """

    batch: int = 4
    how = (
        "RAFT's network must be given: Raft(network=f, name='raft-things') in Python with f(first, second) -> flow, or "
        "flow=raft:FILE.pt with such a network as TorchScript (docs/experts.md); without any weights there is flow=dis"
    )

    @torch.no_grad()
    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Pictures uint8 (n, H, W, 3) -> flow float32 (n, H, W, 2) px. Errors: ValueError for another answer."""
        height, width = first.shape[1:3]
        down, across = -height % MULTIPLE, -width % MULTIPLE
        edges = (across // 2, across - across // 2, down // 2, down - down // 2)

        def of(pictures: np.ndarray) -> Tensor:
            x = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device).movedim(-1, 1).float() / 127.5 - 1
            return F.pad(x, edges, mode="replicate")

        told = self._network(of(first), of(second))
        told = told[-1] if isinstance(told, list | tuple) else told
        wanted = (len(first), 2, height + down, width + across)
        if not isinstance(told, Tensor) or told.shape != wanted:
            raise ValueError(f"the network gave {form(told)}; flow (n, 2, h, w) = {wanted} is needed")
        inner = told[..., edges[2] : edges[2] + height, edges[0] : edges[0] + width]
        return inner.movedim(1, -1).float().cpu().numpy()
