"""Semantic features of single pictures: the patch tokens of DINOv2, with or without registers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.source import load_json
from .expert import FEATURES, LATER, check_frames
from .pictures import batches, prepared, to_multiple
from .weights import Published, network, preprocessing

TYPES = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}


@dataclass(frozen=True, kw_only=True)
class Dino(Published):
    """uint8 (T, H, W, 3) -> features float32 (T, h, w, C), one vector for each patch.

    weights, device  as of `Published`
    size     (H, W) that pictures are resized to, multiples of the patch (14); None: the nearest to their own
    batch    frames at a time
    layer    whose tokens are taken, 1 to the network's depth, 0 what enters the first; -1: the last
    norm     whether the network's last layer norm follows
    """

    size: tuple[int, int] | None = None
    batch: int = 8
    layer: int = field(default=-1, metadata=LATER)
    norm: bool = field(default=True, metadata=LATER)
    modality = FEATURES

    @property
    def note(self) -> dict[str, Any]:
        return {"kind": FEATURES}

    @property
    def after(self) -> int:
        return 0

    @cached_property
    def _config(self) -> dict[str, Any]:
        return load_json(self.folder / "config.json")

    @cached_property
    def _network(self) -> Any:
        kind = TYPES.get(str(self._config.get("model_type")), "Dinov2Model")
        return network(kind, self.folder, tuple(TYPES), self.device)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        return torch.cat([self._told(piece).cpu() for piece in batches(frames, self.batch)]).numpy()

    @torch.no_grad()
    def _told(self, frames: np.ndarray) -> Tensor:
        patch = int(self._config.get("patch_size", 14))
        size = self.size or to_multiple((frames.shape[1], frames.shape[2]), patch)
        if size[0] % patch or size[1] % patch:
            raise ValueError(f"size {size[0]}x{size[1]} of DINOv2's pictures must be multiples of its patch, {patch}")
        # Only the numbers: what preprocessor_config.json says of sizes is for classifying square pictures.
        x = prepared(frames, size, preprocessing(self.folder), self.device)
        tokens = self._tokens(x)
        grid = (size[0] // patch, size[1] // patch)
        return tokens[:, tokens.shape[1] - grid[0] * grid[1] :].unflatten(1, grid).float()

    def _tokens(self, x: Tensor) -> Tensor:
        """Pictures (n, 3, h, w) -> its tokens (n, special + patches, C). Errors: ValueError for another layer."""
        if self.layer == -1 and self.norm:  # all layers would be held otherwise
            return self._network(pixel_values=x).last_hidden_state
        layers = self._network(pixel_values=x, output_hidden_states=True).hidden_states
        if not -len(layers) <= self.layer < len(layers):
            raise ValueError(f"layer={self.layer} of DINOv2 with {len(layers) - 1}; possible: 0 to {len(layers) - 1}")
        return self._network.layernorm(layers[self.layer]) if self.norm else layers[self.layer]
