"""Masks with classes by Mask2Former: things and stuff of single pictures, their numbers linked through the clip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.source import load_json
from ..errors import unknown
from .expert import check_frames, noted
from .instances import linked
from .pictures import batches, prepared, wanted_size
from .weights import Published, network, preprocessing

MULTIPLE = 32
TASKS = ("panoptic", "semantic")


@dataclass(frozen=True, kw_only=True)
class Mask2Former(Published):
    """uint8 (T, H, W, 3) -> segmentation int32 (T, H, W, 2): instance, class; 0 where nothing is found.

    Class k + 1 is the weights' label k; `note` names them. The same thing keeps its instance from frame to frame.

    weights, device  as of `Published`
    task       panoptic: each pixel belongs to the mask that claims it most; semantic: classes alone, instance 0
    threshold  least score of a mask's class
    overlap    least share of a mask that must be left to it
    batch      frames at a time
    """

    task: Literal["panoptic", "semantic"] = "panoptic"
    threshold: float = 0.5
    overlap: float = 0.8
    batch: int = 4
    modality = "segmentation"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise unknown("task of Mask2Former", self.task, TASKS)

    @property
    def note(self) -> dict[str, Any]:
        labels = load_json(self.folder / "config.json").get("id2label", {})
        return noted("segmentation", classes={int(k) + 1: str(v) for k, v in labels.items()})

    @property
    def after(self) -> int | None:
        return None if self.task == "panoptic" else 0

    @cached_property
    def _network(self) -> Any:
        return network("Mask2FormerForUniversalSegmentation", self.folder, ("mask2former",), self.device)

    @cached_property
    def _said(self) -> dict[str, Any]:
        return {"resample": 2} | preprocessing(self.folder)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        found = np.concatenate([self._masks(piece) for piece in batches(frames, self.batch)])
        if self.task == "panoptic":
            found[..., 0] = linked(found[..., 0], found[..., 1])
        return found

    @torch.no_grad()
    def _masks(self, frames: np.ndarray) -> np.ndarray:
        size = (frames.shape[1], frames.shape[2])
        # differs from the published processor: sides are resized to multiples of 32, where it pads.
        x = prepared(frames, wanted_size(self._said, size, 384, MULTIPLE), self._said, self.device)
        told = self._network(pixel_values=x)
        pairs = zip(told.class_queries_logits, told.masks_queries_logits, strict=True)
        return np.stack([self._one(kinds, masks, size).cpu().numpy() for kinds, masks in pairs])

    def _one(self, kinds: Tensor, masks: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (Q, classes + 1) and (Q, h, w) of one frame -> (H, W, 2) int32; the last class is nothing."""
        odds = kinds.float().softmax(-1)
        inside = F.interpolate(masks[None].float(), size, mode="bilinear", align_corners=False)[0].sigmoid()
        if self.task == "semantic":
            label = torch.einsum("qc,qhw->chw", odds[:, :-1], inside).argmax(0) + 1
            return torch.stack([torch.zeros_like(label), label], -1).int()
        score, label = odds.max(-1)
        held = (label < odds.shape[-1] - 1) & (score > self.threshold)
        out = torch.zeros(*size, 2, dtype=torch.int32, device=masks.device)
        if not bool(held.any()):
            return out
        score, label, inside = score[held], label[held], inside[held]
        owner = (score[:, None, None] * inside).argmax(0)
        for number in range(len(score)):
            whole = inside[number] >= 0.5
            mine = (owner == number) & whole
            if int(mine.sum()) > self.overlap * int(whole.sum()):
                out[mine] = torch.tensor([number + 1, int(label[number]) + 1], dtype=torch.int32, device=out.device)
        return out
