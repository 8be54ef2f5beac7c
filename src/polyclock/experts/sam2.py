"""Masks of whatever there is by SAM 2: things are proposed on the first frame and followed through the clip."""

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
from .instances import distinct
from .pictures import prepared
from .weights import Published, network, preprocessing

MEMORY = 32  # frames whose memories are kept; the network looks back over at most 16


@dataclass(frozen=True, kw_only=True)
class Sam2(Published):
    """uint8 (T, H, W, 3) -> segmentation int32 (T, H, W, 2): instance 1, 2, ... and class 0, which SAM does not tell.

    A grid of points is asked about on the first frame; of the masks that are sure enough, those that do not cover each
    other become things, the surest first, and the network's memory follows them. What appears later is not found.

    weights, device  as of `Published`; the weights are those of the video model
    points   of the grid, along each side
    sure     least quality that the network gives its own mask
    overlap  most share of the union that two things may have in common
    things   how many at most
    """

    points: int = 16
    sure: float = 0.8
    overlap: float = 0.5
    things: int = 20
    modality = "segmentation"

    def __post_init__(self) -> None:
        if self.points < 1 or self.things < 1:
            raise ValueError(f"points={self.points}, things={self.things}; at least 1 of each")

    @property
    def note(self) -> dict[str, Any]:
        return noted("segmentation")

    @property
    def after(self) -> None:
        return None

    @cached_property
    def _proposer(self) -> Any:
        return network("Sam2Model", self.folder, ("sam2", "sam2_video"), self.device)

    @cached_property
    def _follower(self) -> Any:
        return network("Sam2VideoModel", self.folder, ("sam2_video",), self.device)

    @cached_property
    def _side(self) -> int:
        config = load_json(self.folder / "config.json")
        return int(config.get("image_size") or config.get("prompt_encoder_config", {}).get("image_size", 1024))

    def _picture(self, frame: np.ndarray) -> Tensor:
        """uint8 (H, W, 3) -> (1, 3, side, side): stretched to a square, as the network was trained."""
        return prepared(frame[None], (self._side,) * 2, {"resample": 2} | preprocessing(self.folder), self.device)

    @torch.no_grad()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        out = np.zeros((*frames.shape[:3], 2), np.int32)
        masks = self.proposed(frames[0])
        if not len(masks):
            return out
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        size = (frames.shape[1], frames.shape[2])
        where = {"inference_device": self.device, "inference_state_device": self.device}
        session = Sam2VideoInferenceSession(video_height=size[0], video_width=size[1], dtype=torch.float32, **where)
        for number, mask in enumerate(masks, 1):
            square = F.interpolate(mask[None, None].float(), (self._side,) * 2, mode="bilinear", antialias=True)
            session.add_mask_inputs(session.obj_id_to_idx(number), 0, (square >= 0.5).float())
        session.obj_with_new_inputs = list(range(1, len(masks) + 1))
        for t, frame in enumerate(frames):
            told = self._follower(session, frame=self._picture(frame)[0])
            logits = F.interpolate(told.pred_masks.float(), size, mode="bilinear", align_corners=False)[:, 0]
            best, which = logits.max(0)
            ids = torch.tensor(told.object_ids, device=which.device)[which]
            out[t, ..., 0] = torch.where(best > 0, ids, 0).cpu().numpy()
            self._forget(session, t)
        return out

    @torch.no_grad()
    def proposed(self, frame: np.ndarray) -> Tensor:
        """uint8 (H, W, 3) -> masks (n, H, W) bool of things, the surest first."""
        size = (frame.shape[0], frame.shape[1])
        steps = (torch.arange(self.points, device=self.device) + 0.5) / self.points * self._side
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).view(1, -1, 1, 2)
        told = self._proposer(pixel_values=self._picture(frame), input_points=grid)
        scores, maps = told.iou_scores[0].flatten(), told.pred_masks[0].flatten(0, 1)
        sure = scores >= self.sure
        if not bool(sure.any()):
            return torch.zeros(0, *size, dtype=torch.bool)
        order = scores[sure].argsort(descending=True)[: 8 * self.things]
        scores, maps = scores[sure][order], maps[sure][order]
        masks = F.interpolate(maps[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0] > 0
        kept = distinct(masks.cpu().numpy(), scores.float().cpu().numpy(), self.overlap)[: self.things]
        return masks[kept]

    @staticmethod
    def _forget(session: Any, frame: int) -> None:
        """Drop the picture that was used and memories too old to be looked at."""
        session.processed_frames.pop(frame, None)
        for outputs in session.output_dict_per_obj.values():
            outputs["non_cond_frame_outputs"].pop(frame - MEMORY, None)
