"""Joints of people by ViTPose: a heat map for each joint of each figure, figures from a detector or one a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.source import load_json
from .expert import check_frames, fingerprint, noted
from .pictures import batches, prepared, wanted_size
from .weights import Published, digest, folder_of, network, preprocessing

PADDING = 1.25  # by which a figure's box is widened, as in training
SIGMA, SPREAD = 0.8, 5  # of the smoothing of heat maps, and how far it reaches, in their pixels
JOINTS = (
    *("nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow"),
    *("right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle"),
    "right ankle",
)
LIMBS = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)


@dataclass(frozen=True, kw_only=True)
class VitPose(Published):
    """uint8 (T, H, W, 3) -> skeletons float32 (T, 17 figures, 3): x, y px, visibility 0 or 1; COCO's joints.

    A joint that is not seen, and each joint of a figure that is not there, is 0, 0, 0. Figures keep their places from
    frame to frame by the distance of their boxes.

    weights, device  as of `Published`
    detector  the same of a network that finds boxes of people; "": one figure, somewhere in the whole picture
    figures   how many at most
    least     score from which a joint counts as seen
    found     score from which a box counts
    batch     frames at a time
    """

    detector: str = ""
    figures: int = 1
    least: float = 0.3
    found: float = 0.5
    batch: int = 8
    modality = "skeleton"

    def __post_init__(self) -> None:
        if self.figures < 1 or (self.figures > 1 and not self.detector):
            raise ValueError(f"figures={self.figures}; possible: 1, and more with a detector that finds their boxes")

    @cached_property
    def _finder(self) -> Path | None:
        return folder_of(self.detector) if self.detector else None

    @property
    def note(self) -> dict[str, Any]:
        names = [f"{j}{'' if f == 0 else f' {f + 1}'}" for f in range(self.figures) for j in JOINTS]
        limbs = [(names[17 * f + a], names[17 * f + b]) for f in range(self.figures) for a, b in LIMBS]
        return noted("skeleton", joints=names, limbs=limbs)

    @property
    def after(self) -> int | None:
        return None if self.figures > 1 else 0

    @cached_property
    def fingerprint(self) -> str:
        made = digest(self.folder) + (digest(self._finder) if self._finder else "")
        return fingerprint(self, made)

    @cached_property
    def _network(self) -> Any:
        return network("VitPoseForPoseEstimation", self.folder, ("vitpose",), self.device)

    @cached_property
    def _detector(self) -> Any:
        assert self._finder is not None
        return network("AutoModelForObjectDetection", self._finder, (), self.device)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        check_frames(frames)
        boxes = self._boxes(frames)  # (T, figures, 4) x, y, width, height px; no width: no figure
        out = np.zeros((len(frames), self.figures * 17, 3), np.float32)
        for t, figure in np.argwhere(boxes[..., 2] > 0).tolist():
            out[t, figure * 17 : (figure + 1) * 17] = self.joints(frames[t], boxes[t, figure])
        return out

    @torch.no_grad()
    def joints(self, frame: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Frame uint8 (H, W, 3) and box (x, y, width, height) px -> (17, 3) x, y px, visibility."""
        said = {"size": {"height": 256, "width": 192}} | preprocessing(self.folder)
        height, width = int(said["size"]["height"]), int(said["size"]["width"])
        middle, reach = widened(box, width / height)
        x = cut_out(frame, middle, reach, (height, width))
        maps = self._network(pixel_values=prepared(x[None], (height, width), said, self.device)).heatmaps[0]
        place, score = peaks(maps.float().cpu())
        count = torch.tensor([maps.shape[-1], maps.shape[-2]])
        # The first and the last of a map's pixels stand on the ends of the box (unbiased data processing).
        at = place / (count - 1) * torch.from_numpy(reach) + torch.from_numpy(middle - reach / 2)
        seen = (score >= self.least)[:, None]
        return torch.cat([torch.where(seen, at, 0.0), seen.float()], 1).numpy()

    def _boxes(self, frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[1:3]
        if self._finder is None:
            return np.broadcast_to(np.array([0, 0, width, height], np.float32), (len(frames), 1, 4)).copy()
        found = [boxes for piece in batches(frames, self.batch) for boxes in self._people(piece)]
        out = np.zeros((len(frames), self.figures, 4), np.float32)
        for t, boxes in enumerate(found):
            before = out[t - 1] if t else np.zeros_like(out[0])
            for place, box in placed(boxes[: self.figures], before):
                out[t, place] = box
        return out

    @torch.no_grad()
    def _people(self, frames: np.ndarray) -> list[np.ndarray]:
        """(n, 4) x, y, width, height px of people in each frame, best first."""
        assert self._finder is not None
        size, said = (frames.shape[1], frames.shape[2]), {"resample": 2} | preprocessing(self._finder)
        told = self._detector(pixel_values=prepared(frames, wanted_size(said, size, 640, 32), said, self.device))
        names = load_json(self._finder / "config.json").get("id2label", {})
        person = next((int(k) for k, v in names.items() if str(v).lower() == "person"), 0)
        odds = told.logits.float()
        # Some detectors score each class by itself; those with one class more share the odds with "nothing".
        odds = odds.softmax(-1) if odds.shape[-1] == len(names) + 1 else odds.sigmoid()
        scale = torch.tensor([size[1], size[0], size[1], size[0]], device=odds.device)
        out = []
        for score, boxes in zip(odds[..., person], told.pred_boxes.float() * scale, strict=True):
            order = score.argsort(descending=True)
            kept = boxes[order[score[order] >= self.found]]
            out.append(torch.cat([kept[:, :2] - kept[:, 2:] / 2, kept[:, 2:]], 1).cpu().numpy())
        return out


def widened(box: np.ndarray, aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Box (x, y, width, height) -> its middle (2,) and its width and height (2,) grown to `aspect` and padded, px."""
    x, y, width, height = (float(n) for n in box)
    width, height = max(width, aspect * height), max(height, width / aspect)
    return np.array([x + box[2] / 2, y + box[3] / 2], np.float32), np.array([width, height], np.float32) * PADDING


def cut_out(frame: np.ndarray, middle: np.ndarray, reach: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Frame (H, W, 3) -> (*size, 3) uint8 of the box around `middle`, black outside of the picture.

    The first and the last pixel stand on the ends of the box (unbiased data processing).
    """
    height, width = frame.shape[:2]
    across = torch.linspace(-0.5, 0.5, size[1]) * float(reach[0]) + float(middle[0])
    down = torch.linspace(-0.5, 0.5, size[0]) * float(reach[1]) + float(middle[1])
    # grid_sample counts from -1 at the first pixel's centre to 1 at the last one's (align_corners).
    grid = torch.stack(torch.meshgrid(across / max(1, width - 1), down / max(1, height - 1), indexing="xy"), -1)
    picture = torch.from_numpy(np.ascontiguousarray(frame)).movedim(-1, 0)[None].float()
    found = F.grid_sample(picture, grid[None] * 2 - 1, mode="bilinear", padding_mode="zeros", align_corners=True)
    return found[0].movedim(0, -1).round().clamp(0, 255).byte().numpy()


def peaks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Heat maps (K, h, w) -> places (K, 2) x, y in their pixels, to parts of one, and scores (K,).

    The maximum, moved to that of the parabola through the logarithms around it (Zhang et al. 2020).
    """
    _, height, width = maps.shape
    score, flat = maps.flatten(1).max(1)
    x, y = flat % width, flat // width
    ring = torch.arange(-SPREAD, SPREAD + 1.0)
    kernel = torch.exp(-ring.square() / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()
    down_rows, across_columns = (_mirrored(n) for n in (height, width))
    smooth = maps[:, None, down_rows][..., across_columns]
    smooth = F.conv2d(F.conv2d(smooth, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    logs = F.pad(smooth.clamp(0.001, 50).log(), (1, 1, 1, 1), mode="replicate")[:, 0]
    k = torch.arange(len(maps))

    def near(right: int, low: int) -> Tensor:
        return logs[k, y + 1 + low, x + 1 + right]

    here = near(0, 0)
    slope = torch.stack([near(1, 0) - near(-1, 0), near(0, 1) - near(0, -1)], -1) / 2
    across, down = near(1, 0) - 2 * here + near(-1, 0), near(0, 1) - 2 * here + near(0, -1)
    mixed = (near(1, 1) - near(1, 0) - near(0, 1) + 2 * here - near(-1, 0) - near(0, -1) + near(-1, -1)) / 2
    bend = torch.stack([torch.stack([across, mixed], -1), torch.stack([mixed, down], -1)], -2)
    top = (across < -1e-6) & (across * down - mixed.square() > 1e-9)  # a true peak; else the pixel itself
    step = -torch.linalg.solve(torch.where(top[:, None, None], bend, -torch.eye(2)), slope[..., None])[..., 0]
    moved = torch.where(top[:, None], step.clamp(-1, 1), 0.0)
    return torch.stack([x, y], -1) + moved, score


def _mirrored(count: int) -> Tensor:
    """(count + 2 SPREAD,) numbers of rows: 1 0 | 0 1 2 ..., so that an edge stands in a mirror."""
    at = torch.arange(-SPREAD, count + SPREAD) % (2 * count)
    return torch.where(at < count, at, 2 * count - 1 - at)


def placed(boxes: np.ndarray, before: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Boxes (n, 4) -> (place, box): each to the place whose box of the frame before is nearest, else to a free one."""
    middles = boxes[:, None, :2] + boxes[:, None, 2:] / 2
    apart = np.linalg.norm(middles - (before[None, :, :2] + before[None, :, 2:] / 2), axis=-1)
    apart = np.where(before[None, :, 2] > 0, apart, 1e6 + np.arange(len(before)))
    out: list[tuple[int, np.ndarray]] = []
    free_boxes, free = set(range(len(boxes))), set(range(len(before)))
    for flat in np.argsort(apart, axis=None, kind="stable").tolist():
        box, place = divmod(flat, len(before))
        if box in free_boxes and place in free:
            out.append((place, boxes[box]))
            free_boxes.remove(box)
            free.remove(place)
    return out
