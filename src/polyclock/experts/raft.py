"""Optical flow by RAFT (Teed and Deng 2020), through the user's own installation: a function or a TorchScript file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .dis import occluded
from .expert import check_frames, fingerprint, noted
from .programs import Network, chosen, made_of

HOW = (
    "RAFT's network must be given: Raft(network=f, name='raft-things') in Python with f(first, second) -> flow, or "
    "flow=raft:FILE.pt with such a network as TorchScript (docs/experts.md); without any weights there is flow=dis"
)
MULTIPLE = 8


@dataclass(frozen=True, kw_only=True)
class Raft:
    """uint8 (T, H, W, 3) -> flow float32 (T, H, W, 3): u, v in px to frame i + steps, occluded 0 or 1.

    The network maps two pictures, float (n, 3, h, w) in [-1, 1] with sides that 8 divides, to flow (n, 2, h, w) px, or
    to a list of ever better ones, as torchvision's does. Pictures are padded at their edges to such sides.

    weights    a TorchScript file; "": `network`
    network    a function, from Python alone; name: what it is, for the fingerprint
    steps      frames that the flow spans
    occlusion  whether the flow back is taken too and compared
    batch      pairs at a time
    device     cpu, cuda, ...
    """

    weights: str = ""
    network: Network | None = None
    name: str = ""
    steps: int = 1
    occlusion: bool = True
    batch: int = 4
    device: str = "cpu"
    modality = "flow"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"flow over {self.steps} frames; possible: 1 or more")

    @property
    def note(self) -> dict[str, Any]:
        return noted("flow", steps=self.steps)

    @property
    def after(self) -> int:
        return self.steps

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self, made_of(self.network, self.weights, self.name, HOW))

    @cached_property
    def _network(self) -> Network:
        return chosen(self.network, self.weights, self.device, HOW)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        out = np.zeros((*frames.shape[:3], 3), np.float32)
        first = np.arange(len(frames) - 1)
        then = np.minimum(first + self.steps, len(frames) - 1)
        for begin in range(0, len(first), self.batch):
            piece = slice(begin, begin + self.batch)
            a, b = frames[first[piece]], frames[then[piece]]
            out[first[piece], ..., :2] = ahead = self._flow(a, b)
            if self.occlusion:
                out[first[piece], ..., 2] = [occluded(*both) for both in zip(ahead, self._flow(b, a), strict=True)]
        return out

    @torch.no_grad()
    def _flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Pictures uint8 (n, H, W, 3) -> (n, H, W, 2) px."""
        height, width = first.shape[1:3]
        down, across = -height % MULTIPLE, -width % MULTIPLE
        edges = (across // 2, across - across // 2, down // 2, down - down // 2)

        def of(pictures: np.ndarray) -> Tensor:
            x = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device).movedim(-1, 1).float() / 127.5 - 1
            return F.pad(x, edges, mode="replicate")

        told = self._network(of(first), of(second))
        told = told[-1] if isinstance(told, list | tuple) else told
        if not isinstance(told, Tensor) or told.shape != (len(first), 2, height + down, width + across):
            got = tuple(told.shape) if isinstance(told, Tensor) else type(told).__name__
            wanted = (len(first), 2, height + down, width + across)
            raise ValueError(f"the network gave {got}; flow (n, 2, h, w) = {wanted} is needed")
        inner = told[..., edges[2] : edges[2] + height, edges[0] : edges[0] + width]
        return inner.movedim(1, -1).float().cpu().numpy()
