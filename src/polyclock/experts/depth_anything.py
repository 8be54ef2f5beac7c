"""Depth of single pictures by Depth Anything (V1, V2): metres from metric weights, else relative depth of the clip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.source import load_json
from .expert import check_frames, noted
from .pictures import batches, prepared, wanted_size
from .weights import Published, network, preprocessing

PATCH = 14
LEAST = 0.05  # relative depth of the nearest point, where that of the farthest is 1, as the depth codecs have it
STEP = 1 / 65535  # of stored relative depth


@dataclass(frozen=True, kw_only=True)
class DepthAnything(Published):
    """uint8 (T, H, W, 3) -> depth float32 (T, H, W, 1): m with metric weights, else relative, 0.05 near to 1 far.

    Relative weights give 1 / depth up to a scale and a shift. Its least value in the clip becomes the relative depth
    1 and its greatest 0.05, linear in 1 / depth, so the answer must be aligned ("inverse") before it is measured.

    weights, device  as of `Published`
    side     pixels that pictures are scaled to; 0: what the weights' preprocessor_config.json says
    batch    frames at a time
    """

    side: int = 0
    batch: int = 8
    modality = "depth"

    @cached_property
    def metric(self) -> bool:
        """Whether the weights give metres."""
        return load_json(self.folder / "config.json").get("depth_estimation_type", "relative") == "metric"

    @property
    def note(self) -> dict[str, Any]:
        if self.metric:
            return noted("depth")
        return noted("depth", {"unit": "relative", "align": "inverse"}, scale=STEP)

    @property
    def after(self) -> int | None:
        return 0 if self.metric else None

    @cached_property
    def _network(self) -> Any:
        return network("DepthAnythingForDepthEstimation", self.folder, ("depth_anything",), self.device)

    @cached_property
    def _said(self) -> dict[str, Any]:
        said = {"keep_aspect_ratio": True, "resample": 3} | preprocessing(self.folder)
        return said | ({"size": {"height": self.side, "width": self.side}} if self.side else {})

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        told = torch.cat([self.told(piece).cpu() for piece in batches(frames, self.batch)])
        if self.metric:
            return told[..., None].clamp_min(0).numpy()
        low, high = told.min(), told.max()
        close = (told - low) / (high - low).clamp_min(1e-12)
        return (1 / (1 + close * (1 / LEAST - 1)))[..., None].numpy()

    @torch.no_grad()
    def told(self, frames: np.ndarray) -> Tensor:
        """uint8 (n, H, W, 3) -> what the network says, float32 (n, H, W): m, or 1 / depth up to scale and shift."""
        size = (frames.shape[1], frames.shape[2])
        multiple = int(self._said.get("ensure_multiple_of", PATCH))
        x = prepared(frames, wanted_size(self._said, size, 518, multiple), self._said, self.device)
        found = self._network(pixel_values=x).predicted_depth
        return F.interpolate(found[:, None].float(), size, mode="bicubic", align_corners=False)[:, 0]
