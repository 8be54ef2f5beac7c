"""Geometric features of clips by VGGT (Wang et al. 2025), through the user's own installation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .expert import FEATURES, check_frames, fingerprint
from .pictures import prepared, to_multiple
from .programs import Given, Network, form
from .weights import digest

PATCH = 14
WIDTH = 518  # px across, as published


@dataclass(frozen=True, kw_only=True)
class Vggt(Given):
    """uint8 (T, H, W, 3) -> features float32 (T, h, w, C), one vector for each patch; C = 2048 as published.

    The network maps pictures (1, S, 3, h, w) in [0, 1], which it normalises itself, to a tuple: first the tokens
    (1, S, P, C) of one layer, or a list of those of all; last the number of special tokens before those of patches.

    weights  a TorchScript file, or a folder with model.safetensors for the installed package; "": `network`
    network, name, device  as of `Given`
    size     (H, W) that pictures are resized to, multiples of 14; None: 518 across and the nearest height
    layer    whose tokens are taken; -1: the last
    frames   that the network sees at once, the last ones of a clip with some before them; 0: the whole clip
    every    1: each frame is looked at; 4: frames 0, 4, 8, ... alone, and those between have what the next one has
    """

    size: tuple[int, int] | None = None
    layer: int = -1
    frames: int = 0
    every: int = 1
    modality = FEATURES
    how = (
        "VGGT's aggregator must be given: Vggt(network=f, name='vggt-1b') in Python with f(pictures) -> tokens of each "
        "layer and the place of the first patch, geometry=vggt:FILE.pt with such a network as TorchScript, or "
        "geometry=vggt:FOLDER with its weights where the package vggt is installed (docs/features.md)"
    )

    def __post_init__(self) -> None:
        if self.frames < 0 or self.every < 1:
            raise ValueError(f"frames={self.frames}, every={self.every}; possible: at least 0 (all at once) and 1")
        if self.size is not None and (self.size[0] % PATCH or self.size[1] % PATCH):
            raise ValueError(f"size {self.size[0]}x{self.size[1]} must be multiples of {PATCH}")

    @property
    def note(self) -> dict[str, Any]:
        return {"kind": FEATURES}

    @property
    def after(self) -> None:
        return None  # frames are looked at together

    @cached_property
    def fingerprint(self) -> str:
        return super().fingerprint if self._folder is None else fingerprint(self, digest(self._folder))

    @property
    def _folder(self) -> Path | None:
        path = Path(self.weights).expanduser()
        if not self.weights or not path.is_dir():
            return None
        if not (path / "model.safetensors").is_file():
            raise ValueError(f"{path} holds no model.safetensors; other files of weights are not opened")
        return path

    @cached_property
    def _network(self) -> Network:
        if self._folder is None or self.network is not None:
            return super()._network
        try:
            from vggt.models.vggt import VGGT
        except ImportError:
            raise ImportError(
                f"the package vggt is not installed; install it from its authors' repository. {self.how}"
            ) from None
        return VGGT.from_pretrained(str(self._folder)).eval().requires_grad_(False).to(self.device).aggregator

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        looked = frames[:: self.every]
        count = min(self.frames or len(looked), len(looked))
        starts = [min(begin, len(looked) - count) for begin in range(0, len(looked), count)]
        found = np.concatenate([
            self._told(looked[start : start + count])[begin - start :]
            for start, begin in zip(starts, range(0, len(looked), count), strict=True)
        ])  # fmt: skip
        # Of a group of a causal autoencoder, frames 1 .. 4, the last one is looked at: their mean is what it has.
        at = (np.arange(len(frames)) + self.every - 1) // self.every
        return found[np.minimum(at, len(looked) - 1)]

    @torch.no_grad()
    def _told(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (S, H, W, 3), seen at once -> (S, h, w, C)."""
        height, width = frames.shape[1:3]
        size = self.size or to_multiple((height * WIDTH / width, WIDTH), PATCH)
        x = prepared(frames, size, {"do_normalize": False}, self.device)
        told = self._network(x[None])
        tokens, first = told[0], told[-1]
        tokens = tokens[self.layer] if isinstance(tokens, list | tuple) else tokens
        grid = (size[0] // PATCH, size[1] // PATCH)
        wanted = (1, len(frames), int(first) + grid[0] * grid[1])
        if not isinstance(tokens, Tensor) or tokens.ndim != 4 or tuple(tokens.shape[:3]) != wanted:
            raise ValueError(
                f"the network gave {form(tokens)}; tokens (1, frames, special + patches, C) = (*{wanted}, C) needed"
            )
        return tokens[0, :, int(first) :].unflatten(1, grid).float().cpu().numpy()
